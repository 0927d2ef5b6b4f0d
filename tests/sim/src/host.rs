//! One host: what its agent makes of its part, and what its programs make of frames.
//!
//! Input: parts, and frames from guests and from the wire. Output: frames into devices and packets
//! to the wire. Reconciliation is the agent's own, taken one step at a time, so that frames can
//! meet the tables between any two steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use vnet_agent::act::reconcile::order::{Step, apply, steps};
use vnet_agent::act::reconcile::{Image, Surroundings, desired};
use vnet_agent::model::configuration::{Limits, Underlay, UnderlayMatch};
use vnet_agent::model::door::{Door, DoorChoice, Pick, Picks};
use vnet_agent::model::host::{Abilities, Address, Device, DeviceKind, Host, Scope};
use vnet_agent::model::next_hop::NextHop;
use vnet_agent::model::port::{SLOW_PATH_BURST_DEFAULT, SLOW_PATH_RATE_DEFAULT};
use vnet_agent::model::topology::Topology;
use vnet_agent::model::{Addresses, Configuration, DeviceMatch, Part, Port, PortDevice};
use vnet_agent::overlay::flood::FloodTable;
use vnet_agent::overlay::slow_path::{Receivers, parse};
use vnet_common::addr::{Mac, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;
use vnet_common::table::port::PortState;
use vnet_ebpf::frame::heap::HeapFrame;
use vnet_ebpf::from_agent::from_agent;
use vnet_ebpf::from_port::from_port;
use vnet_ebpf::from_underlay::from_underlay;
use vnet_ebpf::tables::heap::HeapTables;
use vnet_ebpf::{Outcome, Way};
use zerocopy::IntoBytes;

const UNDERLAY: u32 = 2;
const SLOW_PATH: u32 = 3;
const FIRST_PORT: u32 = 10;
const MTU: u32 = 1500;
const LEDGERS: u32 = 256;

/// What leaves a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A frame, into the device of this name.
    Into(String, Vec<u8>),
    /// A packet, to the network between the hosts.
    Wire(Vec<u8>),
}

/// A host.
pub struct SimHost {
    /// Where it is on the underlay.
    pub address: IpAddr,
    own: Configuration,
    devices: Vec<PortDevice>,
    host: Host,
    configuration: Configuration,
    links: BTreeMap<String, vnet_common::addr::LinkId>,
    image: Image,
    pending: VecDeque<Step>,
    tables: HeapTables,
    receivers: Receivers,
    agent_dropped: u64,
}

fn device(index: u32, name: &str, kind: DeviceKind) -> Device {
    let [_, _, high, low] = index.to_be_bytes();
    Device {
        index,
        name: name.to_owned(),
        up: true,
        running: true,
        mtu: MTU,
        mtu_max: None,
        mac: Some(Mac([2, 0xff, 0, 0, high, low])),
        kind,
        master: None,
        xdp: None,
        abilities: Abilities::default(),
    }
}

impl SimHost {
    /// The host of this name as its settings file alone makes it: an underlay, and a port for each
    /// VM that the topology has on it. Every address of the topology is a neighbour.
    pub fn new(topology: &Topology, name: &str) -> Self {
        let address = topology.host(name).unwrap().underlay().unwrap();
        let mut host = Host::default();
        let mut add = |index, name: &str, kind| {
            host.devices.insert(index, device(index, name, kind));
        };
        add(UNDERLAY, "eth0", DeviceKind::Hardware);
        add(SLOW_PATH, "vnet-slow", DeviceKind::Tap);
        let mut ports = Vec::new();
        let mut devices = Vec::new();
        let here = topology.vms.iter().filter(|vm| vm.host == name);
        for (place, vm) in here.enumerate() {
            add(
                FIRST_PORT + u32::try_from(place).unwrap(),
                &vm.device,
                DeviceKind::Tap,
            );
            ports.push(Port {
                device: DeviceMatch::Name(vm.device.clone()),
                network: vm.network.clone(),
                addresses: Addresses::Only(vec![vm.mac]),
                set_mtu: false,
                slow_path_rate: SLOW_PATH_RATE_DEFAULT,
                slow_path_burst: SLOW_PATH_BURST_DEFAULT,
                door: DoorChoice::Auto,
            });
            devices.push(PortDevice {
                name: vm.device.clone(),
                port: place,
                learned: None,
            });
        }
        host.addresses.insert(UNDERLAY, vec![own_address(address)]);
        let others = topology.hosts.iter().filter_map(|other| other.underlay());
        for (number, other) in (1..).zip(others.filter(|other| *other != address)) {
            let hop = NextHop {
                ifindex: UNDERLAY,
                source: address,
                mac: Mac([2, 0xee, 0, 0, 0, number]),
                gateway: None,
                mtu: MTU,
            };
            host.next_hops.insert(other, Ok(hop));
        }
        let own = Configuration {
            underlay: Underlay {
                on: UnderlayMatch::Device("eth0".to_owned()),
                udp_port: 6081,
                tcp_port: 6081,
                door: DoorChoice::Auto,
            },
            networks: topology.networks.clone(),
            ports,
            links: Vec::new(),
            rules: Vec::new(),
            limits: Limits::default(),
        };
        Self {
            address,
            configuration: own.clone(),
            own,
            devices,
            host,
            links: BTreeMap::new(),
            image: Image::default(),
            pending: VecDeque::new(),
            tables: HeapTables::default(),
            receivers: Receivers::default(),
            agent_dropped: 0,
        }
    }

