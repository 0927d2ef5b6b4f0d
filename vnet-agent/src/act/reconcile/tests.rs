//! Do the steps lead from what is to what is wanted, in an order that frames can live with?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vnet_common::addr::{LinkId, Mac, NetworkId, PortId, Stations};
use vnet_common::reason::Reason;
use vnet_common::rule::{Destination, Shape, Source};
use vnet_common::table::action::{Action, Decision};
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
use crate::model::{Addresses, Configuration, DeviceMatch, PortDevice, Rule, RuleOrigin};

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
    let given = Surroundings {
        host,
        devices: &devices,
        slow_path_device: SLOW_PATH,
        namespace: 1,
        secret: 5,
        ledgers: LEDGERS,
        picks: &picks,
        path_mtus,
    };
    desired(configuration, &given, now)
}

#[test]
fn a_link_sends_what_is_known_to_arrive_and_guests_follow() {
    let (configuration, host) = mtu_case(true, true, 1500);
    let name = configuration.links[0].name.clone();
    let on = |known: Option<Option<u32>>, now: &Image| {
        let known = known.map(|arrives| PathMtu {
            arrives,
            settled: None,
        });
        let known = known.map(|known| (name.clone(), known)).into_iter();
        wanted_with(&configuration, &host, now, &known.collect())
    };
    let mtus = |desired: &Desired| {
        let guest = desired.guest_mtus.values().copied().min();
        (
            desired.ways[&name].device_mtu,
            desired.ways[&name].mtu,
            guest,
        )
    };
    let fresh = on(Some(None), &Image::default());
    assert_eq!(
        mtus(&fresh),
        (1500, 1500, Some(1430)),
        "the device's word at first"
    );
    let narrow = on(Some(Some(1400)), &after(&Image::default(), &fresh));
    assert_eq!(mtus(&narrow), (1500, 1400, Some(1330)));
    assert_eq!(narrow.image.links[&0].frame_bytes_max, 1330 + 14);
    let now = after(&Image::default(), &narrow);
    assert_eq!(
        mtus(&on(Some(None), &now)).1,
        1400,
        "an agent that starts keeps it"
    );
    assert_eq!(mtus(&on(None, &now)).1, 1500, "but not if nobody asks");
    assert_eq!(
        mtus(&on(Some(Some(9000)), &now)).1,
        1500,
        "nor more than the device sends"
    );
    let searching = PathMtu {
        arrives: Some(1280),
        settled: Some(1400),
    };
    let known = [(name.clone(), searching)].into_iter().collect();
    let searching = wanted_with(&configuration, &host, &now, &known);
    assert_eq!(
        mtus(&searching),
        (1500, 1280, Some(1330)),
        "guests are told when it is over"
    );
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

/// Host one's configuration with these MTU wishes, on a host whose tap has this MTU.
fn mtu_case(set_mtu: bool, has_link: bool, tap_mtu: u32) -> (Configuration, Host) {
    let mut configuration = crate::model::sample::host_one();
    configuration.underlay.on = UnderlayMatch::Device("eth0".into());
    configuration.ports.truncate(1);
    configuration.ports[0].set_mtu = set_mtu;
    configuration.rules.clear();
    configuration.links.truncate(usize::from(has_link));
    let mut host = host(&["tap0"], 1500);
    host.devices.get_mut(&10).unwrap().mtu = tap_mtu;
    (configuration, host)
}

fn after(now: &Image, wanted: &Desired) -> Image {
    let mut image = now.clone();
    steps(now, &wanted.image)
        .iter()
        .for_each(|step| apply(&mut image, step));
    image
}

#[test]
fn a_veth_keeps_the_mtu_that_its_guests_frames_are_measured_against() {
    let (configuration, mut host) = mtu_case(true, true, 1500);
    host.devices.get_mut(&10).unwrap().kind = DeviceKind::Veth;
    let wanted = wanted_on(&configuration, &host, &Image::default());
    assert!(wanted.mtus.is_empty());
    assert_eq!(wanted.guest_mtus.values().copied().min(), Some(1430));
    assert_eq!(wanted.image.ports[&10].mtu_before, 0);
}

#[test]
fn a_devices_mtu_is_set_kept_and_put_back() {
    let (configuration, host) = mtu_case(true, true, 1500);
    let wanted = wanted_on(&configuration, &host, &Image::default());
    assert_eq!(wanted.mtus, BTreeMap::from([(10, 1430)]));
    let now = after(&Image::default(), &wanted);
    assert_eq!(now.ports[&10].mtu_before, 1500);

    // It was set; now nothing limits it any more, or the agent is not to set it.
    for (set_mtu, has_link) in [(true, false), (false, true)] {
        let (changed, host) = mtu_case(set_mtu, has_link, 1430);
        let wanted = wanted_on(&changed, &host, &now);
        assert_eq!(wanted.mtus, BTreeMap::from([(10, 1500)]));
        let set = after(&now, &wanted);
        assert_eq!(
            set.ports[&10].mtu_before, 1500,
            "remembered until it is there"
        );
        let (_, host) = mtu_case(set_mtu, has_link, 1500);
        let wanted = wanted_on(&changed, &host, &set);
        assert!(wanted.mtus.is_empty());
        assert_eq!(after(&set, &wanted).ports[&10].mtu_before, 0);
    }

    // It is no port any more.
    let (mut without, host) = mtu_case(true, true, 1430);
    without.ports.clear();
    let wanted = wanted_on(&without, &host, &now);
    assert_eq!(wanted.mtus_before, BTreeMap::from([(10, 1500)]));

    // The underlay device is away: nobody knows better, so everything stays.
    let (configuration, mut host) = mtu_case(true, true, 1430);
    host.devices.remove(&UNDERLAY);
    let wanted = wanted_on(&configuration, &host, &now);
    assert!(wanted.mtus.is_empty() && wanted.mtus_before.is_empty());
    assert_eq!(after(&now, &wanted).ports[&10].mtu_before, 1500);
}

#[test]
fn a_link_that_is_being_resolved_keeps_its_earlier_way() {
    let (configuration, mut host) = mtu_case(true, true, 1430);
    let now = after(
        &Image::default(),
        &wanted_on(&configuration, &host, &Image::default()),
    );
    let to_two = IpAddr::from([10, 0, 0, 2]);
    for (way, is_kept) in [
        (NoNextHop::Resolving, true),
        (NoNextHop::Failed, false),
        (NoNextHop::NoRoute, false),
    ] {
        host.next_hops.insert(to_two, Err(way));
        let wanted = wanted_on(&configuration, &host, &now);
        assert_eq!(wanted.image.links == now.links, is_kept, "{way:?}");
        assert_eq!(wanted.faults.is_empty(), is_kept, "{:?}", wanted.faults);
    }
    // An agent that starts has not asked yet.
    host.next_hops.clear();
    assert_eq!(
        wanted_on(&configuration, &host, &now).image.links,
        now.links
    );
}

#[test]
fn a_rule_without_its_target_drops_and_says_so() {
    let network = NetworkId::new(7).unwrap();
    let entry = |action| {
        let alternative = Alternative {
            action,
            ..Alternative::NONE
        };
        RuleEntry::compile(&[alternative]).unwrap()
    };
    let mut configuration = crate::model::sample::host_one();
    configuration.underlay.on = UnderlayMatch::Device("eth0".into());
    let wanted = wanted_on(&configuration, &host(&["tap1"], 1500), &Image::default());
    let shape = Shape::of(Source::Any, Destination::Is(GUEST_ONE));
    let key = |mac| RuleKey::new(network, shape, Stations::new(Mac::ZERO, mac));
    let rule = |mac| wanted.image.rules.get(&key(mac)).copied();
    assert_eq!(
        rule(GUEST_ONE),
        Some(entry(Action::drop(Reason::PortAbsent)))
    );
    assert_eq!(rule(GUEST_TWO), Some(entry(Action::deliver(PortId(10)))));
    let waiting = wanted
        .faults
        .iter()
        .find(|fault| fault.subject == "port tap0");
    assert!(
        waiting.is_some_and(|fault| fault.is_waiting),
        "{:?}",
        wanted.faults
    );
}

#[test]
fn a_network_that_comes_back_is_above_every_generation_it_had() {
    let entry = |generation| NetworkEntry {
        id: 7,
        generation,
        shapes: 0,
        _pad: 0,
    };
    let now = Image {
        generation: 9,
        ..Image::default()
    };
    let wanted = Image {
        networks: BTreeMap::from([(0, entry(0))]),
        ..Image::default()
    };
    assert_eq!(steps(&now, &wanted), [Step::SetNetwork(0, entry(10))]);
}
