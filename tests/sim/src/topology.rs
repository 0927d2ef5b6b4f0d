//! Topologies by chance, and how frames should travel over them.
//!
//! Two networks share the hosts and many addresses, so that whatever leaks from one into the other
//! finds somebody there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use vnet_agent::model::topology::{Host, Link, LinkKind, Role, Rule, Target, Topology, Vm};
use vnet_agent::model::{Flooding, Network};
use vnet_common::addr::{Mac, NetworkId};
use vnet_common::rule::{Destination, Source};

/// The names of the networks.
pub const NETWORKS: [&str; 2] = ["blue", "green"];
const HOSTS_MAX: u8 = 6;
const ADDRESSES: u8 = 8;

/// The address of this number.
pub const fn mac(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number])
}

fn host_name(number: u8) -> String {
    format!("host{number}")
}

fn host(number: u8) -> Host {
    Host {
        name: host_name(number),
        user: "root".to_owned(),
        port: 6081,
        interface: "tap0".to_owned(),
        address: Some([10, 0, 0, number + 1].into()),
        role: if number == 0 {
            Role::Proxy
        } else {
            Role::Agent
        },
    }
}

fn network(number: usize) -> Network {
    Network {
        name: NETWORKS[number].to_owned(),
        id: NetworkId::new(u32::try_from(number).unwrap() + 7).unwrap(),
    }
}

/// Hosts, VMs and links, without rules.
pub fn bare() -> impl Strategy<Value = Topology> {
    (2..=HOSTS_MAX).prop_flat_map(|hosts| {
        let vms = btree_set((0..2_usize, 0..ADDRESSES), 2..10);
        let places = vec(0..hosts, 10);
        let pairs: Vec<(u8, u8)> = (0..hosts)
            .flat_map(|one| (one + 1..hosts).map(move |other| (one, other)))
            .collect();
        let carried = select(vec![vec![0], vec![1], vec![0, 1]]);
        let links = proptest::sample::subsequence(pairs.clone(), 0..=pairs.len());
        let links = (links, vec(carried, pairs.len()));
        (Just(hosts), vms, places, links).prop_map(|(hosts, vms, places, (links, carried))| {
            build(hosts, vms, places, links, carried)
        })
    })
}

fn build(
    hosts: u8,
    vms: BTreeSet<(usize, u8)>,
    places: Vec<u8>,
    links: Vec<(u8, u8)>,
    carried: Vec<Vec<usize>>,
) -> Topology {
    let vms = vms.into_iter().zip(places).enumerate();
    let vm = |(number, ((network, address), host)): (usize, ((usize, u8), u8))| Vm {
        name: format!("vm{number}"),
        mac: mac(address),
        network: NETWORKS[network].to_owned(),
        host: host_name(host),
        device: format!("tap{number}"),
        fixed: false,
    };
    let link = |((one, other), networks): ((u8, u8), Vec<usize>)| Link {
        kind: LinkKind::Udp,
        from: host_name(one),
        to: host_name(other),
        networks: networks.iter().map(|&n| NETWORKS[n].to_owned()).collect(),
        flood: Flooding::Never,
    };
    Topology {
        networks: vec![network(0), network(1)],
        hosts: (0..hosts).map(host).collect(),
        vms: vms.map(vm).collect(),
        links: links.into_iter().zip(carried).map(link).collect(),
        rules: Vec::new(),
    }
}

/// The same with a rule for each VM on each host that has a way to it: over the fewest links.
#[must_use]
pub fn routed(mut topology: Topology) -> Topology {
    let mut rules = Vec::new();
    for vm in &topology.vms {
        for (host, next) in ways(&topology, &vm.network, &vm.host) {
            rules.push(Rule {
                host,
                network: vm.network.clone(),
                source: Source::Any,
                destination: Destination::Is(vm.mac),
                to: Target::Edge(next),
            });
        }
    }
    topology.rules = rules;
    topology
}

