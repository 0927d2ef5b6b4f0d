//! Does the server hold out against clients that send too much, too little or nothing, and against
//! an agent that does not answer?
//!
//! Where waiting is tested, the runtime's clock stands still and jumps to the next timer as soon
//! as nobody has anything to do: the timeouts are tested in no time, and exactly.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use vnet_agent::api::{Answer, Ask, BODY_BYTES_MAX, Request};

use crate::fake_agent::{FakeAgent, HttpResponse};

const STATUS: &[u8] = b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn server(room: usize) -> (FakeAgent, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel(room);
    (FakeAgent::serve(sender, Arc::default()), requests)
}

#[tokio::test]
async fn a_body_may_be_so_long_and_no_longer() {
    let agent = FakeAgent::start();
    let frame_of = |bytes: usize| {
        let around = r#"{"frame": ""}"#.len();
        let spaces = " ".repeat(bytes - around);
        format!(r#"{{"frame": ""{spaces}}}"#)
    };
    let response = agent
        .request("POST", "/v1/trace", &frame_of(BODY_BYTES_MAX))
        .await;
    assert_eq!(response.status, 200, "{response:?}");
    let response = agent
        .request("POST", "/v1/trace", &frame_of(BODY_BYTES_MAX + 1))
        .await;
    assert_eq!(response.status, 413, "{response:?}");
    assert!(
        response.refusal().message.contains("262144"),
        "{response:?}"
    );

    let mut chunked =
        b"POST /v1/trace HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..5 {
        chunked.extend(b"10000\r\n");
        chunked.extend([b' '; 0x10000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(agent.exchange(&chunked).await.status, 413);
}

#[tokio::test]
async fn what_is_no_request_ends_its_connection_and_nothing_else() {
    let agent = FakeAgent::start();
    for bytes in [
        &b"\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET http://\xff HTTP/1.1\r\n\r\n",
        b"POST /v1/trace HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/trace HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[b'A'; 1_000_000],
    ] {
        let mut stream = UnixStream::connect(agent.socket()).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let response = HttpResponse::read(&mut stream).await;
        assert!(!(200..300).contains(&response.status), "{response:?}");
    }
    assert_eq!(agent.asked(), []);
    assert_eq!(agent.exchange(STATUS).await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_costs_only_its_own_answer() {
    let (agent, mut requests) = server(64);
    let mut stream = UnixStream::connect(agent.socket()).await.unwrap();
    stream.write_all(STATUS).await.unwrap();
    let Request { ask, mut reply } = requests.recv().await.unwrap();
    assert_eq!(ask, Ask::Status);
    drop(stream);
    reply.closed().await;
    assert!(reply.send(Ok(Answer::Links(vec![]))).is_err());
}

#[tokio::test]
async fn an_agent_that_is_gone_or_overwhelmed_is_said_to_be() {
    let (agent, requests) = server(1);
    let socket = agent.socket();
    let first = tokio::spawn(async move {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        stream.write_all(STATUS).await.unwrap();
        HttpResponse::read(&mut stream).await
    });
    while requests.is_empty() {
        tokio::task::yield_now().await;
    }
    let response = agent.exchange(STATUS).await;
    assert_eq!(response.status, 503);
    assert!(
        response
            .refusal()
            .message
            .contains("as many requests waiting"),
        "{response:?}"
    );

    drop(requests);
    assert_eq!(first.await.unwrap().status, 500);
    let response = agent.exchange(STATUS).await;
    assert_eq!(response.status, 503);
    assert_eq!(response.refusal().message, "the agent is stopping");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_waited_for_eight_seconds() {
    let (agent, _requests) = server(64);
    let start = Instant::now();
    let response = agent.exchange(STATUS).await;
    assert_eq!(start.elapsed().as_secs(), 8);
    assert_eq!(response.status, 503);
    assert!(
        response
            .refusal()
            .message
            .contains("did not answer within 8 s"),
        "{response:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dawdles_is_cut_off() {
    let agent = FakeAgent::start();
    for (start, status) in [
        (&b""[..], 0),
        (b"GET /v1/sta", 0),
        (
            b"POST /v1/trace HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{\"fra",
            408,
        ),
    ] {
        let begin = Instant::now();
        let response = agent.exchange(start).await;
        assert_eq!(
            (response.status, begin.elapsed().as_secs()),
            (status, 5),
            "{response:?}"
        );
    }
    assert_eq!(agent.asked(), []);
}

#[tokio::test(start_paused = true)]
async fn one_byte_a_second_is_too_slow_too() {
    let agent = FakeAgent::start();
    let mut stream = UnixStream::connect(agent.socket()).await.unwrap();
    let begin = Instant::now();
    for byte in STATUS {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(begin.elapsed().as_secs() <= 7, "{:?}", begin.elapsed());
    assert_eq!(agent.asked(), []);
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_wait_and_are_served() {
    const CLIENTS: usize = 250;
    let (agent, mut requests) = server(1000);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let socket = agent.socket();
        clients.spawn(async move {
            // The kernel's queue has room for 128, and refuses others instead of letting them wait.
            let mut stream = loop {
                match UnixStream::connect(&socket).await {
                    Ok(stream) => break stream,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                tokio::task::yield_now().await;
            };
            stream.write_all(STATUS).await.unwrap();
            HttpResponse::read(&mut stream).await.status
        });
    }
    let mut held = Vec::new();
    while held.len() < 64 {
        held.push(requests.recv().await.unwrap());
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(
        requests.is_empty(),
        "no more than 64 are served at one time"
    );
    for Request { reply, .. } in held {
        reply.send(Ok(Answer::Links(vec![]))).unwrap();
    }
    for _ in 64..CLIENTS {
        let Request { reply, .. } = requests.recv().await.unwrap();
        reply.send(Ok(Answer::Links(vec![]))).unwrap();
    }
    assert_eq!(clients.join_all().await, [200; CLIENTS]);
}

#[tokio::test]
async fn a_stopping_server_finishes_what_it_began_and_removes_its_socket() {
    let (agent, mut requests) = server(64);
    let socket = agent.socket();
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(STATUS).await.unwrap();
    let Request { reply, .. } = requests.recv().await.unwrap();
    let stopping = tokio::spawn(agent.stop());
    while UnixStream::connect(&socket).await.is_ok() {
        tokio::task::yield_now().await;
    }
    reply.send(Ok(Answer::Links(vec![]))).unwrap();
    assert_eq!(HttpResponse::read(&mut stream).await.status, 200);
    let _directory = stopping.await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_does_not_wait_for_ever() {
    let (agent, mut requests) = server(64);
    let mut stream = UnixStream::connect(agent.socket()).await.unwrap();
    stream.write_all(STATUS).await.unwrap();
    let _held = requests.recv().await.unwrap();
    let begin = Instant::now();
    let _directory = agent.stop().await;
    assert_eq!(begin.elapsed().as_secs(), 2);
    assert_eq!(HttpResponse::read(&mut stream).await.status, 0);
}