    /// Hands a part to the agent: what it will do about it waits to be done step by step.
    pub fn take(&mut self, part: &Part) {
        self.finish();
        self.configuration = part.onto(&self.own);
        let problems = self.configuration.problems();
        assert!(problems.is_empty(), "{problems:?}");
        let picks = self.picks();
        // Nobody asks the paths: what the devices send arrives.
        let path_mtus = BTreeMap::new();
        let answering = BTreeMap::new();
        let given = Surroundings {
            path_mtus: &path_mtus,
            answering: &answering,
            host: &self.host,
            devices: &self.devices,
            slow_path_device: SLOW_PATH,
            namespace: 1,
            secret: 1,
            ledgers: LEDGERS,
            picks: &picks,
            // Links here are those of the kernel.
            carried: &BTreeSet::new(),
        };
        let wanted = desired(&self.configuration, &given, &self.image);
        assert!(wanted.faults.is_empty(), "{:?}", wanted.faults);
        self.pending = steps(&self.image, &wanted.image).into();
        self.links = wanted.links;
    }

    fn picks(&self) -> Picks {
        let ports = self.devices.iter().map(|taken| {
            let device = self.host.device_named(&taken.name).unwrap();
            (device.index, Pick::new(Door::Xdp, "bytes only"))
        });
        Picks {
            underlay: Some(Pick::new(Door::Xdp, "bytes only")),
            ports: ports.collect(),
            agent: Some(Door::Xdp),
        }
    }

    /// Takes one step of what is waiting; whether there was one.
    pub fn step(&mut self) -> bool {
        let Some(step) = self.pending.pop_front() else {
            return false;
        };
        apply(&mut self.image, &step);
        if let Step::AddPortState(port) = step {
            self.tables.set_state(port, PortState::NEW);
        }
        let (tables, image) = (&mut self.tables, &self.image);
        tables.ports.clone_from(&image.ports);
        tables.underlays.clone_from(&image.underlays);
        tables.networks.clone_from(&image.networks);
        tables.links.clone_from(&image.links);
        tables.rules.clone_from(&image.rules);
        tables.admissions.clone_from(&image.admissions);
        tables.slow_path_device = image.setting.map_or(0, |setting| setting.slow_path_device);
        if self.pending.is_empty() {
            self.tell_copier();
        }
        true
    }

    /// Takes every step that is waiting.
    pub fn finish(&mut self) {
        while self.step() {}
    }

    fn tell_copier(&mut self) {
        let networks = self.configuration.networks.iter();
        let ports = self.devices.iter().map(|taken| {
            let device = self.host.device_named(&taken.name).unwrap();
            (taken.name.clone(), PortId(device.index))
        });
        self.receivers = Receivers {
            table: FloodTable::new(&self.configuration, &self.devices),
            networks: networks
                .map(|network| (network.id, network.name.clone()))
                .collect(),
            ports: ports.collect(),
            links: self.links.clone(),
            detours: BTreeMap::new(),
            wholes: BTreeMap::new(),
        };
    }

    /// Moves the clock that budgets are told by.
    pub fn set_now(&mut self, now_ns: u64) {
        self.tables.now_ns.set(now_ns);
    }

    /// A frame from the guest on this device.
    pub fn from_guest(&mut self, device: &str, frame: &[u8]) -> Vec<Sent> {
        let index = self.host.device_named(device).unwrap().index;
        let mut frame = HeapFrame::new(index, frame);
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
                let device = &self.host.devices[&outcome.device()];
                vec![Sent::Into(device.name.clone(), bytes.to_vec())]
            }
            Way::SlowPath => self.copy(bytes),
            Way::Passed | Way::TooBig => Vec::new(),
            Way::Joined => panic!("nothing is joined here"),
        }
    }

    /// What the agent does with a frame that came up to it.
    fn copy(&mut self, bytes: &[u8]) -> Vec<Sent> {
        let (header, frame) = parse(bytes).unwrap();
        let Ok(copies) = self.receivers.copies(&header, frame) else {
            self.agent_dropped += 1;
            return Vec::new();
        };
        let mut sent = Vec::new();
        for copy in copies {
            let bytes: Vec<u8> = [copy.as_bytes(), frame].concat();
            let mut frame = HeapFrame::new(SLOW_PATH, &bytes);
            let result = from_agent(&mut frame, &self.tables);
            sent.extend(self.carry(result, &frame));
        }
        sent
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

fn own_address(address: IpAddr) -> Address {
    Address {
        address,
        prefix_length: 16,
        peer: None,
        scope: Scope::Global,
        secondary: false,
        tentative: false,
        deprecated: false,
    }
}
