//! One host: what its agent makes of its part, and what its programs make of frames ([`frames`]).
//!
//! Input: parts, and what happens to its devices. Output: tables. Reconciliation is the agent's own, taken one step at a time, so that frames can
//! meet the tables between any two steps.

mod frames;
mod links;

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
use vnet_agent::overlay::once::Once;
use vnet_agent::overlay::slow_path::Receivers;
use vnet_common::addr::{Mac, PortId};
use vnet_common::table::port::PortState;
use vnet_ebpf::tables::heap::HeapTables;

use crate::watch::Watch;

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
    once: Once,
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
            once: Once::new(0),
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
            early: &BTreeSet::new(),
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
