//! The tables on the host: ordered maps, the same operations, a clock that stands still unless it
//! is moved.
//!
//! For tests, for simulation, and for explaining a decision over a copy of the kernel's tables.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec::Vec;

use super::{Tables, is_news, spend};
use vnet_common::addr::{LinkId, Mac, PortId};
use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::event::Event;
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::{LinkEntry, Sender};
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::{PortEntry, PortState};
use vnet_common::table::rule::{RuleEntry, RuleKey};
use vnet_common::table::underlay::UnderlayEntry;

/// Every table.
#[derive(Clone, Default, Debug)]
pub struct HeapTables {
    /// Ports by device.
    pub ports: BTreeMap<u32, PortEntry>,
    /// Underlay devices.
    pub underlays: BTreeMap<u32, UnderlayEntry>,
    /// Networks by slot.
    pub networks: BTreeMap<u32, NetworkEntry>,
    /// Links by id.
    pub links: BTreeMap<u32, LinkEntry>,
    /// Rules.
    pub rules: BTreeMap<RuleKey, RuleEntry>,
    /// Admissions.
    pub admissions: BTreeMap<AdmissionKey, AdmissionEntry>,
    /// The agent's tap.
    pub slow_path_device: u32,
    /// The clock, nanoseconds.
    pub now_ns: Cell<u64>,
    flows: RefCell<BTreeMap<FlowKey, FlowEntry>>,
    ledgers: RefCell<BTreeMap<u32, Ledger>>,
    sequences: RefCell<BTreeMap<u32, u32>>,
    told_until_ns: RefCell<BTreeMap<u32, u64>>,
    states: RefCell<BTreeMap<u32, PortState>>,
    events: RefCell<Vec<Event>>,
}

impl HeapTables {
    /// What is known of a flow.
    pub fn flow_entry(&self, key: &FlowKey) -> Option<FlowEntry> {
        self.flows.borrow().get(key).copied()
    }

    /// A ledger's books; empty where nothing was counted.
    pub fn ledger(&self, slot: u32) -> Ledger {
        self.ledgers
            .borrow()
            .get(&slot)
            .copied()
            .unwrap_or(Ledger::ZERO)
    }

    /// Every ledger in which something was counted.
    pub fn ledgers(&self) -> BTreeMap<u32, Ledger> {
        self.ledgers.borrow().clone()
    }

    /// Remembers an address as learned.
    pub fn set_state(&mut self, device: u32, state: PortState) {
        self.states.borrow_mut().insert(device, state);
    }

    /// The events so far; the next call returns only later ones.
    pub fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }
}

impl Tables for HeapTables {
    fn port(&self, device: u32) -> Option<&PortEntry> {
        self.ports.get(&device)
    }

    fn underlay(&self, device: u32) -> Option<&UnderlayEntry> {
        self.underlays.get(&device)
    }

    fn network(&self, slot: u32) -> Option<&NetworkEntry> {
        self.networks.get(&slot).filter(|network| network.id != 0)
    }

    fn rule(&self, key: &RuleKey) -> Option<&RuleEntry> {
        self.rules.get(key)
    }

    fn link(&self, link: LinkId) -> Option<&LinkEntry> {
        self.links
            .get(&link.0)
            .filter(|entry| entry.flags & LinkEntry::UP != 0)
    }

    fn admission(&self, key: &AdmissionKey) -> Option<&AdmissionEntry> {
        self.admissions.get(key)
    }

    fn slow_path_device(&self) -> u32 {
        self.slow_path_device
    }

    fn flow<R>(&self, key: &FlowKey, visit: impl FnOnce(&mut FlowEntry) -> R) -> Option<R> {
        self.flows.borrow_mut().get_mut(key).map(visit)
    }

    fn add_flow(&self, key: &FlowKey, entry: &FlowEntry) {
        self.flows.borrow_mut().insert(*key, *entry);
    }

    fn count(&self, slot: u32, visit: impl FnOnce(&mut Ledger)) {
        visit(
            self.ledgers
                .borrow_mut()
                .entry(slot)
                .or_insert(Ledger::ZERO),
        );
    }

    fn next_sequence(&self, link: LinkId) -> (u8, u32) {
        let mut sequences = self.sequences.borrow_mut();
        let next = sequences.entry(link.0).or_default();
        let sequence = *next;
        *next = next.wrapping_add(1);
        (0, sequence)
    }

    fn is_learned(&self, device: u32, source: Mac) -> bool {
        let mut states = self.states.borrow_mut();
        let Some(state) = states.get_mut(&device) else {
            return false;
        };
        if state.learned == 0 {
            state.learned = source.to_bits();
            self.events.borrow_mut().push(Event {
                kind: Event::LEARNED,
                port: PortId(device),
                address: source,
                _pad: [0; 2],
            });
        }
        state.learned == source.to_bits()
    }

    fn show(&self, device: u32, shown: u32) {
        let mut states = self.states.borrow_mut();
        let Some(state) = states.get_mut(&device) else {
            return;
        };
        let before = state.shown;
        state.shown = PortState::after(before, shown);
        if is_news(before, state.shown) {
            self.events.borrow_mut().push(Event {
                kind: Event::SHOWN,
                port: PortId(device),
                address: Mac::ZERO,
                _pad: [0; 2],
            });
        }
    }

    fn admit_to_slow_path(&self, device: u32, cost_ns: u32, burst_ns: u32) -> bool {
        let mut states = self.states.borrow_mut();
        let Some(state) = states.get_mut(&device) else {
            return false;
        };
        match spend(
            self.now_ns.get(),
            state.slow_path_until_ns,
            cost_ns,
            burst_ns,
        ) {
            Some(until_ns) => {
                state.slow_path_until_ns = until_ns;
                true
            }
            None => false,
        }
    }

    fn may_tell(&self, link: LinkId) -> bool {
        let mut budgets = self.told_until_ns.borrow_mut();
        let known_ns = budgets.entry(link.0).or_default();
        let cost = (Sender::TELL_COST_NS, Sender::TELL_BURST_NS);
        let until_ns = spend(self.now_ns.get(), *known_ns, cost.0, cost.1);
        *known_ns = until_ns.unwrap_or(*known_ns);
        until_ns.is_some()
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }
}
