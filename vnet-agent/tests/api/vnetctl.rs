//! Does the real `vnetctl` ask what it was told to, print what it was answered, and exit as it
//! should?

mod elsewhere;
mod many_rules;
mod without_an_agent;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tokio::task::spawn_blocking;
use vnet_agent::api::{Ask, FlowSort};
use vnet_agent::model::{Flooding, Link, Rule, RuleOrigin, Target, Transport};
use vnet_common::addr::Cookie;
use vnet_common::rule::{Destination, Source};

use crate::fake_agent::{FakeAgent, GUEST_ONE, GUEST_TWO, STRANGER};

/// Exit status and what was printed.
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn command(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vnetctl"));
    command
        .env_remove("VNET_SOCKET")
        .env_remove("VNET_AT")
        .env_remove("VNET_CREDENTIALS")
        .arg("--socket")
        .arg(socket);
    command
}

/// Runs it on another thread: the agent that it asks lives on this one.
async fn run(socket: PathBuf, words: &[&str], input: &[u8]) -> Outcome {
    let mut command = command(&socket);
    command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let Output {
        status,
        stdout,
        stderr,
    } = spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // It need not read what it is given.
        let _ = child.stdin.take().unwrap().write_all(&input);
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    Outcome {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

pub async fn ask(agent: &FakeAgent, line: &str) -> Outcome {
    run(agent.socket(), &line.split(' ').collect::<Vec<_>>(), b"").await
}

fn pcap(frames: &[&[u8]]) -> Vec<u8> {
    let mut file = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0".to_vec();
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
        file.extend([0; 8]);
        file.extend(length);
        file.extend(length);
        file.extend(*frame);
    }
    file
}

fn frame(source: [u8; 6], ethertype: [u8; 2]) -> Vec<u8> {
    [&GUEST_TWO.0[..], &source, &ethertype, &[0; 46]].concat()
}

#[tokio::test]
async fn every_question_is_asked_and_answered_in_both_forms() {
    let agent = FakeAgent::start();
    let flows = Ask::Flows {
        network: Some("blue".into()),
        limit: 5,
        sort: FlowSort::Packets,
    };
    for (line, expected, in_table, at, in_json) in [
        (
            "status",
            Ask::Status,
            "host-one: healthy",
            "/name",
            "host-one",
        ),
        ("stats", Ask::Stats, "tap0", "/ports/0/name", "tap0"),
        (
            "flows --network blue --limit 5 --sort packets",
            flows,
            "link to-two",
            "/flows/0/source",
            "52:54:00:00:00:01",
        ),
        (
            "drops",
            Ask::Drops { all: false },
            "no-rule",
            "/0/where",
            "port tap0",
        ),
        (
            "drops --all",
            Ask::Drops { all: true },
            "hop-limit",
            "/0/reason",
            "runt",
        ),
        (
            "interface list",
            Ask::Interfaces,
            "forwarding",
            "/0/state",
            "forwarding",
        ),
        ("link list", Ask::Links, "10.0.0.2", "/0/remote", "10.0.0.2"),
        (
            "rule list",
            Ask::Rules { network: None },
            "link to-two",
            "/0/to/link",
            "to-two",
        ),
        (
            "rule list --network blue",
            Ask::Rules {
                network: Some("blue".into()),
            },
            "STRENGTH",
            "/0/source",
            "any",
        ),
    ] {
        let table = ask(&agent, line).await;
        assert_eq!((table.code, table.err.as_str()), (Some(0), ""), "{line}");
        assert!(table.out.contains(in_table), "{line}: {}", table.out);
        assert_eq!(agent.asked(), std::slice::from_ref(&expected), "{line}");
        let json = ask(&agent, &format!("{line} -o json")).await;
        assert_eq!(json.code, Some(0), "{line}: {}", json.err);
        assert_eq!(
            json.json().pointer(at),
            Some(&Value::from(in_json)),
            "{line}: {}",
            json.out
        );
        assert_eq!(agent.asked(), [expected], "{line}");
    }
}

#[tokio::test]
async fn a_degraded_agent_makes_status_exit_with_3() {
    let agent = FakeAgent::start_degraded();
    let table = ask(&agent, "status").await;
    assert_eq!(table.code, Some(3));
    assert!(
        table
            .out
            .contains("degraded  link to-two: 10.0.0.2 does not answer"),
        "{}",
        table.out
    );
    assert!(table.out.contains("ping 10.0.0.2"), "{}", table.out);
    let json = ask(&agent, "-o json status").await;
    assert_eq!(json.code, Some(3));
    assert_eq!(
        json.json().pointer("/problems/0/severity"),
        Some(&Value::from("degraded"))
    );
}

#[tokio::test]
async fn links_are_added_with_a_cookie_from_anywhere_and_deleted() {
    let agent = FakeAgent::start();
    let file = agent.directory().join("cookie");
    fs::write(&file, "0123456789abcdef\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let link = Link {
        name: "to-two".into(),
        remote: [10, 0, 0, 2].into(),
        networks: vec!["blue".into(), "green".into()],
        cookie: Some(Cookie(0x0123_4567_89ab_cdef)),
        fallback: None,
        flood: Flooding::FromPorts,
        kind: Transport::Udp,
        listen_only: false,
        rung_of: None,
    };
    let add = "link add to-two --remote 10.0.0.2 --network blue,green";
    for secret in [
        "--cookie 0123456789abcdef",
        &format!("--cookie-file {}", file.display()),
    ] {
        let outcome = ask(&agent, &format!("{add} {secret}")).await;
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (Some(0), ""),
            "{secret}"
        );
        assert!(
            outcome.out.starts_with("added: link to-two to 10.0.0.2"),
            "{}",
            outcome.out
        );
        assert!(!outcome.out.contains("0123456789abcdef"), "{}", outcome.out);
        assert_eq!(agent.asked(), [Ask::AddLink(link.clone())], "{secret}");
    }
    let words: Vec<&str> = add
        .split(' ')
        .chain(["--cookie-file", "-", "-o", "json"])
        .collect();
    let outcome = run(agent.socket(), &words, b"0123456789abcdef").await;
    assert_eq!(outcome.json()["outcome"], "added");
    assert_eq!(agent.asked(), [Ask::AddLink(link.clone())]);

    let outcome = ask(&agent, &format!("{add} --plain --flood always")).await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let plain = Link {
        cookie: None,
        flood: Flooding::Always,
        ..link
    };
    assert_eq!(agent.asked(), [Ask::AddLink(plain)]);

    let outcome = ask(&agent, "link delete to-two --force").await;
    assert_eq!(outcome.out, "deleted: link to-two\nnote: a note\n");
    assert_eq!(
        agent.asked(),
        [Ask::DeleteLink {
            name: "to-two".into(),
            force: true
        }]
    );
}

