//! What does `vnetctl` say and do where there is no agent, or none is needed?

use super::*;

#[tokio::test]
async fn an_agent_that_is_not_there_is_said_not_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let outcome = run(socket.clone(), &["status"], b"").await;
    assert_eq!(outcome.code, Some(1));
    let missing = format!("there is no socket {}", socket.display());
    assert!(outcome.err.contains(&missing), "{}", outcome.err);
    assert!(
        outcome.err.contains("systemctl status vnet-agent"),
        "{}",
        outcome.err
    );

    drop(UnixListener::bind(&socket).unwrap());
    let outcome = run(socket.clone(), &["status"], b"").await;
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("nobody listens on"), "{}", outcome.err);
    assert!(
        outcome.err.contains("systemctl status vnet-agent"),
        "{}",
        outcome.err
    );

    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "").unwrap();
    let outcome = run(socket, &["status"], b"").await;
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.err.lines().count(), 2, "{}", outcome.err);
}

#[tokio::test]
async fn what_answers_and_is_no_agent_is_recognised() {
    for (response, words) in [
        (&b""[..], "broke off"),
        (b"220 mail ready\r\n", "broke off"),
        (
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
            "not an answer of this version",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "not an answer of this version",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
            "broke off",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let other = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(response).await;
        });
        let outcome = run(socket, &["status"], b"").await;
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.err.contains(words), "{words}: {}", outcome.err);
        other.await.unwrap();
    }
}

#[tokio::test]
async fn wrong_usage_exits_with_2_and_help_with_0() {
    let socket = PathBuf::from("/nowhere");
    for words in [
        &["frobnicate"][..],
        &["link", "add"],
        &["status", "extra"],
        &["-o", "xml"],
    ] {
        let outcome = run(socket.clone(), words, b"").await;
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(2), ""),
            "{words:?}"
        );
    }
    for words in [
        &["--help"][..],
        &["link", "add", "--help"],
        &["trace", "--help"],
    ] {
        let outcome = run(socket.clone(), words, b"").await;
        assert_eq!(outcome.code, Some(0), "{words:?}");
        assert!(
            outcome.out.contains("Examples:"),
            "{words:?}: {}",
            outcome.out
        );
    }
}

#[tokio::test]
async fn completions_need_no_agent() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = run(PathBuf::from("/nowhere"), &["completions", shell], b"").await;
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.err);
        assert!(outcome.out.contains("interface"), "{shell}");
    }
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let socket = PathBuf::from("/nowhere");
    let output = spawn_blocking(move || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(&socket);
        command
            .args(["completions", "bash"])
            .stdout(writer)
            .stderr(Stdio::piped());
        command.output().unwrap()
    })
    .await
    .unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[tokio::test]
async fn the_socket_may_be_named_by_the_environment() {
    let agent = FakeAgent::start();
    let socket = agent.socket();
    let output = spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_vnetctl"))
            .env("VNET_SOCKET", socket)
            .arg("status")
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    assert_eq!(output.status.code(), Some(0));
}
