//! Texts that people write: the language, one line that becomes a text, the settings file.

use vnet_agent::language::{self, Faults};
use vnet_agent::model::topology::Topology;
use vnet_agent::model::{Part, Secrets};
use vnet_agent::settings::{Settings, SettingsErrors};
use vnet_common::addr::Cookie;

use super::{same, words_of};
use crate::engine::{Depth, Floor, Limits, Reached, Target};

const PAGE: &str = include_str!("../../../../docs/language.md");
const SETTINGS: &str = include_str!("../../../../scripts/vnet-agent.toml.example");

/// The texts on the language's page, right and wrong.
fn texts() -> Vec<Vec<u8>> {
    let blocks = PAGE.split("```vnet").skip(1);
    let bodies = blocks.filter_map(|block| {
        let (_, body) = block.split_once('\n')?;
        Some(body.split_once("```")?.0.as_bytes().to_vec())
    });
    bodies.collect()
}

/// A place in a text is one that is there, and what is said of it can be shown to people.
fn is_place(text: &[u8], line: usize, column: usize) -> Result<(), String> {
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    // Right behind the end is a place too: something is missing there.
    if !(1..=lines.len() + 1).contains(&line) {
        return Err(format!("line {line} of {}", lines.len()));
    }
    let bytes = lines.get(line - 1).map_or(0, |line| line.len());
    match (1..=bytes + 1).contains(&column) {
        true => Ok(()),
        false => Err(format!("column {column} of a line of {bytes} bytes")),
    }
}

fn is_showable(said: &str) -> Result<(), String> {
    match said.chars().find(|c| c.is_control() && *c != '\n') {
        None => Ok(()),
        Some(c) => Err(format!("a message has {c:?} in it: {said:?}")),
    }
}

fn judge_faults(text: &[u8], faults: &Faults) -> Result<Reached, String> {
    let first = faults
        .faults
        .first()
        .ok_or("refused, and nothing is wrong")?;
    for fault in &faults.faults {
        is_place(text, fault.line, fault.column)?;
        if fault.message.is_empty() {
            return Err("a fault without words".to_owned());
        }
        if let Some(other) = fault.other_line {
            is_place(text, other, 1)?;
        }
    }
    is_showable(&faults.to_string())?;
    let depth = match first.line > 1 || faults.faults.len() > 1 {
        true => Depth::Inside,
        false => Depth::Refused,
    };
    let said = faults.faults.iter().take(3);
    let way: Vec<&str> = said.map(|fault| fault.message.as_str()).collect();
    Ok(Reached::new(depth, &way.join("|")))
}

/// What is said of a topology, without names.
fn way_of(topology: &Topology) -> String {
    let statements = language::print(topology);
    let mut words: Vec<&str> = statements
        .split_whitespace()
        .filter(|word| word.chars().all(|c| c.is_ascii_uppercase()))
        .collect();
    words.sort_unstable();
    words.dedup();
    format!(
        "{words:?} {} {}",
        topology.links.len(),
        topology.rules.len()
    )
}

/// Each host's part of the whole, where everything about it is known.
fn parts(topology: &Topology) -> Vec<Part> {
    let mut secrets = Secrets::default();
    for (one, other) in topology.pairs() {
        secrets.deal(one, other, Cookie(7));
    }
    let hosts = topology.hosts.iter();
    hosts
        .filter_map(|host| topology.part(&host.name, 1, &secrets).ok())
        .collect()
}

/// The language.
pub(super) struct Language;

impl Target for Language {
    fn seeds(&self) -> Vec<Vec<u8>> {
        texts()
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "BEGIN",
            "END",
            "HOST",
            "AT",
            "ADDRESS",
            "PROXY",
            "FOREIGN",
            "NETWORK",
            "VM",
            "ON",
            "IN",
            "FIXED",
            "ADD",
            "DELETE",
            "LINK",
            "TCP",
            "UDP",
            "TLS",
            "PLAIN",
            "CARRIES",
            "FLOOD",
            "ALWAYS",
            "NEVER",
            "PORTS",
            "FORWARD",
            "EDGE",
            "INTERFACE",
            "DROP",
            "ANY",
            "NOT",
            "NONE",
            "blue",
            "green",
            "default",
            "one",
            "two",
            "proxy",
            "vm1",
            "\"END\"",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "52-54-00-00-00-01",
            "10.0.0.1",
            "fd00::1",
        ])
    }

    fn is_text(&self) -> bool {
        true
    }

    fn inputs(&self) -> u64 {
        2500
    }

    fn limits(&self) -> Limits {
        // Each line of a fault is shown with what stands around it.
        Limits {
            held_bytes: (1_000_000, 1500),
            asked_bytes: (20_000_000, 30_000),
        }
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 60,
            whole_percent: 4,
            trails: 800,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let topology = match language::read("t", input) {
            Ok(topology) => topology,
            Err(faults) => {
                if language::format("t", input).is_ok() {
                    return Err("what is wrong is tidied up".to_owned());
                }
                return judge_faults(input, &faults);
            }
        };
        same(
            &topology.problems(),
            &Vec::new(),
            "a right text makes no sense",
        )?;
        let printed = language::print(&topology);
        let again = language::read("printed", printed.as_bytes())
            .map_err(|faults| format!("what is printed is not understood:\n{printed}\n{faults}"))?;
        same(&again, &topology, "what is printed means something else")?;
        same(
            &language::print(&again),
            &printed,
            "it is printed in two ways",
        )?;
        let tidy =
            language::format("t", input).map_err(|faults| format!("not tidied: {faults}"))?;
        let meant = language::read("tidy", tidy.as_bytes())
            .map_err(|faults| format!("what is tidy is not understood:\n{tidy}\n{faults}"))?;
        same(&meant, &topology, "what is tidy means something else")?;
        let tidier = language::format("tidy", tidy.as_bytes()).map_err(|f| f.to_string())?;
        same(&tidier, &tidy, "what is tidy is tidied")?;
        for part in parts(&topology) {
            let written = serde_json::to_string(&part).map_err(|error| error.to_string())?;
            let read: Part = serde_json::from_str(&written).map_err(|error| error.to_string())?;
            same(&read, &part, "a part is not what it is written as")?;
        }
        let _ = language::draw::dot(&topology);
        let _ = language::draw::svg(&topology);
        let _ = topology.cut_off();
        Ok(Reached::new(Depth::Whole, &way_of(&topology)))
    }
}

