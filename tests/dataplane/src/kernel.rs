//! The runner in the kernel: the loaded programs, by `BPF_PROG_TEST_RUN`.
//!
//! One load serves many vectors: ports, rules and ledgers are emptied between them, and each gets
//! networks and links with numbers that none had before, so that no flow and no sequence of an
//! earlier one is met again.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, RingBuf};
use frames::actor::LINKS;
use frames::books::Books;
use frames::runner::{Door, Ran, Runner, Verdict};
use frames::stage::{LEDGERS, Stage};
use frames::world::Entries;
use nix::time::{ClockId, clock_gettime};
use vnet_agent::dataplane::{Answer, DataPlane, Fate, Role};
use vnet_agent::model::attachment::Attachment;
use vnet_agent::model::configuration::Limits;
use vnet_agent::model::door::Door as At;
use vnet_common::table::event::Event;
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::LinkEntry;
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::setting::Setting;
use zerocopy::FromBytes;

use crate::machine::Machine;

/// Table sizes for tests: many links, because each vector takes new ones; little else.
pub const LIMITS: Limits = Limits {
    ports: 16,
    links: 4096,
    networks: 8,
    rules: 4096,
    flows: 8192,
};

/// The longest frame that a test run takes for what a driver hands over: a page, less what is in
/// front (`XDP_PACKET_HEADROOM`) and what the kernel keeps behind (`skb_shared_info`). Of a longer
/// one it would show a program only the beginning.
pub const FRAME_BYTES_MAX: usize = 4096 - 256 - 320;

/// What only the test and the programs know.
const SECRET: u64 = 0x7365_6372_6574_2121;

/// The loaded programs and their tables.
pub struct Kernel {
    /// The data plane.
    pub plane: DataPlane,
    /// The inode of the network namespace whose refused redirects are counted; 0 for none.
    pub namespace: u32,
    door: At,
    stage: Stage,
    events: RingBuf<MapData>,
    written: Entries,
}

/// Nothing, in a slot of networks.
const NO_NETWORK: NetworkEntry = NetworkEntry {
    id: 0,
    generation: 0,
    shapes: 0,
    _pad: 0,
};

impl Kernel {
    /// Loads the programs on this machine.
    ///
    /// # Errors
    ///
    /// The kernel does not take them.
    pub fn load(machine: &Machine) -> Result<Self> {
        Self::load_at(machine, At::Xdp)
    }

    /// The same, to run the programs of this door.
    ///
    /// # Errors
    ///
    /// As for [`Kernel::load`].
    pub fn load_at(machine: &Machine, door: At) -> Result<Self> {
        let mut plane = DataPlane::open(&machine.pin_directory(), &LIMITS, true)?;
        let events = plane
            .tables_mut()
            .take_events()
            .context("somebody has the events")?;
        let stage = Stage {
            devices: machine.devices.clone(),
            cpu: machine.cpu,
            ..Stage::default()
        };
        Ok(Self {
            plane,
            namespace: 0,
            door,
            stage,
            events,
            written: Entries::default(),
        })
    }

    /// Books without flows, which take longest to read.
    ///
    /// # Errors
    ///
    /// The tables cannot be read.
    pub fn books_without_flows(&mut self) -> Result<Books> {
        let tables = self.plane.tables();
        let mut books = Books::default();
        for slot in 0..LEDGERS {
            let ledger = tables.ledger(slot)?;
            if ledger != Ledger::ZERO {
                books.ledgers.insert(slot, ledger);
            }
        }
        for &device in self.written.ports.keys() {
            books
                .states
                .extend(tables.port_state(device)?.map(|state| (device, state)));
        }
        while let Some(item) = self.events.next() {
            books.events.extend(Event::read_from_bytes(&item).ok());
        }
        Ok(books)
    }

    fn ran(door: At, clock_began_ns: u64, answer: Answer) -> Result<Ran> {
        let verdict = match (answer.fate, door) {
            (Fate::Dropped, _) => Verdict::Dropped(None),
            (Fate::Passed, _) => Verdict::Passed,
            (Fate::Redirected, _) => Verdict::RedirectedOrBack,
            (Fate::Other(_), _) => Verdict::Aborted,
        };
        let clock_ns = (clock_began_ns, now_ns()?);
        Ok(Ran {
            verdict,
            frame: answer.frame,
            clock_ns,
        })
    }
}

