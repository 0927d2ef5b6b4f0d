//! The last step: into a port, out over a link, or up to the agent.

use vnet_common::addr::{LinkId, NetworkId, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::action::{Action, Kind};
use vnet_common::table::flow::Origin;
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::LinkEntry;
use vnet_common::table::port::PortEntry;
use vnet_common::wire::slow::Slow;

use super::encap::{self, Outside};
use super::fit;
use super::parse::{self, Parsed};
use super::resolve::{Arrival, IntoPort};
use crate::frame::{Door, Frame};
use crate::tables::Tables;
use crate::{Outcome, Way};

/// The outer TTL of a frame that comes from a guest: how many hops a loop can last.
pub const HOP_LIMIT: u8 = 64;

/// Carries out a decision on an inner frame.
///
/// # Errors
///
/// The decision is to drop, or it cannot be carried out.
#[inline(always)]
pub fn deliver<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    action: Action,
    arrival: &Arrival,
    into: &IntoPort,
    parsed: &Parsed,
    hop_limit: u8,
) -> Result<Outcome, Reason> {
    match action.kind() {
        Kind::Deliver => {
            let into = IntoPort {
                flags: into.flags & arrival.manners,
                ..*into
            };
            to_port(frame, tables, PortId(action.target()), &into)
        }
        Kind::Send => {
            let [_, a, b, c] = arrival.key.network.get().to_be_bytes();
            let entropy = parse::entropy(frame, parsed);
            let outside = Outside {
                hop_limit,
                network: [a, b, c],
                entropy,
                copy: 0,
            };
            match to_link(frame, tables, LinkId(action.target()), arrival, &outside) {
                // A guest's own tunnel that is to be segmented: no tunnel goes around it before it
                // is, which the way up to the agent does.
                Err(Reason::NoHeadroom) if frame.segment_bytes() != 0 => {
                    flood(frame, tables, arrival, hop_limit)
                }
                result => result,
            }
        }
        Kind::Flood => flood(frame, tables, arrival, hop_limit),
        Kind::Drop => Err(action.reason()),
        Kind::None => Err(Reason::NoRule),
    }
}

/// Into a port of this host.
#[inline(always)]
pub fn to_port<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    port: PortId,
    into: &IntoPort,
) -> Result<Outcome, Reason> {
    if fit::packet_bytes(frame) > into.bytes_max {
        return Err(Reason::TooBig);
    }
    frame.settle()?;
    let bytes = frame.length();
    tables.count(into.ledger, |ledger| ledger.sent.add(bytes));
    let way = match F::DOOR {
        Door::Xdp if into.flags & PortEntry::JOIN != 0 => Way::Joined,
        Door::Tc if into.flags & PortEntry::DIRECT != 0 => Way::Direct,
        _ => Way::Delivered,
    };
    Ok(Outcome::new(way, port.0))
}

/// The link that another's frames leave by: itself, or while its path is dead the one instead of it.
#[inline(always)]
pub fn carrier<T: Tables>(tables: &T, id: LinkId) -> Option<(LinkId, &LinkEntry)> {
    let link = tables.link(id)?;
    match link.instead() {
        None => Some((id, link)),
        Some(other) => Some((other, tables.link(other)?)),
    }
}

/// Out over a link, or the one instead of it, but not back.
#[inline(always)]
fn to_link<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    id: LinkId,
    arrival: &Arrival,
    outside: &Outside,
) -> Result<Outcome, Reason> {
    let (id, link) = carrier(tables, id).ok_or(Reason::LinkAbsent)?;
    if arrival.origin == Origin::link(link.whole(id)) {
        return Err(Reason::Reflection);
    }
    send(frame, tables, id, link, outside, false)
}

/// Out over this link and no other, as the agent says; however large it is where `is_large_fine`.
#[inline(always)]
pub fn over<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    id: LinkId,
    outside: &Outside,
    is_large_fine: bool,
) -> Result<Outcome, Reason> {
    let link = tables.link(id).ok_or(Reason::LinkAbsent)?;
    send(frame, tables, id, link, outside, is_large_fine)
}

#[inline(always)]
fn send<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    id: LinkId,
    link: &LinkEntry,
    outside: &Outside,
    is_large_fine: bool,
) -> Result<Outcome, Reason> {
    if link.device == 0 {
        return Err(Reason::LinkUnresolved);
    }
    if outside.hop_limit == 0 {
        return Err(Reason::HopLimit);
    }
    let bytes = frame.length();
    if fit::packet_bytes(frame) > link.frame_bytes_max && !is_large_fine {
        return Err(Reason::TooBig);
    }
    let device = link.device;
    if link.flags & LinkEntry::AGENT == 0 {
        encap::encap(frame, tables, id, link, outside)?;
    } else {
        let [a, b, c] = outside.network;
        let network = NetworkId::new(u32::from_be_bytes([0, a, b, c]));
        let network = network.ok_or(Reason::UnknownNetwork)?;
        let header = Slow::carry(outside.hop_limit, network, id).numbered(outside.copy);
        to_agent(frame, tables, &header)?;
    }
    tables.count(link.ledger, |ledger| ledger.sent.add(bytes));
    Ok(Outcome::new(Way::Forwarded, device))
}

/// Up to the agent, within the port's budget.
#[inline(always)]
fn flood<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    arrival: &Arrival,
    hop_limit: u8,
) -> Result<Outcome, Reason> {
    if let Some(PortId(device)) = arrival.origin.as_port() {
        let port = tables.port(device).ok_or(Reason::UnknownPort)?;
        if !tables.admit_to_slow_path(device, port.slow_path_cost_ns, port.slow_path_burst_ns) {
            return Err(Reason::SlowPathRate);
        }
    }
    let header = Slow::to_agent(Slow::FRAME, hop_limit, arrival.key.network, arrival.origin);
    let header = header.numbered(arrival.copy);
    to_agent(frame, tables, &header)
}

/// Up to the agent, with a header that says why.
#[inline(always)]
pub fn to_agent<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    header: &Slow,
) -> Result<Outcome, Reason> {
    let device = tables.slow_path_device();
    if device == 0 {
        return Err(Reason::NoAgent);
    }
    let bytes = frame.length();
    frame.grow(Slow::BYTES)?;
    frame.write(0, header).ok_or(Reason::NoHeadroom)?;
    tables.count(Ledger::AGENT, |ledger| ledger.sent.add(bytes));
    Ok(Outcome::new(Way::SlowPath, device))
}