/// One line that becomes a text, about an overlay that is there.
pub(super) struct Plan;

impl Target for Plan {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let lines = [
            "star around proxy of one, two",
            "ring of one, two, three",
            "full mesh over vm1 vm2 vm3",
            "tree of proxy one two three fanout 2",
            "bus of a b c",
        ];
        words_of(&lines)
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "star",
            "ring",
            "mesh",
            "full",
            "all-to-all",
            "tree",
            "bus",
            "fanout",
            "of",
            "over",
            "around",
            "and",
            "one",
            "two",
            "three",
            "proxy",
            "vm1",
            "vm2",
            "vm3",
            "four",
            "10.0.0.1",
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
            held_bytes: (1_000_000, 20_000),
            asked_bytes: (50_000_000, 1_000_000),
        }
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 35,
            whole_percent: 5,
            trails: 35,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let Ok(line) = std::str::from_utf8(input) else {
            return Ok(Reached::new(Depth::Refused, "no UTF-8"));
        };
        let base = language::read("base", &texts()[0]).map_err(|faults| faults.to_string())?;
        match language::requirements::plan(line, &base) {
            Err(faults) => {
                let reached = judge_faults(input, &faults)?;
                let is_deep = faults.faults.iter().any(|fault| fault.column > 10);
                let depth = if is_deep {
                    Depth::Inside
                } else {
                    Depth::Refused
                };
                Ok(Reached { depth, ..reached })
            }
            Ok(topology) => {
                let printed = language::print(&topology);
                let again = language::read("plan", printed.as_bytes())
                    .map_err(|faults| format!("a plan is not understood:\n{printed}\n{faults}"))?;
                same(&again, &topology, "a plan means something else")?;
                Ok(Reached::new(Depth::Whole, &way_of(&topology)))
            }
        }
    }
}

/// The settings file.
pub(super) struct SettingsFile;

/// What must never be said again: the cookie of the sample.
const COOKIE: &str = "5af3107a4000be1d";

fn judge_errors(text: &str, errors: &SettingsErrors) -> Result<Reached, String> {
    let first = errors
        .errors
        .first()
        .ok_or("refused, and nothing is wrong")?;
    for error in &errors.errors {
        is_place(text.as_bytes(), error.line, error.column)?;
        if error.message.is_empty() {
            return Err("an error without words".to_owned());
        }
    }
    let said = errors.to_string();
    is_showable(&said)?;
    if said.contains(COOKIE) {
        return Err(format!("a message shows a cookie: {said}"));
    }
    let depth = match first.key.is_empty() {
        true => Depth::Refused,
        false => Depth::Inside,
    };
    let said = errors.errors.iter().take(3);
    let way: Vec<String> = said
        .map(|error| format!("{} {}", error.key, error.message))
        .collect();
    Ok(Reached::new(depth, &way.join("|")))
}

impl Target for SettingsFile {
    fn seeds(&self) -> Vec<Vec<u8>> {
        // Everything that is said there only as an example, too.
        let uncommented = SETTINGS.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') && !setting.is_empty() => setting,
            _ => line,
        });
        let all: Vec<&str> = uncommented.collect();
        let bare: Vec<&str> = SETTINGS
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        vec![
            SETTINGS.as_bytes().to_vec(),
            all.join("\n").into_bytes(),
            bare.join("\n").into_bytes(),
        ]
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "[agent]",
            "[control]",
            "[[link]]",
            "[[port]]",
            "[[network]]",
            "[[rule]]",
            "[limits]",
            "[underlay]",
            "cookie",
            "plain",
            "true",
            "false",
            "flood",
            "drop",
            "\"any\"",
            "\"not 52:54:00:00:00:01\"",
            "\"none\"",
            "\"learn\"",
            "kind",
            "\"tls\"",
            "fallback",
            "listen_only",
            "role",
            "\"proxy\"",
            "pattern",
            "\"tap-*\"",
            "{}",
            "[]",
            "''",
            "\"\"\"",
        ])
    }

    fn is_text(&self) -> bool {
        true
    }

    fn inputs(&self) -> u64 {
        1200
    }

    fn limits(&self) -> Limits {
        Limits {
            held_bytes: (1_000_000, 1500),
            asked_bytes: (20_000_000, 20_000),
        }
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 50,
            whole_percent: 25,
            trails: 180,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let Ok(text) = std::str::from_utf8(input) else {
            return Ok(Reached::new(Depth::Refused, "no UTF-8"));
        };
        match Settings::parse(text, "agent.toml") {
            Err(errors) => judge_errors(text, &errors),
            Ok(settings) => {
                let all = &settings.configuration;
                let counts = [
                    all.networks.len(),
                    all.ports.len(),
                    all.links.len(),
                    all.rules.len(),
                ];
                let way = counts.map(|count| "x".repeat(count)).join(" ");
                Ok(Reached::new(Depth::Whole, &way))
            }
        }
    }
}
