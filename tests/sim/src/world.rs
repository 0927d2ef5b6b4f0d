//! The hosts and the network between them, in virtual time.
//!
//! Input: a topology, conditions, and what happens when. Output: every delivery, and what was lost
//! on the way. The same seed gives the same run: all chance is drawn from one generator, and
//! events at one time happen in the order in which they were made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use vnet_agent::model::topology::{Topology, Vm};
use vnet_agent::model::{Part, Secrets};
use vnet_agent::overlay::rollout::Parts;
use vnet_common::addr::{Cookie, Mac};

use crate::host::{Sent, SimHost};

/// How the network between the hosts treats packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// Of a thousand packets, how many are lost.
    pub loss_per_mille: u32,
    /// The shortest way, nanoseconds.
    pub delay_ns: u64,
    /// What is added by chance, at most: later packets may overtake earlier ones.
    pub jitter_ns: u64,
}

/// A frame that reached a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivery {
    /// The host.
    pub host: String,
    /// The device there.
    pub device: String,
    /// The frame.
    pub frame: Vec<u8>,
}

/// What happens at some time.
enum Event {
    /// A guest sends.
    Send {
        host: String,
        device: String,
        frame: Vec<u8>,
    },
    /// A packet arrives.
    Arrive { host: String, packet: Vec<u8> },
    /// An agent takes its next step.
    Step { host: String },
    /// An agent asks its links.
    Ask { host: String },
}

/// Everything.
pub struct World {
    /// By name.
    pub hosts: BTreeMap<String, SimHost>,
    /// What reached devices so far.
    pub delivered: Vec<Delivery>,
    /// Packets that the network lost.
    pub lost: u64,
    addresses: BTreeMap<IpAddr, String>,
    cuts: BTreeSet<(String, String)>,
    secrets: Secrets,
    conditions: Conditions,
    chance: TestRng,
    now_ns: u64,
    made: u64,
    events: BTreeMap<(u64, u64), Event>,
}

/// Between two looks at whose time has come: probes are fifty times as far apart.
const ASK_NS: u64 = 1_000_000;

/// More steps than any part of these sizes takes; the rest finds nothing to do.
pub const STEPS_MAX: u64 = 200;

/// More events than any run that ends has.
const EVENTS_MAX: u64 = 1_000_000;

impl World {
    /// The hosts of a topology, which know nothing of it yet but their own ports.
    pub fn new(topology: &Topology, conditions: Conditions, seed: u64) -> Self {
        let names = topology.hosts.iter().map(|host| host.name.clone());
        let hosts = names.map(|name| (name.clone(), SimHost::new(topology, &name)));
        Self::of(hosts.collect(), conditions, seed)
    }

