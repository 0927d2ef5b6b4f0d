//! Does everyone concerned get a frame for many, once, and nobody else?

use proptest::prelude::*;
use vnet_common::addr::{Cookie, NetworkId};
use vnet_common::rule::{Destination, Shape, Source};

use super::*;
use crate::model::configuration::{Limits, Underlay, UnderlayMatch};
use crate::model::door::DoorChoice;
use crate::model::{Addresses, DeviceMatch, Link, Network, Port, Rule, RuleOrigin, Transport};

const GUEST_ONE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const GUEST_TWO: Mac = Mac([2, 0, 0, 0, 0, 2]);
const GUEST_FAR: Mac = Mac([2, 0, 0, 0, 0, 9]);

fn port(device: &str, network: &str, address: Mac) -> Port {
    Port {
        device: DeviceMatch::Name(device.into()),
        network: network.into(),
        addresses: Addresses::Only(vec![address]),
        set_mtu: true,
        slow_path_rate: 2000,
        slow_path_burst: 1000,
        door: DoorChoice::Auto,
    }
}

fn link(name: &str, host: u8, flood: Flooding) -> Link {
    Link {
        name: name.into(),
        remote: std::net::IpAddr::from([10, 0, 0, host]),
        networks: vec!["blue".into()],
        cookie: Some(Cookie(1)),
        flood,
        fallback: None,
        kind: Transport::Udp,
        listen_only: false,
        rung_of: None,
    }
}

fn rule(source: Source, destination: Destination, to: Target) -> Rule {
    Rule {
        network: "blue".into(),
        source,
        destination,
        to,
        origin: RuleOrigin::File,
    }
}

fn default_rule(to: Target) -> Rule {
    rule(Source::Any, Destination::None, to)
}

fn host_one(rules: Vec<Rule>) -> Configuration {
    Configuration {
        underlay: Underlay {
            on: UnderlayMatch::Device("eth0".into()),
            udp_port: 6081,
            tcp_port: 6081,
            door: DoorChoice::Auto,
        },
        networks: vec![
            Network {
                name: "blue".into(),
                id: NetworkId::new(7).unwrap(),
            },
            Network {
                name: "green".into(),
                id: NetworkId::new(8).unwrap(),
            },
        ],
        ports: vec![
            port("tap0", "blue", GUEST_ONE),
            port("tap1", "blue", GUEST_TWO),
            port("tap-absent", "blue", Mac([2, 0, 0, 0, 0, 3])),
            port("tap-green", "green", GUEST_ONE),
        ],
        links: vec![
            link("to-two", 2, Flooding::FromPorts),
            link("to-proxy", 3, Flooding::Always),
            link("to-quiet", 4, Flooding::Never),
        ],
        rules,
        limits: Limits::default(),
    }
}

fn devices() -> Vec<PortDevice> {
    let device = |name: &str, port| PortDevice {
        name: name.into(),
        port,
        learned: None,
    };
    vec![device("tap0", 0), device("tap1", 1), device("tap-green", 3)]
}

#[track_caller]
fn expect(rules: Vec<Rule>, to: Mac, from: End<'_>, expected: &[End<'_>]) {
    let table = FloodTable::new(&host_one(rules), &devices());
    assert_eq!(table.targets("blue", GUEST_ONE, to, from), expected);
}

#[test]
fn a_broadcast_of_a_guest_reaches_the_other_ports_and_the_willing_links() {
    expect(
        vec![default_rule(Target::Flood)],
        Mac::BROADCAST,
        End::Port("tap0"),
        &[
            End::Port("tap1"),
            End::Link("to-proxy"),
            End::Link("to-two"),
        ],
    );
}

#[test]
fn a_broadcast_from_a_link_goes_on_only_over_links_that_always_take_it() {
    let flood = || vec![default_rule(Target::Flood)];
    let ports = [End::Port("tap0"), End::Port("tap1")];
    expect(flood(), Mac::BROADCAST, End::Link("to-proxy"), &ports);
    let expected = [ports[0], ports[1], End::Link("to-proxy")];
    expect(flood(), Mac::BROADCAST, End::Link("to-two"), &expected);
}

#[test]
fn a_group_frame_goes_to_the_targets_of_all_matching_rules_once() {
    let rules = vec![
        default_rule(Target::Link("to-quiet".into())),
        rule(
            Source::Any,
            Destination::Is(Mac::BROADCAST),
            Target::Port("tap1".into()),
        ),
        rule(Source::Any, Destination::Any, Target::Port("tap1".into())),
        rule(
            Source::Not(GUEST_ONE),
            Destination::Any,
            Target::Link("to-two".into()),
        ),
        rule(
            Source::Is(GUEST_ONE),
            Destination::Any,
            Target::Port("tap-absent".into()),
        ),
    ];
    let expected = [End::Port("tap1"), End::Link("to-quiet")];
    expect(rules, Mac::BROADCAST, End::Port("tap0"), &expected);
}

#[test]
fn a_drop_rule_silences_the_weaker_ones() {
    let rules = vec![
        default_rule(Target::Flood),
        rule(Source::Any, Destination::Is(Mac::BROADCAST), Target::Drop),
        rule(
            Source::Is(GUEST_ONE),
            Destination::Is(Mac::BROADCAST),
            Target::Link("to-two".into()),
        ),
    ];
    expect(
        rules,
        Mac::BROADCAST,
        End::Port("tap0"),
        &[End::Link("to-two")],
    );
}

