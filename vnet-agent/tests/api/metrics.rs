//! Do the metrics say what the books say, in the form that Prometheus reads, and nothing else to
//! whoever may read them only?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use vnet_agent::api::{ASKS_WAITING_MAX, Ask, Stats, http};

use crate::fake_agent::{FakeAgent, HttpResponse};

/// The series of a text, by name and labels; panics on what the format does not allow.
fn series(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let mut kinds = BTreeMap::new();
    let mut series = BTreeMap::new();
    for line in body.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (family, kind) = kind.split_once(' ').unwrap();
            let again = kinds.insert(family.to_owned(), kind.to_owned());
            assert_eq!(again, None, "{family} is described twice");
        } else if !line.starts_with("# ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let counter = family.strip_suffix("_total");
            match kinds.get(counter.unwrap_or(family)).map(String::as_str) {
                Some("counter") => assert!(counter.is_some(), "{line}"),
                Some("gauge") => assert!(counter.is_none(), "{line}"),
                other => panic!("{line} is a {other:?}"),
            }
            let again = series.insert(name.to_owned(), value.parse().unwrap());
            assert_eq!(again, None, "{name} is there twice");
        }
    }
    series
}

#[tokio::test]
async fn prometheus_reads_what_the_books_say() {
    let agent = FakeAgent::start_degraded();
    let stats: Stats =
        serde_json::from_str(&agent.request("GET", "/v1/stats", "").await.body).unwrap();
    let port = &stats.ports[0];
    agent.asked();
    let response = agent.request("GET", "/metrics", "").await;
    assert_eq!(response.status, 200);
    assert!(
        response
            .head
            .contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        response.head
    );
    assert_eq!(agent.asked(), [Ask::Status, Ask::Stats, Ask::Links]);
    let series = series(&response.body);
    let at = |name: &str, more: &str| {
        let place = format!("place=\"port\",name=\"{}\"{more}", port.name);
        series[&format!("vnet_{name}_total{{{place}}}")]
    };
    assert_eq!(
        at("received_packets", ""),
        port.ledger.received_packets as f64
    );
    assert_eq!(at("sent_bytes", ""), port.ledger.sent_bytes as f64);
    assert_eq!(
        at("outcome_packets", ",outcome=\"forwarded\""),
        port.ledger.forwarded as f64
    );
    for (reason, &packets) in &port.ledger.dropped_by_reason {
        let more = format!(",reason=\"{reason}\"");
        assert_eq!(at("dropped_packets", &more), packets as f64);
    }
    assert_eq!(series["vnet_healthy{}"], 0.0);
    assert_eq!(series["vnet_api_listening{}"], 1.0);
    assert_eq!(series["vnet_api_connections{}"], 2.0);
    let turned = "vnet_api_turned_away_total{reason=\"no certificate\"}";
    assert_eq!(series[turned], 3.0);
    assert_eq!(series["vnet_link_up{link=\"to-two\"}"], 1.0);
    assert!(series["vnet_table_capacity{table=\"flows\"}"] > 0.0);
    let outcomes: f64 = series
        .iter()
        .filter(|(name, _)| name.starts_with("vnet_outcome_packets") && name.contains(&port.name))
        .map(|(_, frames)| frames)
        .sum();
    assert_eq!(outcomes, at("received_packets", ""));
}

#[tokio::test]
async fn who_may_read_metrics_may_do_nothing_else() {
    let (sender, mut requests) = mpsc::channel(ASKS_WAITING_MAX);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let request: vnet_agent::api::Request = request;
            seen.lock().unwrap().push(request.ask);
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(http::serve_metrics(
        listener,
        sender,
        std::future::pending(),
    ));
    for (request, status) in [
        ("GET /v1/status", 404),
        ("GET /v1/configuration", 404),
        ("POST /v1/links", 404),
        ("DELETE /v1/links/to-two", 404),
        ("POST /metrics", 405),
        ("GET /metrics?all=true", 400),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let bytes = format!("{request} HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let response = HttpResponse::read(&mut stream).await;
        assert_eq!(response.status, status, "{request}: {response:?}");
    }
    assert_eq!(*asked.lock().unwrap(), []);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let bytes = b"GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n";
    stream.write_all(bytes).await.unwrap();
    HttpResponse::read(&mut stream).await;
    assert_eq!(*asked.lock().unwrap(), [Ask::Status]);
}
