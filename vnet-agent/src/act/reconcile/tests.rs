//! Do the steps lead from what is to what is wanted, in an order that frames can live with?

mod carried;
mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vnet_common::addr::{Cookie, LinkId, Mac, NetworkId, PortId, Stations};
use vnet_common::reason::Reason;
use vnet_common::rule::{Destination, Shape, Source};
use vnet_common::table::action::{Action, Decision};
use vnet_common::table::link::LinkEntry;
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::rule::{Alternative, RuleEntry, RuleKey};
use vnet_common::table::underlay::UnderlayEntry;

use super::desired::PathMtu;
use super::order::{Step, apply, steps};
use super::{Desired, Image, Surroundings, desired};
use crate::model::attachment::{Attachment, Role};
use crate::model::configuration::{Limits, Underlay, UnderlayMatch};
use crate::model::door::{Door, DoorChoice, Pick, Picks};
use crate::model::host::{Abilities, Address, Device, DeviceKind, Host, Scope};
use crate::model::next_hop::{NextHop, NoNextHop};
use crate::model::sample::{GUEST_ONE, GUEST_TWO, network, port, some_link, some_target};
use crate::model::{
    Addresses, Configuration, DeviceMatch, Link, PortDevice, Rule, RuleOrigin, Transport, sample,
};

const UNDERLAY: u32 = 2;
const SLOW_PATH: u32 = 3;
const LEDGERS: u32 = 64;

/// A host with an underlay device, the agent's tap and these taps; of the other ends of links, two
/// is known, three is being asked for, four does not answer and five has no route.
fn host(taps: &[&str], mtu: u32) -> Host {
    let mut host = Host::default();
    let mut add = |index: u32, name: &str, kind: DeviceKind| {
        let device = Device {
            index,
            name: name.to_owned(),
            up: true,
            running: true,
            mtu,
            mtu_max: None,
            mac: Some(Mac([2, 0, 0, 0, 0, index as u8])),
            kind,
            master: None,
            xdp: None,
            abilities: Abilities::default(),
        };
        host.devices.insert(index, device);
    };
    add(UNDERLAY, "eth0", DeviceKind::Veth);
    add(SLOW_PATH, "vnet-slow", DeviceKind::Tap);
    for (index, tap) in (10..).zip(taps) {
        add(index, tap, DeviceKind::Tap);
    }
    let address = Address {
        address: IpAddr::from([10, 0, 0, 1]),
        prefix_length: 24,
        peer: None,
        scope: Scope::Global,
        secondary: false,
        tentative: false,
        deprecated: false,
    };
    host.addresses.insert(UNDERLAY, vec![address]);
    let hop = NextHop {
        ifindex: UNDERLAY,
        source: address.address,
        mac: Mac([2, 0, 0, 0, 1, 2]),
        gateway: None,
        mtu,
    };
    let ways = [
        (2, Ok(hop)),
        (3, Err(NoNextHop::Resolving)),
        (4, Err(NoNextHop::Failed)),
        (5, Err(NoNextHop::NoRoute)),
    ];
    host.next_hops
        .extend(ways.map(|(number, way)| (IpAddr::from([10, 0, 0, number]), way)));
    host
}

