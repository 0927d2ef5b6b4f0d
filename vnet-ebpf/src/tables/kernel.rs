//! The tables in the kernel: BPF maps.
//!
//! The maps themselves belong to the object (`map.rs`), which hands them in; this is a library.
#![expect(unsafe_code, reason = "values of maps are reached through pointers")]

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::maps::{Array, HashMap, LruPerCpuHashMap, PerCpuArray, RingBuf};
use vnet_common::addr::{LinkId, Mac, NetworkId, PortId, Stations};
use vnet_common::table::action::Action;
use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::event::Event;
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::{LinkEntry, Sender};
use vnet_common::table::near::{Epoch, NearAdmission, NearFlows, NearPort};
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::{PortEntry, PortState};
use vnet_common::table::rule::{RuleEntry, RuleKey};
use vnet_common::table::setting::Setting;
use vnet_common::table::underlay::UnderlayEntry;

use super::atomic::{add, compare_exchange};
use super::{Tables, is_news, near, spend};

/// The maps of the object.
#[derive(Clone, Copy)]
#[expect(
    missing_docs,
    reason = "each is the map of its name, see `vnet_common::table`"
)]
pub struct Maps {
    pub ports: &'static HashMap<u32, PortEntry>,
    pub port_states: &'static HashMap<u32, PortState>,
    pub underlays: &'static Array<UnderlayEntry>,
    pub networks: &'static Array<NetworkEntry>,
    pub rules: &'static HashMap<RuleKey, RuleEntry>,
    pub flows: &'static LruPerCpuHashMap<FlowKey, FlowEntry>,
    pub links: &'static Array<LinkEntry>,
    pub admissions: &'static HashMap<AdmissionKey, AdmissionEntry>,
    pub senders: &'static PerCpuArray<Sender>,
    pub ledgers: &'static PerCpuArray<Ledger>,
    pub near_ports: &'static PerCpuArray<NearPort>,
    pub near_admissions: &'static PerCpuArray<NearAdmission>,
    pub near_flows: &'static PerCpuArray<NearFlows>,
    pub epochs: &'static Array<Epoch>,
    pub events: &'static RingBuf,
    pub settings: &'static Array<Setting>,
    /// [`super::Tables::strongest`] as a function apart, of the network, its shapes, and the words of
    /// the stations; the object has it, because it reaches a map.
    pub strongest: extern "C" fn(u32, u32, u32, u32, u32) -> u64,
    /// [`near::settle`] likewise, of the network and the words of the stations.
    pub settle_flow: extern "C" fn(u32, u32, u32, u32) -> u32,
}

/// The tables as one run of a program sees them.
pub struct KernelTables {
    maps: Maps,
    /// Nothing is counted, learned or remembered: a test run that asks what would happen.
    is_dry: bool,
}

impl KernelTables {
    /// The tables for one run.
    #[inline(always)]
    pub const fn new(maps: Maps, is_dry: bool) -> Self {
        Self { maps, is_dry }
    }

    #[inline(always)]
    fn setting(&self) -> Option<&Setting> {
        self.maps.settings.get(0)
    }

    #[inline(always)]
    fn tell(&self, state: *mut PortState, event: &Event) {
        if self.maps.events.output::<Event>(event, 0).is_err() {
            // SAFETY: `state` is a live map value, and the field is aligned.
            unsafe { add(&raw mut (*state).events_lost, 1) };
        }
    }
}

impl Tables for KernelTables {
    #[inline(always)]
    fn port(&self, device: u32) -> Option<&PortEntry> {
        // SAFETY: an entry that the agent replaces stays readable until the program ends (RCU);
        // programs never write to it.
        unsafe { self.maps.ports.get(device) }
    }

    #[inline(always)]
    fn port_of_origin(&self, device: u32) -> Option<&PortEntry> {
        near::port(&self.maps, device)
    }

    #[inline(always)]
    fn underlay(&self, device: u32) -> Option<&UnderlayEntry> {
        let mut slot = 0;
        while slot < UnderlayEntry::SLOTS {
            let entry = self.maps.underlays.get(slot)?;
            if entry.device == device {
                return Some(entry);
            }
            slot = slot.wrapping_add(1);
        }
        None
    }

    #[inline(always)]
    fn network(&self, slot: u32) -> Option<&NetworkEntry> {
        self.maps
            .networks
            .get(slot)
            .filter(|network| network.id != 0)
    }

    #[inline(always)]
    fn rule(&self, key: &RuleKey) -> Option<&RuleEntry> {
        // SAFETY: as in `port`.
        unsafe { self.maps.rules.get(key) }
    }

    #[inline(always)]
    fn strongest(&self, network: NetworkId, shapes: u32, stations: Stations) -> Action {
        let [first, middle, last] = stations.words();
        let bits = (self.maps.strongest)(network.get(), shapes, first, middle, last);
        Action::of_bits(bits)
    }

    #[inline(always)]
    fn link(&self, link: LinkId) -> Option<&LinkEntry> {
        self.maps
            .links
            .get(link.0)
            .filter(|entry| entry.flags & LinkEntry::UP != 0)
    }

    #[inline(always)]
    fn admission(&self, key: &AdmissionKey) -> Option<&AdmissionEntry> {
        near::admission(&self.maps, key)
    }

    #[inline(always)]
    fn slow_path_device(&self) -> u32 {
        self.setting().map_or(0, |setting| setting.slow_path_device)
    }

