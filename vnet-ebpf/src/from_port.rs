//! A guest's frame: parse, resolve, then into another port, out over a link, or up to the agent.

use vnet_common::addr::PortId;
use vnet_common::reason::Reason;
use vnet_common::table::flow::{FlowKey, Origin};
use vnet_common::table::ledger::Ledger;
use vnet_common::table::port::PortEntry;

use crate::Outcome;
use crate::frame::Frame;
use crate::step::deliver::{self, HOP_LIMIT};
use crate::step::resolve::{self, Arrival, IntoPort};
use crate::step::too_big::{self, TooBig};
use crate::step::{account, fit, parse, show};
use crate::tables::Tables;

/// Takes a frame that a guest wrote to its device.
///
/// # Errors
///
/// The reason why it is dropped; it is counted already.
#[inline(always)]
pub fn from_port<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Outcome, Reason> {
    let bytes = frame.length();
    let mut too_big = TooBig::NONE;
    let (slot, result) = match tables.port_of_origin(frame.device()) {
        Some(port) => (
            port.ledger,
            switch(frame, tables, port, bytes, &mut too_big),
        ),
        // Between the device's table entry and its program there is a moment, at both ends.
        None => (Ledger::AGENT, Err(Reason::UnknownPort)),
    };
    tables.count(slot, |ledger| account::account(ledger, bytes, &result));
    too_big::tell(frame, tables, &too_big, result)
}

#[inline(always)]
fn switch<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    port: &PortEntry,
    bytes: u32,
    too_big: &mut TooBig,
) -> Result<Outcome, Reason> {
    let device = frame.device();
    let parsed = parse::ethernet(frame)?;
    if fit::is_flood(frame) {
        return Err(Reason::ManySegments);
    }
    let arrival = Arrival {
        key: FlowKey {
            network: port.network,
            stations: parsed.stations,
        },
        network_slot: port.network_slot,
        origin: Origin::port(PortId(device)),
        bytes,
        manners: PortEntry::DIRECT,
        copy: 0,
    };
    let mut into = IntoPort::NONE;
    let action = resolve::resolve(tables, &arrival, &mut into, || {
        tables.show(device, show::shown(frame, &parsed));
        let source = parsed.stations.source();
        port.flags & PortEntry::ANY_SOURCE != 0
            || port.lists(source)
            || (port.flags & PortEntry::LEARN != 0 && tables.is_learned(device, source))
    })?;
    let result = deliver::deliver(frame, tables, action, &arrival, &into, &parsed, HOP_LIMIT);
    if let Err(Reason::TooBig) = result {
        too_big.note(frame, &arrival, action, &into);
    }
    result
}
