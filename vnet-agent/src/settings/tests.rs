use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::model::configuration::{Limits, Underlay, UnderlayMatch};
use crate::model::door::DoorChoice;
use crate::model::sample::{self, GUEST_ONE, GUEST_TWO};
use crate::model::{
    Addresses, DeviceMatch, Flooding, Link, Port, Rule, RuleOrigin, Target, Transport,
};
use vnet_common::addr::Cookie;
use vnet_common::rule::{Destination, Source};

const SAMPLE: &str = include_str!("../../../scripts/vnet-agent.toml.example");

/// The line between the file and what is said about it.
const SEPARATOR: &str = "\n---\n";

/// Every `wrong/*.case` is a settings file, a line of three dashes, and exactly what is said about
/// it. `VNET_BLESS=1` writes down what is said today: read the difference before committing it.
#[test]
fn every_wrong_file_gets_exactly_these_words() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/settings/wrong"));
    let bless = std::env::var_os("VNET_BLESS").is_some();
    let mut differences = Vec::new();
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let case = std::fs::read_to_string(&path).unwrap();
        let (text, expected) = case.split_once(SEPARATOR).unwrap();
        let said = match Settings::parse(text, "agent.toml") {
            Ok(_) => "nothing is wrong".to_owned(),
            Err(errors) => errors.to_string(),
        };
        cases += 1;
        if said != expected.trim_end() {
            differences.push(format!("{}: now it says\n{said}", path.display()));
            if bless {
                std::fs::write(&path, format!("{text}{SEPARATOR}{said}\n")).unwrap();
            }
        }
    }
    assert!(cases > 30, "only {cases} cases found");
    assert!(
        bless || differences.is_empty(),
        "{}",
        differences.join("\n\n")
    );
}

const FULL: &str = r#"
[agent]
name = "host-one"
socket = "/run/vnet/other.sock"
socket_group = "vnet"
metrics = "[::1]:9472"
api = "10.0.0.1:6083"
pin_directory = "/sys/fs/bpf/other"
state_directory = "/var/lib/other"
slow_path_device = "other-slow"
count_refused = false
probe_mtu = false
watch_links = false
revoked = "/etc/vnet/revoked"
identity = "/etc/vnet/identity.pem"

[underlay]
address = "10.0.0.1"
udp_port = 6082
tcp_port = 6083
door = "tc"

[[network]]
name = "blue"
id = 7

[[network]]
name = "green"
id = 0xffffff

[[port]]
name = "tap0"
network = "blue"
addresses = ["52:54:00:00:00:01", "52-54-00-00-00-02"]
set_mtu = false
slow_path_rate = 100
slow_path_burst = 400
door = "xdp"

[[port]]
pattern = "tap-green-*"
network = "green"
addresses = "learn"

[[link]]
name = "to-two"
remote = "10.0.0.2"
networks = ["blue", "green"]
cookie = "0123456789abcdef"
kind = "tls"
listen_only = true
flood = "always"

[[link]]
name = "to-switch"
remote = "10.0.0.3"
networks = ["blue"]
plain = true

[[rule]]
network = "blue"
source = "not 52:54:00:00:00:01"
destination = "none"
link = "to-two"

[[rule]]
network = "blue"
destination = "ff:ff:ff:ff:ff:ff"
flood = true

[[rule]]
network = "green"
destination = "not 52:54:00:00:00:02"
port = "tap-green-1"

[[rule]]
network = "green"
source = "52:54:00:00:00:01"
destination = "any"
drop = true

[limits]
ports = 1
links = 4096
networks = 2
rules = 1_048_576
flows = 1024
"#;

