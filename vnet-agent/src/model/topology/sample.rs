//! Which overlays are tests about?

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vnet_common::addr::{Mac, NetworkId};
use vnet_common::rule::{Destination, Source};

use super::{Flooding, Host, Link, LinkKind, Network, Role, Rule, Target, Topology, Vm};

/// The VMs of network blue: one on each host of that number.
pub(crate) const GUEST: [Mac; 3] = [
    Mac([0x52, 0x54, 0, 0, 0, 1]),
    Mac([0x52, 0x54, 0, 0, 0, 2]),
    Mac([0x52, 0x54, 0, 0, 0, 3]),
];
/// Nobody's address.
pub(crate) const STRANGER: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x77]);

/// A proxy and the hosts one, two and three with a VM each; a star for broadcasts, a fast path
/// between one and two, and a foreign endpoint behind the proxy.
pub(crate) fn three() -> Topology {
    let edge = |to: &str| Target::Edge(to.into());
    let mut rules = vec![
        rule("one", Destination::Is(GUEST[1]), edge("two")),
        rule("two", Destination::Is(GUEST[0]), edge("one")),
    ];
    for (host, mac) in [("one", 0), ("two", 1), ("three", 2)] {
        rules.push(rule("proxy", Destination::Is(GUEST[mac]), edge(host)));
        rules.push(rule(host, Destination::None, edge("proxy")));
    }
    rules.push(rule("proxy", Destination::None, Target::Flood));
    let star = |to| Link {
        flood: Flooding::Always,
        ..link("proxy", to, &["blue"])
    };
    Topology {
        networks: vec![network("blue", 7), network("green", 8)],
        hosts: vec![
            Host {
                role: Role::Proxy,
                ..host("proxy", 100)
            },
            host("one", 1),
            host("two", 2),
            host("three", 3),
            Host {
                role: Role::Foreign,
                ..host("far", 200)
            },
        ],
        vms: vec![
            vm("vm1", 1, "blue", "one"),
            vm("vm2", 2, "blue", "two"),
            vm("vm3", 3, "blue", "three"),
        ],
        links: vec![
            star("one"),
            star("two"),
            star("three"),
            Link {
                flood: Flooding::Never,
                ..link("one", "two", &["blue"])
            },
            Link {
                kind: LinkKind::Plain,
                ..link("proxy", "far", &["blue"])
            },
        ],
        rules,
    }
    .normal()
}

pub(crate) fn network(name: &str, id: u32) -> Network {
    Network {
        name: name.into(),
        id: NetworkId::new(id).unwrap(),
    }
}

pub(crate) fn host(name: &str, number: u8) -> Host {
    Host {
        name: name.into(),
        user: "admin".into(),
        port: 6081,
        interface: "eth0".into(),
        address: Some(IpAddr::from([10, 0, 0, number])),
        role: Role::Agent,
    }
}

pub(crate) fn vm(name: &str, number: u8, network: &str, host: &str) -> Vm {
    Vm {
        name: name.into(),
        mac: Mac([0x52, 0x54, 0, 0, 0, number]),
        network: network.into(),
        host: host.into(),
        device: format!("tap{number}"),
        fixed: false,
    }
}

pub(crate) fn link(from: &str, to: &str, networks: &[&str]) -> Link {
    Link {
        kind: LinkKind::Udp,
        from: from.into(),
        to: to.into(),
        networks: networks.iter().map(|&name| name.into()).collect(),
        flood: Flooding::FromPorts,
    }
}

/// A rule of network blue, from any source.
pub(crate) fn rule(host: &str, destination: Destination, to: Target) -> Rule {
    Rule {
        host: host.into(),
        network: "blue".into(),
        source: Source::Any,
        destination,
        to,
    }
}

const HOSTS: [&str; 5] = ["proxy", "one", "two", "HOST", "10.0.0.44"];
const NETWORKS: [&str; 3] = ["blue", "green", "red"];

/// Any valid topology in its normal form.
pub(crate) fn some_topology() -> impl Strategy<Value = Topology> {
    let hosts = some_hosts();
    let networks = subsequence(vec![0usize, 1, 2], 1..=3);
    (hosts, networks).prop_flat_map(|(hosts, networks)| {
        let networks: Vec<Network> = networks
            .into_iter()
            .map(|place| network(NETWORKS[place], place as u32 + 7))
            .collect();
        let vms = some_vms(&hosts, &networks);
        let links = some_links(&hosts, &networks);
        (Just(hosts), Just(networks), vms, links).prop_flat_map(|(hosts, networks, vms, links)| {
            let bare = Topology {
                networks,
                hosts,
                vms,
                links,
                rules: Vec::new(),
            };
            some_rules(&bare).prop_map(move |rules| {
                Topology {
                    rules,
                    ..bare.clone()
                }
                .normal()
            })
        })
    })
}