    #[inline(always)]
    fn flow<R>(&self, key: &FlowKey, visit: impl FnOnce(&mut FlowEntry) -> R) -> Option<R> {
        let found = near::flow(&self.maps, key)?;
        if self.is_dry {
            // SAFETY: as below, but only read.
            let mut copy = unsafe { *found.entry };
            return Some(visit(&mut copy));
        }
        // SAFETY: this CPU's own value, which no other run on this CPU touches until this one
        // ends; an evicted one stays valid until then (RCU).
        let entry = unsafe { &mut *found.entry };
        let result = visit(entry);
        if found.is_due(entry) {
            let [first, middle, last] = key.stations.words();
            (self.maps.settle_flow)(key.network.get(), first, middle, last);
        }
        Some(result)
    }

    #[inline(always)]
    fn add_flow(&self, key: &FlowKey, entry: &FlowEntry) {
        if !self.is_dry {
            // Where the table has no room even after eviction the flow goes uncounted, and the
            // agent finds its frames as the difference to the port's total.
            let _ = self.maps.flows.insert(key, entry, 0);
        }
    }

    #[inline(always)]
    fn count(&self, slot: u32, visit: impl FnOnce(&mut Ledger)) {
        if self.is_dry || cfg!(feature = "without-ledgers") {
            return;
        }
        if let Some(ledger) = self.maps.ledgers.get_ptr_mut(slot) {
            // SAFETY: this CPU's own value, as in `flow`.
            visit(unsafe { &mut *ledger });
        }
    }

    #[inline(always)]
    fn next_sequence(&self, link: LinkId) -> (u8, u32) {
        let Some(sender) = self.maps.senders.get_ptr_mut(link.0) else {
            return (0, 0);
        };
        // SAFETY: this CPU's own value, as in `flow`.
        let sender = unsafe { &mut *sender };
        let sequence = sender.sequence as u32;
        if !self.is_dry {
            sender.sequence = sender.sequence.wrapping_add(1);
        }
        // SAFETY: reads this CPU's number; no arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        (cpu as u8, sequence)
    }

    #[inline(always)]
    fn is_learned(&self, device: u32, source: Mac) -> bool {
        let Some(state) = self.maps.port_states.get_ptr_mut(device) else {
            return false;
        };
        // SAFETY: a live map value; the programs change it only atomically, and the agent only
        // makes and deletes it.
        let known = unsafe { (&raw const (*state).learned).read_volatile() };
        if known != 0 || self.is_dry {
            return known == 0 || known == source.to_bits();
        }
        // SAFETY: as above, and aligned.
        match unsafe { compare_exchange(&raw mut (*state).learned, 0, source.to_bits()) } {
            0 => {
                let port = PortId(device);
                let learned = Event {
                    kind: Event::LEARNED,
                    port,
                    address: source,
                    _pad: [0; 2],
                };
                self.tell(state, &learned);
                true
            }
            other => other == source.to_bits(),
        }
    }

    #[inline(always)]
    fn show(&self, device: u32, shown: u32) {
        if shown == 0 || self.is_dry {
            return;
        }
        let Some(state) = self.maps.port_states.get_ptr_mut(device) else {
            return;
        };
        // SAFETY: as in `is_learned`.
        let before = unsafe { (&raw const (*state).shown).read_volatile() };
        let after = PortState::after(before, shown);
        if after == before {
            return;
        }
        // Two CPUs at one moment: the later one wins, and the next flow shows it again.
        // SAFETY: as in `is_learned`, and aligned.
        unsafe { (&raw mut (*state).shown).write_volatile(after) };
        if is_news(before, after) {
            let event = Event {
                kind: Event::SHOWN,
                port: PortId(device),
                address: Mac::ZERO,
                _pad: [0; 2],
            };
            self.tell(state, &event);
        }
    }

    #[inline(always)]
    fn admit_to_slow_path(&self, device: u32, cost_ns: u32, burst_ns: u32) -> bool {
        let Some(state) = self.maps.port_states.get_ptr_mut(device) else {
            return false;
        };
        // SAFETY: as in `is_learned`.
        let known_ns = unsafe { (&raw const (*state).slow_path_until_ns).read_volatile() };
        let Some(until_ns) = spend(self.now_ns(), known_ns, cost_ns, burst_ns) else {
            return false;
        };
        if self.is_dry {
            return true;
        }
        // Losing the race means that another CPU of the same port took a frame at this very
        // moment: then this one waits its turn, which errs on the safe side.
        // SAFETY: as in `is_learned`, and aligned.
        let found_ns =
            unsafe { compare_exchange(&raw mut (*state).slow_path_until_ns, known_ns, until_ns) };
        found_ns == known_ns
    }

    #[inline(always)]
    fn may_tell(&self, link: LinkId) -> bool {
        let Some(sender) = self.maps.senders.get_ptr_mut(link.0) else {
            return false;
        };
        // SAFETY: this CPU's own value, as in `flow`.
        let sender = unsafe { &mut *sender };
        let (cost_ns, burst_ns) = (Sender::TELL_COST_NS, Sender::TELL_BURST_NS);
        let Some(until_ns) = spend(self.now_ns(), sender.told_until_ns, cost_ns, burst_ns) else {
            return false;
        };
        if !self.is_dry {
            sender.told_until_ns = until_ns;
        }
        true
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: reads the clock; no arguments.
        unsafe { bpf_ktime_get_ns() }
    }
}