    /// These hosts.
    pub fn of(hosts: BTreeMap<String, SimHost>, conditions: Conditions, seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            addresses: hosts
                .iter()
                .map(|(name, host)| (host.address, name.clone()))
                .collect(),
            hosts,
            delivered: Vec::new(),
            lost: 0,
            cuts: BTreeSet::new(),
            secrets: Secrets::default(),
            conditions,
            chance: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
            now_ns: 0,
            made: 0,
            events: BTreeMap::new(),
        }
    }

    fn deal(&mut self, topology: &Topology) {
        for (one, other) in topology.pairs() {
            if self.secrets.between(one, other).is_none() {
                let cookie = Cookie(self.chance.next_u64().max(1));
                self.secrets.deal(one, other, cookie);
            }
        }
    }

    /// Brings a topology about everywhere, at once.
    pub fn bring_about(&mut self, topology: &Topology, revision: u64) {
        self.deal(topology);
        for (name, host) in &mut self.hosts {
            host.take(&topology.part(name, revision, &self.secrets).unwrap());
            host.finish();
        }
    }

    /// Hands each host its part at a time by chance within `spread_ns`; each agent then takes a
    /// step every `step_ns`.
    pub fn change(&mut self, topology: &Topology, revision: u64, spread_ns: u64, step_ns: u64) {
        let parts = self.parts(topology);
        self.change_to(&parts, revision, spread_ns, step_ns);
    }

    /// What the topology means for each host.
    pub fn parts(&mut self, topology: &Topology) -> Parts {
        self.deal(topology);
        let part = |name: &String| topology.part(name, 0, &self.secrets).unwrap();
        let names = self.hosts.keys();
        names.map(|name| (name.clone(), part(name))).collect()
    }

    /// The same as [`Self::change`] with any parts.
    pub fn change_to(&mut self, parts: &Parts, revision: u64, spread_ns: u64, step_ns: u64) {
        for (name, part) in parts {
            let host = self.hosts.get_mut(name).unwrap();
            host.take(&Part {
                revision,
                ..part.clone()
            });
            let begin_ns = self.now_ns + self.chance.next_u64() % spread_ns.max(1);
            for step in 0..STEPS_MAX {
                let host = name.clone();
                self.at(begin_ns + step * step_ns, Event::Step { host });
            }
        }
    }

    /// Whether packets between two hosts get through from now on.
    pub fn set_cut(&mut self, one: &str, other: &str, is_cut: bool) {
        self.set_cut_one_way(one, other, is_cut);
        self.set_cut_one_way(other, one, is_cut);
    }

    /// The same in one direction.
    pub fn set_cut_one_way(&mut self, from: &str, to: &str, is_cut: bool) {
        let pair = (from.to_owned(), to.to_owned());
        match is_cut {
            true => self.cuts.insert(pair),
            false => self.cuts.remove(&pair),
        };
    }

    /// Of a thousand packets, how many are lost from now on.
    pub const fn set_loss(&mut self, per_mille: u32) {
        self.conditions.loss_per_mille = per_mille;
    }

    fn at(&mut self, time_ns: u64, event: Event) {
        self.made += 1;
        assert!(self.made < EVENTS_MAX, "this does not end");
        self.events.insert((time_ns, self.made), event);
    }

    /// Has a VM send a frame after so much time.
    pub fn send(&mut self, after_ns: u64, vm: &Vm, destination: Mac, payload: &[u8]) {
        let frame = frame(vm.mac, destination, payload);
        let (host, device) = (vm.host.clone(), vm.device.clone());
        let time_ns = self.now_ns + after_ns;
        self.at(
            time_ns,
            Event::Send {
                host,
                device,
                frame,
            },
        );
    }

    /// Lets time pass until nothing is left to happen.
    pub fn run(&mut self) {
        while self.run_next() {}
    }

    /// When the next thing happens.
    pub fn next_ns(&self) -> Option<u64> {
        self.events
            .first_key_value()
            .map(|((time_ns, _), _)| *time_ns)
    }

    /// Now.
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Nothing happens here until then.
    pub fn wait_until(&mut self, time_ns: u64) {
        assert!(self.next_ns().is_none_or(|next_ns| next_ns >= time_ns));
        self.now_ns = self.now_ns.max(time_ns);
    }

    /// Has the next thing happen; whether there was one.
    pub fn run_next(&mut self) -> bool {
        let Some(((time_ns, _), event)) = self.events.pop_first() else {
            return false;
        };
        self.now_ns = time_ns;
        match event {
            Event::Send {
                host,
                device,
                frame,
            } => {
                let sent = self.host(&host).from_guest(&device, &frame);
                self.carry(&host, sent);
            }
            Event::Arrive { host, packet } => {
                let sent = self.host(&host).from_wire(&packet);
                self.carry(&host, sent);
            }
            Event::Step { host } => {
                self.host(&host).step();
            }
            Event::Ask { host } => {
                let sent = self.host(&host).ask();
                self.carry(&host, sent);
                let time_ns = self.now_ns + ASK_NS;
                self.at(time_ns, Event::Ask { host });
            }
        }
        true
    }

    /// Lets time pass until then.
    pub fn run_until(&mut self, time_ns: u64) {
        while self.next_ns().is_some_and(|next_ns| next_ns <= time_ns) {
            self.run_next();
        }
        self.wait_until(time_ns);
    }

    /// Every agent asks its links from now on.
    pub fn watch(&mut self) {
        for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
            self.host(&name).watch();
            // Not all at one time.
            let time_ns = self.now_ns + self.chance.next_u64() % ASK_NS;
            self.at(time_ns, Event::Ask { host: name });
        }
    }

    /// A host has another underlay address from now on.
    pub fn renumber(&mut self, name: &str, address: IpAddr) {
        self.addresses.retain(|_, host| host != name);
        self.addresses.insert(address, name.to_owned());
        let host = self.hosts.get_mut(name).unwrap();
        host.renumber(address);
    }

    fn host(&mut self, name: &str) -> &mut SimHost {
        let host = self.hosts.get_mut(name).unwrap();
        host.set_now(self.now_ns);
        host
    }

    fn carry(&mut self, from: &str, sent: Vec<Sent>) {
        for sent in sent {
            match sent {
                Sent::Into(device, frame) => self.delivered.push(Delivery {
                    host: from.to_owned(),
                    device,
                    frame,
                }),
                Sent::Wire(packet) => self.carry_packet(from, packet),
            }
        }
    }

    fn carry_packet(&mut self, from: &str, packet: Vec<u8>) {
        let Some(to) = self.addresses.get(&destination(&packet)).cloned() else {
            // An address that a host had until a moment ago.
            self.lost += 1;
            return;
        };
        let is_cut = self.cuts.contains(&(from.to_owned(), to.clone()));
        let is_lost = self.chance.next_u32() % 1000 < self.conditions.loss_per_mille;
        if is_cut || is_lost {
            self.lost += 1;
            return;
        }
        let jitter_ns = self.chance.next_u64() % (self.conditions.jitter_ns + 1);
        let time_ns = self.now_ns + self.conditions.delay_ns + jitter_ns;
        self.at(time_ns, Event::Arrive { host: to, packet });
    }
}

/// A frame of a type that nobody else uses.
pub fn frame(source: Mac, destination: Mac, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&destination.0[..], &source.0, &[0x88, 0xb5], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The outer destination, as a decoder that is not ours reads it.
fn destination(packet: &[u8]) -> IpAddr {
    let packet = etherparse::SlicedPacket::from_ethernet(packet).unwrap();
    match packet.net.unwrap() {
        etherparse::NetSlice::Ipv4(ip) => ip.header().destination_addr().into(),
        etherparse::NetSlice::Ipv6(ip) => ip.header().destination_addr().into(),
        etherparse::NetSlice::Arp(_) => panic!("no host asks for neighbours here"),
    }
}
