//! Which rules are in force, those included that follow from the ports?
//!
//! Input: a configuration and the devices that are there. Output: the rules that are listed,
//! compiled into tables, and flooded by.

use std::collections::BTreeSet;

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use super::port::PortDevice;
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
    pub fn effective_rules(&self, devices: &[PortDevice]) -> Vec<Rule> {
        let mut rules = self.implied_rules(devices);
        rules.extend_from_slice(&self.rules);
        rules
    }

    fn implied_rules(&self, devices: &[PortDevice]) -> Vec<Rule> {
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
        devices: &'a [PortDevice],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::{GUEST_ONE, GUEST_THREE, GUEST_TWO, host_one, port, rule};

    fn device(name: &str, port: usize, learned: Option<Mac>) -> PortDevice {
        PortDevice {
            name: name.into(),
            port,
            learned,
        }
    }

    fn shown(configuration: &Configuration, devices: &[PortDevice]) -> Vec<String> {
        let rules = configuration.effective_rules(devices);
        rules
            .iter()
            .map(|rule| format!("{:?} {rule}", rule.origin))
            .collect()
    }

    #[test]
    fn ports_imply_rules_that_are_older_than_all_others() {
        let expected = [
            "Port blue: any -> 52:54:00:00:00:01 = port tap0",
            "Port blue: any -> 52:54:00:00:00:02 = port tap1",
            "Api blue: any -> 52:54:00:00:00:03 = link to-two",
            "Api blue: any -> none = link to-two",
        ];
        assert_eq!(shown(&host_one(), &[]), expected);
    }

    #[test]
    fn a_family_of_ports_implies_rules_once_its_devices_are_there() {
        let mut configuration = host_one();
        configuration.rules.clear();
        configuration.ports.push(port(
            DeviceMatch::Pattern("vm*".into()),
            "green",
            Addresses::Only(vec![GUEST_TWO, GUEST_THREE]),
        ));
        let devices = [
            device("tap-green-1", 2, Some(GUEST_ONE)),
            device("tap-green-2", 2, None),
            device("vm1", 3, None),
            device("gone", 17, Some(GUEST_ONE)),
        ];
        let expected = [
            "Port blue: any -> 52:54:00:00:00:01 = port tap0",
            "Port blue: any -> 52:54:00:00:00:02 = port tap1",
            "Port green: any -> 52:54:00:00:00:02 = port vm1",
            "Port green: any -> 52:54:00:00:00:03 = port vm1",
            "Port green: any -> 52:54:00:00:00:01 = port tap-green-1",
        ];
        assert_eq!(shown(&configuration, &devices), expected);
    }

    #[test]
    fn an_address_stays_with_whom_has_the_better_claim() {
        let mut configuration = host_one();
        configuration.rules.clear();
        configuration.ports[1].network = "green".into();
        let devices = [
            device("tap-green-1", 2, Some(GUEST_ONE)),
            device("tap-green-2", 2, Some(GUEST_ONE)),
            device("tap-green-3", 2, Some(GUEST_TWO)),
            device("tap-green-4", 2, Some(Mac::BROADCAST)),
        ];
        let expected = [
            "Port blue: any -> 52:54:00:00:00:01 = port tap0",
            "Port green: any -> 52:54:00:00:00:02 = port tap1",
            "Port green: any -> 52:54:00:00:00:01 = port tap-green-1",
        ];
        assert_eq!(shown(&configuration, &devices), expected);
    }

    #[test]
    fn a_rule_takes_the_place_of_an_implied_one() {
        let mut configuration = host_one();
        configuration.rules = vec![rule("blue", Destination::Is(GUEST_ONE), Target::Drop)];
        let expected = [
            "Port blue: any -> 52:54:00:00:00:02 = port tap1",
            "Api blue: any -> 52:54:00:00:00:01 = drop",
        ];
        assert_eq!(shown(&configuration, &[]), expected);
    }

    #[test]
    fn exact_names_win_over_patterns_and_earlier_patterns_over_later() {
        let mut configuration = host_one();
        let pattern = |text: &str| port(DeviceMatch::Pattern(text.into()), "blue", Addresses::Any);
        configuration.ports.insert(0, pattern("tap*"));
        configuration.ports.push(pattern("*"));
        let place = |device| configuration.port_for(device).map(|(place, _)| place);
        assert_eq!(place("tap1"), Some(2));
        assert_eq!(place("tap-green-1"), Some(0));
        assert_eq!(place("eth7"), Some(4));
        configuration.ports.pop();
        assert_eq!(configuration.port_for("eth7"), None);
    }
}
