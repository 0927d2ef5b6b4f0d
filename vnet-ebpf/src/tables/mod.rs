//! The tables, whoever holds them.
//!
//! Operations that the steps need, not maps: the kernel side does them over BPF maps, the host
//! side over collections. Entries that programs change are reached by a closure, so that neither
//! side has to hand out a reference that outlives the access.

use vnet_common::addr::{LinkId, Mac, NetworkId, Stations};
use vnet_common::table::action::Action;
use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::LinkEntry;
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::{PortEntry, PortState};
use vnet_common::table::rule::{RuleEntry, RuleKey};
use vnet_common::table::underlay::UnderlayEntry;

use crate::step::rules;

#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(not(target_arch = "bpf"))]
pub mod heap;
#[cfg(target_arch = "bpf")]
pub mod kernel;
#[cfg(target_arch = "bpf")]
pub mod near;

/// What the steps ask and tell the tables.
pub trait Tables {
    /// The port that this device is.
    fn port(&self, device: u32) -> Option<&PortEntry>;

    /// The port whose frame this run is about. In the kernel, mostly without a lookup; asked once.
    #[inline(always)]
    fn port_of_origin(&self, device: u32) -> Option<&PortEntry> {
        self.port(device)
    }

    /// The underlay device that this is.
    fn underlay(&self, device: u32) -> Option<&UnderlayEntry>;

    /// The network in this slot.
    fn network(&self, slot: u32) -> Option<&NetworkEntry>;

    /// The rules under this key.
    fn rule(&self, key: &RuleKey) -> Option<&RuleEntry>;

    /// What [`rules::strongest`] says: [`Action::NONE`] where no rule matches. In the kernel, apart
    /// from the program.
    #[inline(always)]
    fn strongest(&self, network: NetworkId, shapes: u32, stations: Stations) -> Action
    where
        Self: Sized,
    {
        rules::strongest(self, network, shapes, stations)
    }

    /// The link with this id.
    fn link(&self, link: LinkId) -> Option<&LinkEntry>;

    /// The link that a packet with this claim belongs to.
    fn admission(&self, key: &AdmissionKey) -> Option<&AdmissionEntry>;

    /// The agent's tap, or 0.
    fn slow_path_device(&self) -> u32;

    /// Reaches a flow's entry, if there is one.
    fn flow<R>(&self, key: &FlowKey, visit: impl FnOnce(&mut FlowEntry) -> R) -> Option<R>;

    /// Adds a flow; where there is no room, it goes uncounted.
    fn add_flow(&self, key: &FlowKey, entry: &FlowEntry);

    /// Reaches a ledger.
    fn count(&self, slot: u32, visit: impl FnOnce(&mut Ledger));

    /// The next packet's stream and sequence on this link.
    fn next_sequence(&self, link: LinkId) -> (u8, u32);

    /// Whether `source` is the port's learned address; the first to ask is learned.
    fn is_learned(&self, device: u32, source: Mac) -> bool;

    /// Remembers what a frame showed of the port's guest (bits of `PortState`).
    fn show(&self, device: u32, shown: u32);

    /// Takes one frame from the port's slow-path budget: whether there was one.
    fn admit_to_slow_path(&self, device: u32, cost_ns: u32, burst_ns: u32) -> bool;

    /// Takes one report from a link's budget for frames that are too big: whether there was one.
    fn may_tell(&self, link: LinkId) -> bool;

    /// A monotonic clock, nanoseconds.
    fn now_ns(&self) -> u64;
}

/// Whether the agent wants to hear of this change of what a port's guest showed.
#[inline(always)]
pub const fn is_news(before: u32, after: u32) -> bool {
    after & !before & (PortState::SEGMENTS | PortState::UNFINISHED) != 0
}

/// One step of the generic cell rate algorithm, in its virtual scheduling form (ITU-T I.371,
/// annex A): until when the budget is used up after one more frame, or nothing where it is
/// exhausted.
///
/// `until_ns` is the theoretical arrival time so far. A frame costs `cost_ns`; the budget may run
/// `burst_ns` ahead of the clock.
#[inline(always)]
pub const fn spend(now_ns: u64, until_ns: u64, cost_ns: u32, burst_ns: u32) -> Option<u64> {
    let from_ns = if until_ns > now_ns { until_ns } else { now_ns };
    if from_ns.wrapping_sub(now_ns) >= burst_ns as u64 {
        return None;
    }
    Some(from_ns.wrapping_add(cost_ns as u64))
}