fn some_hosts() -> impl Strategy<Value = Vec<Host>> {
    let users = select(vec!["admin", "root", "ashish", "BEGIN"]);
    let interface = select(vec!["eth0", "vmnet1", "br#1", "a\"b\\"]);
    let details = (users, interface, any::<bool>(), any::<bool>());
    let details = prop::collection::vec(details, HOSTS.len());
    (
        subsequence((0..HOSTS.len()).collect::<Vec<_>>(), 1..=5),
        details,
    )
        .prop_map(|(places, details)| {
            let with = |place: usize| {
                let (user, interface, has_address, is_proxy) = details[place];
                let number = u8::try_from(place).unwrap() + 1;
                Host {
                    user: user.into(),
                    interface: interface.into(),
                    address: has_address.then(|| IpAddr::from([10, 0, 0, number])),
                    role: if place == 0 && is_proxy {
                        Role::Proxy
                    } else {
                        Role::Agent
                    },
                    ..host(HOSTS[place], number)
                }
            };
            places.into_iter().map(with).collect()
        })
}

fn some_vms(hosts: &[Host], networks: &[Network]) -> impl Strategy<Value = Vec<Vm>> + use<> {
    let names = |hosts: &[Host]| hosts.iter().map(|h| h.name.clone()).collect::<Vec<_>>();
    let (hosts, networks) = (names(hosts), networks.to_vec());
    let one = (select(hosts), select(networks), any::<bool>());
    prop::collection::vec(one, 0..6).prop_map(|places| {
        let numbered = places.into_iter().zip(1u8..);
        numbered
            .map(|((host, network, fixed), number)| Vm {
                fixed,
                ..vm(&format!("vm{number}"), number, &network.name, &host)
            })
            .collect()
    })
}

fn some_links(hosts: &[Host], networks: &[Network]) -> impl Strategy<Value = Vec<Link>> + use<> {
    let mut edges = Vec::new();
    for (place, one) in hosts.iter().enumerate() {
        for other in hosts.iter().take(place) {
            edges.push((one.name.clone(), other.name.clone()));
        }
    }
    let names: Vec<String> = networks.iter().map(|n| n.name.clone()).collect();
    let floods = vec![Flooding::FromPorts, Flooding::Always, Flooding::Never];
    let count = edges.len();
    let details = (
        select(LinkKind::ALL.to_vec()),
        subsequence(names.clone(), 1..=names.len()),
        select(floods),
        any::<bool>(),
    );
    let details = prop::collection::vec(details, count);
    (subsequence(edges, 0..=count), details).prop_map(|(edges, details)| {
        let both = edges.into_iter().zip(details);
        both.map(|((one, other), (kind, networks, flood, swap))| {
            let (from, to) = if swap { (other, one) } else { (one, other) };
            Link {
                kind,
                from,
                to,
                networks,
                flood,
            }
        })
        .collect()
    })
}

/// Rules that the links and VMs of a topology allow, no two with one key.
fn some_rules(bare: &Topology) -> impl Strategy<Value = Vec<Rule>> + use<> {
    let mut targets = Vec::new();
    for host in &bare.hosts {
        for network in &bare.networks {
            let mut push = |to| targets.push((host.name.clone(), network.name.clone(), to));
            push(Target::Flood);
            push(Target::Drop);
            push(Target::Interface("lan#0".into()));
            for link in &bare.links {
                if let Some(other) = link
                    .other(&host.name)
                    .filter(|_| link.carries(&network.name))
                {
                    push(Target::Edge(other.to_owned()));
                }
            }
            for vm in &bare.vms {
                if vm.host == host.name && vm.network == network.name {
                    push(Target::Interface(vm.device.clone()));
                }
            }
        }
    }
    let macs = || select(GUEST.to_vec());
    let source = prop_oneof![
        Just(Source::Any),
        macs().prop_map(Source::Is),
        macs().prop_map(Source::Not)
    ];
    let destination = prop_oneof![
        Just(Destination::None),
        Just(Destination::Any),
        macs().prop_map(Destination::Is),
        macs().prop_map(Destination::Not),
        Just(Destination::Is(Mac::BROADCAST)),
    ];
    prop::collection::vec((select(targets), source, destination), 0..40).prop_map(|rules| {
        let mut keys = std::collections::BTreeSet::new();
        let made = rules
            .into_iter()
            .map(|((host, network, to), source, destination)| Rule {
                host,
                network,
                source,
                destination,
                to,
            });
        made.filter(|rule| keys.insert(rule.key())).collect()
    })
}