#[tokio::test]
async fn a_cookie_file_that_is_no_good_is_said_to_be() {
    let agent = FakeAgent::start();
    let file = agent.directory().join("cookie");
    let add = format!(
        "link add x --remote 10.0.0.2 --network blue --cookie-file {}",
        file.display()
    );
    let outcome = ask(&agent, &add).await;
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.contains("cannot open the cookie file"),
        "{}",
        outcome.err
    );
    fs::write(&file, "secret").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let outcome = ask(&agent, &add).await;
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.contains("16 hexadecimal digits"),
        "{}",
        outcome.err
    );
    assert!(
        outcome.err.contains("warning: others may read the cookie"),
        "{}",
        outcome.err
    );
    assert_eq!(agent.asked(), []);
}

#[tokio::test]
async fn rules_are_added_and_deleted() {
    let agent = FakeAgent::start();
    let rule = Rule {
        network: "blue".into(),
        source: Source::Not(GUEST_ONE),
        destination: Destination::Is(GUEST_TWO),
        to: Target::Drop,
        origin: RuleOrigin::Api,
    };
    let sides = [
        "--network",
        "blue",
        "--from",
        "not 52:54:00:00:00:01",
        "--to",
        "52:54:00:00:00:02",
    ];
    for (target, to) in [
        (&["--drop"][..], Target::Drop),
        (&["--flood"], Target::Flood),
        (&["--link", "to-two"], Target::Link("to-two".into())),
        (&["--port", "tap0"], Target::Port("tap0".into())),
    ] {
        let words = [&["rule", "add"][..], &sides, target].concat();
        let outcome = run(agent.socket(), &words, b"").await;
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        assert!(
            outcome.out.starts_with("replaced: rule blue"),
            "{}",
            outcome.out
        );
        assert_eq!(agent.asked(), [Ask::AddRule(Rule { to, ..rule.clone() })]);
    }
    let words = [&["rule", "delete"][..], &sides].concat();
    assert_eq!(run(agent.socket(), &words, b"").await.code, Some(0));
    let Rule {
        network,
        source,
        destination,
        ..
    } = rule;
    assert_eq!(
        agent.asked(),
        [Ask::DeleteRule {
            network,
            source,
            destination
        }]
    );
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_cure_and_exits_with_1() {
    let agent = FakeAgent::start();
    for (name, words) in [
        ("missing", "there is no missing\n  make it\n"),
        ("taken", "taken is taken\n  take another\n"),
        ("wrong", "wrong is wrong\n"),
        ("busy", "busy is busy\n  wait\n"),
        ("broken", "the kernel said no\n"),
        ("silent", "without an answer\n  see the agent's log\n"),
    ] {
        let outcome = ask(&agent, &format!("link delete {name}")).await;
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(1), ""),
            "{name}"
        );
        assert!(outcome.err.starts_with("vnetctl: "), "{}", outcome.err);
        assert!(outcome.err.ends_with(words), "{}", outcome.err);
    }
}

