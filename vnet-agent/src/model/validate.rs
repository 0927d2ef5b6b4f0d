//! Does a configuration make sense?
//!
//! Input: a configuration from anywhere. Output: everything that is wrong with it, each with its
//! place. The same checks of one entry serve the whole file and a change at run time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vnet_common::addr::{Mac, NetworkId};
use vnet_common::rule::{Destination, Source};
use vnet_common::table::port::ADDRESSES_MAX;

use super::configuration::{Limits, UnderlayMatch};
use super::port::{BURST_SECONDS_MAX, SLOW_PATH_MAX, check_device_name, check_device_pattern};
use super::problem::{
    ConfigurationError, Item, Noun, Place, Problem, check_name, check_underlay_address,
};
use super::suggest::suggestion;
use super::{Addresses, Configuration, DeviceMatch, Link, Port, Rule, RuleOrigin, Target};

impl Configuration {
    /// Everything that is wrong with it, in the order of its parts. Empty: it may be brought about.
    pub fn problems(&self) -> Vec<Problem> {
        let index = Index::new(self);
        let mut found = Problems::default();
        check_underlay(self, &mut found);
        check_limits(self, &mut found);
        for place in 0..self.networks.len() {
            check_network(&index, place, &mut found);
        }
        for (place, port) in self.ports.iter().enumerate() {
            check_port(&index, place, port, &mut found);
        }
        for (place, link) in self.links.iter().enumerate() {
            check_link(&index, place, link, &mut found);
        }
        let mut keys = BTreeMap::new();
        for (place, rule) in self.rules.iter().enumerate() {
            check_rule(&index, place, rule, &mut found);
            let first = *keys.entry(rule.key()).or_insert(place);
            if first != place {
                found.push_pair(
                    Place::new(Item::Rule(place), "destination"),
                    Place::new(Item::Rule(first), "destination"),
                    ConfigurationError::DuplicateRule {
                        network: rule.network.clone(),
                        from: rule.source,
                        to: rule.destination,
                    },
                );
            }
        }
        found.0
    }
}

/// What the checks write their findings into.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    fn push(&mut self, at: Place, error: ConfigurationError) {
        self.0.push(Problem {
            at,
            earlier: None,
            error,
        });
    }

    fn push_pair(&mut self, at: Place, earlier: Place, error: ConfigurationError) {
        self.0.push(Problem {
            at,
            earlier: Some(earlier),
            error,
        });
    }
}

/// Who is called what: what a rule's names are looked up in.
pub(super) trait Names {
    fn configuration(&self) -> &Configuration;
    fn has_network(&self, name: &str) -> bool;
    fn link_called(&self, name: &str) -> Option<(usize, &Link)>;
    fn port_taking(&self, device: &str) -> Option<(usize, &Port)>;
}

/// By going through the lists: right for a single look-up, as in one change at run time.
impl Names for Configuration {
    fn configuration(&self) -> &Configuration {
        self
    }

    fn has_network(&self, name: &str) -> bool {
        self.network(name).is_some()
    }

    fn link_called(&self, name: &str) -> Option<(usize, &Link)> {
        self.links
            .iter()
            .enumerate()
            .find(|(_, link)| link.name == name)
    }

    fn port_taking(&self, device: &str) -> Option<(usize, &Port)> {
        self.port_for(device)
    }
}