#[test]
fn a_file_that_says_everything_is_understood() {
    let settings = Settings::parse(FULL, "agent.toml").unwrap();
    let agent = AgentSettings {
        name: "host-one".into(),
        socket: "/run/vnet/other.sock".into(),
        socket_group: Some("vnet".into()),
        metrics: Some("[::1]:9472".parse().unwrap()),
        api: Some("10.0.0.1:6083".parse().unwrap()),
        pin_directory: "/sys/fs/bpf/other".into(),
        state_directory: "/var/lib/other".into(),
        slow_path_device: "other-slow".into(),
        count_refused: false,
        probe_mtu: false,
        watch_links: false,
        revoked: Some("/etc/vnet/revoked".into()),
        identity: Some("/etc/vnet/identity.pem".into()),
    };
    assert_eq!(settings.agent, agent);
    let rule = |network, source, destination, to| Rule {
        source,
        origin: RuleOrigin::File,
        ..sample::rule(network, destination, to)
    };
    let expected = Configuration {
        underlay: Underlay {
            on: UnderlayMatch::Address(std::net::IpAddr::from([10, 0, 0, 1])),
            udp_port: 6082,
            tcp_port: 6083,
            door: DoorChoice::Tc,
        },
        networks: vec![
            sample::network("blue", 7),
            sample::network("green", 0xff_ffff),
        ],
        ports: vec![
            Port {
                set_mtu: false,
                slow_path_rate: 100,
                slow_path_burst: 400,
                door: DoorChoice::Xdp,
                ..sample::port(
                    DeviceMatch::Name("tap0".into()),
                    "blue",
                    Addresses::Only(vec![GUEST_ONE, GUEST_TWO]),
                )
            },
            sample::port(
                DeviceMatch::Pattern("tap-green-*".into()),
                "green",
                Addresses::Learn,
            ),
        ],
        links: vec![
            Link {
                cookie: Some(Cookie(0x0123_4567_89ab_cdef)),
                flood: Flooding::Always,
                kind: Transport::Tls,
                listen_only: true,
                rung_of: None,
                ..sample::link("to-two", 2, &["blue", "green"])
            },
            Link {
                cookie: None,
                ..sample::link("to-switch", 3, &["blue"])
            },
        ],
        rules: vec![
            rule(
                "blue",
                Source::Not(GUEST_ONE),
                Destination::None,
                Target::Link("to-two".into()),
            ),
            rule(
                "blue",
                Source::Any,
                Destination::Is(vnet_common::addr::Mac::BROADCAST),
                Target::Flood,
            ),
            rule(
                "green",
                Source::Any,
                Destination::Not(GUEST_TWO),
                Target::Port("tap-green-1".into()),
            ),
            rule(
                "green",
                Source::Is(GUEST_ONE),
                Destination::Any,
                Target::Drop,
            ),
        ],
        limits: Limits {
            ports: 1,
            links: 4096,
            networks: 2,
            rules: 1 << 20,
            flows: 1024,
        },
    };
    assert_eq!(settings.configuration, expected);
}

#[test]
fn what_the_file_leaves_out_has_the_documented_value() {
    let settings = Settings::parse("[underlay]\ndevice = \"eth0\"", "agent.toml").unwrap();
    let AgentSettings {
        name,
        socket,
        socket_group,
        ..
    } = &settings.agent;
    assert!(!name.is_empty());
    assert_eq!(
        (socket.to_str(), socket_group),
        (Some("/run/vnet/agent.sock"), &None)
    );
    assert_eq!(
        settings.agent.pin_directory.to_str(),
        Some("/sys/fs/bpf/vnet")
    );
    assert_eq!(
        settings.agent.state_directory.to_str(),
        Some("/var/lib/vnet")
    );
    assert_eq!(settings.agent.slow_path_device, "vnet-slow");
    assert_eq!(settings.configuration.underlay.udp_port, 6081);
    assert_eq!(settings.configuration.limits, Limits::default());
}

#[test]
fn the_sample_file_is_right_as_it_stands_and_with_everything_switched_on() {
    let report = Report::new(SAMPLE, "vnet-agent.toml.example", 0o600);
    assert!(report.ok, "{report}");
    // A commented setting is `#key = value` or `#[section]`; prose has a space after the mark.
    let switched_on: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c == '[' || c.is_ascii_alphabetic()) => {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let report = Report::new(&switched_on, "vnet-agent.toml.example", 0o600);
    assert!(report.ok, "{report}");
    assert_ne!(switched_on, SAMPLE);
}

#[test]
fn a_right_file_is_summed_up_with_its_effective_values() {
    let report = Report::new(FULL, "/etc/vnet/agent.toml", 0o600);
    let expected = "\
/etc/vnet/agent.toml: ok
  agent      host-one
  socket     /run/vnet/other.sock (group vnet)
  metrics    [::1]:9472, for whoever can reach it
  api        10.0.0.1:6083, for operators and readers
  pins       /sys/fs/bpf/other
  state      /var/lib/other
  slow path  other-slow
  identity   /etc/vnet/identity.pem
  revoked    /etc/vnet/revoked
  underlay   address 10.0.0.1, UDP port 6082, TCP port 6083, door tc
  networks   2
  ports      2
  links      2
  rules      4, and 2 from the addresses of ports
  limits     1 ports, 4096 links, 2 networks, 1048576 rules, 1024 flows";
    assert_eq!(report.to_string(), expected);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["summary"]["agent"]["name"], "host-one");
    assert_eq!(json["summary"]["underlay"]["on"]["address"], "10.0.0.1");
    assert_eq!(json["summary"]["implied_rules"], 2);
    assert_eq!(json["warnings"], serde_json::json!([]));
}

#[test]
fn a_wrong_file_is_reported_to_programs_too() {
    let text = "[underlay]\ndevice = \"eth0\"\n\n[[network]]\nname = \"blue\"\nid = 0\n";
    let report = Report::new(text, "agent.toml", 0o600);
    assert!(
        report.to_string().ends_with("\n\nagent.toml: 1 error"),
        "{report}"
    );
    let expected = serde_json::json!({
        "file": "agent.toml",
        "ok": false,
        "errors": [{
            "line": 6,
            "column": 6,
            "key": "network.id",
            "message": "0 is out of range",
            "cure": "write a number from 1 to 16777215",
            "text": "id = 0",
        }],
        "warnings": [],
    });
    assert_eq!(serde_json::to_value(&report).unwrap(), expected);
}

