//! Which rung of the ladder is a star's link on, as both of its ends say?

use anyhow::{Context, Result};
use lab::{Host, try_eventually};
use vnet_agent::api::{LinkConnection, LinkState};
use vnet_agent::model::Transport;

use crate::ask;
use crate::overlay::{Overlay, Place};

/// Waits until both ends of an agent's link with the proxy are on a rung, and know it from answers.
///
/// # Errors
///
/// They are not.
pub fn until_on(overlay: &Overlay, agent: &Place, rung: Transport) -> Result<()> {
    let name = agent.host.name();
    until_at(&agent.host, "to-proxy", rung)?;
    until_at(&overlay.proxy.host, &format!("to-{name}"), rung)
}

fn until_at(host: &Host, name: &str, rung: Transport) -> Result<()> {
    let mut last = None;
    let what = format!("{name} of `{}` is on {rung}", host.name());
    let waited = try_eventually(&what, || {
        let link = ask::link(host, name)?;
        let is_so = link.rung.kind == rung && link.rung.since_unix_ms.is_some();
        let is_up = link.state == LinkState::Up;
        last = Some(link);
        Ok((is_so && is_up).then_some(()))
    });
    waited.with_context(|| format!("its agent says: {last:?}"))
}

/// Waits until the connection is there that takes over.
///
/// # Errors
///
/// It does not come.
pub fn until_ready(overlay: &Overlay, agent: &Place) -> Result<()> {
    ask::until_link(&agent.host, "tls-to-proxy", LinkState::Up)?;
    let there = format!("tls-to-{}", agent.host.name());
    ask::until_link(&overlay.proxy.host, &there, LinkState::Up).map(drop)
}

/// What the agent says of a rung's connection.
///
/// # Errors
///
/// There is none.
pub fn connection(host: &Host, rung: &str) -> Result<LinkConnection> {
    let link = ask::link(host, rung)?;
    link.connection
        .with_context(|| format!("{rung} has no connection to speak of"))
}
