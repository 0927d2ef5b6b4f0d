//! Does `vnetctl topology` say of texts what it should, without any agent, and ask the proxy for the
//! rest?

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

fn topology(folder: &Path, words: &[&str], input: &str) -> Outcome {
    let mut command = command(words);
    command.current_dir(folder).env("VNET_SOCKET", "/nowhere");
    outcome(command, input)
}

fn vnetctl(socket: &Path, words: &[String], input: &str) -> Outcome {
    let mut command = command(words);
    command.env("VNET_SOCKET", socket);
    outcome(command, input)
}

fn command(words: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vnetctl"));
    command.arg("topology").args(words);
    command
}

fn outcome(mut command: Command, input: &str) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It need not read what it is given.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.out).unwrap_or_else(|error| panic!("{error}: {}", outcome.out))
}

/// The first example of the documentation, in a folder of its own.
fn example() -> (TempDir, String) {
    let page = include_str!("../../../docs/language.md");
    let rest = page.split("```vnet\n").nth(1).unwrap();
    let text = rest.split("```").next().unwrap().to_owned();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("lan.vnet"), &text).unwrap();
    (folder, text)
}

#[test]
fn a_text_is_checked() {
    let (folder, text) = example();
    let good = topology(folder.path(), &["check", "lan.vnet"], "");
    assert_eq!(
        (good.code, good.out.as_str(), good.err.as_str()),
        (Some(0), "1 network, 4 hosts, 3 VMs, 4 links, 9 rules\n", "")
    );
    let cut = text
        .replace("LINK UDP proxy three FLOOD ALWAYS\n", "")
        .replace("FORWARD EDGE proxy ANY 52:54:00:00:00:03 proxy three\n", "");
    let warned = topology(folder.path(), &["check", "-", "-o", "json"], &cut);
    assert_eq!(warned.code, Some(0));
    let warnings = &json(&warned)["warnings"];
    assert_eq!(warnings[0], "no links lead from three to the proxy");
    assert_eq!(
        warnings[1],
        "no frame gets from vm1 to vm3, vm2 to vm3, vm3 to vm1, vm3 to vm2; see vnetctl topology route"
    );
    let doubled = text.replace("FLOOD NEVER", "FLOOD ALWAYS");
    let warned = topology(folder.path(), &["check", "-"], &doubled);
    assert!(
        warned
            .out
            .contains("warning: a broadcast gets more than once from vm1 to vm2"),
        "{}",
        warned.out
    );
}

#[test]
fn what_is_wrong_is_shown_and_nothing_else_is_said() {
    let (folder, text) = example();
    let wrong = text.replace("AT two ", "AT one ");
    let outcome = topology(folder.path(), &["check", "-"], &wrong);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""));
    assert!(
        outcome.err.starts_with(
            "standard input:8:15: a second host is called \"one\"\n  |\n\
             8 | HOST admin AT one   6081 eth0 ADDRESS 10.0.0.2\n  |               ^^^\n  = compare line 7\n"
        ),
        "{}",
        outcome.err
    );
    let outcome = topology(
        folder.path(),
        &["diff", "lan.vnet", "-", "-o", "json"],
        &wrong,
    );
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(1), ""));
    assert_eq!(json(&outcome)["faults"][0]["line"], 8);
    let missing = topology(folder.path(), &["draw", "nothing.vnet"], "");
    assert_eq!(missing.code, Some(1));
    assert!(
        missing
            .err
            .starts_with("vnetctl: cannot read nothing.vnet: No such file")
    );
}

