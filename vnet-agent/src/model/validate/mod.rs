//! Does a configuration make sense?
//!
//! Input: a configuration from anywhere. Output: everything that is wrong with it, each with its
//! place. The same checks of one entry serve the whole file and a change at run time.

mod index;
mod link;
mod port;
mod rule;

use std::collections::BTreeMap;

use vnet_common::addr::Mac;

use super::configuration::{Limits, UnderlayMatch};
use super::port::check_device_name;
use super::problem::{
    ConfigurationError, Item, Noun, Place, Problem, check_name, check_underlay_address,
};
use super::suggest::suggestion;
use super::{Configuration, DeviceMatch, Port};
pub(super) use index::Index;
use index::Names;
pub(super) use link::check_link;
pub use port::takes;
pub(super) use rule::check_rule;

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
            port::check_port(&index, place, port, &mut found);
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

/// Whether a frame can come from this address.
fn check_station(address: Mac, at: Place, found: &mut Problems) {
    if address.is_group() {
        found.push(at, ConfigurationError::GroupAddress { address });
    } else if address == Mac::ZERO {
        found.push(at, ConfigurationError::ZeroAddress { address });
    }
}