#[test]
fn a_frame_for_one_station_follows_the_strongest_rule_only() {
    let rules = || {
        vec![
            default_rule(Target::Flood),
            rule(
                Source::Any,
                Destination::Is(GUEST_FAR),
                Target::Link("to-quiet".into()),
            ),
        ]
    };
    expect(
        rules(),
        GUEST_FAR,
        End::Port("tap0"),
        &[End::Link("to-quiet")],
    );
    expect(rules(), GUEST_FAR, End::Link("to-quiet"), &[]);
    expect(rules(), GUEST_TWO, End::Port("tap0"), &[End::Port("tap1")]);
    let unknown = Mac([2, 0, 0, 0, 0, 0x77]);
    let flooded = [
        End::Port("tap1"),
        End::Link("to-proxy"),
        End::Link("to-two"),
    ];
    expect(rules(), unknown, End::Port("tap0"), &flooded);
}

#[test]
fn without_a_rule_nobody_gets_it() {
    expect(Vec::new(), Mac::BROADCAST, End::Port("tap0"), &[]);
    let table = FloodTable::new(&host_one(Vec::new()), &devices());
    let from = End::Port("tap0");
    assert_eq!(table.targets("red", GUEST_ONE, Mac::BROADCAST, from), &[]);
}

/// The definition, word by word: every rule is looked at.
fn reference(
    configuration: &Configuration,
    devices: &[PortDevice],
    (source, destination): (Mac, Mac),
    from: End<'_>,
) -> BTreeSet<String> {
    let mut matching: Vec<(u8, usize, Target)> = Vec::new();
    for (age, rule) in configuration
        .effective_rules(devices)
        .into_iter()
        .enumerate()
    {
        let addressed = rule.source.matches(source) && rule.destination.matches(destination);
        if rule.network == "blue" && addressed {
            let strength = Shape::of(rule.source, rule.destination).strength();
            matching.push((strength, age, rule.to));
        }
    }
    matching.sort_by_key(|&(strength, age, _)| (strength, age));
    let mut reached = BTreeSet::new();
    while let Some((_, _, target)) = matching.pop() {
        match target {
            Target::Drop => break,
            Target::Link(name) => {
                reached.insert(format!("link {name}"));
            }
            Target::Port(name) => {
                if devices.iter().any(|device| device.name == name) {
                    reached.insert(format!("port {name}"));
                }
            }
            Target::Flood => {
                for device in devices {
                    if configuration.ports[device.port].network == "blue" {
                        reached.insert(format!("port {}", device.name));
                    }
                }
                for link in &configuration.links {
                    let from_port = matches!(from, End::Port(_));
                    let always = link.flood == Flooding::Always;
                    if always || (link.flood == Flooding::FromPorts && from_port) {
                        reached.insert(format!("link {}", link.name));
                    }
                }
            }
        }
        if !destination.is_group() {
            break;
        }
    }
    reached.remove(&text(from));
    reached
}

fn text(end: End<'_>) -> String {
    match end {
        End::Port(name) => format!("port {name}"),
        End::Link(name) => format!("link {name}"),
    }
}

fn some_mac() -> impl Strategy<Value = Mac> {
    prop::sample::select(vec![
        GUEST_ONE,
        GUEST_TWO,
        GUEST_FAR,
        Mac::BROADCAST,
        Mac([0x33, 0x33, 0, 0, 0, 1]),
    ])
}

fn some_rule() -> impl Strategy<Value = Rule> {
    let source = prop_oneof![
        Just(Source::Any),
        some_mac().prop_map(Source::Is),
        some_mac().prop_map(Source::Not),
    ];
    let destination = prop_oneof![
        Just(Destination::None),
        Just(Destination::Any),
        some_mac().prop_map(Destination::Is),
        some_mac().prop_map(Destination::Not),
    ];
    let target = prop_oneof![
        3 => prop::sample::select(vec!["to-two", "to-proxy", "to-quiet"])
            .prop_map(|name| Target::Link(name.into())),
        3 => prop::sample::select(vec!["tap0", "tap1", "tap-absent"])
            .prop_map(|name| Target::Port(name.into())),
        2 => Just(Target::Flood),
        1 => Just(Target::Drop),
    ];
    (source, destination, target).prop_map(|(from, to, target)| rule(from, to, target))
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_definition(
        rules in prop::collection::vec(some_rule(), 0..12),
        source in some_mac(),
        destination in some_mac(),
        from in prop::sample::select(vec![
            End::Port("tap0"), End::Port("tap1"), End::Link("to-two"), End::Link("to-proxy"),
        ]),
    ) {
        let configuration = host_one(rules);
        let table = FloodTable::new(&configuration, &devices());
        let targets = table.targets("blue", source, destination, from);
        let found: BTreeSet<String> = targets.iter().copied().map(text).collect();
        prop_assert_eq!(found.len(), targets.len(), "somebody gets it twice");
        let expected = reference(&configuration, &devices(), (source, destination), from);
        prop_assert_eq!(found, expected);
    }
}