/// The first holder of everything that may have one holder only.
pub(super) struct Index<'a> {
    configuration: &'a Configuration,
    networks: BTreeMap<&'a str, usize>,
    network_ids: BTreeMap<NetworkId, usize>,
    devices: BTreeMap<&'a DeviceMatch, usize>,
    patterns: Vec<usize>,
    addresses: BTreeMap<(&'a str, Mac), (usize, usize)>,
    links: BTreeMap<&'a str, usize>,
    remotes: BTreeMap<(IpAddr, &'a str), usize>,
}

impl<'a> Index<'a> {
    pub(super) fn new(configuration: &'a Configuration) -> Self {
        let mut index = Self {
            configuration,
            networks: BTreeMap::new(),
            network_ids: BTreeMap::new(),
            devices: BTreeMap::new(),
            patterns: Vec::new(),
            addresses: BTreeMap::new(),
            links: BTreeMap::new(),
            remotes: BTreeMap::new(),
        };
        for (place, network) in configuration.networks.iter().enumerate() {
            index.networks.entry(&network.name).or_insert(place);
            index.network_ids.entry(network.id).or_insert(place);
        }
        for (place, port) in configuration.ports.iter().enumerate() {
            index.devices.entry(&port.device).or_insert(place);
            if matches!(port.device, DeviceMatch::Pattern(_)) {
                index.patterns.push(place);
            }
            if let Addresses::Only(addresses) = &port.addresses {
                for (element, &address) in addresses.iter().enumerate() {
                    let key = (port.network.as_str(), address);
                    index.addresses.entry(key).or_insert((place, element));
                }
            }
        }
        for (place, link) in configuration.links.iter().enumerate() {
            index.links.entry(&link.name).or_insert(place);
            for network in &link.networks {
                index.remotes.entry((link.remote, network)).or_insert(place);
            }
        }
        index
    }
}

impl Names for Index<'_> {
    fn configuration(&self) -> &Configuration {
        self.configuration
    }

    fn has_network(&self, name: &str) -> bool {
        self.networks.contains_key(name)
    }

    fn link_called(&self, name: &str) -> Option<(usize, &Link)> {
        let place = *self.links.get(name)?;
        Some((place, self.configuration.links.get(place)?))
    }

    fn port_taking(&self, device: &str) -> Option<(usize, &Port)> {
        let ports = &self.configuration.ports;
        let by_name = self
            .devices
            .get(&DeviceMatch::Name(device.to_owned()))
            .copied();
        let by_pattern = || {
            self.patterns
                .iter()
                .copied()
                .find(|&place| ports[place].device.matches(device))
        };
        let place = by_name.or_else(by_pattern)?;
        Some((place, ports.get(place)?))
    }
}

fn check_underlay(configuration: &Configuration, found: &mut Problems) {
    let underlay = &configuration.underlay;
    match &underlay.on {
        UnderlayMatch::Device(name) => {
            if let Err(why) = check_device_name(name) {
                let name = name.clone();
                let error = ConfigurationError::BadDevice { name, why };
                found.push(Place::new(Item::Underlay, "device"), error);
            }
        }
        UnderlayMatch::Address(address) => {
            if let Err(why) = check_underlay_address(*address) {
                let error = ConfigurationError::BadAddress {
                    address: *address,
                    why,
                };
                found.push(Place::new(Item::Underlay, "address"), error);
            }
        }
    }
    let port = Place::new(Item::Underlay, "udp_port");
    check_range(port, underlay.udp_port.into(), 1, u16::MAX.into(), found);
}

fn check_range(at: Place, value: u64, least: u64, most: u64, found: &mut Problems) {
    if value < least || value > most {
        found.push(at, ConfigurationError::OutOfRange { value, least, most });
    }
}

fn check_limits(configuration: &Configuration, found: &mut Problems) {
    let Limits {
        ports,
        links,
        networks,
        rules,
        flows,
    } = configuration.limits;
    let named = |port: &&Port| matches!(port.device, DeviceMatch::Name(_));
    let named_ports = configuration.ports.iter().filter(named).count();
    for (key, limit, most, held) in [
        (
            "ports",
            ports,
            Limits::ITEMS_MAX,
            Some((Noun::Port, named_ports)),
        ),
        (
            "links",
            links,
            Limits::ITEMS_MAX,
            Some((Noun::Link, configuration.links.len())),
        ),
        (
            "networks",
            networks,
            Limits::ITEMS_MAX,
            Some((Noun::Network, configuration.networks.len())),
        ),
        (
            "rules",
            rules,
            Limits::RULES_MAX,
            Some((Noun::Rule, configuration.rule_count())),
        ),
        ("flows", flows, Limits::FLOWS_MAX, None),
    ] {
        let at = Place::new(Item::Limits, key);
        check_range(at, limit.into(), 1, most.into(), found);
        if let Some((noun, count)) = held {
            check_count(noun, count, limit, at, found);
        }
    }
}

