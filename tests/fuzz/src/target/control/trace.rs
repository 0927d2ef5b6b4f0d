//! What hosts answer that are asked for a frame's way.

use std::collections::BTreeSet;

use serde_json::Value;
use vnet_agent::api::{
    FrameBytes, HostRun, LinkRung, LiveFate, LiveRoute, Place, RuleStatus, TraceLink, TraceReport,
    Unasked, Verdict, heard,
};
use vnet_agent::language;
use vnet_agent::model::{RuleOrigin, Secrets, Target as To, Transport};
use vnet_agent::overlay::message::Reply;
use vnet_agent::overlay::walk::{Atlas, Frame, HOPS_MAX, Known, Walk};
use vnet_common::addr::Cookie;
use vnet_common::rule::{Destination, Source};

use super::super::{same, words_of};
use super::{GUEST_ONE, GUEST_TWO, introduction, line};
use crate::engine::{Depth, Floor, Limits, Reached, Target};

/// The answers of all hosts on a frame's way, a line each; with a `!` it is a refusal.
pub(in crate::target) struct Traces {
    atlas: Atlas,
}

const WHOLE: &str = r"BEGIN
NETWORK blue 7
HOST root AT proxy 6081 eth0 ADDRESS 10.0.0.9 PROXY
HOST root AT one 6081 eth0 ADDRESS 10.0.0.1
HOST root AT two 6081 eth0 ADDRESS 10.0.0.2
VM vm1 52:54:00:00:00:01 ON one tap0
VM vm2 52:54:00:00:00:02 ON two tap0
ADD
LINK UDP proxy one FLOOD ALWAYS
LINK UDP proxy two FLOOD ALWAYS
LINK UDP one two FLOOD NEVER
FORWARD FLOOD proxy ANY NONE
FORWARD EDGE proxy ANY 52:54:00:00:00:02 proxy two
FORWARD EDGE one ANY 52:54:00:00:00:02 one two
FORWARD EDGE two ANY NONE two proxy
END
";

/// The longest line about a difference.
const DIFFERENCE_BYTES_MAX: usize = 10_000;
/// The longest other text, in bytes.
const TEXT_BYTES_MAX: usize = 1200;

impl Traces {
    pub(in crate::target) fn new() -> Self {
        let whole = language::read("t", WHOLE.as_bytes()).unwrap();
        let mut secrets = Secrets::default();
        for ((one, other), number) in whole.pairs().into_iter().zip(1..) {
            secrets.deal(one, other, Cookie(number));
        }
        let hosts = whole.hosts.iter().map(|host| {
            let address = host.underlay().unwrap().to_string();
            let station = match host.name.as_str() {
                "one" => GUEST_ONE,
                _ => GUEST_TWO,
            };
            let has = introduction(&address, station);
            let known = Known {
                underlay: has.underlay,
                ports: has.ports,
                links: whole.part(&host.name, 1, &secrets).unwrap().links,
                revision: Some(1),
                dealt_revision: Some(1),
            };
            (host.name.clone(), known)
        });
        Self {
            atlas: Atlas {
                hosts: hosts.collect(),
                proxy: "proxy".to_owned(),
                topology: Some(whole.clone()),
            },
        }
    }
}

fn report(verdict: Verdict, target: Option<To>) -> TraceReport {
    let link = |name: &str| TraceLink {
        name: name.to_owned(),
        over: None,
        remote: "10.0.0.2".parse().unwrap(),
        rung: LinkRung {
            kind: Transport::Udp,
            why: "its other end answers over udp".to_owned(),
            since_unix_ms: Some(1),
        },
        guest_mtu_bytes: Some(1430),
    };
    let links = match &target {
        Some(To::Link(name)) => vec![link(name)],
        None => vec![link("to-one"), link("to-two")],
        _ => Vec::new(),
    };
    TraceReport {
        from: Place::Port("tap0".to_owned()),
        network: Some("blue".to_owned()),
        steps: Vec::new(),
        verdict,
        reason: None,
        copies: vec![To::Port("lan0".to_owned()), To::Link("to-two".to_owned())],
        links,
        door: None,
        rule: target.clone().map(|to| RuleStatus {
            network: "blue".to_owned(),
            source: Source::Any,
            destination: Destination::Is(GUEST_TWO),
            to,
            origin: RuleOrigin::Proxy,
            strength: 9,
            resolved: true,
            note: None,
        }),
        target,
        flow_cached: false,
        kernel: None,
        host: HostRun {
            verdict,
            output_hex: FrameBytes(Vec::new()),
        },
        agree: None,
        outer: None,
        mtu_note: None,
    }
}

