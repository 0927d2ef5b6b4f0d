//! What was decided for this flow? One lookup a frame; on a flow's first frame, or after a change,
//! the rules are asked.

use vnet_common::addr::{LinkId, NetworkId, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::action::{Action, Kind};
use vnet_common::table::flow::{FlowEntry, FlowKey, Origin};
use vnet_common::table::network::NetworkEntry;

use crate::tables::Tables;

/// A frame as the tables know it.
///
/// Aligned, because the compiler writes the key's words in pairs, and the verifier wants each pair
/// where a word of the stack is.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its network, source and destination.
    pub key: FlowKey,
    /// The network's place.
    pub network_slot: u32,
    /// Where it came in.
    pub origin: Origin,
    /// Bytes, Ethernet header included.
    pub bytes: u32,
    /// Which flags of a port it may be delivered by, of `PortEntry::JOIN` and
    /// `PortEntry::DIRECT`.
    pub manners: u32,
    /// The number of a frame for many, see `vnet_common::wire::link_option`; 0 for all others.
    pub copy: u32,
}

/// What delivering into a port needs to know of it. A flow remembers it with its decision, so that
/// the port need not be looked up for each frame.
#[derive(Clone, Copy, Debug)]
pub struct IntoPort {
    /// Its place in the ledgers.
    pub ledger: u32,
    /// The largest frame it takes.
    pub bytes_max: u32,
    /// Its flags, those of `PortEntry`.
    pub flags: u32,
}

impl IntoPort {
    /// For a decision that leads into no port.
    pub const NONE: Self = Self {
        ledger: 0,
        bytes_max: 0,
        flags: 0,
    };
}

/// What happens to a frame of this flow; where it leads into a port, `into` says more of that. Counts
/// the frame, unless it is not allowed at all.
///
/// `allowed` is asked on a flow's first frame only: what it says holds for the origin and the
/// generation of the network that the entry names.
///
/// # Errors
///
/// The network does not exist, the source is not allowed, or no rule matches. None of these makes
/// a flow: whoever invents addresses does not push out the flows of others.
#[inline(always)]
pub fn resolve<T: Tables>(
    tables: &T,
    arrival: &Arrival,
    into: &mut IntoPort,
    allowed: impl FnOnce() -> bool,
) -> Result<Action, Reason> {
    let network = tables
        .network(arrival.network_slot)
        .ok_or(Reason::UnknownNetwork)?;
    let known = tables.flow(&arrival.key, |flow| {
        if flow.generation != network.generation || flow.origin != arrival.origin {
            return Action::NONE;
        }
        if !cfg!(feature = "without-flow-counters") {
            flow.packets = flow.packets.wrapping_add(1);
            flow.bytes = flow.bytes.wrapping_add(u64::from(arrival.bytes));
        }
        into.ledger = flow.target_ledger;
        into.bytes_max = flow.target_bytes_max;
        into.flags = flow.target_flags;
        flow.action
    });
    match known {
        Some(action) if action.kind() != Kind::None => Ok(action),
        _ => first_frame(tables, network, arrival, into, allowed),
    }
}

#[inline(always)]
fn first_frame<T: Tables>(
    tables: &T,
    network: &NetworkEntry,
    arrival: &Arrival,
    into: &mut IntoPort,
    allowed: impl FnOnce() -> bool,
) -> Result<Action, Reason> {
    if !allowed() {
        return Err(Reason::ForeignSource);
    }
    let mut action = decide(tables, network, &arrival.key, arrival.origin)?;
    if action.kind() == Kind::Deliver {
        match tables.port(action.target()) {
            Some(port) => {
                into.ledger = port.ledger;
                into.bytes_max = port.frame_bytes_max;
                into.flags = port.flags;
            }
            None => action = Action::drop(Reason::PortAbsent),
        }
    }
    let entry = FlowEntry {
        origin: arrival.origin,
        action,
        generation: network.generation,
        target_ledger: into.ledger,
        packets: 1,
        bytes: u64::from(arrival.bytes),
        target_bytes_max: into.bytes_max,
        target_flags: into.flags,
    };
    let renewed = tables.flow(&arrival.key, |flow| {
        flow.origin = entry.origin;
        flow.action = entry.action;
        flow.generation = entry.generation;
        flow.target_ledger = entry.target_ledger;
        flow.target_bytes_max = entry.target_bytes_max;
        flow.target_flags = entry.target_flags;
        flow.packets = flow.packets.wrapping_add(1);
        flow.bytes = flow.bytes.wrapping_add(entry.bytes);
    });
    if renewed.is_none() {
        tables.add_flow(&arrival.key, &entry);
    }
    Ok(action)
}

/// What the rules say, whatever the flow table remembers. Frames for many go to the agent, which
/// asks all rules instead of the strongest.
#[inline(always)]
fn decide<T: Tables>(
    tables: &T,
    network: &NetworkEntry,
    key: &FlowKey,
    origin: Origin,
) -> Result<Action, Reason> {
    if key.stations.is_to_group() {
        return Ok(Action::FLOOD);
    }
    let id = NetworkId::new(network.id).ok_or(Reason::UnknownNetwork)?;
    let action = tables.strongest(id, network.shapes, key.stations);
    let back = match action.kind() {
        Kind::Deliver => origin == Origin::port(PortId(action.target())),
        Kind::Send => origin == Origin::link(LinkId(action.target())),
        Kind::Flood | Kind::Drop => false,
        Kind::None => return Err(Reason::NoRule),
    };
    Ok(if back {
        Action::drop(Reason::Reflection)
    } else {
        action
    })
}