#[test]
fn a_text_is_tidied_up_in_place() {
    let (folder, text) = example();
    let file = folder.path().join("lan.vnet");
    let printed = topology(folder.path(), &["format", "lan.vnet"], "");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let written = topology(folder.path(), &["format", "--write", "lan.vnet"], "");
    assert_eq!((written.code, written.out.as_str()), (Some(0), ""));
    assert_eq!(fs::read_to_string(&file).unwrap(), printed.out);
    assert!(printed.out.contains("tap0 FIXED  # it has a disk there\n"));
    let none = topology(folder.path(), &["diff", "lan.vnet", "-"], &text);
    assert_eq!(none.out, "No difference.\n");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is left beside it");
    let canonical = topology(folder.path(), &["format", "--canonical", "-"], &text);
    let again = topology(
        folder.path(),
        &["format", "--canonical", "-"],
        &canonical.out,
    );
    assert_eq!(again.out, canonical.out);
    let refused = topology(folder.path(), &["format", "--write", "-"], &text);
    assert_eq!(refused.code, Some(1));
}

#[test]
fn a_difference_is_told_in_words() {
    let (folder, text) = example();
    let moved = text
        .replace("ON three tap0 FIXED", "ON two tap1")
        .replace("LINK UDP proxy two FLOOD ALWAYS\n", "")
        .replace("FORWARD EDGE proxy ANY 52:54:00:00:00:02 proxy two\n", "")
        .replace("LINK UDP one two FLOOD NEVER\n", "")
        .replace("FORWARD EDGE one ANY 52:54:00:00:00:02 one two\n", "")
        .replace("FORWARD EDGE two ANY 52:54:00:00:00:01 two one\n", "");
    let outcome = topology(folder.path(), &["diff", "lan.vnet", "-"], &moved);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(
        outcome.out,
        "\
~ VM vm3 moves from three to two, from tap0 to tap1
- link udp one to two for blue, flood never
- link udp proxy to two for blue, flood always
- rule on one, blue: any -> 52:54:00:00:00:02 = edge to two
- rule on proxy, blue: any -> 52:54:00:00:00:02 = edge to two
- rule on two, blue: any -> 52:54:00:00:00:01 = edge to one
"
    );
    assert_eq!(
        outcome.err,
        "warning: no links lead from two to the proxy\n"
    );
    let outcome = topology(
        folder.path(),
        &["diff", "lan.vnet", "-", "-o", "json"],
        &moved,
    );
    assert_eq!(json(&outcome)[0]["change"], "change");
    assert_eq!(json(&outcome)[0]["of"], "vm");
}

#[test]
fn a_route_is_told_hop_by_hop() {
    let (folder, _) = example();
    let by_name = topology(folder.path(), &["route", "lan.vnet", "vm1", "vm3"], "");
    assert_eq!(
        by_name.out,
        "\
HOP  HOST   FROM             RULE                                                        STRENGTH  WHAT HAPPENS
  1  one    interface tap0   any -> none = flood                                                0  over udp to proxy
  2  proxy  edge from one    any -> 52:54:00:00:00:03 = edge to three                           9  over udp to three
  3  three  edge from proxy  any -> 52:54:00:00:00:03 = interface tap0 (the VM is here)         9  delivered to vm3 (tap0)
"
    );
    let by_address = [
        "route",
        "lan.vnet",
        "52:54:00:00:00:01",
        "52:54:00:00:00:03",
    ];
    assert_eq!(topology(folder.path(), &by_address, "").out, by_name.out);
    let all = ["route", "lan.vnet", "vm1", "broadcast", "-o", "json"];
    let all = json(&topology(folder.path(), &all, ""));
    let hosts: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|h| h["host"].as_str())
        .collect();
    assert_eq!(hosts, ["one", "proxy", "three", "two"]);
    let wrong = topology(folder.path(), &["route", "lan.vnet", "vm4", "vm1"], "");
    assert_eq!(wrong.code, Some(1));
    assert_eq!(
        wrong.err,
        "vnetctl: \"vm4\" is no VM and no address: did you mean \"vm1\"?\n"
    );
    let nobody = ["route", "lan.vnet", "52:54:00:00:00:99", "vm1"];
    assert!(
        topology(folder.path(), &nobody, "")
            .err
            .contains("no VM has the address")
    );
}

