//! Does a topology make sense?
//!
//! Input: a topology from anywhere, in any order. Output: everything that is wrong with it, each
//! with its place. That every host stays within the proxy's reach is asked in `reach`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vnet_common::addr::{Mac, NetworkId};
use vnet_common::rule::{Destination, Source};

use super::super::port::check_device_name;
use super::super::problem::{check_name, check_underlay_address};
use super::super::suggest::suggestion;
use super::{
    Host, Item, Link, LinkKind, Network, Noun, Place, Problem, Role, Rule, RuleKey, Target,
    Topology, TopologyError, Vm,
};

/// The longest name of an account (useradd's limit).
const USER_BYTES_MAX: usize = 32;

impl Topology {
    /// Everything that is wrong with it, in the order of its parts. Empty: it may be brought about.
    pub fn problems(&self) -> Vec<Problem> {
        let mut check = Check::new(self);
        for (place, network) in self.networks.iter().enumerate() {
            check.network(place, network);
        }
        for (place, host) in self.hosts.iter().enumerate() {
            check.host(place, host);
        }
        for (place, vm) in self.vms.iter().enumerate() {
            check.vm(place, vm);
        }
        for (place, link) in self.links.iter().enumerate() {
            check.link(place, link);
        }
        for (place, rule) in self.rules.iter().enumerate() {
            check.rule(place, rule);
        }
        check.found
    }
}