/// Whether so many of a kind fit under their limit.
pub(super) fn check_count(noun: Noun, count: usize, limit: u32, at: Place, found: &mut Problems) {
    if u32::try_from(count).is_ok_and(|count| count <= limit) {
        return;
    }
    let last = count.saturating_sub(1);
    let item = match noun {
        Noun::Network => Item::Network(last),
        Noun::Port => Item::Port(last),
        Noun::Link => Item::Link(last),
        Noun::Rule => Item::Rule(last),
    };
    found.push_pair(
        at,
        Place::new(item, ""),
        ConfigurationError::TooMany { noun, count, limit },
    );
}

fn check_item_name(noun: Noun, name: &str, at: Place, found: &mut Problems) {
    if let Err(why) = check_name(name) {
        found.push(
            at,
            ConfigurationError::BadName {
                noun,
                name: name.to_owned(),
                why,
            },
        );
    }
}

fn check_network(index: &Index<'_>, place: usize, found: &mut Problems) {
    let network = &index.configuration.networks[place];
    let at = |key| Place::new(Item::Network(place), key);
    check_item_name(Noun::Network, &network.name, at("name"), found);
    if let Some(&first) = index.networks.get(network.name.as_str())
        && first != place
    {
        found.push_pair(
            at("name"),
            Place::new(Item::Network(first), "name"),
            ConfigurationError::DuplicateName {
                noun: Noun::Network,
                name: network.name.clone(),
            },
        );
    }
    if let Some(&first) = index.network_ids.get(&network.id)
        && first != place
    {
        found.push_pair(
            at("id"),
            Place::new(Item::Network(first), "id"),
            ConfigurationError::DuplicateNetworkId {
                id: network.id,
                other: index.configuration.networks[first].name.clone(),
            },
        );
    }
}

fn check_network_name(names: &impl Names, name: &str, at: Place, found: &mut Problems) {
    if !names.has_network(name) {
        let networks = names
            .configuration()
            .networks
            .iter()
            .map(|network| network.name.as_str());
        found.push(at, unknown(Noun::Network, name, networks));
    }
}

/// That there is no such thing, with what may have been meant instead.
pub(super) fn unknown<'a>(
    noun: Noun,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> ConfigurationError {
    ConfigurationError::Unknown {
        noun,
        name: name.to_owned(),
        meant: suggestion(name, known.clone()).map(str::to_owned),
        known: known.map(str::to_owned).collect(),
    }
}

fn check_port(index: &Index<'_>, place: usize, port: &Port, found: &mut Problems) {
    let at = |key| Place::new(Item::Port(place), key);
    let key = device_key(&port.device);
    check_port_device(index.configuration, &port.device, at(key), found);
    if let Some(&first) = index.devices.get(&port.device)
        && first != place
    {
        let device = port.device.clone();
        let earlier = Place::new(Item::Port(first), key);
        found.push_pair(
            at(key),
            earlier,
            ConfigurationError::DuplicateDevice { device },
        );
    }
    check_network_name(index, &port.network, at("network"), found);
    if let Addresses::Only(addresses) = &port.addresses {
        check_addresses(index, place, port, addresses, found);
    }
    let (rate, burst) = (port.slow_path_rate, port.slow_path_burst);
    let most = u64::from(SLOW_PATH_MAX);
    check_range(at("slow_path_rate"), rate.into(), 1, most, found);
    check_range(at("slow_path_burst"), burst.into(), 1, most, found);
    if (1..=SLOW_PATH_MAX).contains(&rate) && burst > rate.saturating_mul(BURST_SECONDS_MAX) {
        found.push(
            at("slow_path_burst"),
            ConfigurationError::BurstTooLong { burst, rate },
        );
    }
}