#[tokio::test]
async fn a_made_up_frame_is_traced() {
    let agent = FakeAgent::start();
    let line = "trace --source 52:54:00:00:00:01 --destination 52:54:00:00:00:02 --bytes 64";
    let outcome = ask(&agent, &format!("{line} --from link:to-two --network blue")).await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert!(
        outcome.out.contains("verdict   forwarded: link to-two\n"),
        "{}",
        outcome.out
    );
    let [Ask::Trace(request)] = &agent.asked()[..] else {
        panic!("one trace")
    };
    assert_eq!(request.from.as_ref().unwrap().to_string(), "link to-two");
    assert_eq!(request.network.as_deref(), Some("blue"));
    assert_eq!(request.frame.0.len(), 64);
    assert_eq!(request.frame.0[..12], [GUEST_TWO.0, GUEST_ONE.0].concat());
    let outcome = ask(&agent, &format!("{line} -o json")).await;
    assert_eq!(outcome.json()["verdict"], "forwarded");
}

#[tokio::test]
async fn a_trace_whose_two_runs_differ_exits_with_1() {
    let agent = FakeAgent::start();
    let line = "trace --source 52:54:00:00:00:01 --destination 52:54:00:00:00:02";
    let outcome = ask(&agent, &format!("{line} --ethertype 0xdead")).await;
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.out.contains("DIFFERS"), "{}", outcome.out);
    assert!(outcome.err.contains("differ"), "{}", outcome.err);
}

#[tokio::test]
async fn the_frames_of_a_capture_are_traced_one_by_one() {
    let agent = FakeAgent::start();
    let good = frame(GUEST_ONE.0, [8, 0]);
    let strange = frame(STRANGER.0, [8, 6]);
    let capture = pcap(&[&good, &strange, &good]);
    let file = agent.directory().join("frames.pcap");
    fs::write(&file, &capture).unwrap();

    let line = format!("trace --pcap {}", file.display());
    let outcome = ask(&agent, &line).await;
    assert_eq!(outcome.code, Some(1), "one was refused");
    assert_eq!(outcome.out.lines().count(), 4, "{}", outcome.out);
    assert!(
        outcome.out.contains("not traced: no port has this source"),
        "{}",
        outcome.out
    );
    assert!(
        outcome.err.contains("1 frame could not be traced"),
        "{}",
        outcome.err
    );
    assert_eq!(agent.asked().len(), 3);

    let words = ["trace", "--from", "tap0", "--pcap", "-", "-o", "json"];
    let outcome = run(agent.socket(), &words, &capture).await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    let reports: Vec<Value> = serde_json::Deserializer::from_str(&outcome.out)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(reports.len(), 3);
    assert!(
        reports
            .iter()
            .all(|report| report["verdict"] == "forwarded")
    );
    agent.asked();

    let outcome = ask(&agent, &format!("{line} --count 1")).await;
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.err.contains("1 of 3 frames"), "{}", outcome.err);
    assert_eq!(agent.asked().len(), 1);
}

#[tokio::test]
async fn what_is_no_capture_is_said_to_be_none() {
    let agent = FakeAgent::start();
    for (bytes, words) in [
        (&b"hello"[..], "not a pcap file"),
        (b"\x0a\x0d\x0d\x0a", "pcapng"),
        (&pcap(&[]), "has no packets in it"),
        (&pcap(&[b"abc"])[..42], "ends within packet 1"),
    ] {
        let outcome = run(agent.socket(), &["trace", "--pcap", "-"], bytes).await;
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.err.contains(words), "{words}: {}", outcome.err);
        assert!(
            outcome.err.contains("standard input"),
            "{words}: {}",
            outcome.err
        );
    }
    assert_eq!(agent.asked(), []);
}
