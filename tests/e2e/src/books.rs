//! Do the books add up, within a host and between hosts?
//!
//! Input: what `vnetctl stats` and `vnetctl flows` answer once nothing is on its way any more.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Host, try_eventually};
use vnet_agent::api::{LedgerValues, Place, SideStats, Stats};
use vnet_common::reason::Reason;

use crate::ask;

/// Reasons for which a frame ends before it belongs to a flow.
const WITHOUT_FLOW: [Reason; 6] = [
    Reason::Runt,
    Reason::InvalidSource,
    Reason::ForeignSource,
    Reason::NoRule,
    Reason::UnknownNetwork,
    Reason::UnknownPort,
];

/// The books when they do not change any more, each balanced.
///
/// # Errors
///
/// Some ledger is not balanced.
pub fn settled(host: &Host) -> Result<Stats> {
    let mut before = ask::stats(host)?;
    let what = format!("the books of `{}` are still", host.name());
    let settled = try_eventually(&what, || {
        std::thread::sleep(Duration::from_millis(50));
        let now = ask::stats(host)?;
        let still = now == before;
        before = now.clone();
        Ok(still.then_some(now))
    })?;
    for (name, ledger) in all(&settled) {
        ensure!(
            ledger.balanced,
            "the ledger of {name} on `{}`: {ledger:?}",
            host.name()
        );
    }
    Ok(settled)
}

/// Every ledger with its name.
pub fn all(stats: &Stats) -> Vec<(&str, &LedgerValues)> {
    let sides = stats
        .ports
        .iter()
        .chain(&stats.links)
        .chain(&stats.underlays);
    let named = sides.map(|side| (side.name.as_str(), &side.ledger));
    named.chain([("the agent", &stats.agent.ledger)]).collect()
}

/// The ledger of a port.
pub fn port<'a>(stats: &'a Stats, device: &str) -> Result<&'a LedgerValues> {
    of(&stats.ports, device)
}

/// The ledger of a link.
pub fn link<'a>(stats: &'a Stats, name: &str) -> Result<&'a LedgerValues> {
    of(&stats.links, name)
}

/// The ledger of an underlay device.
pub fn underlay<'a>(stats: &'a Stats, device: &str) -> Result<&'a LedgerValues> {
    of(&stats.underlays, device)
}

fn of<'a>(sides: &'a [SideStats], name: &str) -> Result<&'a LedgerValues> {
    let side = sides.iter().find(|side| side.name == name);
    Ok(&side
        .with_context(|| format!("there is no ledger of {name}"))?
        .ledger)
}

/// How many frames a ledger shows as dropped for this reason.
pub fn dropped(ledger: &LedgerValues, reason: Reason) -> u64 {
    ledger.dropped_by_reason.get(&reason).copied().unwrap_or(0)
}

/// Checks what must hold on one host, frames at rest:
///
/// * what programs sent up to the agent, it took or the kernel refused;
/// * what the agent took, it copied, answered or dropped, and its copies and answers are what its
///   tap's program received;
/// * what came in at a port is in the flows of that port, or ended before it had one.
///
/// # Errors
///
/// It does not hold.
pub fn check_host(host: &Host) -> Result<Stats> {
    let stats = settled(host)?;
    let agent = &stats.agent;
    let name = host.name();
    let dropped_by_agent: u64 = agent.slow_path_dropped_by_reason.values().sum();
    ensure!(
        agent.ledger.sent_packets == agent.taken + agent.ledger.refused,
        "of what was sent up on `{name}` something is missing: {agent:?}"
    );
    ensure!(
        agent.taken
            == agent.flooded
                + agent.too_big_answered
                + agent.too_big_unanswered
                + agent.probe_replies
                + agent.carried
                + dropped_by_agent,
        "of what the agent of `{name}` took something is missing: {agent:?}"
    );
    ensure!(
        agent.copies + agent.too_big_answered + agent.probes == agent.ledger.received_packets,
        "of what the agent of `{name}` wrote something is missing: {agent:?}"
    );
    let flows = ask::flows(host)?;
    for side in &stats.ports {
        let own = flows
            .flows
            .iter()
            .filter(|flow| flow.origin == Some(Place::Port(side.name.clone())));
        let in_flows: u64 = own.map(|flow| flow.packets).sum();
        let without: u64 = WITHOUT_FLOW
            .iter()
            .map(|&reason| dropped(&side.ledger, reason))
            .sum();
        ensure!(
            in_flows + without == side.ledger.received_packets,
            "port {} of `{name}`: {in_flows} frames in flows and {without} without, {:?}",
            side.name,
            side.ledger
        );
    }
    Ok(stats)
}

/// Checks that what one host sent over a link is what the other received over its end of it.
///
/// Holds where each host has this one link, and nobody else sends to them.
///
/// # Errors
///
/// It does not hold.
pub fn check_pair(from: &Stats, link_there: &str, to: &Stats, link_back: &str) -> Result<()> {
    let sent = link(from, link_there)?;
    let left = underlay(from, "eth0")?;
    let arrived = underlay(to, "eth0")?;
    let received = link(to, link_back)?;
    ensure!(
        sent.sent_packets == arrived.received_packets + left.refused,
        "sent over {link_there}: {sent:?}, refused there: {}, arrived: {arrived:?}",
        left.refused
    );
    ensure!(
        arrived.forwarded == received.received_packets,
        "admitted: {arrived:?}, received over {link_back}: {received:?}"
    );
    ensure!(
        sent.sent_bytes == received.received_bytes || left.refused + arrived.dropped > 0,
        "sent over {link_there}: {sent:?}, received over {link_back}: {received:?}"
    );
    Ok(())
}
