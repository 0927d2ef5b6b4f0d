//! Many hosts, many topologies, any frames: what arrives where?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sim::topology::{bare, flooded, mac, routed, star, ways, with_any_rules};
use sim::world::{Conditions, Delivery, World, frame};
use vnet_agent::model::topology::{Fate, Router, Topology, Vm, Why};
use vnet_common::addr::Mac;
use vnet_common::reason::Reason;

const MILLISECOND_NS: u64 = 1_000_000;
const NUMBER_BYTES: usize = 4;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A numbered frame from each VM to each other address of its network, a millisecond apart.
fn everybody_sends(world: &mut World, topology: &Topology) -> Vec<(Vm, Mac)> {
    let mut sent = Vec::new();
    for vm in &topology.vms {
        let peers = topology
            .vms
            .iter()
            .filter(|peer| peer.network == vm.network);
        for peer in peers.filter(|peer| peer.mac != vm.mac) {
            let number = u32::try_from(sent.len()).unwrap().to_be_bytes();
            let after_ns = MILLISECOND_NS * sent.len() as u64;
            world.send(after_ns, vm, peer.mac, &number);
            sent.push((vm.clone(), peer.mac));
        }
    }
    sent
}

/// Which of the numbered frames this is.
fn number(delivery: &Delivery) -> usize {
    let bytes = delivery.frame[14..14 + NUMBER_BYTES].try_into().unwrap();
    u32::from_be_bytes(bytes) as usize
}

/// Whether a frame from here gets to there, over links that carry the network.
fn is_reachable(topology: &Topology, from: &Vm, to: &Vm) -> bool {
    from.host == to.host || ways(topology, &to.network, &to.host).contains_key(&from.host)
}

fn owner<'a>(topology: &'a Topology, network: &str, address: Mac) -> &'a Vm {
    let mut vms = topology.vms.iter();
    vms.find(|vm| vm.network == network && vm.mac == address)
        .unwrap()
}

