//! One host: what its agent makes of its part, and what its programs make of frames.
//!
//! Input: parts, and frames from guests and from the wire. Output: frames into devices and packets
//! to the wire. Reconciliation is the agent's own, taken one step at a time, so that frames can
//! meet the tables between any two steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use vnet_agent::act::reconcile::links::detours;
use vnet_agent::act::reconcile::order::{Step, apply, steps};
use vnet_agent::act::reconcile::{Desired, Image, Surroundings, desired};
use vnet_agent::model::configuration::{Limits, Underlay, UnderlayMatch};
use vnet_agent::model::door::{Door, DoorChoice, Pick, Picks};
use vnet_agent::model::host::{Abilities, Address, Device, DeviceKind, Host, Scope};
use vnet_agent::model::next_hop::NextHop;
use vnet_agent::model::port::{SLOW_PATH_BURST_DEFAULT, SLOW_PATH_RATE_DEFAULT};
use vnet_agent::model::topology::Topology;
use vnet_agent::model::wanted::{in_force, is_new};
use vnet_agent::model::{Addresses, Configuration, DeviceMatch, Part, Port, PortDevice};
use vnet_agent::overlay::flood::FloodTable;
use vnet_agent::overlay::message::{Capacities, IntroducedPort, Introduction};
use vnet_agent::overlay::slow_path::{Receivers, parse};
use vnet_common::addr::{Mac, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;
use vnet_common::table::port::PortState;
use vnet_common::wire::probe::Probe;
use vnet_common::wire::slow::Slow;
use vnet_ebpf::frame::heap::HeapFrame;
use vnet_ebpf::from_agent::from_agent;
use vnet_ebpf::from_port::from_port;
use vnet_ebpf::from_underlay::from_underlay;
use vnet_ebpf::tables::heap::HeapTables;
use vnet_ebpf::{Outcome, Way};
use zerocopy::{FromBytes, IntoBytes};

use crate::watch::{Watch, Watched};

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
    /// What its settings file says.
    pub own: Configuration,
    devices: Vec<PortDevice>,
    unplugged: BTreeMap<u32, Device>,
    host: Host,
    /// The part that it goes by: on disk, so that it outlives the agent.
    held: Option<Part>,
    configuration: Configuration,
    links: BTreeMap<String, vnet_common::addr::LinkId>,
    image: Image,
    pending: VecDeque<Step>,
    tables: HeapTables,
    receivers: Receivers,
    agent_dropped: u64,
    is_running: bool,
    is_watching: bool,
    watch: Watch,
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
        }
        host.addresses.insert(UNDERLAY, vec![own_address(address)]);
        let others = topology.hosts.iter().filter_map(|other| other.underlay());
        for (number, other) in (1..).zip(others.filter(|other| *other != address)) {
            host.next_hops.insert(other, Ok(next_hop(address, number)));
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
            devices: Vec::new(),
            unplugged: BTreeMap::new(),
            host,
            held: None,
            links: BTreeMap::new(),
            image: Image::default(),
            pending: VecDeque::new(),
            tables: HeapTables::default(),
            receivers: Receivers::default(),
            agent_dropped: 0,
            is_running: true,
            is_watching: false,
            watch: Watch::default(),
        }
    }

    /// The same with a settings file that names no networks: the proxy deals them.
    pub fn member(topology: &Topology, name: &str) -> Self {
        let mut host = Self::new(topology, name);
        host.own.networks.clear();
        host
    }

    /// Hands a part to the agent: what it will do about it waits to be done step by step.
    pub fn take(&mut self, part: &Part) {
        self.finish();
        self.offer(part.clone()).unwrap();
    }

    /// The same with any part.
    ///
    /// # Errors
    ///
    /// The agent declines it, and nothing has changed.
    pub fn offer(&mut self, part: Part) -> Result<(), String> {
        if !is_new(self.held.as_ref(), &part).map_err(|stale| stale.to_string())? {
            return Ok(());
        }
        let (configuration, _) = in_force(&self.own, Some(&part));
        if let Some(problem) = configuration.problems().into_iter().next() {
            return Err(problem.error.to_string());
        }
        self.held = Some(part);
        self.configuration = configuration;
        self.reconcile();
        Ok(())
    }

    /// The agent ends in the midst of whatever it does; its disk and the kernel's tables stay.
    pub fn crash(&mut self) {
        self.is_running = false;
        self.pending.clear();
    }

    /// The agent starts with what is on its disk.
    pub fn start(&mut self) {
        self.is_running = true;
        let (configuration, _) = in_force(&self.own, self.held.as_ref());
        self.configuration = configuration;
        self.reconcile();
    }

    /// Works out what is to be done, instead of whatever was to be done before.
    pub fn reconcile(&mut self) {
        self.devices = self.port_devices();
        let wanted = self.desired();
        self.pending = steps(&self.image, &wanted.image).into();
        self.links = wanted.links;
    }

    /// Whether nothing is to be done.
    pub fn is_settled(&self) -> bool {
        self.steps().is_empty()
    }

    /// What would be to do, if everything was worked out again.
    pub fn steps(&self) -> Vec<Step> {
        steps(&self.image, &self.desired().image)
    }

    fn port_devices(&self) -> Vec<PortDevice> {
        let devices = self.host.devices.values();
        let ports = devices.filter_map(|device| {
            let (port, _) = self.configuration.port_for(&device.name)?;
            Some(PortDevice {
                name: device.name.clone(),
                port,
                learned: None,
            })
        });
        ports.collect()
    }

    fn desired(&self) -> Desired {
        let picks = self.picks();
        // Nobody asks the paths: what the devices send arrives.
        let path_mtus = BTreeMap::new();
        let answering = self.answering();
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
        desired(&self.configuration, &given, &self.image)
    }

    /// Its underlay address is another one from now on.
    pub fn renumber(&mut self, address: IpAddr) {
        self.address = address;
        self.host
            .addresses
            .insert(UNDERLAY, vec![own_address(address)]);
        for hop in self.host.next_hops.values_mut().flatten() {
            hop.source = address;
        }
    }

    /// Another host may have this address from now on.
    pub fn meet(&mut self, address: IpAddr) {
        let number = u8::try_from(self.host.next_hops.len()).unwrap();
        self.host
            .next_hops
            .insert(address, Ok(next_hop(self.address, number)));
    }

    /// A VM's device goes.
    pub fn unplug(&mut self, device: &str) {
        self.unplugged.extend(
            self.host
                .devices
                .extract_if(.., |_, known| known.name == device),
        );
    }

    /// Every device that went comes back.
    pub fn plug(&mut self) {
        self.host.devices.append(&mut self.unplugged);
    }

    /// What it says of itself to the proxy.
    pub fn introduction(&self) -> Introduction {
        let devices = self.host.devices.values();
        let ports = devices.filter_map(|device| {
            let (_, port) = self.own.port_for(&device.name)?;
            let Addresses::Only(stations) = &port.addresses else {
                return None;
            };
            Some(IntroducedPort {
                device: device.name.clone(),
                network: port.network.clone(),
                stations: stations.clone(),
                is_open: false,
            })
        });
        Introduction {
            underlay: vec![self.address],
            udp_port: self.own.underlay.udp_port,
            ports: ports.collect(),
            capacities: Capacities::default(),
        }
    }

    /// The part that it goes by.
    pub const fn held(&self) -> Option<&Part> {
        self.held.as_ref()
    }

    /// What is on its disk is this from now on; its agent does not run.
    pub fn give_back(&mut self, part: Option<Part>) {
        self.held = part;
    }

    /// The revision that it goes by; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.held.as_ref().map_or(0, |part| part.revision)
    }

    /// What is in the kernel's tables.
    pub const fn image(&self) -> &Image {
        &self.image
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
            self.follow();
        }
        true
    }

    /// Asks its links from now on, each time that [`Self::ask`] is called.
    pub fn watch(&mut self) {
        self.is_watching = true;
        self.follow();
    }

    fn follow(&mut self) {
        if !self.is_watching {
            return;
        }
        let links = self.configuration.links.iter().filter_map(|link| {
            if link.is_plain() || link.kind.is_carried() {
                return None;
            }
            let id = *self.links.get(&link.name)?;
            let network = self.configuration.network(link.networks.first()?)?.id;
            let entry = self.image.links.get(&id.0);
            let watched = Watched {
                id,
                network,
                remote: link.remote,
                was_down: entry.is_some_and(|entry| entry.instead().is_some()),
            };
            Some((link.name.clone(), watched))
        });
        self.watch.follow(links.collect(), self.now_ms());
    }

    /// Which links answer. Those that agents would carry have no connection here.
    fn answering(&self) -> BTreeMap<String, Option<bool>> {
        let links = self.configuration.links.iter();
        let carried = links.filter(|link| link.kind.is_carried());
        let mut answering = self.watch.answering();
        answering.extend(carried.map(|link| (link.name.clone(), Some(false))));
        answering
    }

    fn now_ms(&self) -> u64 {
        self.tables.now_ns.get() / 1_000_000
    }

    /// Sends the probes whose time has come, and has frames of links that turned take another way.
    pub fn ask(&mut self) -> Vec<Sent> {
        if !self.is_running {
            return Vec::new();
        }
        let probes = self.watch.probes(self.now_ms());
        self.turn_links();
        let sent = probes.into_iter().flat_map(|probe| self.write(&probe));
        sent.collect()
    }

    /// The links whose frames take another one now.
    pub fn turned(&self) -> usize {
        let links = self.image.links.values();
        links.filter(|entry| entry.instead().is_some()).count()
    }

    fn turn_links(&mut self) {
        let answering = self.answering();
        let detours = detours(&self.configuration, &self.links, &answering, &self.image);
        for id in self.links.values() {
            let Some(entry) = self.image.links.get_mut(&id.0) else {
                continue;
            };
            *entry = entry.with_instead(detours.get(id).copied());
            self.tables.links.insert(id.0, *entry);
        }
        self.receivers.detours = detours;
        // What was to be done was worked out before this.
        if !self.pending.is_empty() {
            self.reconcile();
        }
    }

    /// Takes every step that is waiting.
    pub fn finish(&mut self) {
        while self.step() {}
    }

    fn tell_copier(&mut self) {
        let networks = self.configuration.networks.iter();
        let ports = self.devices.iter().filter_map(|taken| {
            let device = self.host.device_named(&taken.name)?;
            Some((taken.name.clone(), PortId(device.index)))
        });
        self.receivers = Receivers {
            table: FloodTable::new(&self.configuration, &self.devices),
            networks: networks
                .map(|network| (network.id, network.name.clone()))
                .collect(),
            ports: ports.collect(),
            links: self.links.clone(),
            detours: detours(
                &self.configuration,
                &self.links,
                &self.answering(),
                &self.image,
            ),
            wholes: BTreeMap::new(),
        };
    }

    /// Moves the clock that budgets are told by.
    pub fn set_now(&mut self, now_ns: u64) {
        self.tables.now_ns.set(now_ns);
    }

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
        let Ok(copies) = self.receivers.copies(&header, frame) else {
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
    fn write(&mut self, bytes: &[u8]) -> Vec<Sent> {
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

const fn next_hop(source: IpAddr, number: u8) -> NextHop {
    NextHop {
        ifindex: UNDERLAY,
        source,
        mac: Mac([2, 0xee, 0, 0, 0, number]),
        gateway: None,
        mtu: MTU,
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
