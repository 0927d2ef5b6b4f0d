//! A frame that the agent wrote to its tap: into the port, or out over the link, that its header
//! names; or on, as one that came in over the link that its header names.

use core::mem::offset_of;

use vnet_common::addr::NetworkId;
use vnet_common::entropy::Entropy;
use vnet_common::reason::Reason;
use vnet_common::table::flow::{FlowKey, Origin};
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::LinkEntry;
use vnet_common::table::port::PortEntry;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::geneve::Geneve;
use vnet_common::wire::ipv4::Ipv4;
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::slow::Slow;
use vnet_common::wire::udp::Udp;

use crate::Outcome;
use crate::frame::Frame;
use crate::step::encap::Outside;
use crate::step::resolve::{self, Arrival, IntoPort};
use crate::step::too_big::{self, TooBig};
use crate::step::{account, deliver, parse};
use crate::tables::Tables;

/// Takes a frame from the agent.
///
/// # Errors
///
/// The reason why it is dropped; it is counted already: in the link's ledger where the agent carried
/// it here, else in the agent's.
#[inline(always)]
pub fn from_agent<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Outcome, Reason> {
    let bytes = frame.length().saturating_sub(Slow::BYTES as u32);
    let mut books = Ledger::AGENT;
    let mut too_big = TooBig::NONE;
    let result = switch(frame, tables, bytes, &mut books, &mut too_big);
    tables.count(books, |ledger| account::account(ledger, bytes, &result));
    too_big::tell(frame, tables, &too_big, result)
}

#[inline(always)]
fn switch<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    bytes: u32,
    books: &mut u32,
    too_big: &mut TooBig,
) -> Result<Outcome, Reason> {
    let header: Slow = frame.read(0).ok_or(Reason::SlowHeader)?;
    if !header.is_from_agent() {
        return Err(Reason::SlowHeader);
    }
    let network = header.network().ok_or(Reason::SlowHeader)?;
    frame.shrink(Slow::BYTES).ok_or(Reason::SlowHeader)?;
    match header.kind {
        Slow::DELIVER => {
            let port = tables.port(header.port().0).ok_or(Reason::PortAbsent)?;
            let into = IntoPort {
                ledger: port.ledger,
                bytes_max: port.frame_bytes_max,
                flags: 0,
            };
            deliver::to_port(frame, tables, header.port(), &into)
        }
        Slow::SEND | Slow::PROBE => send(frame, tables, &header, network),
        Slow::ARRIVED => {
            let link = tables.link(header.link()).ok_or(Reason::LinkAbsent)?;
            if link.flags & LinkEntry::AGENT == 0 {
                return Err(Reason::LinkAbsent);
            }
            *books = link.ledger;
            let origin = Origin::link(link.whole(header.link()));
            arrived(frame, tables, &header, (network, origin, bytes), too_big)
        }
        _ => Err(Reason::SlowHeader),
    }
}

/// Out over the link that the header names.
#[inline(always)]
fn send<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    header: &Slow,
    network: NetworkId,
) -> Result<Outcome, Reason> {
    let [_, a, b, c] = network.get().to_be_bytes();
    let mut outside = Outside {
        hop_limit: header.hop_limit,
        network: [a, b, c],
        entropy: Entropy::new(),
        copy: 0,
    };
    let is_probe = header.kind == Slow::PROBE;
    if is_probe {
        // What the agent carries has nothing to be found out: TCP knows.
        let link = tables.link(header.link()).ok_or(Reason::LinkAbsent)?;
        if link.flags & LinkEntry::AGENT != 0 {
            return Err(Reason::UnknownControl);
        }
    } else {
        let parsed = parse::ethernet(frame)?;
        outside.entropy = parse::entropy(frame, &parsed);
        outside.copy = header.copy();
    }
    // A probe is as large as the agent wants: it is sent to find out what the link carries.
    let sent = deliver::over(frame, tables, header.link(), &outside, is_probe)?;
    if is_probe {
        mark_as_probe(frame).ok_or(Reason::SlowHeader)?;
    }
    Ok(sent)
}

/// On, as a frame that came in over the link that the header names, or that one is a rung of: as one
/// from the underlay does.
#[inline(always)]
fn arrived<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    header: &Slow,
    (network, origin, bytes): (NetworkId, Origin, u32),
    too_big: &mut TooBig,
) -> Result<Outcome, Reason> {
    // The agent wrote the place down a while ago: another network may have it by now.
    let network_slot = header.network_slot();
    let known = tables.network(network_slot);
    if known.is_none_or(|known| known.id != network.get()) {
        return Err(Reason::UnknownNetwork);
    }
    let parsed = parse::ethernet(frame)?;
    let arrival = Arrival {
        key: FlowKey {
            network,
            stations: parsed.stations,
        },
        network_slot,
        origin,
        bytes,
        manners: PortEntry::DIRECT,
        copy: header.copy(),
    };
    let mut into = IntoPort::NONE;
    let action = resolve::resolve(tables, &arrival, &mut into, || true)?;
    let hop_limit = header.hop_limit.saturating_sub(1);
    let result = deliver::deliver(frame, tables, action, &arrival, &into, &parsed, hop_limit);
    if let Err(Reason::TooBig) = result {
        too_big.note(frame, &arrival, action, &into);
    }
    result
}

/// Makes the Geneve packet a control packet with a probe inside.
#[inline(always)]
fn mark_as_probe<F: Frame>(frame: &mut F) -> Option<()> {
    let ethertype: [u8; 2] = frame.read(offset_of!(Ethernet, ethertype))?;
    let ip_bytes = if ethertype == ethernet::IPV4 {
        Ipv4::BYTES
    } else {
        Ipv6::BYTES
    };
    let geneve_at = Ethernet::BYTES
        .wrapping_add(ip_bytes)
        .wrapping_add(Udp::BYTES);
    frame.write(
        geneve_at.wrapping_add(offset_of!(Geneve, flags)),
        &Geneve::CONTROL,
    )?;
    frame.write(
        geneve_at.wrapping_add(offset_of!(Geneve, protocol)),
        &ethernet::LOCAL,
    )
}