/// Every frame that came in anywhere has exactly one outcome.
fn assert_balanced(world: &World) {
    for (name, host) in &world.hosts {
        for (slot, ledger) in host.ledgers() {
            assert!(ledger.is_balanced(), "{name}, ledger {slot}: {ledger:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn every_vm_reaches_every_other_where_there_is_a_way_and_nobody_else(
        topology in bare().prop_map(routed),
        seed: u64,
    ) {
        prop_assert_eq!(topology.problems(), []);
        let mut world = World::new(&topology, Conditions::default(), seed);
        world.bring_about(&topology, 1);
        let sent = everybody_sends(&mut world, &topology);
        world.run();
        let mut arrived = BTreeMap::new();
        for delivery in &world.delivered {
            let (from, to) = &sent[number(delivery)];
            let to = owner(&topology, &from.network, *to);
            prop_assert_eq!((&delivery.host, &delivery.device), (&to.host, &to.device));
            prop_assert_eq!(
                &delivery.frame,
                &frame(from.mac, to.mac, &delivery.frame[14..14 + NUMBER_BYTES])
            );
            *arrived.entry(number(delivery)).or_insert(0) += 1;
        }
        for (number, (from, to)) in sent.iter().enumerate() {
            let to = owner(&topology, &from.network, *to);
            let expected = u32::from(is_reachable(&topology, from, to));
            let times = arrived.get(&number).copied().unwrap_or(0);
            prop_assert_eq!(times, expected, "{} -> {}", from, to);
        }
        assert_balanced(&world);
    }

    #[test]
    fn what_the_route_says_is_what_becomes_of_a_frame(
        topology in with_any_rules(),
        seed: u64,
    ) {
        let mut world = World::new(&topology, Conditions::default(), seed);
        world.bring_about(&topology, 1);
        let router = Router::new(&topology);
        for vm in topology.vms.clone() {
            for destination in 0..10 {
                let destination = mac(destination);
                if destination == vm.mac {
                    continue;
                }
                let looped: u64 = world.hosts.values().map(|h| h.dropped(Reason::HopLimit)).sum();
                world.delivered.clear();
                world.send(MILLISECOND_NS, &vm, destination, &[]);
                world.run();
                let looped_now: u64 =
                    world.hosts.values().map(|h| h.dropped(Reason::HopLimit)).sum();
                let hops = router.from_vm(&vm, destination);
                let mut devices = BTreeSet::new();
                let mut loops = false;
                for hop in &hops {
                    for fate in &hop.fates {
                        match fate {
                            Fate::Interface { device, .. } => {
                                devices.insert((hop.host.clone(), device.clone()));
                            }
                            Fate::Dropped(Why::Loop) => loops = true,
                            _ => {}
                        }
                    }
                }
                let got: Vec<_> = world
                    .delivered
                    .iter()
                    .map(|delivery| (delivery.host.clone(), delivery.device.clone()))
                    .collect();
                let expected: Vec<_> = devices.into_iter().collect();
                prop_assert_eq!(&got, &expected, "{} -> {}: {:?}", vm, destination, hops);
                prop_assert_eq!(looped_now > looped, loops, "{} -> {}: {:?}", vm, destination, hops);
            }
        }
        assert_balanced(&world);
    }

    #[test]
    fn a_broadcast_in_a_star_reaches_everyone_of_its_network_once(
        topology in star(),
        seed: u64,
    ) {
        prop_assert_eq!(topology.problems(), []);
        let mut world = World::new(&topology, Conditions::default(), seed);
        world.bring_about(&topology, 1);
        for vm in &topology.vms {
            world.delivered.clear();
            world.send(MILLISECOND_NS, vm, Mac::BROADCAST, b"who has");
            world.run();
            let mut got: Vec<_> = world.delivered.iter().map(|d| (&d.host, &d.device)).collect();
            got.sort();
            let peers = topology.vms.iter().filter(|peer| peer.network == vm.network);
            let mut expected: Vec<_> = peers
                .filter(|peer| peer.name != vm.name)
                .map(|peer| (&peer.host, &peer.device))
                .collect();
            expected.sort();
            prop_assert_eq!(got, expected);
        }
        assert_balanced(&world);
    }

    #[test]
    fn a_frame_for_many_reaches_everyone_once_over_any_links_rings_too(
        topology in bare().prop_map(flooded),
        jitter_ns in 0..5 * MILLISECOND_NS,
        seed: u64,
    ) {
        let conditions = Conditions { jitter_ns, ..Conditions::default() };
        let mut world = World::new(&topology, conditions, seed);
        world.bring_about(&topology, 1);
        for vm in &topology.vms {
            for destination in [Mac::BROADCAST, mac(99)] {
                world.delivered.clear();
                world.send(MILLISECOND_NS, vm, destination, b"who has");
                world.run();
                let mut got: Vec<_> =
                    world.delivered.iter().map(|d| (&d.host, &d.device)).collect();
                got.sort();
                let peers = topology.vms.iter().filter(|peer| peer.network == vm.network);
                let mut expected: Vec<_> = peers
                    .filter(|peer| peer.name != vm.name && is_reachable(&topology, vm, peer))
                    .map(|peer| (&peer.host, &peer.device))
                    .collect();
                expected.sort();
                prop_assert_eq!(got, expected, "{} -> {}", vm, destination);
            }
        }
        for (name, host) in &world.hosts {
            prop_assert_eq!(host.dropped(Reason::HopLimit), 0, "in circles through {}", name);
        }
        assert_balanced(&world);
    }

    #[test]
    fn loss_and_disorder_lose_frames_and_do_nothing_worse(
        topology in bare().prop_map(routed),
        loss_per_mille in 0..500_u32,
        seed: u64,
    ) {
        let conditions = Conditions {
            loss_per_mille,
            delay_ns: 2 * MILLISECOND_NS,
            jitter_ns: 10 * MILLISECOND_NS,
        };
        let mut world = World::new(&topology, conditions, seed);
        world.bring_about(&topology, 1);
        let sent = everybody_sends(&mut world, &topology);
        world.run();
        let mut arrived = BTreeSet::new();
        for delivery in &world.delivered {
            let (from, to) = &sent[number(delivery)];
            let to = owner(&topology, &from.network, *to);
            prop_assert_eq!((&delivery.host, &delivery.device), (&to.host, &to.device));
            prop_assert!(arrived.insert(number(delivery)), "it came twice");
        }
        let possible = sent.iter().filter(|(from, to)| {
            is_reachable(&topology, from, owner(&topology, &from.network, *to))
        });
        // What is missing was lost by the network, one packet a frame.
        prop_assert_eq!(possible.count() as u64, arrived.len() as u64 + world.lost);
        assert_balanced(&world);
    }
}

/// Two ways to link the same VMs.
fn two_topologies() -> impl Strategy<Value = (Topology, Topology)> {
    (bare(), bare()).prop_filter_map("as many hosts", |(one, other)| {
        let mut changed = Topology {
            links: other.links,
            ..one.clone()
        };
        (one.hosts.len() >= other.hosts.len()).then(|| {
            changed = routed(changed.clone());
            (routed(one), changed)
        })
    })
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn a_change_in_any_order_sends_no_frame_astray_and_ends_where_it_should(
        (before, after) in two_topologies(),
        seed: u64,
    ) {
        prop_assert_eq!(after.problems(), []);
        let conditions = Conditions {
            loss_per_mille: 0,
            delay_ns: MILLISECOND_NS / 2,
            jitter_ns: MILLISECOND_NS,
        };
        let mut world = World::new(&before, conditions, seed);
        world.bring_about(&before, 1);
        world.change(&after, 2, 20 * MILLISECOND_NS, MILLISECOND_NS / 4);
        let sent = everybody_sends(&mut world, &after);
        world.run();
        let mut arrived = BTreeSet::new();
        for delivery in &world.delivered {
            let (from, to) = &sent[number(delivery)];
            let to = owner(&after, &from.network, *to);
            prop_assert_eq!((&delivery.host, &delivery.device), (&to.host, &to.device));
            prop_assert!(arrived.insert(number(delivery)), "it came twice");
        }
        assert_balanced(&world);

        world.delivered.clear();
        let sent = everybody_sends(&mut world, &after);
        world.run();
        let possible = sent.iter().filter(|(from, to)| {
            is_reachable(&after, from, owner(&after, &from.network, *to))
        });
        prop_assert_eq!(world.delivered.len(), possible.count());
    }
}
