//! Links between hosts die and come back, with a star beside them: which frames arrive?
//!
//! The agents ask their links, and turn them, as on real hosts; what is cut is cut in one direction or
//! in both.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sim::topology::{bare, routed};
use sim::world::{Conditions, World};
use vnet_agent::model::topology::{Flooding, Link, LinkKind, Topology, Vm};
use vnet_agent::sense::liveness::pulse::{HOLD_FIRST_MS, INTERVAL_MS, MISSES};
use vnet_common::reason::Reason;

const MS: u64 = 1_000_000;
/// From the moment that a link dies until its frames take another: the last answer, the probes without
/// one, and the next look.
const DEAD_MS: u64 = 300;
const HUB: &str = "host0";

/// A star around the first host, and other links beside it that fall back to it.
fn star_and_more() -> impl Strategy<Value = Topology> {
    bare().prop_map(|mut topology| {
        topology
            .links
            .retain(|link| link.from != HUB && link.to != HUB);
        let both: Vec<String> = topology.networks.iter().map(|n| n.name.clone()).collect();
        for link in &mut topology.links {
            link.networks.clone_from(&both);
            link.flood = Flooding::Never;
        }
        let spokes = topology.hosts.iter().skip(1).map(|host| Link {
            kind: LinkKind::Udp,
            from: HUB.to_owned(),
            to: host.name.clone(),
            networks: both.clone(),
            flood: Flooding::Always,
        });
        topology.links.extend(spokes.collect::<Vec<_>>());
        // Where there is no link, the way leads through the middle.
        let mut topology = routed(topology);
        let direct: BTreeSet<(String, String)> = topology
            .links
            .iter()
            .flat_map(|link| {
                [
                    (link.from.clone(), link.to.clone()),
                    (link.to.clone(), link.from.clone()),
                ]
            })
            .collect();
        for rule in &mut topology.rules {
            let vms = topology.vms.iter();
            let to = vms.clone().find(|vm| {
                vm.network == rule.network
                    && rule.destination == vnet_common::rule::Destination::Is(vm.mac)
            });
            let host = to.unwrap().host.clone();
            let next = match direct.contains(&(rule.host.clone(), host.clone())) {
                true => host,
                false => HUB.to_owned(),
            };
            rule.to = vnet_agent::model::topology::Target::Edge(next);
        }
        topology
    })
}

/// Everybody has its part, in which links between agents fall back to the star.
fn begin(topology: &Topology, seed: u64) -> World {
    let conditions = Conditions {
        loss_per_mille: 0,
        delay_ns: MS,
        jitter_ns: MS,
    };
    let mut world = World::new(topology, conditions, seed);
    world.bring_about(topology, 1);
    world.watch();
    world
}

struct Sent(Vec<(Vm, Vm)>);

impl Sent {
    fn send(&mut self, world: &mut World, topology: &Topology) {
        for from in &topology.vms {
            for to in topology
                .vms
                .iter()
                .filter(|to| to.network == from.network && to.mac != from.mac)
            {
                let number = u32::try_from(self.0.len()).unwrap().to_be_bytes();
                world.send(0, from, to.mac, &number);
                self.0.push((from.clone(), to.clone()));
            }
        }
    }

    /// How often each arrived: at the right place, and at no other.
    fn arrived(&self, world: &World) -> BTreeMap<usize, u32> {
        let mut times = BTreeMap::new();
        for delivery in &world.delivered {
            let number: [u8; 4] = delivery.frame[14..18].try_into().unwrap();
            let number = u32::from_be_bytes(number) as usize;
            let (_, to) = &self.0[number];
            assert_eq!((&delivery.host, &delivery.device), (&to.host, &to.device));
            *times.entry(number).or_insert(0) += 1;
        }
        assert!(
            times.values().all(|&times| times == 1),
            "a frame came twice"
        );
        for host in world.hosts.values() {
            assert_eq!(host.dropped(Reason::HopLimit), 0, "in circles");
        }
        times
    }
}

/// Whether frames from one host get to another while these directions are cut.
fn has_way(topology: &Topology, cut: &BTreeSet<(String, String)>, from: &str, to: &str) -> bool {
    // A link answers where both directions are open.
    let is_open = |one: &str, other: &str| {
        let is_cut = |a: &str, b: &str| cut.contains(&(a.to_owned(), b.to_owned()));
        let linked = topology
            .links
            .iter()
            .any(|link| link.other(one) == Some(other));
        linked && !is_cut(one, other) && !is_cut(other, one)
    };
    from == to || is_open(from, to) || (is_open(from, HUB) && is_open(HUB, to))
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn frames_take_the_star_while_a_link_is_dead_and_the_link_when_it_is_well(
        topology in star_and_more(),
        dead in proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u8), 1..5),
        seed: u64,
    ) {
        prop_assert_eq!(topology.problems(), []);
        let mut world = begin(&topology, seed);
        world.run_until(500 * MS);
        let mut cut = BTreeSet::new();
        for (place, directions) in dead {
            let link = place.get(&topology.links);
            let (one, other) = (link.from.clone(), link.to.clone());
            if directions != 1 {
                cut.insert((one.clone(), other.clone()));
            }
            if directions != 0 {
                cut.insert((other, one));
            }
        }
        for (one, other) in &cut {
            world.set_cut_one_way(one, other, true);
        }
        // Whatever happens to the frames on the way: no other comes of them.
        let mut sent = Sent(Vec::new());
        for _ in 0..DEAD_MS / 30 {
            sent.send(&mut world, &topology);
            world.run_until(world.now_ns() + 30 * MS);
        }
        let in_doubt = sent.0.len();
        for _ in 0..10 {
            sent.send(&mut world, &topology);
            world.run_until(world.now_ns() + 30 * MS);
        }
        let arrived = sent.arrived(&world);
        for (number, (from, to)) in sent.0.iter().enumerate().skip(in_doubt) {
            // Over a link that is dead in the other direction only, frames may arrive too.
            if has_way(&topology, &cut, &from.host, &to.host) {
                prop_assert!(arrived.contains_key(&number), "{} -> {}, cut {:?}", from, to, cut);
            }
        }
        for (one, other) in &cut {
            world.set_cut_one_way(one, other, false);
        }
        let well_ms = 2 * HOLD_FIRST_MS + INTERVAL_MS * u64::from(MISSES + 6);
        world.run_until(world.now_ns() + well_ms * MS);
        for (name, host) in &world.hosts {
            prop_assert_eq!(host.turned(), 0, "{} still has links turned", name);
        }
        world.delivered.clear();
        let mut sent = Sent(Vec::new());
        sent.send(&mut world, &topology);
        world.run_until(world.now_ns() + 30 * MS);
        prop_assert_eq!(sent.arrived(&world).len(), sent.0.len());
    }

    #[test]
    fn a_link_that_loses_some_packets_is_not_taken_for_dead(
        topology in star_and_more(),
        seed: u64,
    ) {
        let mut world = begin(&topology, seed);
        // One probe in a hundred, or its answer: four in a row are one in ten million.
        world.set_loss(10);
        for _ in 0..40 {
            world.run_until(world.now_ns() + 50 * MS);
            prop_assert!(world.hosts.values().all(|host| host.turned() == 0));
        }
    }
}
