//! Does every request reach the agent as what it means, and every answer its asker?

use vnet_agent::api::{
    Ask, Drop, FlowSort, Flows, FrameBytes, Interface, LinkStatus, Place, RefusalKind, RuleStatus,
    Stats, Status, TraceReport, TraceRequest,
};
use vnet_agent::model::{Configuration, Flooding, Link, Rule, RuleOrigin, Target, Transport};
use vnet_common::addr::Cookie;
use vnet_common::rule::{Destination, Source};

use crate::fake_agent::{FakeAgent, GUEST_ONE, GUEST_TWO};

#[tokio::test]
async fn every_question_reaches_the_agent_as_what_it_means() {
    let agent = FakeAgent::start();
    let flows = |network: Option<&str>, limit, sort| Ask::Flows {
        network: network.map(str::to_owned),
        limit,
        sort,
    };
    for (path, ask) in [
        ("/v1/status", Ask::Status),
        ("/v1/interfaces", Ask::Interfaces),
        ("/v1/links", Ask::Links),
        ("/v1/rules", Ask::Rules { network: None }),
        (
            "/v1/rules?network=blue%20one",
            Ask::Rules {
                network: Some("blue one".into()),
            },
        ),
        ("/v1/stats", Ask::Stats),
        ("/v1/flows", flows(None, 100, FlowSort::Bytes)),
        (
            "/v1/flows?network=blue&limit=5&sort=packets",
            flows(Some("blue"), 5, FlowSort::Packets),
        ),
        ("/v1/drops", Ask::Drops { all: false }),
        ("/v1/drops?all=true", Ask::Drops { all: true }),
        ("/v1/configuration", Ask::Configuration),
    ] {
        let response = agent.request("GET", path, "").await;
        assert_eq!(response.status, 200, "{path}: {response:?}");
        assert_eq!(agent.asked(), [ask], "{path}");
    }
}

#[tokio::test]
async fn every_change_reaches_the_agent_as_what_it_means() {
    let agent = FakeAgent::start();
    let link = Link {
        name: "to-two".into(),
        remote: [10, 0, 0, 2].into(),
        networks: vec!["blue".into()],
        cookie: Some(Cookie(0x0123_4567_89ab_cdef)),
        fallback: None,
        flood: Flooding::FromPorts,
        kind: Transport::Udp,
        listen_only: false,
        rung_of: None,
    };
    let plain = Link {
        cookie: None,
        flood: Flooding::Never,
        ..link.clone()
    };
    let rule = Rule {
        network: "blue".into(),
        source: Source::Not(GUEST_ONE),
        destination: Destination::Is(GUEST_TWO),
        to: Target::Link("to-two".into()),
        origin: RuleOrigin::Api,
    };
    let flood = Rule {
        source: Source::Any,
        destination: Destination::None,
        to: Target::Flood,
        ..rule.clone()
    };
    let trace = TraceRequest {
        from: Some(Place::Link("to-two".into())),
        network: None,
        frame: FrameBytes(vec![1, 0xab]),
    };
    for (method, path, body, status, ask) in [
        (
            "POST",
            "/v1/links",
            r#"{"name": "to-two", "remote": "10.0.0.2", "networks": ["blue"],
                "cookie": "0123456789abcdef"}"#,
            201,
            Ask::AddLink(link),
        ),
        (
            "POST",
            "/v1/links",
            r#"{"name": "to-two", "remote": "10.0.0.2", "networks": ["blue"],
                "plain": true, "flood": "never"}"#,
            201,
            Ask::AddLink(plain),
        ),
        (
            "DELETE",
            "/v1/links/to%2Ftwo",
            "",
            200,
            Ask::DeleteLink {
                name: "to/two".into(),
                force: false,
            },
        ),
        (
            "DELETE",
            "/v1/links/to-two?force=true",
            "",
            200,
            Ask::DeleteLink {
                name: "to-two".into(),
                force: true,
            },
        ),
        (
            "POST",
            "/v1/rules",
            r#"{"network": "blue", "source": "not 52:54:00:00:00:01",
                "destination": "52:54:00:00:00:02", "to": {"link": "to-two"}}"#,
            200,
            Ask::AddRule(rule),
        ),
        (
            "POST",
            "/v1/rules",
            r#"{"network": "blue", "destination": "none", "to": "flood"}"#,
            200,
            Ask::AddRule(flood),
        ),
        (
            "DELETE",
            "/v1/rules?network=blue&source=not+52:54:00:00:00:01&destination=none",
            "",
            200,
            Ask::DeleteRule {
                network: "blue".into(),
                source: Source::Not(GUEST_ONE),
                destination: Destination::None,
            },
        ),
        (
            "POST",
            "/v1/trace",
            r#"{"from": "link to-two", "frame": "01aB"}"#,
            200,
            Ask::Trace(trace),
        ),
    ] {
        let response = agent.request(method, path, body).await;
        assert_eq!(
            response.status, status,
            "{method} {path} {body}: {response:?}"
        );
        assert_eq!(agent.asked(), [ask], "{method} {path} {body}");
    }
}