/// The first holder of everything that may have one holder only, and what was found so far.
struct Check<'a> {
    networks: BTreeMap<&'a str, usize>,
    hosts: BTreeMap<&'a str, &'a Host>,
    host_places: BTreeMap<&'a str, usize>,
    network_ids: BTreeMap<NetworkId, (usize, &'a str)>,
    addresses: BTreeMap<IpAddr, (usize, &'a str)>,
    proxy: Option<(usize, &'a str)>,
    vms: BTreeMap<&'a str, usize>,
    macs: BTreeMap<(&'a str, Mac), (usize, &'a str)>,
    devices: BTreeMap<(&'a str, &'a str), (usize, &'a Vm)>,
    edges: BTreeMap<(&'a str, &'a str, &'a str), usize>,
    rules: BTreeMap<RuleKey, (usize, &'a Target)>,
    found: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn new(topology: &'a Topology) -> Self {
        let mut check = Self {
            networks: BTreeMap::new(),
            hosts: BTreeMap::new(),
            host_places: BTreeMap::new(),
            network_ids: BTreeMap::new(),
            addresses: BTreeMap::new(),
            proxy: None,
            vms: BTreeMap::new(),
            macs: BTreeMap::new(),
            devices: BTreeMap::new(),
            edges: BTreeMap::new(),
            rules: BTreeMap::new(),
            found: Vec::new(),
        };
        for (place, network) in topology.networks.iter().enumerate() {
            check.networks.entry(&network.name).or_insert(place);
        }
        for (place, host) in topology.hosts.iter().enumerate() {
            check.hosts.entry(&host.name).or_insert(host);
            check.host_places.entry(&host.name).or_insert(place);
        }
        for (place, link) in topology.links.iter().enumerate() {
            let (one, other) = link.ends();
            for network in &link.networks {
                let edge = (one, other, network.as_str());
                check.edges.entry(edge).or_insert(place);
            }
        }
        check
    }

    fn report(&mut self, item: Item, key: &'static str, error: TopologyError) {
        let at = Place { item, key };
        self.found.push(Problem {
            at,
            earlier: None,
            error,
        });
    }

    fn report_pair(&mut self, item: Item, key: &'static str, first: Item, error: TopologyError) {
        let at = Place { item, key };
        self.found.push(Problem {
            at,
            earlier: Some(Place { item: first, key }),
            error,
        });
    }

    fn name(&mut self, item: Item, noun: Noun, name: &str) {
        if let Err(why) = check_name(name) {
            let name = name.to_owned();
            self.report(item, "name", TopologyError::BadName { noun, name, why });
        }
    }

    fn name_again(&mut self, item: Item, first: Item, noun: Noun, name: &str) {
        if item != first {
            let name = name.to_owned();
            let error = TopologyError::DuplicateName { noun, name };
            self.report_pair(item, "name", first, error);
        }
    }

    fn network(&mut self, place: usize, network: &'a Network) {
        let item = Item::Network(place);
        self.name(item, Noun::Network, &network.name);
        if let Some(&first) = self.networks.get(network.name.as_str()) {
            self.name_again(item, Item::Network(first), Noun::Network, &network.name);
        }
        let holder = *self
            .network_ids
            .entry(network.id)
            .or_insert((place, &network.name));
        if holder.0 != place && holder.1 != network.name {
            let (id, other) = (network.id, holder.1.to_owned());
            let error = TopologyError::DuplicateNetworkId { id, other };
            self.report_pair(item, "id", Item::Network(holder.0), error);
        }
    }

    fn host(&mut self, place: usize, host: &'a Host) {
        let item = Item::Host(place);
        self.name(item, Noun::Host, &host.name);
        if let Some(&first) = self.host_places.get(host.name.as_str()) {
            self.name_again(item, Item::Host(first), Noun::Host, &host.name);
            if first != place {
                return;
            }
        }
        let user = &host.user;
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
        if user.is_empty() || user.len() > USER_BYTES_MAX || !user.chars().all(is_plain) {
            let user = user.clone();
            self.report(item, "user", TopologyError::BadUser { user });
        }
        self.device(item, "interface", &host.interface);
        if host.port == 0 {
            self.report(item, "port", TopologyError::PortZero);
        }
        if let Some(address) = host.underlay() {
            self.address(place, host, address);
        }
        if host.role == Role::Proxy {
            match self.proxy {
                None => self.proxy = Some((place, &host.name)),
                Some((first, other)) => {
                    let other = other.to_owned();
                    let error = TopologyError::SecondProxy { other };
                    self.report_pair(item, "role", Item::Host(first), error);
                }
            }
        }
    }

    fn address(&mut self, place: usize, host: &'a Host, address: IpAddr) {
        let item = Item::Host(place);
        if let Err(why) = check_underlay_address(address) {
            let error = TopologyError::BadAddress { address, why };
            self.report(item, "address", error);
            return;
        }
        let holder = *self.addresses.entry(address).or_insert((place, &host.name));
        if holder.0 != place {
            let other = holder.1.to_owned();
            let error = TopologyError::SharedAddress { address, other };
            self.report_pair(item, "address", Item::Host(holder.0), error);
        }
    }

    fn device(&mut self, item: Item, key: &'static str, name: &str) {
        if let Err(why) = check_device_name(name) {
            let name = name.to_owned();
            self.report(item, key, TopologyError::BadDevice { name, why });
        }
    }

    /// Whether there is such a network; if not, it is said.
    fn knows_network(&mut self, item: Item, key: &'static str, name: &str) -> bool {
        if self.networks.contains_key(name) {
            return true;
        }
        let meant = suggestion(name, self.networks.keys().copied()).map(str::to_owned);
        let (noun, name) = (Noun::Network, name.to_owned());
        self.report(item, key, TopologyError::Unknown { noun, name, meant });
        false
    }

    /// The host of this name; if there is none, it is said.
    fn known_host(&mut self, item: Item, key: &'static str, name: &str) -> Option<&'a Host> {
        if let Some(host) = self.hosts.get(name) {
            return Some(host);
        }
        let meant = suggestion(name, self.hosts.keys().copied()).map(str::to_owned);
        let (noun, name) = (Noun::Host, name.to_owned());
        self.report(item, key, TopologyError::Unknown { noun, name, meant });
        None
    }

    fn vm(&mut self, place: usize, vm: &'a Vm) {
        let item = Item::Vm(place);
        self.name(item, Noun::Vm, &vm.name);
        let first = *self.vms.entry(&vm.name).or_insert(place);
        self.name_again(item, Item::Vm(first), Noun::Vm, &vm.name);
        self.device(item, "device", &vm.device);
        let mac = vm.mac;
        if mac.is_group() {
            self.report(item, "mac", TopologyError::GroupAddress { mac });
        } else if mac == Mac::ZERO {
            self.report(item, "mac", TopologyError::ZeroAddress { mac });
        }
        let host = self.known_host(item, "host", &vm.host);
        if host.is_some_and(|host| host.role == Role::Foreign) {
            let host = vm.host.clone();
            self.report(item, "host", TopologyError::Foreign { host });
        }
        if !self.knows_network(item, "network", &vm.network) {
            return;
        }
        let holder = *self
            .macs
            .entry((&vm.network, mac))
            .or_insert((place, &vm.name));
        if holder.0 != place {
            let (network, other) = (vm.network.clone(), holder.1.to_owned());
            let error = TopologyError::DuplicateMac {
                mac,
                network,
                other,
            };
            self.report_pair(item, "mac", Item::Vm(holder.0), error);
        }
        let (first, other) = *self
            .devices
            .entry((&vm.host, &vm.device))
            .or_insert((place, vm));
        if other.network != vm.network {
            let error = TopologyError::DeviceInOtherNetwork {
                device: vm.device.clone(),
                host: vm.host.clone(),
                network: other.network.clone(),
                other: other.name.clone(),
            };
            self.report_pair(item, "device", Item::Vm(first), error);
        }
    }

    fn link(&mut self, place: usize, link: &'a Link) {
        let item = Item::Link(place);
        let from = self.known_host(item, "from", &link.from);
        let to = self.known_host(item, "to", &link.to);
        if link.from == link.to {
            let host = link.from.clone();
            self.report(item, "to", TopologyError::LinkToOneself { host });
        } else if let (Some(from), Some(to)) = (from, to) {
            self.ends(place, link.kind, from, to);
        }
        if link.networks.is_empty() {
            self.report(item, "networks", TopologyError::NoNetworks);
        }
        let (one, other) = link.ends();
        for (element, network) in link.networks.iter().enumerate() {
            if !self.knows_network(item, "networks", network) {
                continue;
            }
            let edge = (one, other, network.as_str());
            let first = self.edges.get(&edge).copied().unwrap_or(place);
            if link.networks.iter().take(element).any(|n| n == network) {
                let network = network.clone();
                self.report(item, "networks", TopologyError::RepeatedNetwork { network });
            } else if first != place {
                let (one, other, network) = (one.to_owned(), other.to_owned(), network.clone());
                let error = TopologyError::SecondLink {
                    one,
                    other,
                    network,
                };
                self.report_pair(item, "", Item::Link(first), error);
            }
        }
    }

    fn ends(&mut self, place: usize, kind: LinkKind, from: &Host, to: &Host) {
        let item = Item::Link(place);
        if kind != LinkKind::Plain {
            for (key, end) in [("from", from), ("to", to)] {
                if end.role == Role::Foreign {
                    let host = end.name.clone();
                    self.report(item, key, TopologyError::ForeignEnd { kind, host });
                }
            }
        }
        if !kind.has_opener() && from.port != to.port {
            let error = TopologyError::OtherPort {
                one: from.name.clone(),
                one_port: from.port,
                other: to.name.clone(),
                other_port: to.port,
            };
            self.report(item, "to", error);
        }
        if let (Some(one), Some(other)) = (from.underlay(), to.underlay())
            && one.is_ipv4() != other.is_ipv4()
        {
            self.report(item, "to", TopologyError::OtherFamily { one, other });
        }
    }

    fn rule(&mut self, place: usize, rule: &'a Rule) {
        let item = Item::Rule(place);
        let host = self.known_host(item, "host", &rule.host);
        if host.is_some_and(|host| host.role == Role::Foreign) {
            let host = rule.host.clone();
            self.report(item, "host", TopologyError::Foreign { host });
        }
        let has_network = self.knows_network(item, "network", &rule.network);
        if let Source::Is(mac) | Source::Not(mac) = rule.source {
            if mac.is_group() {
                self.report(item, "source", TopologyError::GroupAddress { mac });
            } else if mac == Mac::ZERO {
                self.report(item, "source", TopologyError::ZeroAddress { mac });
            }
        }
        if let Destination::Is(mac @ Mac::ZERO) | Destination::Not(mac @ Mac::ZERO) =
            rule.destination
        {
            self.report(item, "destination", TopologyError::ZeroAddress { mac });
        }
        match &rule.to {
            Target::Edge(other) => {
                let is_known = self.known_host(item, "to", other).is_some();
                if is_known && host.is_some() && has_network {
                    self.edge(place, rule, other);
                }
            }
            Target::Interface(device) => self.interface(place, rule, device),
            Target::Flood | Target::Drop => {}
        }
        self.contradiction(place, rule);
    }

    fn edge(&mut self, place: usize, rule: &Rule, other: &str) {
        let (one, two) = if rule.host.as_str() <= other {
            (rule.host.as_str(), other)
        } else {
            (other, rule.host.as_str())
        };
        if !self.edges.contains_key(&(one, two, rule.network.as_str())) {
            let error = TopologyError::NoEdge {
                host: rule.host.clone(),
                other: other.to_owned(),
                network: rule.network.clone(),
            };
            self.report(Item::Rule(place), "to", error);
        }
    }

    fn interface(&mut self, place: usize, rule: &Rule, device: &str) {
        let item = Item::Rule(place);
        self.device(item, "to", device);
        if let Some(&(first, vm)) = self.devices.get(&(rule.host.as_str(), device))
            && vm.network != rule.network
        {
            let error = TopologyError::DeviceInOtherNetwork {
                device: device.to_owned(),
                host: rule.host.clone(),
                network: vm.network.clone(),
                other: vm.name.clone(),
            };
            self.report_pair(item, "to", Item::Vm(first), error);
        }
    }

    fn contradiction(&mut self, place: usize, rule: &'a Rule) {
        let (first, to) = *self.rules.entry(rule.key()).or_insert((place, &rule.to));
        if first == place {
            return;
        }
        let error = if *to == rule.to {
            TopologyError::RepeatedRule
        } else {
            TopologyError::Contradiction {
                host: rule.host.clone(),
                network: rule.network.clone(),
                from: rule.source,
                destination: rule.destination,
                first: to.clone(),
                second: rule.to.clone(),
            }
        };
        self.report_pair(Item::Rule(place), "", Item::Rule(first), error);
    }
}

#[cfg(test)]
mod tests;