/// From every other host that has a way to `to` in this network: the next host on a shortest one.
pub fn ways(topology: &Topology, network: &str, to: &str) -> BTreeMap<String, String> {
    let mut next = BTreeMap::new();
    let mut waiting = VecDeque::from([to.to_owned()]);
    while let Some(host) = waiting.pop_front() {
        let links = topology.links.iter().filter(|link| link.carries(network));
        for other in links.filter_map(|link| link.other(&host)) {
            if other != to && !next.contains_key(other) {
                next.insert(other.to_owned(), host.clone());
                waiting.push_back(other.to_owned());
            }
        }
    }
    next
}

/// Any rules over the same hosts, VMs and links, right or wrong: loops, drops, other people's
/// devices.
pub fn with_any_rules() -> impl Strategy<Value = Topology> {
    bare().prop_flat_map(|topology| {
        let qualified = (
            0..12_usize,
            0..2_usize,
            0..3_u8,
            0..ADDRESSES,
            0..4_u8,
            0..ADDRESSES,
            0..8_usize,
        );
        (Just(topology), vec(qualified, 0..30)).prop_map(|(mut topology, drawn)| {
            let mut keys = BTreeSet::new();
            for (host, net, source_kind, source, destination_kind, destination, target) in drawn {
                let host = &topology.hosts[host % topology.hosts.len()].name;
                let source = match source_kind {
                    0 => Source::Any,
                    1 => Source::Is(mac(source)),
                    _ => Source::Not(mac(source)),
                };
                let destination = match destination_kind {
                    0 => Destination::Any,
                    1 => Destination::None,
                    2 => Destination::Not(mac(destination)),
                    _ => Destination::Is(mac(destination)),
                };
                let network = NETWORKS[net];
                let targets = targets(&topology, host, network);
                let rule = Rule {
                    host: host.clone(),
                    network: network.to_owned(),
                    source,
                    destination,
                    to: targets[target % targets.len()].clone(),
                };
                if keys.insert(rule.key()) {
                    topology.rules.push(rule);
                }
            }
            topology
        })
    })
}

/// Where a rule of this host and network may lead.
fn targets(topology: &Topology, host: &str, network: &str) -> Vec<Target> {
    let links = topology.links.iter().filter(|link| link.carries(network));
    let edges = links
        .filter_map(|link| link.other(host))
        .map(|other| Target::Edge(other.to_owned()));
    let vms = topology.vms.iter();
    let devices = vms
        .filter(|vm| vm.host == host && vm.network == network)
        .map(|vm| Target::Interface(vm.device.clone()));
    edges.chain(devices).chain([Target::Drop]).collect()
}

/// A star around the first host: rules to every VM through it, and everything else to everybody.
pub fn star() -> impl Strategy<Value = Topology> {
    bare().prop_map(|topology| star_around(topology, 0))
}

/// The same hosts and VMs as a star around the host of this place.
#[must_use]
pub fn star_around(mut topology: Topology, center: usize) -> Topology {
    let center = topology.hosts[center].name.clone();
    let others = topology.hosts.iter().filter(|host| host.name != center);
    topology.links = others
        .map(|host| Link {
            kind: LinkKind::Udp,
            from: center.clone(),
            to: host.name.clone(),
            networks: NETWORKS.map(str::to_owned).to_vec(),
            flood: Flooding::Always,
        })
        .collect();
    flooded(routed(topology))
}

/// The same where everything that no rule is about goes to everybody, over all links: also in rings.
#[must_use]
pub fn flooded(mut topology: Topology) -> Topology {
    for link in &mut topology.links {
        link.flood = Flooding::Always;
    }
    for host in &topology.hosts {
        for network in NETWORKS {
            topology.rules.push(Rule {
                host: host.name.clone(),
                network: network.to_owned(),
                source: Source::Any,
                destination: Destination::None,
                to: Target::Flood,
            });
        }
    }
    topology
}