/// A configuration that makes sense, about two networks, three taps and three links.
fn some_configuration() -> impl Strategy<Value = Configuration> {
    let networks = subsequence(vec![("blue", 7), ("green", 8)], 1..=2).prop_shuffle();
    let addresses = select(vec![
        Addresses::Any,
        Addresses::Learn,
        Addresses::Only(vec![GUEST_ONE]),
        Addresses::Only(vec![GUEST_ONE, GUEST_TWO]),
    ]);
    let doors = || select(vec![DoorChoice::Auto, DoorChoice::Xdp, DoorChoice::Tc]);
    let one_port = (
        select(vec!["blue", "green"]),
        addresses,
        any::<bool>(),
        doors(),
    );
    let ports = prop::collection::vec(prop::option::of(one_port), 3);
    let links = ["to-two", "to-three", "to-proxy"].map(|name| prop::option::of(some_link(name)));
    let side = || select(vec![GUEST_ONE, GUEST_TWO]);
    let source = prop_oneof![
        Just(Source::Any),
        side().prop_map(Source::Not),
        side().prop_map(Source::Is)
    ];
    let destination = prop_oneof![
        Just(Destination::None),
        Just(Destination::Any),
        side().prop_map(Destination::Not),
        side().prop_map(Destination::Is)
    ];
    let one_rule = (source, destination, some_target());
    let rules = prop::collection::vec(one_rule, 0..6);
    (networks, ports, links, rules, doors()).prop_map(|(networks, ports, links, rules, door)| {
        let mut configuration = Configuration {
            underlay: Underlay {
                on: UnderlayMatch::Device("eth0".into()),
                udp_port: 6081,
                tcp_port: 6081,
                door,
            },
            networks: networks
                .into_iter()
                .map(|(name, id)| network(name, id))
                .collect(),
            ports: Vec::new(),
            links: Vec::new(),
            rules: Vec::new(),
            limits: Limits::default(),
        };
        for (number, entry) in (0..).zip(ports) {
            let Some((of, addresses, set_mtu, door)) = entry else {
                continue;
            };
            let device = DeviceMatch::Name(format!("tap{number}"));
            let port = crate::model::Port {
                set_mtu,
                door,
                ..port(device, of, addresses)
            };
            keep_if_sensible(&mut configuration, |wanted| wanted.ports.push(port));
        }
        for link in links.into_iter().flatten() {
            keep_if_sensible(&mut configuration, |wanted| wanted.links.push(link));
        }
        for (source, destination, to) in rules {
            let of = RuleOrigin::Api;
            let rule = Rule {
                network: "blue".into(),
                source,
                destination,
                to,
                origin: of,
            };
            keep_if_sensible(&mut configuration, |wanted| wanted.rules.push(rule));
        }
        configuration
    })
}

fn keep_if_sensible(wanted: &mut Configuration, change: impl FnOnce(&mut Configuration)) {
    let mut changed = wanted.clone();
    change(&mut changed);
    if changed.problems().is_empty() {
        *wanted = changed;
    }
}

/// The doors as the settings name them; where they leave it open, XDP for the underlay and TC for
/// ports, whose frames are joined.
fn some_picks(configuration: &Configuration, host: &Host, devices: &[PortDevice]) -> Picks {
    let pick = |choice, auto| {
        let door = match choice {
            DoorChoice::Auto => auto,
            DoorChoice::Xdp => Door::Xdp,
            DoorChoice::Tc => Door::Tc,
        };
        Pick {
            joins: door == Door::Tc,
            ..Pick::new(door, "the test says so")
        }
    };
    let ports = devices.iter().filter_map(|taken| {
        let device = host.device_named(&taken.name)?;
        let port = configuration.ports.get(taken.port)?;
        Some((device.index, pick(port.door, Door::Tc)))
    });
    let ports: BTreeMap<u32, Pick> = ports.collect();
    let joins = ports.values().any(|pick| pick.joins);
    let wire = pick(configuration.underlay.door, Door::Xdp);
    Picks {
        underlay: Some(Pick { joins, ..wire }),
        ports,
        agent: Some(Door::Xdp),
    }
}

fn wanted_on(configuration: &Configuration, host: &Host, now: &Image) -> Desired {
    wanted_with(configuration, host, now, &BTreeMap::new())
}

fn wanted_with(
    configuration: &Configuration,
    host: &Host,
    now: &Image,
    path_mtus: &BTreeMap<String, PathMtu>,
) -> Desired {
    wanted_while(configuration, host, now, (path_mtus, &BTreeMap::new()))
}

fn wanted_while(
    configuration: &Configuration,
    host: &Host,
    now: &Image,
    (path_mtus, answering): (&BTreeMap<String, PathMtu>, &BTreeMap<String, Option<bool>>),
) -> Desired {
    let devices: Vec<PortDevice> = host
        .devices
        .values()
        .filter(|device| ![UNDERLAY, SLOW_PATH].contains(&device.index))
        .filter_map(|device| {
            let (place, _) = configuration.port_for(&device.name)?;
            Some(PortDevice {
                name: device.name.clone(),
                port: place,
                learned: None,
            })
        })
        .collect();
    let picks = some_picks(configuration, host, &devices);
    // In these tests the connection of one link is never there.
    let links = configuration.links.iter();
    let carried = links.map(|link| link.name.clone());
    let carried = carried.filter(|name| name != "to-three").collect();
    let given = Surroundings {
        host,
        devices: &devices,
        early: &BTreeSet::new(),
        slow_path_device: SLOW_PATH,
        namespace: 1,
        secret: 5,
        ledgers: LEDGERS,
        picks: &picks,
        path_mtus,
        answering,
        carried: &carried,
    };
    desired(configuration, &given, now)
}

