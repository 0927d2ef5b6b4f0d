//! Does `vnetctl` ask an agent that is elsewhere, and say what is in the way?

use std::io::{BufRead as _, BufReader};

use tokio::net::TcpListener;
use vnet_agent::api::stream::{Event, EventKind};
use vnet_agent::identity::{Bundle, Role};

use super::*;
use crate::remote::{Elsewhere, authority, issue, over};

/// Files of certificates.
struct Files(tempfile::TempDir);

impl Files {
    fn write(&self, name: &str, bundle: &Bundle) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bundle.to_text()).unwrap();
        path.display().to_string()
    }
}

fn files() -> Files {
    Files(tempfile::tempdir().unwrap())
}

async fn at(place: &str, credentials: &str, line: &str) -> Outcome {
    let mut words = vec!["--at", place, "--credentials", credentials];
    words.extend(line.split(' '));
    run("/nowhere".into(), &words, b"").await
}

#[tokio::test]
async fn the_same_verbs_have_the_same_answers() {
    let (agent, authority, files) = (FakeAgent::start(), authority(), files());
    let elsewhere = Elsewhere::of(&agent, &issue(&authority, "one", Role::Agent)).await;
    let place = format!("one@{}", elsewhere.at);
    let alice = files.write("alice", &issue(&authority, "alice", Role::Operator));
    for line in [
        "status",
        "stats",
        "flows",
        "drops",
        "link list",
        "links",
        "-o json rule list",
        "interface list",
        "agents",
        "topology show",
        "link delete to-two",
        "rule add --network blue --to none --flood",
    ] {
        let near = ask(&agent, line).await;
        let far = at(&place, &alice, line).await;
        assert_eq!((far.code, &far.err), (near.code, &near.err), "{line}");
        assert_eq!(far.out, near.out, "{line}");
    }
    let bob = files.write("bob", &issue(&authority, "bob", Role::Reader));
    assert_eq!(at(&place, &bob, "status").await.code, Some(0));
    let refused = at(&place, &bob, "link delete to-two").await;
    assert_eq!(refused.code, Some(1));
    for word in ["bob", "reader", "--role operator"] {
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
}

#[tokio::test]
async fn events_come_as_they_happen() {
    let (agent, authority, files) = (FakeAgent::start(), authority(), files());
    let elsewhere = Elsewhere::of(&agent, &issue(&authority, "one", Role::Agent)).await;
    let alice = files.write("alice", &issue(&authority, "alice", Role::Operator));
    let mut watching = command(Path::new("/nowhere"))
        .args([
            "--at",
            &elsewhere.at.to_string(),
            "--credentials",
            &alice,
            "watch",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let first = spawn_blocking(move || {
        let mut lines = lines.map_while(Result::ok);
        (lines.next(), lines)
    });
    let telling = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            agent.tell(Event::now(EventKind::Problem, "link to-two", "no route"));
        }
    };
    let (first, lines) = tokio::select! {
        read = first => read.unwrap(),
        () = telling => unreachable!(),
    };
    assert!(first.unwrap().contains("no route"));
    agent.tell(Event::now(EventKind::Stopping, "agent", "it stops"));
    let status = spawn_blocking(move || {
        lines.for_each(drop);
        watching.wait().unwrap()
    });
    assert_eq!(status.await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn what_is_in_the_way_is_named_with_its_cure() {
    let (agent, authority, files) = (FakeAgent::start(), authority(), files());
    let elsewhere = Elsewhere::of(&agent, &issue(&authority, "one", Role::Agent)).await;
    let place = elsewhere.at.to_string();
    let other = crate::remote::authority();
    let alice = files.write("alice", &issue(&authority, "alice", Role::Operator));
    let late = files.write("late", &over(&authority, "alice", Role::Operator));
    let eve = files.write("eve", &issue(&other, "eve", Role::Operator));
    let host = files.write("host", &issue(&authority, "two", Role::Agent));
    let old = Elsewhere::of(&agent, &over(&authority, "old", Role::Agent)).await;
    let fake = Elsewhere::of(&agent, &issue(&authority, "mallory", Role::Operator)).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap().to_string();
    drop(closed);
    let missing = files.0.path().join("missing").display().to_string();
    for (place, credentials, words) in [
        (&place, &missing, ["cannot read", "vnetctl ca issue"]),
        (&place, &late, ["is over", "ca issue alice --role operator"]),
        (
            &place,
            &eve,
            ["of another authority", "is of the authority"],
        ),
        (&place, &host, ["for the role agent", "--role operator"]),
        (&nobody, &alice, ["refused", "`api` under [agent]"]),
        (
            &format!("two@{place}"),
            &alice,
            ["is one, and not two", "one@"],
        ),
        (
            &old.at.to_string(),
            &alice,
            ["is over", "do the clocks agree"],
        ),
        (
            &fake.at.to_string(),
            &alice,
            ["not a host's", "vnetctl ca issue"],
        ),
    ] {
        let outcome = at(place, credentials, "status").await;
        assert_eq!(outcome.code, Some(1), "{words:?}: {}", outcome.out);
        for word in words {
            assert!(outcome.err.contains(word), "{word}: {}", outcome.err);
        }
        assert_eq!(outcome.err.lines().count(), 2, "{}", outcome.err);
    }
    let outcome = run("/nowhere".into(), &["--at", &place, "status"], b"").await;
    assert!(outcome.err.contains("VNET_CREDENTIALS"), "{}", outcome.err);
    assert_eq!(agent.asked(), []);
}

#[tokio::test]
async fn what_listens_there_and_is_no_agent_is_recognised() {
    let (authority, files) = (authority(), files());
    let alice = files.write("alice", &issue(&authority, "alice", Role::Operator));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let other = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"220 mail ready\r\n").await;
    });
    let outcome = at(&place, &alice, "status").await;
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("is not the API"), "{}", outcome.err);
    assert!(outcome.err.contains("is that the port?"), "{}", outcome.err);
    other.await.unwrap();
}