#[test]
fn cookies_that_everybody_can_read_and_files_that_others_can_write_get_a_warning() {
    let warnings = |text: &str, mode| {
        let warnings = Report::new(text, "agent.toml", mode).warnings;
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(warnings(FULL, 0o640), [""; 0]);
    assert_eq!(
        warnings(FULL, 0o100_644),
        [
            "agent.toml has link cookies and can be read by everybody (mode 0644): chmod 600 agent.toml"
        ]
    );
    let without_cookies = "[underlay]\ndevice = \"eth0\"";
    assert_eq!(warnings(without_cookies, 0o644), [""; 0]);
    assert_eq!(
        warnings(without_cookies, 0o664),
        ["agent.toml can be written by others than its owner (mode 0664): chmod 600 agent.toml"]
    );
}

#[test]
fn a_thousand_mistakes_are_shown_in_part_and_counted() {
    let rules = "[[rule]]\nnetwork = \"blue\"\n".repeat(1000);
    let report = Report::new(
        &format!("[underlay]\ndevice = \"eth0\"\n{rules}"),
        "agent.toml",
        0,
    );
    let shown = report.to_string();
    assert_eq!(shown.matches("\n\n").count(), 101);
    assert!(
        shown.ends_with("\n\nand 2900 more\n\nagent.toml: 3000 errors"),
        "{shown}"
    );
}

/// Whatever the text: no panic, and an error that can be shown and is inside of the text.
fn is_judged(text: &str) -> Result<(), TestCaseError> {
    let Err(errors) = Settings::parse(text, "agent.toml") else {
        return Ok(());
    };
    prop_assert!(!errors.errors.is_empty());
    let lines = text.split('\n').count();
    for error in &errors.errors {
        prop_assert!((1..=lines).contains(&error.line), "{error:?} in {text:?}");
        prop_assert!(
            !error.message.is_empty() && !error.cure.is_empty(),
            "{error:?}"
        );
    }
    let shown = errors.to_string();
    prop_assert!(!shown.contains("0123456789abcdef"), "{shown}");
    prop_assert!(
        !shown.chars().any(|c| c.is_control() && c != '\n'),
        "{shown:?}"
    );
    Ok(())
}

fn some_value() -> impl Strategy<Value = String> {
    let texts = [
        "blue",
        "tap0",
        "tap*",
        "any",
        "none",
        "learn",
        "not 52:54:00:00:00:01",
        "10.0.0.1",
        "fd00::1",
        "52:54:00:00:00:01",
        "fedcba9876543210",
        "to-two",
        "",
        "always",
        "auto",
        "xdp",
    ];
    let text = || prop::sample::select(texts.to_vec()).prop_map(|text| format!("{text:?}"));
    prop_oneof![
        4 => text(),
        2 => prop::collection::vec(text(), 0..4).prop_map(|list| format!("[{}]", list.join(", "))),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        2 => (0..10u8).prop_map(|number| number.to_string()),
        1 => any::<bool>().prop_map(|truth| truth.to_string()),
        1 => Just("{x = 1}".to_owned()),
        1 => Just("1979-05-27".to_owned()),
    ]
}

fn some_line() -> impl Strategy<Value = String> {
    let keys = [
        "name",
        "pattern",
        "id",
        "network",
        "networks",
        "addresses",
        "device",
        "address",
        "udp_port",
        "remote",
        "cookie",
        "plain",
        "flood",
        "source",
        "destination",
        "link",
        "port",
        "drop",
        "ports",
        "rules",
        "slow_path_rate",
        "slow_path_burst",
        "slow_path_device",
        "door",
    ];
    let sections = [
        "agent", "underlay", "network", "port", "link", "rule", "limits",
    ];
    let section = || prop::sample::select(sections.to_vec());
    prop_oneof![
        6 => (prop::sample::select(keys.to_vec()), some_value())
            .prop_map(|(key, value)| format!("{key} = {value}")),
        3 => section().prop_map(|section| format!("[[{section}]]")),
        1 => section().prop_map(|section| format!("[{section}]")),
    ]
}

proptest! {
    #[test]
    fn any_text_is_judged(text in "\\PC*") {
        is_judged(&text)?;
    }

    #[test]
    fn any_characters_are_judged(characters in prop::collection::vec(any::<char>(), 0..100)) {
        is_judged(&characters.into_iter().collect::<String>())?;
    }

    #[test]
    fn sections_and_keys_in_any_order_are_judged(lines in prop::collection::vec(some_line(), 0..40)) {
        is_judged(&lines.join("\n"))?;
    }

    /// A right file with a stretch replaced: most of what people really get wrong.
    #[test]
    fn a_damaged_file_is_judged(
        start in 0..FULL.len(),
        length in 0..30usize,
        with in prop_oneof![Just(String::new()), some_value(), "\\PC{0,3}"],
    ) {
        let end = (start + length).min(FULL.len());
        let text = format!("{}{with}{}", &FULL[..start], &FULL[end..]);
        is_judged(&text)?;
    }
}
