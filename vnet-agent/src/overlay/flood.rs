//! Who gets a frame that came to the agent: one for a group, or one under a `flood` rule?
//!
//! Input: the configuration with the devices that are there, and a frame's network, addresses and
//! origin. Output: the ports and links to send it to. Pure; the slow path asks for each frame.
//!
//! A frame for a single station follows the strongest matching rule, as in the kernel. A frame
//! for a group goes to the targets of all matching rules, from the strongest down to the first
//! that says `drop`: what is weaker than that does not count. Either way `flood` stands for every
//! port of the network and for those of its links that take such frames, nobody gets it twice,
//! and it never goes back where it came from.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::addr::Mac;

use crate::model::ranking::Ranking;
use crate::model::{Configuration, Flooding, PortDevice, Target};

/// Where a frame comes from or goes to, on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End<'a> {
    /// A port, by its device's name.
    Port(&'a str),
    /// A link, by its name.
    Link(&'a str),
}

/// The rules of all networks, arranged so that a frame meets those only that may be about it.
#[derive(Clone, Debug, Default)]
pub struct FloodTable {
    networks: BTreeMap<String, Lan>,
}

/// One network.
#[derive(Clone, Debug, Default)]
struct Lan {
    /// Its devices that are there.
    ports: BTreeSet<String>,
    /// The links that carry it.
    links: BTreeMap<String, Flooding>,
    /// Where its rules lead.
    rules: Ranking<Target>,
}

impl FloodTable {
    /// The table for a configuration on a host with these devices.
    pub fn new(configuration: &Configuration, devices: &[PortDevice]) -> Self {
        let mut networks: BTreeMap<String, Lan> = configuration
            .networks
            .iter()
            .map(|network| (network.name.clone(), Lan::default()))
            .collect();
        for device in devices {
            let entry = configuration.ports.get(device.port);
            if let Some(lan) = entry.and_then(|port| networks.get_mut(&port.network)) {
                lan.ports.insert(device.name.clone());
            }
        }
        for link in &configuration.links {
            for network in &link.networks {
                if let Some(lan) = networks.get_mut(network) {
                    lan.links.insert(link.name.clone(), link.flood);
                }
            }
        }
        for (age, rule) in configuration
            .effective_rules(devices)
            .into_iter()
            .enumerate()
        {
            if let Some(lan) = networks.get_mut(&rule.network) {
                lan.rules.add(age, rule.source, rule.destination, rule.to);
            }
        }
        Self { networks }
    }

    /// Who gets a frame, in a fixed order; nobody in an unknown network.
    pub fn targets(
        &self,
        network: &str,
        source: Mac,
        destination: Mac,
        from: End<'_>,
    ) -> Vec<End<'_>> {
        let Some(lan) = self.networks.get(network) else {
            return Vec::new();
        };
        let mut matching = lan.rules.matching(source, destination);
        if destination.is_group() {
            let end = matching.iter().position(|rule| rule.rule == Target::Drop);
            matching.truncate(end.unwrap_or(matching.len()));
        } else {
            matching.truncate(1);
        }
        let mut targets = BTreeSet::new();
        for rule in matching {
            lan.add_targets(&rule.rule, from, &mut targets);
        }
        targets
            .into_iter()
            .filter(|&target| target != from)
            .collect()
    }
}

impl Lan {
    fn add_targets<'a>(&'a self, to: &'a Target, from: End<'_>, targets: &mut BTreeSet<End<'a>>) {
        match to {
            Target::Link(name) => {
                targets.insert(End::Link(name));
            }
            Target::Port(device) if self.ports.contains(device) => {
                targets.insert(End::Port(device));
            }
            Target::Port(_) | Target::Drop => {}
            Target::Flood => {
                targets.extend(self.ports.iter().map(|device| End::Port(device)));
                let takes = |flooding: Flooding| match flooding {
                    Flooding::Always => true,
                    Flooding::FromPorts => matches!(from, End::Port(_)),
                    Flooding::Never => false,
                };
                let links = self.links.iter().filter(|&(_, &flooding)| takes(flooding));
                targets.extend(links.map(|(name, _)| End::Link(name)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
