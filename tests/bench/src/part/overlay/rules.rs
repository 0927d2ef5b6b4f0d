//! How long does it take to change a thousand rules of one host?
//!
//! With one call of `vnetctl`, from its start to its end; the agent has them on disk and in the kernel
//! then. Each rule's frames are sent over another link than before.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lab::{Binaries, Mac};
use vnet_agent::api::RuleStatus;
use vnet_agent::model::Target;
use vnet_common::rule::Destination;

use crate::ask::ask;
use crate::figure::{Bound, Figure};
use crate::part::memory;
use crate::taps::TAP;
use crate::workshop::Workshop;

/// Rules.
const RULES: usize = 1000;
/// How often they are changed in a round.
const TIMES: usize = 5;
/// What is aimed at.
const GOAL_MS: f64 = 50.0;
/// Links of one network in the configuration of a busy host.
const LINKS: [&str; 2] = ["link0", "link4"];

/// Adds them once a round, and then changes all of them again and again.
///
/// # Errors
///
/// The agent does not start, or refuses.
pub fn measure(workshop: &Workshop, rounds: u32) -> Result<Vec<Figure>> {
    let (mut added_ms, mut changed_ms) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let bed = workshop.bed(TAP)?;
        let _guests = memory::furnish(&bed)?;
        let _agent = bed.one.agent(&memory::settings()?)?;
        let vnetctl = Binaries::find()?.vnetctl;
        let directory = bed.one.directory();
        let mut files = Vec::new();
        for link in LINKS {
            let file = directory.join(format!("{link}.rules"));
            fs::write(&file, rules(link)?)?;
            files.push((link, file));
        }
        for (time, (link, file)) in files.iter().cycle().take(TIMES + 1).enumerate() {
            let mut command = Command::new(&vnetctl);
            command.env("VNET_SOCKET", bed.one.agent_socket());
            command.args(["rule", "add", "--file"]).arg(file);
            let began = Instant::now();
            let output = command.output()?;
            let took_ms = began.elapsed().as_secs_f64() * 1e3;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "vnetctl rule add: {said}");
            ensure_all_lead_to(
                &ask::<Vec<RuleStatus>>(&bed.one.agent_socket(), "/v1/rules")?,
                link,
            )?;
            match time {
                0 => added_ms.push(took_ms),
                _ => changed_ms.push(took_ms),
            }
        }
        let last = changed_ms.last().context("they were changed")?;
        workshop.say(format_args!(
            "round {round} of {rounds}: {RULES} rules changed in {last:.1} ms"
        ));
    }
    let title = |what| format!("vnetctl rule add, {RULES} rules at once, {what}, on disk");
    let figure = |name: &str, what, samples: &[f64]| {
        let figure = Figure::new(name, title(what), "ms", samples);
        figure.map(|figure| figure.with_goal(Bound::AtMost(GOAL_MS)))
    };
    let added = figure("rules_ms.added", "new ones", &added_ms);
    let changed = figure("rules_ms.changed", "each led elsewhere before", &changed_ms);
    Ok(added.into_iter().chain(changed).collect())
}

fn destination(number: usize) -> Mac {
    let [.., high, low] = number.to_be_bytes();
    Mac([0x52, 0x54, 0, 4, high, low])
}

fn rules(link: &str) -> Result<String> {
    let mut text = String::new();
    for number in 0..RULES {
        let to = destination(number);
        writeln!(text, "net0: any -> {to} = link {link}")?;
    }
    Ok(text)
}

fn ensure_all_lead_to(rules: &[RuleStatus], link: &str) -> Result<()> {
    let to = Target::Link(link.to_owned());
    let wanted: BTreeSet<Destination> = (0..RULES)
        .map(|number| Destination::Is(destination(number)))
        .collect();
    let count = rules
        .iter()
        .filter(|rule| rule.to == to && wanted.contains(&rule.destination))
        .count();
    ensure!(count == RULES, "{count} of {RULES} rules lead to {link}");
    Ok(())
}
