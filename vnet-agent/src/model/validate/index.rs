//! Who is called what, and who has what only one may have?

use std::collections::BTreeMap;
use std::net::IpAddr;

use vnet_common::addr::{Cookie, Mac, NetworkId};

use crate::model::{Addresses, Configuration, DeviceMatch, Link, Port};

/// Who is called what: what a rule's names are looked up in.
pub(in crate::model) trait Names {
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
pub(in crate::model) struct Index<'a> {
    pub(super) configuration: &'a Configuration,
    pub(super) networks: BTreeMap<&'a str, usize>,
    pub(super) network_ids: BTreeMap<NetworkId, usize>,
    pub(super) devices: BTreeMap<&'a DeviceMatch, usize>,
    patterns: Vec<usize>,
    pub(super) addresses: BTreeMap<(&'a str, Mac), (usize, usize)>,
    pub(super) links: BTreeMap<&'a str, usize>,
    pub(super) remotes: BTreeMap<(IpAddr, &'a str, bool), usize>,
    pub(super) cookies: BTreeMap<Cookie, usize>,
}

impl<'a> Index<'a> {
    pub(in crate::model) fn new(configuration: &'a Configuration) -> Self {
        let mut index = Self {
            configuration,
            networks: BTreeMap::new(),
            network_ids: BTreeMap::new(),
            devices: BTreeMap::new(),
            patterns: Vec::new(),
            addresses: BTreeMap::new(),
            links: BTreeMap::new(),
            remotes: BTreeMap::new(),
            cookies: BTreeMap::new(),
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
                let key = (link.remote, network.as_str(), link.kind.is_carried());
                index.remotes.entry(key).or_insert(place);
            }
            if let Some(cookie) = link.cookie.filter(|_| link.kind.is_carried()) {
                index.cookies.entry(cookie).or_insert(place);
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
