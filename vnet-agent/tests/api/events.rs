//! Does everyone who listens hear what happens, in bounds, and does a stream end with the agent?

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use vnet_agent::api::RefusalKind;
use vnet_agent::api::stream::{Event, EventKind, LISTENERS_MAX};

use crate::fake_agent::FakeAgent;
use crate::vnetctl::ask;

const REQUEST: &[u8] = b"GET /v1/events HTTP/1.1\r\nhost: here\r\n\r\n";

/// A listener whose stream has begun.
async fn listener(agent: &FakeAgent) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(agent.socket()).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "it ended");
    }
    stream
}

async fn next_data(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "it ended");
    }
    line
}

#[tokio::test]
async fn everyone_who_listens_hears_what_happens() {
    let agent = FakeAgent::start();
    let (mut one, mut two) = (listener(&agent).await, listener(&agent).await);
    agent.tell(Event::now(EventKind::Problem, "link to-two", "no route"));
    for stream in [&mut one, &mut two] {
        let data = next_data(stream).await;
        assert!(data.contains("no route"), "{data}");
    }
}

#[tokio::test]
async fn more_listeners_than_there_may_be_are_refused() {
    let agent = FakeAgent::start();
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS_MAX {
        listeners.push(listener(&agent).await);
    }
    let response = agent.request("GET", "/v1/events", "").await;
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.refusal().kind, RefusalKind::Unavailable);
    let status = agent.request("GET", "/v1/status", "").await;
    assert_eq!(status.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_patience_for_answers_and_shows_that_it_is_alive() {
    let agent = FakeAgent::start();
    let mut stream = listener(&agent).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    stream.read_line(&mut line).await.unwrap();
    assert!(line.contains(':'), "{line:?}");
    agent.tell(Event::now(EventKind::Learned, "port tap0", "its address"));
    assert!(next_data(&mut stream).await.contains("learned"));
}

#[tokio::test]
async fn vnetctl_watch_prints_a_line_an_event_and_ends_with_the_agent() {
    let agent = FakeAgent::start();
    let watching = ask(&agent, "watch");
    let telling = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            agent.tell(Event::now(EventKind::Problem, "link to-two", "no route").cure("add one"));
            agent.tell(Event::now(EventKind::Stopping, "agent", "it stops"));
        }
    };
    let outcome = tokio::select! {
        outcome = watching => outcome,
        () = telling => unreachable!(),
    };
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert!(
        lines[0].ends_with("problem   link to-two: no route. add one"),
        "{lines:?}"
    );
    assert!(lines[1].ends_with("stopping  agent: it stops"), "{lines:?}");
}
