//! Which configurations are tests about?

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vnet_common::addr::{Cookie, Mac, NetworkId};
use vnet_common::rule::{Destination, Source};

use super::configuration::{Limits, Underlay, UnderlayMatch};
use super::door::DoorChoice;
use super::{
    Addresses, Configuration, DeviceMatch, Flooding, Link, Network, Port, Rule, RuleOrigin, Target,
    Transport,
};

/// The guests of the sample networks: one and two are here, three is on host two.
pub(crate) const GUEST_ONE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
pub(crate) const GUEST_TWO: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
pub(crate) const GUEST_THREE: Mac = Mac([0x52, 0x54, 0, 0, 0, 3]);

/// A host with the guests one and two in network blue, a learning family of taps in network
/// green, links to two and to the proxy, a rule to guest three and a default rule.
pub(crate) fn host_one() -> Configuration {
    Configuration {
        underlay: Underlay {
            on: UnderlayMatch::Address(IpAddr::from([10, 0, 0, 1])),
            udp_port: 6081,
            tcp_port: 6081,
            door: DoorChoice::Auto,
        },
        networks: vec![network("blue", 7), network("green", 8)],
        ports: vec![
            port(
                DeviceMatch::Name("tap0".into()),
                "blue",
                Addresses::Only(vec![GUEST_ONE]),
            ),
            port(
                DeviceMatch::Name("tap1".into()),
                "blue",
                Addresses::Only(vec![GUEST_TWO]),
            ),
            port(
                DeviceMatch::Pattern("tap-green-*".into()),
                "green",
                Addresses::Learn,
            ),
        ],
        links: vec![
            link("to-two", 2, &["blue"]),
            link("to-proxy", 3, &["blue", "green"]),
        ],
        rules: vec![
            rule(
                "blue",
                Destination::Is(GUEST_THREE),
                Target::Link("to-two".into()),
            ),
            rule("blue", Destination::None, Target::Link("to-two".into())),
        ],
        limits: Limits::default(),
    }
}

pub(crate) fn network(name: &str, id: u32) -> Network {
    Network {
        name: name.into(),
        id: NetworkId::new(id).unwrap(),
    }
}

pub(crate) fn port(device: DeviceMatch, network: &str, addresses: Addresses) -> Port {
    Port {
        device,
        network: network.into(),
        addresses,
        set_mtu: true,
        slow_path_rate: 2000,
        slow_path_burst: 1000,
        door: DoorChoice::Auto,
    }
}

pub(crate) fn link(name: &str, host: u8, networks: &[&str]) -> Link {
    Link {
        name: name.into(),
        remote: IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)),
        networks: networks.iter().map(|&name| name.into()).collect(),
        cookie: Some(Cookie(0x0123_4567_89ab_cdef)),
        flood: Flooding::FromPorts,
        fallback: None,
        kind: Transport::Udp,
        listen_only: false,
        rung_of: None,
    }
}

/// A rule of an API client, from any source.
pub(crate) fn rule(network: &str, destination: Destination, to: Target) -> Rule {
    Rule {
        network: network.into(),
        source: Source::Any,
        destination,
        to,
        origin: RuleOrigin::Api,
    }
}

/// Any configuration in which no two entries have the same key; most of them make no sense.
pub(crate) fn some_configuration() -> impl Strategy<Value = Configuration> {
    let networks = some_entries(vec!["blue", "green", "red", "white"], |name| {
        (1u32..4).prop_map(move |id| network(name, id)).boxed()
    });
    let devices = vec![
        DeviceMatch::Name("tap0".into()),
        DeviceMatch::Name("tap1".into()),
        DeviceMatch::Pattern("tap*".into()),
        DeviceMatch::Pattern("t?p*".into()),
    ];
    let ports = some_entries(devices, |device| some_port(device).boxed());
    let links = some_entries(vec!["to-two", "to-three", "to-proxy"], |name| {
        some_link(name).boxed()
    });
    let addresses = [GUEST_ONE, GUEST_TWO];
    let mut keys = Vec::new();
    for address in addresses {
        for source in [Source::Any, Source::Not(address), Source::Is(address)] {
            keys.push((source, Destination::None));
            keys.push((source, Destination::Not(address)));
        }
    }
    keys.sort();
    keys.dedup();
    let rules = some_entries(keys, |(source, destination)| {
        let rule = move |to| Rule {
            source,
            ..rule("blue", destination, to)
        };
        some_target().prop_map(rule).boxed()
    });
    let limits = (1u32..3).prop_map(|ports| Limits {
        ports,
        ..Limits::default()
    });
    let underlay = select(vec![6081, 6082]).prop_map(|udp_port| Underlay {
        on: UnderlayMatch::Device("eth0".into()),
        udp_port,
        tcp_port: 6081,
        door: DoorChoice::Auto,
    });
    (underlay, networks, ports, links, rules, limits).prop_map(
        |(underlay, networks, ports, links, rules, limits)| Configuration {
            underlay,
            networks,
            ports,
            links,
            rules,
            limits,
        },
    )
}

/// Some of the keys in some order, each with some value.
fn some_entries<K, T>(
    keys: Vec<K>,
    entry: fn(K) -> BoxedStrategy<T>,
) -> impl Strategy<Value = Vec<T>>
where
    K: Clone + std::fmt::Debug + 'static,
    T: std::fmt::Debug,
{
    let count = keys.len();
    subsequence(keys, 0..=count)
        .prop_shuffle()
        .prop_flat_map(move |keys| keys.into_iter().map(entry).collect::<Vec<_>>())
}

fn some_port(device: DeviceMatch) -> impl Strategy<Value = Port> {
    let addresses = prop_oneof![
        Just(Addresses::Any),
        Just(Addresses::Learn),
        subsequence(vec![GUEST_ONE, GUEST_TWO], 1..=2).prop_map(Addresses::Only),
    ];
    let door = select(vec![DoorChoice::Auto, DoorChoice::Xdp, DoorChoice::Tc]);
    (
        select(vec!["blue", "green"]),
        addresses,
        any::<bool>(),
        door,
    )
        .prop_map(move |(network, addresses, set_mtu, door)| Port {
            set_mtu,
            door,
            ..port(device.clone(), network, addresses)
        })
}

pub(crate) fn some_link(name: &'static str) -> impl Strategy<Value = Link> {
    let networks = subsequence(vec!["blue", "green"], 1..=2);
    let cookie = prop::option::of((1u64..4).prop_map(Cookie));
    let flood = select(vec![Flooding::FromPorts, Flooding::Always, Flooding::Never]);
    (2u8..6, networks, cookie, flood).prop_map(move |(host, networks, cookie, flood)| Link {
        cookie,
        flood,
        ..link(name, host, &networks)
    })
}

pub(crate) fn some_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        select(vec!["to-two", "to-three"]).prop_map(|name| Target::Link(name.into())),
        select(vec!["tap0", "tap1"]).prop_map(|name| Target::Port(name.into())),
        Just(Target::Flood),
        Just(Target::Drop),
    ]
}
