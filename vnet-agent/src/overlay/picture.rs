//! What does the overlay look like that nobody has written a text about?
//!
//! Input: what the proxy knows of the hosts, and the parts that it has dealt. Output: the same as a
//! topology, which can be shown, compared and edited.

use std::collections::BTreeSet;
use std::net::IpAddr;

use vnet_common::addr::Mac;

use super::message::Introduction;
use super::roll::{Hub, Kept};
use crate::model::part::Part;
use crate::model::topology::{Flooding, Host, Link, LinkKind, Role, Rule, Target, Topology, Vm};
use crate::model::{self, problem::check_name};

/// The overlay as it is dealt.
pub fn picture(hub: &Hub<'_>, kept: &Kept) -> Topology {
    let agents = kept.agents.iter().map(|(name, has)| (name.as_str(), has));
    let all: Vec<(&str, &Introduction)> = [(hub.name, hub.introduction)]
        .into_iter()
        .chain(agents)
        .collect();
    let mut topology = Topology {
        networks: hub.networks.to_vec(),
        ..Topology::default()
    };
    for (name, has) in &all {
        let is_hub = *name == hub.name;
        topology.hosts.push(host(name, has, is_hub));
    }
    vms(&mut topology, &all);
    for (name, part) in &kept.parts {
        links(&mut topology, name, part);
    }
    for (name, part) in &kept.parts {
        let rules = part.rules.iter().filter_map(|rule| {
            let to = target(&topology, name, part, rule)?;
            Some(Rule {
                host: name.clone(),
                network: rule.network.clone(),
                source: rule.source,
                destination: rule.destination,
                to,
            })
        });
        let rules: Vec<Rule> = rules.collect();
        topology.rules.extend(rules);
    }
    topology.normal()
}

fn host(name: &str, has: &Introduction, is_hub: bool) -> Host {
    let device = has.ports.first().map(|port| port.device.clone());
    Host {
        name: name.to_owned(),
        user: "root".to_owned(),
        port: has.udp_port,
        interface: device.unwrap_or_else(|| "eth0".to_owned()),
        address: has.underlay.first().copied(),
        role: if is_hub { Role::Proxy } else { Role::Agent },
    }
}

/// Every station behind a port is a VM, called by its address: hosts know no names of VMs.
fn vms(topology: &mut Topology, all: &[(&str, &Introduction)]) {
    let mut seen: BTreeSet<(&str, Mac)> = BTreeSet::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (host, has) in all {
        for port in &has.ports {
            let Some(network) = topology.network(&port.network).cloned() else {
                continue;
            };
            for &mac in &port.stations {
                if !seen.insert((&port.network, mac)) {
                    continue;
                }
                let digits = mac.to_string().replace(':', "");
                let mut name = format!("vm-{digits}");
                if !names.insert(name.clone()) {
                    name = format!("vm-{digits}-{}", network.id);
                }
                topology.vms.push(Vm {
                    name,
                    mac,
                    network: network.name.clone(),
                    host: (*host).to_owned(),
                    device: port.device.clone(),
                    fixed: false,
                });
            }
        }
    }
}

/// A host's links, save those that the other end has brought already.
fn links(topology: &mut Topology, host: &str, part: &Part) {
    for link in part.links.iter().filter(|link| link.rung_of.is_none()) {
        let Some(other) = at(topology, link.remote).map(str::to_owned) else {
            continue;
        };
        let is_it = |known: &&mut Link| known.other(host) == Some(&other);
        if let Some(known) = topology.links.iter_mut().find(is_it) {
            // Both ends have one word for it in a topology: whoever passes frames on needs it.
            if link.flood == Flooding::Always {
                known.flood = Flooding::Always;
            }
            continue;
        }
        topology.links.push(Link {
            kind: if link.is_plain() {
                LinkKind::Plain
            } else {
                LinkKind::Udp
            },
            from: host.to_owned(),
            to: other,
            networks: link.networks.clone(),
            flood: link.flood,
        });
    }
}