#[test]
fn a_host_is_told_its_part() {
    let (folder, _) = example();
    let part = topology(folder.path(), &["part", "lan.vnet", "one"], "");
    for line in [
        "link     to-proxy to 10.0.0.100 for blue, flood always, falls back to tls-to-proxy",
        "rule     blue: any -> 52:54:00:00:00:02 = link to-two",
    ] {
        assert!(
            part.out.lines().any(|l| l.trim_end() == line),
            "{}",
            part.out
        );
    }
    let part = topology(
        folder.path(),
        &["part", "lan.vnet", "one", "-o", "json"],
        "",
    );
    assert_eq!(json(&part)["links"][0]["cookie"], "dealt by the proxy");
    let wrong = topology(folder.path(), &["part", "lan.vnet", "four"], "");
    assert_eq!(wrong.err, "vnetctl: there is no host \"four\"\n");
}

#[test]
fn one_line_becomes_a_text_that_makes_sense() {
    let (folder, _) = example();
    let words = [
        "plan",
        "ring of a, b, c",
        "--vm",
        "vm1@a,vm2@b=52:54:00:00:00:99",
    ];
    let planned = topology(folder.path(), &words, "");
    assert_eq!(planned.code, Some(0), "{}", planned.err);
    assert!(
        planned.out.contains("VM vm2 52:54:00:00:00:99 ON b tap0\n"),
        "{}",
        planned.out
    );
    let checked = topology(folder.path(), &["check", "-"], &planned.out);
    assert_eq!(checked.out, "1 network, 3 hosts, 2 VMs, 3 links, 7 rules\n");
    let on = ["plan", "ring of vm1, vm2, vm3", "--on", "lan.vnet"];
    let planned = topology(folder.path(), &on, "");
    let checked = topology(folder.path(), &["check", "-"], &planned.out);
    assert_eq!(
        checked.out,
        "1 network, 4 hosts, 3 VMs, 6 links, 16 rules\n"
    );
    let wrong = topology(folder.path(), &["plan", "rign of a, b, c"], "");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("\"rign\" is no shape") && wrong.err.contains("did you mean ring?"));
    let nowhere = topology(folder.path(), &["plan", "bus of a, b", "--vm", "vm1@c"], "");
    assert_eq!(nowhere.code, Some(1));
    assert!(
        nowhere.err.contains("there is no host \"c\""),
        "{}",
        nowhere.err
    );
}

#[test]
fn a_picture_is_drawn() {
    let (folder, _) = example();
    let svg = topology(folder.path(), &["draw", "lan.vnet"], "");
    assert!(svg.out.starts_with("<svg ") && svg.out.ends_with("</svg>\n"));
    let dot = topology(folder.path(), &["draw", "lan.vnet", "--as", "dot"], "");
    assert!(dot.out.starts_with("graph vnet {\n") && dot.out.ends_with("}\n"));
}

/// The verbs that ask the proxy.
mod of_the_proxy {
    use std::path::PathBuf;

    use tokio::task::spawn_blocking;
    use vnet_agent::api::{Ask, NewTopology, RouteQuery, Undo};

    use super::{Outcome, json};
    use crate::fake_agent::{FakeAgent, STRANGER, TEXT};

