//! A packet from the wire: admit, answer a probe, or decapsulate and go on as a frame of its
//! network, into a port, over the next link, or up to the agent.

use vnet_common::reason::Reason;
use vnet_common::table::flow::{FlowKey, Origin};
use vnet_common::table::port::PortEntry;
use vnet_common::table::underlay::UnderlayEntry;
use vnet_common::wire::ethernet::{self, Ethernet};

use crate::Outcome;
use crate::frame::{Door, Frame};
use crate::step::admit::{self, Admitted, Claim, Outer};
use crate::step::resolve::{self, Arrival, IntoPort};
use crate::step::too_big::{self, TooBig};
use crate::step::{account, decap, deliver, echo, parse};
use crate::tables::Tables;

/// Takes a packet that came in on an underlay device.
///
/// # Errors
///
/// The reason why it is dropped; it is counted already.
#[inline(always)]
pub fn from_underlay<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Outcome, Reason> {
    let Some(underlay) = tables.underlay(frame.device()) else {
        return Ok(Outcome::PASSED);
    };
    let Some(header) = frame.read::<Ethernet>(0) else {
        return Ok(Outcome::PASSED);
    };
    let mut too_big = TooBig::NONE;
    let result = match (F::DOOR, header.ethertype) {
        // Each family goes its own way to the end, so that every offset is a constant there.
        (Door::Xdp, ethernet::IPV4) => {
            let claim = admit::ipv4(frame, underlay);
            settle(frame, tables, underlay, claim, &mut too_big)
        }
        (Door::Xdp, ethernet::IPV6) => {
            let claim = admit::ipv6(frame, underlay);
            settle(frame, tables, underlay, claim, &mut too_big)
        }
        // Nothing is constant there anyway, and one way is half of what the verifier has to go.
        (Door::Tc, ethernet::IPV4 | ethernet::IPV6) => {
            let claim = if header.ethertype == ethernet::IPV4 {
                admit::ipv4(frame, underlay)
            } else {
                admit::ipv6(frame, underlay)
            };
            settle(frame, tables, underlay, claim, &mut too_big)
        }
        _ => return Ok(Outcome::PASSED),
    };
    too_big::tell(frame, tables, &too_big, result)
}

#[inline(always)]
fn settle<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    underlay: &UnderlayEntry,
    claim: Claim,
    too_big: &mut TooBig,
) -> Result<Outcome, Reason> {
    match claim {
        Claim::NotOurs => Ok(Outcome::PASSED),
        Claim::Broken(reason) => refuse(frame, tables, underlay, reason),
        Claim::Ours(outer) => ours(frame, tables, underlay, &outer, too_big),
    }
}

#[inline(always)]
fn refuse<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    underlay: &UnderlayEntry,
    reason: Reason,
) -> Result<Outcome, Reason> {
    let bytes = frame.length();
    tables.count(underlay.ledger, |ledger| {
        account::account(ledger, bytes, &Err(reason))
    });
    Err(reason)
}

/// A packet that claims to be for us. The underlay's ledger knows it as admitted or refused; once
/// admitted, the link's ledger tells what became of the frame inside.
#[inline(always)]
fn ours<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    underlay: &UnderlayEntry,
    outer: &Outer,
    too_big: &mut TooBig,
) -> Result<Outcome, Reason> {
    let packet_bytes = frame.length();
    let admitted = match admit::admit(frame, tables, outer) {
        Ok(admitted) => admitted,
        Err(reason) => return refuse(frame, tables, underlay, reason),
    };
    tables.count(underlay.ledger, |ledger| {
        ledger.received.add(packet_bytes);
        ledger.forwarded = ledger.forwarded.wrapping_add(1);
    });
    let bytes = outer.end.wrapping_sub(admitted.headers) as u32;
    let result = if admitted.is_control {
        echo::control(frame, tables, outer, &admitted)
    } else {
        let manners = match F::DOOR {
            Door::Xdp if underlay.flags & UnderlayEntry::JOINS != 0 => PortEntry::JOIN,
            Door::Xdp => 0,
            Door::Tc => PortEntry::DIRECT,
        };
        switch(frame, tables, outer, &admitted, (bytes, manners), too_big)
    };
    tables.count(admitted.ledger, |ledger| {
        account::account(ledger, bytes, &result)
    });
    result
}

#[inline(always)]
fn switch<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    outer: &Outer,
    admitted: &Admitted,
    (bytes, manners): (u32, u32),
    too_big: &mut TooBig,
) -> Result<Outcome, Reason> {
    decap::decap(frame, outer, admitted)?;
    let parsed = parse::ethernet(frame)?;
    let arrival = Arrival {
        key: FlowKey {
            network: admitted.network,
            stations: parsed.stations,
        },
        network_slot: admitted.network_slot,
        origin: Origin::link(admitted.link),
        bytes,
        manners,
        copy: admitted.copy,
    };
    let mut into = IntoPort::NONE;
    let action = resolve::resolve(tables, &arrival, &mut into, || true)?;
    let hop_limit = outer.hop_limit.saturating_sub(1);
    let result = deliver::deliver(frame, tables, action, &arrival, &into, &parsed, hop_limit);
    if let Err(Reason::TooBig) = result {
        too_big.note(frame, &arrival, action, &into);
    }
    result
}