fn at(topology: &Topology, address: IpAddr) -> Option<&str> {
    let found = topology.hosts.iter().find(|h| h.address == Some(address));
    found.map(|host| host.name.as_str())
}

fn target(topology: &Topology, host: &str, part: &Part, rule: &model::Rule) -> Option<Target> {
    Some(match &rule.to {
        model::Target::Link(name) => {
            let link = part.links.iter().find(|link| link.name == *name)?;
            let other = at(topology, link.remote)?;
            topology.link_between(host, other, &rule.network)?;
            Target::Edge(other.to_owned())
        }
        model::Target::Port(device) => Target::Interface(device.clone()),
        model::Target::Flood => Target::Flood,
        model::Target::Drop => Target::Drop,
    })
}

/// Agents that a topology leaves out, and names that could not be written in a text.
pub fn left_out(topology: &Topology, kept: &Kept) -> Vec<String> {
    let agents = kept.agents.keys();
    let missing = agents.filter(|name| topology.host(name).is_none() && check_name(name).is_ok());
    missing
        .map(|name| format!("{name} is an agent of the overlay, and is left out"))
        .collect()
}

#[cfg(test)]
mod tests {
    use vnet_common::addr::Cookie;

    use super::*;
    use crate::model::sample::{GUEST_ONE, GUEST_TWO, network};
    use crate::overlay::message::{Capacities, IntroducedPort};
    use crate::overlay::roll::Roll;

    fn has(number: u8, station: Option<Mac>) -> Introduction {
        let port = station.map(|station| IntroducedPort {
            device: "tap0".into(),
            network: "blue".into(),
            stations: vec![station],
            is_open: false,
        });
        Introduction {
            underlay: vec![IpAddr::from([10, 0, 0, number])],
            udp_port: 6081,
            ports: port.into_iter().collect(),
            capacities: Capacities::default(),
        }
    }

    #[test]
    fn the_star_is_a_topology_that_gives_the_same_ways() {
        let mut kept = Kept::default();
        kept.agents.insert("one".into(), has(1, Some(GUEST_ONE)));
        kept.agents.insert("two".into(), has(2, Some(GUEST_TWO)));
        let networks = [network("blue", 7)];
        let introduction = has(100, None);
        let hub = Hub {
            name: "hub",
            introduction: &introduction,
            networks: &networks,
        };
        let mut roll = Roll::new(kept);
        let mut number = 0;
        roll.deal(&hub, 1, || {
            number += 1;
            Ok::<_, String>(Cookie(number))
        })
        .unwrap();
        let topology = picture(&hub, roll.kept());
        assert_eq!(topology.problems(), []);
        assert!(topology.cut_off().is_empty());
        let links: Vec<String> = topology.links.iter().map(ToString::to_string).collect();
        assert_eq!(
            links,
            [
                "udp hub to one for blue, flood always",
                "udp hub to two for blue, flood always",
            ]
        );
        let router = crate::model::topology::Router::new(&topology);
        let hops = router.route(None, GUEST_ONE, GUEST_TWO).unwrap();
        let hosts: Vec<&str> = hops.iter().map(|hop| hop.host.as_str()).collect();
        assert_eq!(hosts, ["one", "hub", "two"]);
        // What is shown can be applied as it is, and changes nothing but what frames for many do at
        // the leaves, where it makes no difference.
        roll.set_topology(Some(topology.clone()));
        roll.deal(&hub, 2, || Ok::<_, String>(Cookie(9))).unwrap();
        assert_eq!(picture(&hub, roll.kept()), topology);
        assert_eq!(left_out(&topology, roll.kept()), <[String; 0]>::default());
        let mut without = topology;
        without.hosts.retain(|host| host.name != "two");
        let said = left_out(&without, roll.kept());
        assert_eq!(said, ["two is an agent of the overlay, and is left out"]);
    }
}