    async fn ask(agent: &FakeAgent, line: &str) -> Outcome {
        let socket: PathBuf = agent.socket();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        spawn_blocking(move || super::vnetctl(&socket, &words, TEXT))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn the_overlay_is_shown_in_every_form() {
        let agent = FakeAgent::start();
        let text = ask(&agent, "show").await;
        assert_eq!((text.code, text.out.as_str()), (Some(0), TEXT));
        let value = json(&ask(&agent, "show -o json").await);
        assert_eq!(value["topology"]["hosts"][0]["role"], "proxy");
        assert!(ask(&agent, "show --as svg").await.out.starts_with("<svg "));
        assert!(ask(&agent, "show --as dot").await.out.starts_with("graph "));
        let history = ask(&agent, "history").await;
        assert!(history.out.contains("counts"), "{}", history.out);
    }

    #[tokio::test]
    async fn a_route_without_a_text_is_what_the_hosts_say() {
        let agent = FakeAgent::start();
        let shown = ask(&agent, "route vm1 vm2").await;
        assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
        let (before, after) = shown.out.split_once("not connected for ").unwrap();
        assert_eq!(
            before,
            "\
frame     52:54:00:00:00:01 -> 52:54:00:00:00:02, 60 bytes, network blue
hop 1     one, in by port tap0
  rule    any -> any = link to-hub (strength 4, origin proxy)
  goes    to hub over link to-hub, in udp (its other end answers over udp), MTU 1430 for guests
  program XDP_REDIRECT, at the xdp door
hop 2     hub, in by link to-one (from one)
  part    it goes by revision 6, and should by 7
  rule    any -> 52:54:00:00:00:02 = link to-two (strength 9, origin api)
  goes    to two over link to-two, in tls (its other end does not answer over udp, for 3 s), MTU 1430 for guests
  program XDP_REDIRECT, at the xdp door
hop 3     two, in by link to-hub (from hub)
  unasked "
        );
        let (_, rest) = after.split_once('\n').unwrap();
        assert_eq!(
            rest,
            "  \
  rule    any -> 52:54:00:00:00:02 = interface tap0 (the VM is here) (by the model)
  arrives tap0 (vm2)
DIFFERS   on hub it goes elsewhere
"
        );
        let query = |source: &str, destination: &str| RouteQuery {
            source: source.into(),
            destination: destination.into(),
            network: None,
            bytes: None,
            ethertype: None,
        };
        assert_eq!(agent.asked(), [Ask::Route(query("vm1", "vm2"))]);
        let line = "route 52:54:00:00:00:01 broadcast --network blue --bytes 1500 --ethertype 0x800 -o json";
        let told = json(&ask(&agent, line).await);
        assert_eq!(told["bytes"], 1500);
        assert_eq!(told["hops"][2]["unasked"]["why"], "apart");
        let asked = RouteQuery {
            network: Some("blue".into()),
            bytes: Some(1500),
            ethertype: Some(0x800),
            ..query("52:54:00:00:00:01", "broadcast")
        };
        assert_eq!(agent.asked(), [Ask::Route(asked)]);
        let nobody = ask(&agent, &format!("route {STRANGER} vm1")).await;
        assert_eq!(nobody.code, Some(1));
        assert!(nobody.err.contains("no host has a port"), "{}", nobody.err);
        let mixed = ask(&agent, "route - vm1 vm1 --bytes 100").await;
        assert!(mixed.err.contains("by a text"), "{}", mixed.err);
        assert_eq!(ask(&agent, "route vm1").await.code, Some(2));
    }

    const PLAN: &str = "~ VM vm1 moves from one to hub\n\
                        warning: no links lead from one to the proxy\n\
                        Hosts with another part: hub, one.\n\
                        Not connected, changes when it is back: one.\n";

    #[tokio::test]
    async fn the_plan_is_shown_before_anything_happens() {
        let agent = FakeAgent::start();
        let asked = |dry_run| {
            Ask::ApplyTopology(Box::new(NewTopology {
                topology: vnet_agent::language::read("t", TEXT.as_bytes()).unwrap(),
                dry_run,
                force: false,
            }))
        };
        let dry = ask(&agent, "apply - --dry-run").await;
        assert_eq!((dry.code, dry.out.as_str()), (Some(0), PLAN));
        assert_eq!(agent.asked(), [asked(true)]);
        let done = ask(&agent, "apply -").await;
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
        let stages = "Stage 1 of 1, new links: 12 ms\n";
        assert_eq!(done.out, format!("{PLAN}{stages}Applied.\n"));
        assert_eq!(agent.asked(), [asked(true), asked(false), Ask::Rollout]);
        let undone = ask(&agent, "undo").await;
        assert_eq!(undone.code, Some(0), "{}", undone.err);
        assert_eq!(undone.out, format!("{PLAN}{stages}Undone.\n"));
        let undo = Ask::UndoTopology(Undo { dry_run: false });
        assert_eq!(agent.asked(), [undo, Ask::Rollout]);
    }
}
