//! What becomes of a frame on a host?
//!
//! Input: frames from guests, from the wire and from the agent. Output: frames into devices and packets
//! to the wire, by the journeys of the frame path; and the books that they keep.

use std::collections::BTreeMap;

use vnet_agent::overlay::slow_path::parse;
use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;
use vnet_common::wire::probe::Probe;
use vnet_common::wire::slow::Slow;
use vnet_ebpf::frame::heap::HeapFrame;
use vnet_ebpf::from_agent::from_agent;
use vnet_ebpf::from_port::from_port;
use vnet_ebpf::from_underlay::from_underlay;
use vnet_ebpf::{Outcome, Way};
use zerocopy::{FromBytes, IntoBytes};

use super::{SLOW_PATH, Sent, SimHost, UNDERLAY};

impl SimHost {
    /// A frame from the guest on this device.
    pub fn from_guest(&mut self, device: &str, frame: &[u8]) -> Vec<Sent> {
        let Some(device) = self.host.device_named(device) else {
            return Vec::new();
        };
        let mut frame = HeapFrame::new(device.index, frame);
        let result = from_port(&mut frame, &self.tables);
        self.carry(result, &frame)
    }

    /// A packet from the wire.
    pub fn from_wire(&mut self, packet: &[u8]) -> Vec<Sent> {
        let mut frame = HeapFrame::new(UNDERLAY, packet);
        let result = from_underlay(&mut frame, &self.tables);
        self.carry(result, &frame)
    }

    fn carry(&mut self, result: Result<Outcome, Reason>, frame: &HeapFrame) -> Vec<Sent> {
        let Ok(outcome) = result else {
            return Vec::new();
        };
        let bytes = frame.bytes();
        match outcome.way() {
            Way::Forwarded | Way::Answered => vec![Sent::Wire(bytes.to_vec())],
            Way::Delivered | Way::Direct => {
                // A frame for a device that has just gone is lost with it.
                let device = self.host.devices.get(&outcome.device());
                let into = device.map(|device| Sent::Into(device.name.clone(), bytes.to_vec()));
                into.into_iter().collect()
            }
            Way::SlowPath => self.copy(bytes),
            Way::Passed | Way::TooBig => Vec::new(),
            Way::Joined => panic!("nothing is joined here"),
        }
    }

    /// What the agent does with a frame that came up to it.
    fn copy(&mut self, bytes: &[u8]) -> Vec<Sent> {
        let (header, frame) = parse(bytes).unwrap();
        if !self.is_running {
            return Vec::new();
        }
        if header.kind == Slow::PROBE_REPLY {
            let (probe, _) = Probe::read_from_prefix(frame).unwrap();
            let now_ms = self.now_ms();
            self.watch.answered(header.link(), &probe, now_ms);
            self.turn_links();
            return Vec::new();
        }
        let now_ms = self.now_ms();
        let copies = self.receivers.copies(&header, frame);
        let copies =
            copies.and_then(|copies| self.once.number(copies, &header, frame, false, now_ms));
        let Ok(copies) = copies else {
            self.agent_dropped += 1;
            return Vec::new();
        };
        let mut sent = Vec::new();
        for copy in copies {
            sent.extend(self.write(&[copy.as_bytes(), frame].concat()));
        }
        sent
    }

    /// What becomes of a frame that the agent writes to its tap.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Vec<Sent> {
        let mut frame = HeapFrame::new(SLOW_PATH, bytes);
        let result = from_agent(&mut frame, &self.tables);
        self.carry(result, &frame)
    }

    /// The books of every place in which something was counted.
    pub fn ledgers(&self) -> BTreeMap<u32, Ledger> {
        self.tables.ledgers()
    }

    /// How many frames were dropped here for this reason, wherever they came in.
    pub fn dropped(&self, reason: Reason) -> u64 {
        let number = usize::from(reason.number());
        let ledgers = self.ledgers();
        ledgers.values().map(|ledger| ledger.dropped[number]).sum()
    }

    /// Frames for many that found nobody.
    pub const fn copied_to_nobody(&self) -> u64 {
        self.agent_dropped
    }
}