/// Without what follows from the difference.
fn without_generations(image: &Image) -> Image {
    let mut image = image.clone();
    image.generation = 0;
    image
        .networks
        .values_mut()
        .for_each(|network| network.generation = 0);
    image
}

/// What leads to something that is not there.
fn dangling(image: &Image) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    let is_network = |slot: &u32, id: NetworkId| {
        image
            .networks
            .get(slot)
            .is_some_and(|network| network.id == id.get())
    };
    for (device, port) in &image.ports {
        must(
            is_network(&port.network_slot, port.network),
            format!("network of port {device}"),
        );
    }
    for (key, admission) in &image.admissions {
        must(
            image.links.contains_key(&admission.link.0),
            format!("link of admission {key:?}"),
        );
        must(
            is_network(&admission.network_slot, key.network),
            format!("network of {key:?}"),
        );
    }
    for (key, entry) in &image.rules {
        for rule in entry.alternatives() {
            match rule.action.decision() {
                Some(Decision::Deliver(PortId(port))) => {
                    must(
                        image.ports.contains_key(&port),
                        format!("port of rule {key:?}"),
                    );
                }
                Some(Decision::Send(LinkId(link))) => {
                    must(
                        image.links.contains_key(&link),
                        format!("link of rule {key:?}"),
                    );
                }
                _ => {}
            }
        }
    }
    for Attachment { role, ifindex, .. } in &image.attachments {
        let has_entry = match role {
            Role::Port => image.ports.contains_key(ifindex),
            Role::Underlay => image.underlays.contains_key(ifindex),
            Role::Agent => true,
        };
        must(has_entry, format!("entry of {role:?} {ifindex}"));
    }
    found
}

/// Underlays that pass frames up to be joined while one of their programs is missing.
fn joins_half(image: &Image) -> Vec<u32> {
    let has = |device, door| {
        let hold = Attachment::new(Role::Underlay, device, door);
        image.attachments.contains(&hold)
    };
    let joining = image
        .underlays
        .values()
        .filter(|entry| entry.flags & UnderlayEntry::JOINS != 0);
    joining
        .map(|entry| entry.device)
        .filter(|&device| !Door::ALL.into_iter().all(|door| has(device, door)))
        .collect()
}

/// Devices with a program of ours, and for what.
fn programmed(image: &Image) -> BTreeSet<(Role, u32)> {
    let holds = image.attachments.iter();
    holds.map(|hold| (hold.role, hold.ifindex)).collect()
}

/// Every ledger has one owner, and none is the agent's.
fn shared_ledgers(image: &Image) -> Vec<u32> {
    let mut owners: BTreeMap<u32, u32> = BTreeMap::from([(0, 1)]);
    let ports = image.ports.values().map(|port| port.ledger);
    let links = image.links.values().map(|link| link.ledger);
    for ledger in ports
        .chain(links)
        .chain(image.underlays.values().map(|entry| entry.ledger))
    {
        *owners.entry(ledger).or_default() += 1;
    }
    owners
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(ledger, _)| ledger)
        .collect()
}

/// Rules of one network, as flows have cached their decisions.
fn decisions(image: &Image, id: u32) -> BTreeMap<RuleKey, RuleEntry> {
    let of = |key: &RuleKey| key.network().is_some_and(|network| network.get() == id);
    image
        .rules
        .iter()
        .filter(|(key, _)| of(key))
        .map(|(key, entry)| (*key, *entry))
        .collect()
}

/// What flows have cached of the ports of one network.
fn permissions(image: &Image, id: u32) -> BTreeMap<u32, (u32, [Mac; 8], u32, u32)> {
    let of = image
        .ports
        .iter()
        .filter(|(_, port)| port.network.get() == id);
    of.map(|(device, port)| {
        (
            *device,
            (
                port.flags,
                port.addresses,
                port.ledger,
                port.frame_bytes_max,
            ),
        )
    })
    .collect()
}