fn role(door: Door) -> Role {
    match door {
        Door::Port => Role::Port,
        Door::Underlay => Role::Underlay,
        Door::Agent => Role::Agent,
    }
}

/// A port's XDP program on this device.
pub const fn at_port(device: u32) -> Attachment {
    Attachment::new(Role::Port, device, At::Xdp)
}

/// The programs' clock.
pub(crate) fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}

impl Runner for Kernel {
    fn name(&self) -> &'static str {
        match self.door {
            At::Xdp => "kernel",
            At::Tc => "kernel, TC",
        }
    }

    fn stage(&self) -> &Stage {
        &self.stage
    }

    fn frame_bytes_min(&self) -> usize {
        match self.door {
            At::Xdp => 14,
            // A test run wants an IP header behind Ethernet's that says so (6.18), an IPv6 one
            // being the longest.
            At::Tc => 54,
        }
    }

    fn reset(&mut self) -> Result<()> {
        self.write(&Entries::default())?;
        let tables = self.plane.tables_mut();
        for slot in 0..LEDGERS {
            tables.zero_ledger(slot)?;
        }
        let links = u32::try_from(LINKS.len())?;
        self.stage.links_from += links;
        let enough = self.stage.links_from + links <= LIMITS.links;
        ensure!(enough, "more vectors than links: raise LIMITS.links");
        self.stage.networks_from += 0x0001_0100;
        self.books_without_flows()?;
        Ok(())
    }

    fn write(&mut self, entries: &Entries) -> Result<()> {
        let tables = self.plane.tables_mut();
        let before = std::mem::replace(&mut self.written, entries.clone());
        for device in gone(&before.ports, &entries.ports) {
            tables.remove_port(device)?;
            tables.remove_port_state(*device)?;
        }
        for (device, port) in &entries.ports {
            tables.add_port_state(*device)?;
            tables.set_port(device, port)?;
        }
        for device in gone(&before.underlays, &entries.underlays) {
            tables.remove_underlay(*device)?;
        }
        for underlay in entries.underlays.values() {
            tables.set_underlay(underlay)?;
        }
        for key in gone(&before.rules, &entries.rules) {
            tables.remove_rule(key)?;
        }
        for (key, rule) in &entries.rules {
            tables.set_rule(key, rule)?;
        }
        for key in gone(&before.admissions, &entries.admissions) {
            tables.remove_admission(key)?;
        }
        for (key, admission) in &entries.admissions {
            tables.set_admission(key, admission)?;
        }
        for slot in gone(&before.links, &entries.links) {
            tables.set_link(*slot, &LinkEntry::NONE)?;
        }
        for (slot, link) in &entries.links {
            tables.set_link(*slot, link)?;
        }
        // Last: with the generation, flows are decided anew.
        for slot in gone(&before.networks, &entries.networks) {
            tables.set_network(*slot, &NO_NETWORK)?;
        }
        for (slot, network) in &entries.networks {
            tables.set_network(*slot, network)?;
        }
        let slow_path_device = entries.slow_path_device;
        tables.set_setting(&Setting {
            slow_path_device,
            namespace: self.namespace,
            secret: SECRET,
        })?;
        Ok(())
    }

    fn run(&mut self, door: Door, device: u32, frame: &[u8], times: u32) -> Result<Ran> {
        let began_ns = now_ns()?;
        let hold = Attachment::new(role(door), device, self.door);
        Self::ran(self.door, began_ns, self.plane.run(hold, frame, times)?)
    }

    fn ask(&mut self, door: Door, device: u32, frame: &[u8]) -> Result<Option<Ran>> {
        let began_ns = now_ns()?;
        let hold = Attachment::new(role(door), device, self.door);
        Self::ran(self.door, began_ns, self.plane.ask(hold, frame)?).map(Some)
    }

    fn books(&mut self) -> Result<Books> {
        let mut books = self.books_without_flows()?;
        books.flows = self.plane.tables().flows()?.into_iter().collect();
        Ok(books)
    }
}

/// Keys that are in one map and not in the other.
fn gone<'a, K: Ord, V>(before: &'a BTreeMap<K, V>, after: &BTreeMap<K, V>) -> Vec<&'a K> {
    before
        .keys()
        .filter(|key| !after.contains_key(key))
        .collect()
}
