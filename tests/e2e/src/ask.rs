//! What do the agents answer? `vnetctl`'s JSON, read as the values that the agent wrote.

use anyhow::{Context, Result};
use lab::{Host, Output, try_eventually};
use serde::de::DeserializeOwned;
use vnet_agent::api::{
    Drop, Flows, Interface, InterfaceState, LinkState, LinkStatus, RuleStatus, Stats, Status,
};

/// The answer to a verb.
///
/// # Errors
///
/// The agent refuses, or answers something else.
pub fn ask<T: DeserializeOwned>(host: &Host, verb: &[&str]) -> Result<T> {
    let answer = host.vnetctl(verb)?;
    serde_json::from_value(answer.clone())
        .with_context(|| format!("vnetctl {} answers {answer}", verb.join(" ")))
}

/// Is all well?
pub fn status(host: &Host) -> Result<Status> {
    ask(host, &["status"])
}

/// What became of all frames?
pub fn stats(host: &Host) -> Result<Stats> {
    ask(host, &["stats"])
}

/// Who talks to whom?
pub fn flows(host: &Host) -> Result<Flows> {
    ask(host, &["flows", "--limit", "100000"])
}

/// What was dropped?
pub fn drops(host: &Host) -> Result<Vec<Drop>> {
    ask(host, &["drops"])
}

/// Which interfaces are there?
pub fn interfaces(host: &Host) -> Result<Vec<Interface>> {
    ask(host, &["interface", "list"])
}

/// One of them.
pub fn interface(host: &Host, name: &str) -> Result<Interface> {
    let all = interfaces(host)?;
    let found = all.iter().find(|interface| interface.name == name).cloned();
    found.with_context(|| format!("there is no interface {name} among {all:?}"))
}

/// Which links are there?
pub fn links(host: &Host) -> Result<Vec<LinkStatus>> {
    ask(host, &["link", "list"])
}

/// One of them.
pub fn link(host: &Host, name: &str) -> Result<LinkStatus> {
    let all = links(host)?;
    let found = all.iter().find(|link| link.name == name).cloned();
    found.with_context(|| format!("there is no link {name} among {all:?}"))
}

/// Which rules are there?
pub fn rules(host: &Host) -> Result<Vec<RuleStatus>> {
    ask(host, &["rule", "list"])
}

/// Has the agent change something, and return how it went.
pub fn attempt(host: &Host, line: &str) -> Result<Output> {
    host.attempt_vnetctl(line.split_whitespace())
}

/// Has the agent change something.
///
/// # Errors
///
/// It refuses.
pub fn change(host: &Host, line: &str) -> Result<()> {
    attempt(host, line)?.successful().map(drop)
}

/// Waits until everything that is configured works, save what is still to come. That a next hop is being
/// looked up is no trouble to the agent; here it is waited for, since nothing leaves by it yet.
pub fn until_healthy(host: &Host) -> Result<Status> {
    until(host, "nothing is amiss", |status| {
        let has_way = |link: &LinkStatus| link.state != LinkState::Unresolved;
        status.healthy && links(host).is_ok_and(|links| links.iter().all(has_way))
    })
}

/// Waits until the agent's status is as wanted.
pub fn until(host: &Host, what: &str, is_so: impl Fn(&Status) -> bool) -> Result<Status> {
    let mut last = None;
    let waited = try_eventually(&format!("{what} on `{}`", host.name()), || {
        let now = status(host)?;
        last = Some(format!("{now:?}"));
        Ok(is_so(&now).then_some(now))
    });
    waited.with_context(|| format!("its agent says: {}", last.unwrap_or_default()))
}

/// Waits until the link is in this state.
pub fn until_link(host: &Host, name: &str, state: LinkState) -> Result<LinkStatus> {
    let what = format!("link {name} of `{}` is {state}", host.name());
    try_eventually(&what, || {
        Ok(Some(link(host, name)?).filter(|link| link.state == state))
    })
}

/// Waits until the link leaves this MTU to guests.
pub fn until_guest_mtu(host: &Host, name: &str, mtu: u32) -> Result<LinkStatus> {
    let what = format!("link {name} of `{}` leaves {mtu} bytes", host.name());
    try_eventually(&what, || {
        Ok(Some(link(host, name)?).filter(|link| link.guest_mtu_bytes == Some(mtu)))
    })
}

/// Waits until the interface is in this state.
pub fn until_interface(host: &Host, name: &str, state: InterfaceState) -> Result<Interface> {
    let what = format!("interface {name} of `{}` is {state}", host.name());
    try_eventually(&what, || {
        let all = interfaces(host)?;
        Ok(all
            .into_iter()
            .find(|interface| interface.name == name && interface.state == state))
    })
}