fn generation_of(image: &Image, id: u32) -> Option<u32> {
    image
        .networks
        .values()
        .find(|network| network.id == id)
        .map(|network| network.generation)
}

const NETWORKS: [u32; 2] = [7, 8];

proptest! {
    /// One configuration after the other, as an admin would have them.
    #[test]
    fn steps_lead_from_any_configuration_to_any_other(
        configurations in prop::collection::vec((some_configuration(), 0..8usize), 1..5),
    ) {
        let mut now = Image::default();
        for (configuration, taps) in configurations {
            let all = ["tap0", "tap1", "tap2"];
            let present: Vec<&str> = all.iter().zip(0..).filter(|(_, bit)| taps & (1 << bit) != 0).map(|(tap, _)| *tap).collect();
            // The same name gets another index whenever the set changes: another device.
            let host = host(&present, 1500);
            let wanted = wanted_on(&configuration, &host, &now);
            prop_assert!(dangling(&wanted.image).is_empty(), "{:?}", dangling(&wanted.image));
            prop_assert_eq!(shared_ledgers(&wanted.image), Vec::<u32>::new());
            let links: BTreeSet<_> = wanted.links.values().collect();
            prop_assert_eq!(links.len(), wanted.links.len(), "every link has an id of its own");

            let before = now.clone();
            // Those that have a program before and after have one all the time.
            let lasting: BTreeSet<_> =
                programmed(&before).intersection(&programmed(&wanted.image)).copied().collect();
            for step in steps(&before, &wanted.image) {
                apply(&mut now, &step);
                prop_assert_eq!(joins_half(&now), Vec::<u32>::new(), "after {:?}", step);
                prop_assert!(lasting.is_subset(&programmed(&now)), "after {step:?}");
                prop_assert!(dangling(&now).is_empty(), "after {step:?}: {:?}", dangling(&now));
            }
            prop_assert_eq!(without_generations(&now), without_generations(&wanted.image));

            // Who looks again finds nothing to do.
            let again = wanted_on(&configuration, &host, &now);
            prop_assert_eq!(steps(&now, &again.image), vec![]);

            for id in NETWORKS {
                let (Some(old), Some(new)) = (generation_of(&before, id), generation_of(&now, id)) else {
                    continue;
                };
                let same = decisions(&before, id) == decisions(&now, id)
                    && permissions(&before, id) == permissions(&now, id);
                prop_assert_eq!(same, old == new, "network {}", id);
                prop_assert!(new >= old);
            }
        }
    }

    #[test]
    fn what_is_made_comes_before_what_is_taken_away(
        first in some_configuration(),
        second in some_configuration(),
    ) {
        let host = host(&["tap0", "tap1"], 1500);
        let mut now = Image::default();
        for step in steps(&now.clone(), &wanted_on(&first, &host, &now).image) {
            apply(&mut now, &step);
        }
        let steps = steps(&now, &wanted_on(&second, &host, &now).image);
        let places: Vec<u8> = steps.iter().map(|step| place(step, &now)).collect();
        prop_assert!(places.is_sorted(), "{places:?}: {steps:#?}");
    }
}

/// Where in the order a step belongs.
fn place(step: &Step, before: &Image) -> u8 {
    match step {
        Step::SetSetting(_) | Step::ZeroLedger(_) | Step::SetLink(..) => 0,
        // That a network is new, or that its rules are.
        Step::SetNetwork(slot, entry) => {
            let is_known = before
                .networks
                .get(slot)
                .is_some_and(|known| known.id == entry.id);
            let is_first = entry.generation == before.generation.wrapping_add(1);
            if !is_known && is_first { 1 } else { 5 }
        }
        Step::SetUnderlay(_)
        | Step::AddPortState(_)
        | Step::SetPort(..)
        | Step::SetAdmission(..) => 2,
        Step::SetRule(..) => 3,
        Step::RemoveRule(_) => 4,
        Step::Attach(_) => 6,
        Step::Join(_) => 7,
        Step::Detach(_) => 8,
        Step::RemoveAdmission(_)
        | Step::RemovePort(_)
        | Step::RemoveUnderlay(_)
        | Step::RemoveLink(_)
        | Step::RemoveNetwork(_) => 9,
    }
}
