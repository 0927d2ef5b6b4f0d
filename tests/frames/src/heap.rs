//! The runner without a kernel: the same steps over a vector of bytes and ordered maps.

use std::collections::BTreeMap;

use anyhow::Result;
use vnet_common::table::event::Event;
use vnet_common::table::port::PortState;
use vnet_ebpf::frame::heap::HeapFrame;
use vnet_ebpf::tables::heap::HeapTables;
use vnet_ebpf::{Way, from_agent, from_port, from_underlay};

use crate::actor::{AGENT, PORTS, WIRE};
use crate::books::Books;
use crate::observed::Observed;
use crate::runner::{Door, Ran, Runner, Verdict};
use crate::stage::Stage;
use crate::world::Entries;

/// Frame and tables in ordinary memory.
pub struct Heap {
    stage: Stage,
    tables: Observed,
}

/// What a kernel leaves in front of a frame: `XDP_PACKET_HEADROOM` less its own `xdp_frame`.
const HEADROOM_BYTES: usize = 256 - 40;

/// Where the heap's clock stands: some time after the start, so that it is not taken for "never".
pub const NOW_NS: u64 = 0x0000_0012_3456_789a;

impl Heap {
    /// Empty tables, devices numbered from 11.
    #[must_use]
    pub fn new() -> Self {
        let devices = PORTS.into_iter().chain([WIRE, AGENT]).zip(11..);
        Self::on(Stage {
            devices: devices.collect(),
            // Networks 0xabcd07 and 0xabcd08: every byte of the number counts.
            networks_from: 0x00ab_cd00,
            ..Stage::default()
        })
    }

    /// Empty tables, with the numbers of another runner.
    #[must_use]
    pub fn on(stage: Stage) -> Self {
        let mut tables = Observed::default();
        tables.cpu = stage.cpu;
        tables.inner.now_ns.set(NOW_NS);
        Self { stage, tables }
    }

    /// The events since the last look.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.tables.events.take()
    }

    /// The tables.
    #[must_use]
    pub fn tables(&self) -> &HeapTables {
        &self.tables.inner
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner for Heap {
    fn name(&self) -> &'static str {
        "heap"
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn frame_bytes_min(&self) -> usize {
        0
    }

    fn reset(&mut self) -> Result<()> {
        *self = Self::on(self.stage.clone());
        Ok(())
    }

    fn write(&mut self, entries: &Entries) -> Result<()> {
        const EMPTY: PortState = PortState {
            learned: 0,
            slow_path_until_ns: 0,
            events_lost: 0,
            shown: 0,
            _pad: 0,
        };
        let entries = entries.clone();
        let tables = &mut self.tables.inner;
        for device in entries.ports.keys() {
            if !tables.ports.contains_key(device) {
                tables.set_state(*device, EMPTY);
            }
        }
        tables.ports = entries.ports;
        tables.underlays = entries.underlays;
        tables.networks = entries.networks;
        tables.rules = entries.rules;
        tables.links = entries.links;
        tables.admissions = entries.admissions;
        tables.slow_path_device = entries.slow_path_device;
        Ok(())
    }

    fn run(&mut self, door: Door, device: u32, frame: &[u8], times: u32) -> Result<Ran> {
        let mut frame = HeapFrame::with_headroom(device, frame, HEADROOM_BYTES);
        let tables = &self.tables;
        let mut verdict = Verdict::Aborted;
        for _ in 0..times {
            let result = match door {
                Door::Port => from_port::from_port(&mut frame, tables),
                Door::Underlay => from_underlay::from_underlay(&mut frame, tables),
                Door::Agent => from_agent::from_agent(&mut frame, tables),
            };
            verdict = match result {
                Err(reason) => Verdict::Dropped(Some(reason)),
                Ok(outcome) => match outcome.way() {
                    Way::Forwarded | Way::Delivered | Way::Direct | Way::SlowPath | Way::TooBig => {
                        Verdict::Redirected(Some(outcome.device()))
                    }
                    Way::Answered => Verdict::Back,
                    // Which are told apart by the books.
                    Way::Joined | Way::Passed => Verdict::Passed,
                },
            };
        }
        let now_ns = tables.inner.now_ns.get();
        Ok(Ran {
            verdict,
            frame: frame.bytes().to_vec(),
            clock_ns: (now_ns, now_ns),
        })
    }

    fn books(&mut self) -> Result<Books> {
        let states = self.tables.learned.borrow().clone();
        let states = states.into_iter().map(|(device, address)| {
            let learned = address.to_bits();
            let state = PortState {
                learned,
                slow_path_until_ns: 0,
                events_lost: 0,
                shown: 0,
                _pad: 0,
            };
            (device, state)
        });
        Ok(Books {
            ledgers: self.tables.inner.ledgers(),
            flows: self.tables.flows(),
            states: states.collect::<BTreeMap<_, _>>(),
            events: self.take_events(),
        })
    }
}
