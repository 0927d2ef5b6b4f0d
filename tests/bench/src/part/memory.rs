//! How much memory does an agent need?
//!
//! What `/proc` calls its resident set: program, libraries and its own data, without the kernel's
//! tables. Of an agent with a configuration as a busy host has it, right after it became ready.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Agent, Mac, TapGuest};

use crate::bed::{Bed, CABLE};
use crate::figure::{Bound, Figure};
use crate::taps::TAP;
use crate::workshop::Workshop;

const NETWORKS: u8 = 4;
const PORTS: u8 = 16;
const LINKS: u8 = 16;
const RULES: u8 = 200;
/// What an agent may need, MiB.
const GOAL: f64 = 30.0;

/// What a round takes, about.
pub const ROUND: Duration = Duration::from_millis(900);

/// Starts the agent once a round and reads.
///
/// # Errors
///
/// The agent does not start.
pub fn measure(workshop: &Workshop, rounds: u32) -> Result<Vec<Figure>> {
    let mut samples = Vec::new();
    for round in 1..=rounds {
        let bed = workshop.bed(TAP)?;
        let _guests = furnish(&bed)?;
        let agent = bed.one.agent(&settings()?)?;
        let sample = of_agent(&agent)?;
        workshop.say(format_args!(
            "round {round} of {rounds}: the agent has {sample:.1} MiB"
        ));
        samples.push(sample);
    }
    let title =
        format!("agent's memory, {NETWORKS} networks, {PORTS} ports, {LINKS} links, {RULES} rules");
    let figure = Figure::new("agent_memory_mib.busy_host", title, "MiB", &samples);
    Ok(figure
        .map(|figure| figure.with_goal(Bound::AtMost(GOAL)))
        .into_iter()
        .collect())
}

/// The resident set of an agent, MiB.
///
/// # Errors
///
/// It does not run.
pub fn of_agent(agent: &Agent) -> Result<f64> {
    let id = agent.id().context("the agent does not run")?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    resident_mib(&status).context("/proc does not say how much memory the agent has")
}

fn resident_mib(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

/// Ports for the configuration of a busy host, and a neighbour for each of its links.
pub(super) fn furnish(bed: &Bed) -> Result<Vec<TapGuest>> {
    for link in 1..LINKS {
        let address = format!("{}/24", remote(link));
        bed.two
            .run(["ip", "address", "add", &address, "dev", CABLE])?;
    }
    (0..PORTS)
        .map(|port| bed.one.tap_guest(&format!("tap{port}"), guest(port)))
        .collect()
}

fn remote(link: u8) -> String {
    format!("10.0.0.{}", u16::from(link) + 2)
}

fn guest(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 1, number])
}

pub(super) fn settings() -> Result<String, std::fmt::Error> {
    let mut text = format!("[underlay]\ndevice = \"{CABLE}\"\ndoor = \"xdp\"\n");
    for network in 0..NETWORKS {
        let id = u16::from(network) + 1;
        writeln!(text, "[[network]]\nname = \"net{network}\"\nid = {id}")?;
    }
    for port in 0..PORTS {
        let (network, address) = (port % NETWORKS, guest(port));
        writeln!(
            text,
            "[[port]]\nname = \"tap{port}\"\nnetwork = \"net{network}\"\naddresses = [\"{address}\"]"
        )?;
    }
    for link in 0..LINKS {
        let (network, remote) = (link % NETWORKS, remote(link));
        writeln!(
            text,
            "[[link]]\nname = \"link{link}\"\nremote = \"{remote}\"\nnetworks = [\"net{network}\"]\n\
             cookie = \"5af3107a40000{link:03x}\""
        )?;
    }
    for rule in 0..RULES {
        let (network, link) = (rule % NETWORKS, rule % LINKS);
        let destination = Mac([0x52, 0x54, 0, 0, 2, rule]);
        writeln!(
            text,
            "[[rule]]\nnetwork = \"net{network}\"\ndestination = \"{destination}\"\nlink = \"link{link}\""
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_found_among_other_lines() {
        let status = "Name:\tvnet-agent\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t1\n";
        assert_eq!(resident_mib(status), Some(10.0));
        assert_eq!(resident_mib("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn every_rule_names_a_link_of_its_network() {
        let table: toml::Table = settings().unwrap().parse().unwrap();
        let list = |key: &str| table[key].as_array().unwrap().clone();
        assert_eq!(list("rule").len(), usize::from(RULES));
        for rule in list("rule") {
            let carries = list("link")
                .iter()
                .any(|link| link["name"] == rule["link"] && link["networks"][0] == rule["network"]);
            assert!(carries, "{rule}");
        }
    }
}
