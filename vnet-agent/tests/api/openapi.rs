//! Does the description of the API say what the API does?
//!
//! `jsonschema` reads the document that is served, and judges by it what is sent and answered.

use std::time::Duration;

use serde_json::{Value, json};
use vnet_agent::api::stream::{Event, EventKind};

use crate::fake_agent::FakeAgent;

async fn document(agent: &FakeAgent) -> Value {
    let response = agent.request("GET", "/v1/openapi.json", "").await;
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// A judge of one schema of the document, whose references lead into the document.
fn judge(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    jsonschema::draft202012::new(&whole).unwrap()
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => value,
    }
}

const FRAME: &str = r#"{"frame": "525400000002525400000001080045"}"#;

/// A request for each operation, its body, and the status of its answer.
const REQUESTS: &[(&str, &str, &str, &str, u16)] = &[
    ("get", "/v1/status", "/v1/status", "", 200),
    ("get", "/v1/interfaces", "/v1/interfaces", "", 200),
    ("get", "/v1/links", "/v1/links", "", 200),
    (
        "post",
        "/v1/links",
        "/v1/links",
        r#"{"name": "to-two", "remote": "10.0.0.2", "networks": ["blue"], "plain": true}"#,
        201,
    ),
    (
        "delete",
        "/v1/links/{name}",
        "/v1/links/to-two?force=true",
        "",
        200,
    ),
    ("delete", "/v1/links/{name}", "/v1/links/missing", "", 404),
    ("get", "/v1/rules", "/v1/rules?network=blue", "", 200),
    ("get", "/v1/rules", "/v1/rules?network=missing", "", 404),
    ("get", "/v1/rules", "/v1/rules?net=blue", "", 400),
    (
        "post",
        "/v1/rules",
        "/v1/rules",
        r#"{"network": "blue", "source": "not 52:54:00:00:00:01", "destination": "none",
            "to": {"link": "to-two"}}"#,
        200,
    ),
    (
        "patch",
        "/v1/rules",
        "/v1/rules",
        r#"{"delete": [{"network": "blue", "source": "any", "destination": "none"}],
            "add": [{"network": "blue", "destination": "any", "to": "drop"}]}"#,
        201,
    ),
    (
        "delete",
        "/v1/rules",
        "/v1/rules?network=blue&source=any&destination=none",
        "",
        200,
    ),
    ("get", "/v1/stats", "/v1/stats", "", 200),
    (
        "get",
        "/v1/flows",
        "/v1/flows?limit=5&sort=packets",
        "",
        200,
    ),
    ("get", "/v1/drops", "/v1/drops?all=true", "", 200),
    ("post", "/v1/trace", "/v1/trace", FRAME, 200),
    ("get", "/v1/configuration", "/v1/configuration", "", 200),
    ("get", "/v1/events", "/v1/events", "", 200),
    ("get", "/v1/agents", "/v1/agents", "", 200),
    ("delete", "/v1/agents/{name}", "/v1/agents/two", "", 200),
    (
        "post",
        "/v1/invites",
        "/v1/invites",
        r#"{"host": "two", "expires_s": 3600}"#,
        200,
    ),
    ("get", "/v1/topology", "/v1/topology", "", 200),
    (
        "post",
        "/v1/topology",
        "/v1/topology",
        r#"{"topology": {"networks": [{"name": "blue", "id": 7}], "hosts": [{"name": "hub",
            "user": "root", "port": 6081, "interface": "eth0", "role": "proxy"}], "vms": [],
            "links": [], "rules": [{"host": "hub", "network": "blue", "source": "any",
            "destination": "none", "to": "flood"}]}, "dry_run": true}"#,
        200,
    ),
    ("post", "/v1/topology/undo", "/v1/topology/undo", "{}", 200),
    (
        "get",
        "/v1/topology/history",
        "/v1/topology/history",
        "",
        200,
    ),
    (
        "get",
        "/v1/topology/rollout",
        "/v1/topology/rollout",
        "",
        200,
    ),
    (
        "get",
        "/v1/topology/route",
        "/v1/topology/route?source=vm1&destination=broadcast&bytes=1500&ethertype=2048",
        "",
        200,
    ),
    ("get", "/v1/openapi.json", "/v1/openapi.json", "", 200),
    ("get", "/metrics", "/metrics", "", 200),
];

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let agent = FakeAgent::start_degraded();
    let document = document(&agent).await;
    for &(method, path, target, body, status) in REQUESTS {
        let operation = &document["paths"][path][method];
        assert!(operation.is_object(), "{method} {path} is not described");
        if let Some(request) = operation.get("requestBody") {
            let schema = &request["content"]["application/json"]["schema"];
            let body: Value = serde_json::from_str(body).unwrap();
            let judge = judge(&document, schema);
            assert!(judge.is_valid(&body), "{method} {target}: {body}");
            let mut more = body;
            more["color"] = json!("red");
            assert!(!judge.is_valid(&more), "{method} {target} takes anything");
        }
        let capitals = method.to_ascii_uppercase();
        let asked = agent.request(&capitals, target, body);
        let response = tokio::select! {
            response = asked => response,
            // A stream ends only when the agent does.
            () = keep_stopping(&agent) => unreachable!(),
        };
        assert_eq!(response.status, status, "{method} {target}: {response:?}");
        let responses = &operation["responses"];
        let described = responses
            .get(status.to_string())
            .unwrap_or(&responses["default"]);
        let content = resolved(&document, described)["content"]
            .as_object()
            .unwrap();
        let (media_type, content) = content.iter().next().unwrap();
        assert!(
            response
                .head
                .contains(&format!("content-type: {media_type}")),
            "{method} {target}: {}",
            response.head
        );
        let value = match media_type.as_str() {
            "application/json" => Some(response.json()),
            "text/event-stream" => Some(first_event(&response.body)),
            _ => None,
        };
        if let Some(value) = value {
            let judge = judge(&document, &content["schema"]);
            let mistakes: Vec<String> = judge
                .iter_errors(&value)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert_eq!(mistakes, [""; 0], "{method} {target}");
        }
    }
}

