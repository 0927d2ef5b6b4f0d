//! Which rules are in force, those included that follow from the ports?
//!
//! Input: a configuration and the devices that are there. Output: the rules that are listed,
//! compiled into tables, and flooded by.

use std::collections::BTreeSet;

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use super::port::Device;
use super::{Addresses, Configuration, DeviceMatch, Rule, RuleOrigin, Target};

impl Configuration {
    /// All rules, oldest first: those that ports imply, then the others in order of age.
    ///
    /// A port entry implies `any -> address = port` for each address it lists, whether or not its
    /// device is there; an entry with a pattern implies them for each of its `devices`; and an
    /// address that a device has shown counts as listed where its entry learns. Where two claim
    /// one address of a network, a listed one wins over a learned one, and then the earlier: who
    /// has an address cannot lose it to one who shows up with it later. A rule with the same key
    /// takes an implied one's place.
    pub fn effective_rules(&self, devices: &[Device]) -> Vec<Rule> {
        let mut rules = self.implied_rules(devices);
        rules.extend_from_slice(&self.rules);
        rules
    }

    fn implied_rules(&self, devices: &[Device]) -> Vec<Rule> {
        let mut taken: BTreeSet<(&str, Mac)> = self
            .rules
            .iter()
            .filter_map(|rule| match (rule.source, rule.destination) {
                (Source::Any, Destination::Is(address)) => Some((rule.network.as_str(), address)),
                _ => None,
            })
            .collect();
        let mut implied = Vec::new();
        for (network, device, address) in self.addresses(devices) {
            if taken.insert((network, address)) {
                implied.push(implied_rule(network, device, address));
            }
        }
        implied
    }

    /// Which address of which network is at which device, the strongest claim first.
    fn addresses<'a>(
        &'a self,
        devices: &'a [Device],
    ) -> impl Iterator<Item = (&'a str, &'a str, Mac)> {
        let by_name = self
            .ports
            .iter()
            .filter_map(|port| match (&port.device, &port.addresses) {
                (DeviceMatch::Name(name), Addresses::Only(list)) => {
                    Some((port, name.as_str(), list))
                }
                _ => None,
            });
        let with_entries = || {
            devices
                .iter()
                .filter_map(|device| Some((self.ports.get(device.port)?, device)))
        };
        let by_pattern =
            with_entries().filter_map(|(port, device)| match (&port.device, &port.addresses) {
                (DeviceMatch::Pattern(_), Addresses::Only(list)) => {
                    Some((port, device.name.as_str(), list))
                }
                _ => None,
            });
        let listed = by_name.chain(by_pattern).flat_map(|(port, device, list)| {
            list.iter()
                .map(move |&address| (port.network.as_str(), device, address))
        });
        let learned = with_entries().filter_map(|(port, device)| match port.addresses {
            Addresses::Learn => {
                Some((port.network.as_str(), device.name.as_str(), device.learned?))
            }
            _ => None,
        });
        let station = |address: Mac| !address.is_group() && address != Mac::ZERO;
        listed
            .chain(learned)
            .filter(move |&(_, _, address)| station(address))
    }

    /// How many rules there are, those of ports named by name included.
    pub(super) fn rule_count(&self) -> usize {
        let implied = self
            .ports
            .iter()
            .map(|port| match (&port.device, &port.addresses) {
                (DeviceMatch::Name(_), Addresses::Only(addresses)) => addresses.len(),
                _ => 0,
            });
        self.rules.len() + implied.sum::<usize>()
    }
}

fn implied_rule(network: &str, device: &str, address: Mac) -> Rule {
    Rule {
        network: network.to_owned(),
        source: Source::Any,
        destination: Destination::Is(address),
        to: Target::Port(device.to_owned()),
        origin: RuleOrigin::Port,
    }
}