const fn device_key(device: &DeviceMatch) -> &'static str {
    match device {
        DeviceMatch::Name(_) => "name",
        DeviceMatch::Pattern(_) => "pattern",
    }
}

fn check_port_device(
    configuration: &Configuration,
    device: &DeviceMatch,
    at: Place,
    found: &mut Problems,
) {
    let bad = match device {
        DeviceMatch::Name(name) => {
            check_device_name(name)
                .err()
                .map(|why| ConfigurationError::BadDevice {
                    name: name.clone(),
                    why,
                })
        }
        DeviceMatch::Pattern(pattern) => {
            check_device_pattern(pattern)
                .err()
                .map(|why| ConfigurationError::BadPattern {
                    pattern: pattern.clone(),
                    why,
                })
        }
    };
    if let Some(error) = bad {
        found.push(at, error);
        return;
    }
    if let UnderlayMatch::Device(underlay) = &configuration.underlay.on
        && let Some(error) = takes(device, underlay, "underlay device")
    {
        found.push(at, error);
    }
    if let Some(error) = takes(device, "lo", "loopback device") {
        found.push(at, error);
    }
}

/// The error of a port entry that takes in a device which has another role, if it does.
pub fn takes(entry: &DeviceMatch, device: &str, role: &'static str) -> Option<ConfigurationError> {
    if !entry.matches(device) {
        return None;
    }
    let device = device.to_owned();
    Some(match entry {
        DeviceMatch::Name(_) => ConfigurationError::DeviceTaken { device, role },
        DeviceMatch::Pattern(pattern) => ConfigurationError::PatternTakesIn {
            pattern: pattern.clone(),
            device,
            role,
        },
    })
}

fn check_addresses(
    index: &Index<'_>,
    place: usize,
    port: &Port,
    addresses: &[Mac],
    found: &mut Problems,
) {
    let at = Place::new(Item::Port(place), "addresses");
    match addresses.len() {
        0 => found.push(at, ConfigurationError::NoAddresses),
        count if count > ADDRESSES_MAX => {
            found.push(at, ConfigurationError::TooManyAddresses { count });
        }
        _ => {}
    }
    for (element, &address) in addresses.iter().enumerate() {
        let at = Place::element(Item::Port(place), "addresses", element);
        check_station(address, at, found);
        let Some(&first) = index.addresses.get(&(port.network.as_str(), address)) else {
            continue;
        };
        if first != (place, element) {
            let (first_place, first_element) = first;
            let earlier = Place::element(Item::Port(first_place), "addresses", first_element);
            let error = if first_place == place {
                ConfigurationError::RepeatedAddress { address }
            } else {
                let other = index.configuration.ports[first_place].device.clone();
                let network = port.network.clone();
                ConfigurationError::AddressTaken {
                    address,
                    network,
                    other,
                }
            };
            found.push_pair(at, earlier, error);
        }
    }
}

/// Whether a frame can come from this address.
fn check_station(address: Mac, at: Place, found: &mut Problems) {
    if address.is_group() {
        found.push(at, ConfigurationError::GroupAddress { address });
    } else if address == Mac::ZERO {
        found.push(at, ConfigurationError::ZeroAddress { address });
    }
}

/// Everything that is wrong with a link at this place (one past the last for a new one).
pub(super) fn check_link(index: &Index<'_>, place: usize, link: &Link, found: &mut Problems) {
    let at = |key| Place::new(Item::Link(place), key);
    check_item_name(Noun::Link, &link.name, at("name"), found);
    if let Some(&first) = index.links.get(link.name.as_str())
        && first != place
    {
        found.push_pair(
            at("name"),
            Place::new(Item::Link(first), "name"),
            ConfigurationError::DuplicateName {
                noun: Noun::Link,
                name: link.name.clone(),
            },
        );
    }
    check_remote(index.configuration, link.remote, at("remote"), found);
    if link.networks.is_empty() {
        found.push(at("networks"), ConfigurationError::NoNetworks);
    }
    for (element, network) in link.networks.iter().enumerate() {
        let at = Place::element(Item::Link(place), "networks", element);
        check_network_name(index, network, at, found);
        if link.networks[..element].contains(network) {
            found.push(
                at,
                ConfigurationError::RepeatedNetwork {
                    network: network.clone(),
                },
            );
        }
        if let Some(&first) = index.remotes.get(&(link.remote, network.as_str()))
            && first != place
        {
            found.push_pair(
                at,
                Place::new(Item::Link(first), "remote"),
                ConfigurationError::SharedRemote {
                    remote: link.remote,
                    network: network.clone(),
                    other: index.configuration.links[first].name.clone(),
                },
            );
        }
    }
}

