//! Does a rule make sense?

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use super::index::Names;
use super::{Problems, check_network_name, check_station, unknown};
use crate::model::port::check_device_name;
use crate::model::problem::{ConfigurationError, Item, Noun, Place};
use crate::model::{Rule, RuleOrigin, Target};

/// Everything that is wrong with a rule at this place, save that its key may be taken.
pub(in crate::model) fn check_rule(
    names: &impl Names,
    place: usize,
    rule: &Rule,
    found: &mut Problems,
) {
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