#[tokio::test]
async fn every_answer_reads_back_as_the_value_it_was() {
    async fn body(agent: &FakeAgent, path: &str) -> String {
        agent.request("GET", path, "").await.body
    }
    let agent = FakeAgent::start_degraded();
    let status: Status = serde_json::from_str(&body(&agent, "/v1/status").await).unwrap();
    assert_eq!((status.name.as_str(), status.healthy), ("host-one", false));
    let interfaces: Vec<Interface> =
        serde_json::from_str(&body(&agent, "/v1/interfaces").await).unwrap();
    assert_eq!(interfaces[0].name, "tap0");
    let links: Vec<LinkStatus> = serde_json::from_str(&body(&agent, "/v1/links").await).unwrap();
    assert_eq!(links[0].name, "to-two");
    let rules: Vec<RuleStatus> = serde_json::from_str(&body(&agent, "/v1/rules").await).unwrap();
    assert_eq!(rules[0].to, Target::Link("to-two".into()));
    let stats: Stats = serde_json::from_str(&body(&agent, "/v1/stats").await).unwrap();
    assert_eq!(stats.ports[0].ledger.forwarded, 2);
    let flows: Flows = serde_json::from_str(&body(&agent, "/v1/flows").await).unwrap();
    assert_eq!(flows.flows[0].source, GUEST_ONE);
    let drops: Vec<Drop> = serde_json::from_str(&body(&agent, "/v1/drops").await).unwrap();
    assert_eq!((drops.len(), drops[0].packets), (1, 1));
    let configuration: Configuration =
        serde_json::from_str(&body(&agent, "/v1/configuration").await).unwrap();
    assert_eq!(configuration.networks[0].name, "blue");
    assert_eq!(configuration.links[0].cookie, None, "it is a secret");
    let trace = agent
        .request("POST", "/v1/trace", r#"{"frame": "00"}"#)
        .await;
    let report: TraceReport = serde_json::from_str(&trace.body).unwrap();
    assert_eq!(report.from, Place::Port("tap0".into()));
}

#[tokio::test]
async fn every_kind_of_refusal_has_its_status_and_keeps_its_words() {
    let agent = FakeAgent::start();
    for (name, status, kind) in [
        ("missing", 404, RefusalKind::NotFound),
        ("taken", 409, RefusalKind::Conflict),
        ("wrong", 400, RefusalKind::Invalid),
        ("busy", 503, RefusalKind::Unavailable),
        ("broken", 500, RefusalKind::Internal),
        ("silent", 500, RefusalKind::Internal),
    ] {
        let response = agent
            .request("GET", &format!("/v1/rules?network={name}"), "")
            .await;
        assert_eq!(
            (response.status, response.refusal().kind),
            (status, kind),
            "{response:?}"
        );
        let response = agent
            .request("DELETE", &format!("/v1/links/{name}"), "")
            .await;
        assert_eq!(
            (response.status, response.refusal().kind),
            (status, kind),
            "{response:?}"
        );
    }
    let refusal = agent
        .request("GET", "/v1/rules?network=missing", "")
        .await
        .refusal();
    assert_eq!(refusal.message, "there is no missing");
    assert_eq!(refusal.cure.as_deref(), Some("make it"));
}

#[tokio::test]
async fn an_unknown_path_is_told_the_known_ones() {
    let agent = FakeAgent::start();
    for path in [
        "/",
        "/v1",
        "/v2/status",
        "/v1/status/",
        "/v1/links/a/b",
        "/v1/%ff",
    ] {
        let response = agent.request("GET", path, "").await;
        assert_eq!(response.status, 404, "{path}");
        let cure = response.refusal().cure.unwrap();
        assert!(cure.contains("GET /v1/status; "), "{cure}");
        assert!(
            cure.contains("DELETE /v1/links/{name}?force=true"),
            "{cure}"
        );
    }
    assert_eq!(agent.asked(), []);
}

#[tokio::test]
async fn another_method_is_told_the_right_ones() {
    let agent = FakeAgent::start();
    for (method, path, allow) in [
        ("POST", "/v1/status", "get"),
        ("GET", "/v1/trace", "post"),
        ("DELETE", "/v1/links", "get, post"),
        ("GET", "/v1/links/to-two", "delete"),
        ("PUT", "/v1/rules", "get, post, patch, delete"),
    ] {
        let response = agent.request(method, path, "").await;
        assert_eq!(response.status, 405, "{method} {path}: {response:?}");
        assert!(
            response.head.contains(&format!("allow: {allow}\r\n")),
            "{response:?}"
        );
        assert!(response.refusal().message.contains(method), "{response:?}");
    }
    assert_eq!(agent.asked(), []);
}

#[tokio::test]
async fn a_wrong_body_is_told_where_it_is_wrong() {
    let agent = FakeAgent::start();
    for (path, body, words) in [
        ("/v1/links", "", &["EOF", "line 1"][..]),
        ("/v1/links", "{\n \"name\": }", &["line 2 column 10"]),
        ("/v1/links", "[]", &["line 1"]),
        ("/v1/links", r#"{"name": "x"}"#, &["remote"]),
        ("/v1/links", r#"{"name": "x", "color": "red"}"#, &["color"]),
        (
            "/v1/links",
            r#"{"name": "x", "remote": "ten", "networks": [], "plain": true}"#,
            &["remote"],
        ),
        (
            "/v1/links",
            r#"{"name": "x", "remote": "10.0.0.2", "networks": [], "cookie": "12"}"#,
            &["cookie", "16 hexadecimal digits"],
        ),
        (
            "/v1/links",
            r#"{"name": "x", "remote": "10.0.0.2", "networks": ["a"]}"#,
            &["link x has no cookie"],
        ),
        (
            "/v1/links",
            r#"{"name": "x", "remote": "10.0.0.2", "networks": [], "plain": true,
                "cookie": "0123456789abcdef"}"#,
            &["link x is plain and has a cookie"],
        ),
        (
            "/v1/rules",
            r#"{"network": "blue", "destination": "everyone", "to": "flood"}"#,
            &["destination"],
        ),
        (
            "/v1/rules",
            r#"{"network": "blue", "destination": "any", "to": "up"}"#,
            &["to"],
        ),
        (
            "/v1/rules",
            r#"{"network": "b", "destination": "any", "to": "drop", "origin": "file"}"#,
            &["origin"],
        ),
        ("/v1/trace", r#"{"frame": "0"}"#, &["hexadecimal"]),
        (
            "/v1/trace",
            r#"{"frame": "00", "from": "tap0"}"#,
            &["from", "port DEVICE"],
        ),
        ("/v1/trace", r#"{"frame": "00"} {}"#, &["trailing"]),
    ] {
        let response = agent.request("POST", path, body).await;
        assert_eq!(response.status, 400, "{path} {body}: {response:?}");
        let refusal = response.refusal();
        assert_eq!(refusal.kind, RefusalKind::Invalid);
        for word in words {
            assert!(
                refusal.message.contains(word),
                "{body}: {word} in {:?}",
                refusal.message
            );
        }
    }
    assert_eq!(agent.asked(), []);
}

#[tokio::test]
async fn a_wrong_query_is_told_what_is_wrong() {
    let agent = FakeAgent::start();
    for (method, path, word) in [
        ("GET", "/v1/status?verbose=true", "verbose"),
        ("GET", "/v1/rules?net=blue", "net"),
        ("GET", "/v1/flows?limit=many", "limit"),
        ("GET", "/v1/flows?limit=100001", "100001 flows"),
        ("GET", "/v1/flows?sort=size", "size"),
        ("GET", "/v1/drops?all=1", "all"),
        ("DELETE", "/v1/links/x?force=yes", "force"),
        ("DELETE", "/v1/links/%ff", "UTF-8"),
        ("DELETE", "/v1/rules?network=blue&source=any", "destination"),
        (
            "DELETE",
            "/v1/rules?network=blue&source=all&destination=any",
            "source",
        ),
    ] {
        let response = agent.request(method, path, "").await;
        assert_eq!(response.status, 400, "{path}: {response:?}");
        assert!(
            response.refusal().message.contains(word),
            "{path}: {response:?}"
        );
    }
    assert_eq!(agent.asked(), []);
}