/// Every text, but for the difference.
fn texts<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(all) => all.iter().for_each(|one| texts(one, into)),
        Value::Object(all) => {
            let rest = all.iter().filter(|(name, _)| *name != "differs");
            rest.for_each(|(_, one)| texts(one, into));
        }
        _ => {}
    }
}

fn check(route: &LiveRoute) -> Result<(), String> {
    let value = serde_json::to_value(route).map_err(|error| error.to_string())?;
    let again: LiveRoute =
        serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    same(&again, route, "read back, it is another way")?;
    let mut all = Vec::new();
    texts(&value, &mut all);
    let difference = route.differs.as_deref().unwrap_or_default();
    let is_fine = |text: &str, most: usize| text.len() <= most && !text.contains(char::is_control);
    if !is_fine(difference, DIFFERENCE_BYTES_MAX) {
        return Err(format!("a difference that is no line: {difference:?}"));
    }
    match all.into_iter().find(|text| !is_fine(text, TEXT_BYTES_MAX)) {
        Some(text) => Err(format!("a host's text is handed on: {text:?}")),
        None => Ok(()),
    }
}

impl Target for Traces {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let over = |link: &str| line(&report(Verdict::Forwarded, Some(To::Link(link.into()))));
        let into = line(&report(Verdict::Delivered, Some(To::Port("tap0".into()))));
        let many = line(&report(Verdict::SlowPath, None));
        let drop = line(&report(Verdict::Dropped, Some(To::Drop)));
        let refusal =
            r#"!{"kind":"not_found","message":"there is no link","cure":null}"#.to_owned();
        super::conversations(&[
            vec![over("to-two"), into.clone()],
            vec![over("to-proxy"), over("to-two"), into],
            vec![
                over("tls-to-proxy"),
                over("to-one"),
                over("to-proxy"),
                many.clone(),
            ],
            vec![many.clone(), many.clone(), many, drop.clone()],
            vec![over("to-proxy"), refusal],
            vec![drop],
        ])
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "to-one",
            "to-two",
            "to-proxy",
            "tls-to-proxy",
            "link",
            "port",
            "forwarded",
            "delivered",
            "slow_path",
            "dropped",
            "passed",
            "null",
            "over",
            "links",
            "copies",
            "\\n",
            "!",
            "too-big",
        ])
    }

    fn is_text(&self) -> bool {
        true
    }

    fn inputs(&self) -> u64 {
        1500
    }

    fn limits(&self) -> Limits {
        Limits {
            held_bytes: (300_000, 2000),
            asked_bytes: (3_000_000, 8000),
        }
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 40,
            whole_percent: 20,
            trails: 120,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let start = self.atlas.start(None, GUEST_ONE);
        let start = start.map_err(|error| error.to_string())?;
        let frame = Frame {
            source: GUEST_ONE,
            destination: GUEST_TWO,
            bytes: 60,
        };
        let mut walk = Walk::new(&self.atlas, start, frame);
        let mut lines = input.split(|&byte| byte == b'\n');
        let mut asked = BTreeSet::new();
        let (mut understood, mut way) = (0, String::new());
        while let Some(question) = walk.next() {
            let answer = match lines.next().map(String::from_utf8_lossy) {
                Some(said) => heard::read(&Reply {
                    number: 1,
                    status: if said.starts_with('!') { 404 } else { 200 },
                    body: said.trim_start_matches('!').to_owned(),
                }),
                None => Err(Unasked::NoTime),
            };
            match &answer {
                Ok(heard) => {
                    understood += 1;
                    way.push_str(&format!("{question:?} {}", heard.went.len()));
                }
                Err(Unasked::Nonsense { message }) => {
                    way.push_str(message.split(" at line").next().unwrap_or_default());
                }
                Err(_) => way.push('!'),
            }
            walk.heard(answer);
            if !asked.insert(format!("{question:?}")) || asked.len() > HOPS_MAX {
                return Err(format!("{question:?} is asked again and again"));
            }
        }
        let route = walk.end();
        check(&route)?;
        let fates = route.hops.iter().flat_map(|hop| &hop.fates);
        let arrives = fates.filter(|fate| matches!(fate, LiveFate::Delivered { .. }));
        let depth = match (understood, arrives.count()) {
            (0, _) => Depth::Refused,
            (1, _) | (_, 0) => Depth::Inside,
            _ => Depth::Whole,
        };
        Ok(Reached::new(depth, &way))
    }
}