async fn keep_stopping(agent: &FakeAgent) {
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        agent.tell(Event::now(EventKind::Stopping, "agent", "it stops").cure("start it"));
    }
}

/// The data of the first event; its name must be the event's kind.
fn first_event(stream: &str) -> Value {
    let field = |name: &str| {
        let mut lines = stream.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(field, _)| *field == name).unwrap();
        value.trim_start().to_owned()
    };
    let value: Value = serde_json::from_str(&field("data")).unwrap();
    assert_eq!(value["kind"], field("event"), "{stream}");
    value
}

#[tokio::test]
async fn every_operation_of_the_document_is_there_and_tried() {
    let agent = FakeAgent::start();
    let document = document(&agent).await;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let tried = |request: &&(&str, &str, &str, &str, u16)| {
                (request.0, request.1) == (method.as_str(), path.as_str())
            };
            let (_, _, target, _, _) = REQUESTS
                .iter()
                .find(tried)
                .unwrap_or_else(|| panic!("{method} {path} is not tried"));
            for part in operation["parameters"].as_array().unwrap() {
                let name = part["name"].as_str().unwrap();
                let is_named = match part["in"].as_str().unwrap() {
                    "path" => path.contains(&format!("{{{name}}}")),
                    "query" => true,
                    other => panic!("a parameter in {other}"),
                };
                assert!(is_named, "{method} {path}: {name}");
                if part["required"] == true && part["in"] == "query" {
                    assert!(target.contains(&format!("{name}=")), "{target}: {name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_schema_refuses_what_the_agent_refuses() {
    let agent = FakeAgent::start();
    let document = document(&agent).await;
    let schema = |path: &str| {
        let body = &document["paths"][path]["post"]["requestBody"];
        judge(&document, &body["content"]["application/json"]["schema"])
    };
    for (path, body) in [
        ("/v1/links", r#"{"name": "x"}"#),
        (
            "/v1/links",
            r#"{"name": "x", "remote": "10.0.0.2", "networks": [], "cookie": "12"}"#,
        ),
        (
            "/v1/rules",
            r#"{"network": "blue", "destination": "everyone", "to": "flood"}"#,
        ),
        (
            "/v1/rules",
            r#"{"network": "blue", "destination": "any", "to": "up"}"#,
        ),
        ("/v1/trace", r#"{"frame": "0"}"#),
        ("/v1/trace", r#"{"frame": "00", "from": "tap0"}"#),
    ] {
        let value: Value = serde_json::from_str(body).unwrap();
        assert!(!schema(path).is_valid(&value), "{path} {body}");
        let response = agent.request("POST", path, body).await;
        assert_eq!(response.status, 400, "{path} {body}");
    }
    assert_eq!(agent.asked(), []);
}