fn check_remote(configuration: &Configuration, remote: IpAddr, at: Place, found: &mut Problems) {
    if let Err(why) = check_underlay_address(remote) {
        found.push(
            at,
            ConfigurationError::BadAddress {
                address: remote,
                why,
            },
        );
        return;
    }
    let UnderlayMatch::Address(local) = configuration.underlay.on else {
        return;
    };
    let underlay = Place::new(Item::Underlay, "address");
    if remote == local {
        found.push_pair(
            at,
            underlay,
            ConfigurationError::LinkToOneself { address: remote },
        );
    } else if remote.is_ipv4() != local.is_ipv4() {
        found.push_pair(
            at,
            underlay,
            ConfigurationError::OtherFamily { remote, local },
        );
    }
}

/// Everything that is wrong with a rule at this place, save that its key may be taken.
pub(super) fn check_rule(names: &impl Names, place: usize, rule: &Rule, found: &mut Problems) {
    let at = |key| Place::new(Item::Rule(place), key);
    check_network_name(names, &rule.network, at("network"), found);
    if let Source::Is(address) | Source::Not(address) = rule.source {
        check_station(address, at("source"), found);
    }
    if let Destination::Is(address @ Mac::ZERO) | Destination::Not(address @ Mac::ZERO) =
        rule.destination
    {
        found.push(
            at("destination"),
            ConfigurationError::ZeroAddress { address },
        );
    }
    if rule.origin == RuleOrigin::Port {
        found.push(at(""), ConfigurationError::ReservedOrigin);
    }
    match &rule.to {
        Target::Link(name) => check_link_target(names, rule, name, at("link"), found),
        Target::Port(device) => check_port_target(names, rule, device, at("port"), found),
        Target::Flood | Target::Drop => {}
    }
}

fn check_link_target(names: &impl Names, rule: &Rule, name: &str, at: Place, found: &mut Problems) {
    let Some((place, link)) = names.link_called(name) else {
        let links = names
            .configuration()
            .links
            .iter()
            .map(|link| link.name.as_str());
        found.push(at, unknown(Noun::Link, name, links));
        return;
    };
    if names.has_network(&rule.network) && !link.carries(&rule.network) {
        let (link, network) = (name.to_owned(), rule.network.clone());
        let earlier = Place::new(Item::Link(place), "networks");
        let error = ConfigurationError::LinkWithoutNetwork { link, network };
        found.push_pair(at, earlier, error);
    }
}

fn check_port_target(
    names: &impl Names,
    rule: &Rule,
    device: &str,
    at: Place,
    found: &mut Problems,
) {
    if let Err(why) = check_device_name(device) {
        found.push(
            at,
            ConfigurationError::BadDevice {
                name: device.to_owned(),
                why,
            },
        );
        return;
    }
    let Some((place, port)) = names.port_taking(device) else {
        let ports = names
            .configuration()
            .ports
            .iter()
            .map(|port| port.device.text());
        found.push(at, unknown(Noun::Port, device, ports));
        return;
    };
    if names.has_network(&rule.network) && port.network != rule.network {
        let error = ConfigurationError::PortInOtherNetwork {
            device: device.to_owned(),
            port_network: port.network.clone(),
            rule_network: rule.network.clone(),
        };
        found.push_pair(at, Place::new(Item::Port(place), "network"), error);
    }
}
