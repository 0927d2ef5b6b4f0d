//! The heap's tables, with a note of every flow that was made and every address that was learned:
//! so that a vector can say that nothing else was.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use vnet_common::addr::{LinkId, Mac};
use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::event::Event;
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::LinkEntry;
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::PortEntry;
use vnet_common::table::rule::{RuleEntry, RuleKey};
use vnet_common::table::underlay::UnderlayEntry;
use vnet_ebpf::tables::Tables;
use vnet_ebpf::tables::heap::HeapTables;

/// Tables that are watched.
#[derive(Default)]
pub struct Observed {
    /// The tables themselves.
    pub inner: HeapTables,
    /// The CPU that programs are taken to run on.
    pub cpu: u8,
    /// Which address each port has learned.
    pub learned: RefCell<BTreeMap<u32, Mac>>,
    /// Events since somebody took them.
    pub events: RefCell<Vec<Event>>,
    made: RefCell<BTreeSet<FlowKey>>,
}

impl Observed {
    /// Every flow there is.
    pub fn flows(&self) -> BTreeMap<FlowKey, FlowEntry> {
        let made = self.made.borrow();
        let entries = made
            .iter()
            .map(|key| Some((*key, self.inner.flow_entry(key)?)));
        entries.flatten().collect()
    }
}

impl Tables for Observed {
    fn port(&self, device: u32) -> Option<&PortEntry> {
        self.inner.port(device)
    }

    fn underlay(&self, device: u32) -> Option<&UnderlayEntry> {
        self.inner.underlay(device)
    }

    fn network(&self, slot: u32) -> Option<&NetworkEntry> {
        self.inner.network(slot)
    }

    fn rule(&self, key: &RuleKey) -> Option<&RuleEntry> {
        self.inner.rule(key)
    }

    fn link(&self, link: LinkId) -> Option<&LinkEntry> {
        self.inner.link(link)
    }

    fn admission(&self, key: &AdmissionKey) -> Option<&AdmissionEntry> {
        self.inner.admission(key)
    }

    fn slow_path_device(&self) -> u32 {
        self.inner.slow_path_device()
    }

    fn flow<R>(&self, key: &FlowKey, visit: impl FnOnce(&mut FlowEntry) -> R) -> Option<R> {
        self.inner.flow(key, visit)
    }

    fn add_flow(&self, key: &FlowKey, entry: &FlowEntry) {
        self.made.borrow_mut().insert(*key);
        self.inner.add_flow(key, entry);
    }

    fn count(&self, slot: u32, visit: impl FnOnce(&mut Ledger)) {
        self.inner.count(slot, visit);
    }

    fn next_sequence(&self, link: LinkId) -> (u8, u32) {
        let (_, sequence) = self.inner.next_sequence(link);
        (self.cpu, sequence)
    }

    fn is_learned(&self, device: u32, source: Mac) -> bool {
        let is_learned = self.inner.is_learned(device, source);
        for event in self.inner.take_events() {
            self.learned
                .borrow_mut()
                .insert(event.port.0, event.address);
            self.events.borrow_mut().push(event);
        }
        is_learned
    }

    fn show(&self, device: u32, shown: u32) {
        self.inner.show(device, shown);
        self.events.borrow_mut().extend(self.inner.take_events());
    }

    fn admit_to_slow_path(&self, device: u32, cost_ns: u32, burst_ns: u32) -> bool {
        self.inner.admit_to_slow_path(device, cost_ns, burst_ns)
    }

    fn may_tell(&self, link: LinkId) -> bool {
        self.inner.may_tell(link)
    }

    fn now_ns(&self) -> u64 {
        self.inner.now_ns()
    }
}
