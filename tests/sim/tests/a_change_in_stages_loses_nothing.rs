//! A change of everything, stage by stage over all hosts: is any frame lost, doubled or led astray
//! meanwhile? Each host hears of each stage at a time of its own, and takes it a step at a time,
//! while frames are under way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sim::topology::{bare, routed, star_around, ways};
use sim::world::{Conditions, STEPS_MAX, World};
use vnet_agent::model::topology::{Target, Topology, Vm};
use vnet_agent::overlay::rollout::{Parts, Place, Plan};
use vnet_common::addr::Mac;

const MS: u64 = 1_000_000;
/// How far apart hosts hear of a stage, at most.
const SPREAD_NS: u64 = 20 * MS;
/// How long a host takes for a step.
const STEP_NS: u64 = MS / 4;
const CONDITIONS: Conditions = Conditions {
    loss_per_mille: 0,
    delay_ns: MS / 2,
    jitter_ns: MS,
};
/// What a frame may be under way: over every host there is.
const UNDER_WAY_NS: u64 = 10 * MS;
/// Between two frames of one VM to one address.
const APART_NS: u64 = 23 * MS;

/// A frame that was sent: from whom, for whom.
type Sent = (Vm, Mac);

fn places(topology: &Topology) -> BTreeMap<String, Place> {
    let place = |name: &str| Place {
        addresses: vec![topology.host(name).unwrap().underlay().unwrap()],
        stations: topology
            .vms
            .iter()
            .filter(|vm| vm.host == name)
            .map(|vm| (vm.network.clone(), vm.mac, vm.device.clone()))
            .collect(),
    };
    let hosts = topology.hosts.iter();
    hosts
        .map(|host| (host.name.clone(), place(&host.name)))
        .collect()
}

/// A numbered frame from each VM to each address of its network, and to all, again and again for so
/// long.
fn everybody_sends_for(world: &mut World, topology: &Topology, time_ns: u64) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    for vm in &topology.vms {
        let peers = topology
            .vms
            .iter()
            .filter(|peer| peer.network == vm.network);
        let others = peers.map(|peer| peer.mac).filter(|mac| *mac != vm.mac);
        for to in others.chain([Mac::BROADCAST]) {
            // Not all at one time.
            let mut after_ns = sent.len() as u64 * MS % APART_NS;
            while after_ns < time_ns {
                let number = u32::try_from(sent.len()).unwrap().to_be_bytes();
                world.send(after_ns, vm, to, &number);
                sent.push((vm.clone(), to));
                after_ns += APART_NS;
            }
        }
    }
    sent
}

/// How all hosts get from one topology to the other.
#[derive(Clone, Copy, Debug)]
enum Course {
    /// Stage by stage.
    Stages,
    /// Stage by stage; at the one of this place, or one before it, some host does not follow, and all
    /// go back.
    Back(usize),
    /// Everybody at once.
    AtOnce,
}

impl Course {
    fn parts(self, plan: &Plan) -> Vec<Parts> {
        let last = plan.stages().len() - 1;
        let places: Vec<usize> = match self {
            Self::Stages => (1..=last).collect(),
            Self::AtOnce => vec![last],
            Self::Back(place) => {
                let turn = 1 + place % last;
                (1..=turn).chain((0..turn).rev()).collect()
            }
        };
        let stages = places.into_iter().map(|place| plan.stages()[place]);
        stages.map(|stage| plan.parts(stage)).collect()
    }
}

/// Takes all hosts from one topology to the other while everybody sends. Says what was sent, and where
/// each frame came out.
fn change(
    [before, after]: [&Topology; 2],
    course: Course,
    seed: u64,
) -> (Vec<Sent>, BTreeMap<usize, Vec<String>>) {
    let mut world = World::new(before, CONDITIONS, seed);
    world.bring_about(before, 1);
    let (old, new) = (world.parts(before), world.parts(after));
    let stages = course.parts(&Plan::new(&old, &new, &places(before)));
    let stage_ns = SPREAD_NS + STEPS_MAX * STEP_NS + UNDER_WAY_NS;
    let sent = everybody_sends_for(&mut world, before, stages.len() as u64 * stage_ns);
    for (revision, parts) in (2..).zip(stages) {
        world.change_to(&parts, revision, SPREAD_NS, STEP_NS);
        // The last of it is the pause in which what is under way arrives.
        world.run_until(world.now_ns() + stage_ns);
        for (name, host) in &world.hosts {
            assert!(host.is_settled(), "{name} is not done");
        }
    }
    world.run();
    let mut arrived: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for delivery in &world.delivered {
        let number = u32::from_be_bytes(delivery.frame[14..18].try_into().unwrap());
        let vms = before.vms.iter();
        let mut at = vms.filter(|vm| (&vm.host, &vm.device) == (&delivery.host, &delivery.device));
        let at = at.next().unwrap();
        assert_eq!(
            at.network, sent[number as usize].0.network,
            "another network"
        );
        let places = arrived.entry(number as usize).or_default();
        places.push(at.name.clone());
    }
    (sent, arrived)
}

/// Whether there is a way all the time.
fn is_promised(topologies: [&Topology; 2], from: &Vm, to: &Vm) -> bool {
    let leads = |topology| {
        from.host == to.host || ways(topology, &to.network, &to.host).contains_key(&from.host)
    };
    topologies.into_iter().all(leads)
}

/// Whether everything for many goes everywhere.
fn is_flooded(topology: &Topology) -> bool {
    topology.rules.iter().any(|rule| rule.to == Target::Flood)
}

/// What is wrong with what came of a frame.
fn fault(topologies: [&Topology; 2], (from, to): &Sent, got: &[String]) -> Option<String> {
    let mut once = got.to_vec();
    once.sort();
    once.dedup();
    if once.len() != got.len() {
        return Some(format!("{from} -> {to} came twice: {got:?}"));
    }
    let vms = topologies[0].vms.iter();
    let mut peers = vms.filter(|vm| vm.network == from.network && vm.name != from.name);
    if *to == Mac::BROADCAST {
        let missing = peers.find(|peer| {
            !once.contains(&peer.name) && is_flooded(topologies[0]) && is_flooded(topologies[1])
        });
        return missing.map(|peer| format!("{from} -> everybody has not come to {peer}"));
    }
    let owner = peers.find(|vm| vm.mac == *to)?;
    if got.iter().any(|name| *name != owner.name) {
        return Some(format!("{from} -> {to} came to {got:?}"));
    }
    let is_lost = got.is_empty() && is_promised(topologies, from, owner);
    is_lost.then(|| format!("{from} -> {to} is lost"))
}

fn faults(topologies: [&Topology; 2], course: Course, seed: u64) -> Vec<String> {
    let (sent, arrived) = change(topologies, course, seed);
    let got = |number| arrived.get(&number).map_or(&[][..], Vec::as_slice);
    let frames = sent.iter().enumerate();
    let faults = frames.filter_map(|(number, sent)| fault(topologies, sent, got(number)));
    faults.collect()
}

/// The same hosts and VMs with other links and rules: any shapes, or stars around other hosts.
fn two_topologies() -> impl Strategy<Value = (Topology, Topology)> {
    (bare(), bare(), any::<(usize, usize)>(), any::<bool>()).prop_map(
        |(one, other, (first, second), are_stars)| {
            let hosts = one.hosts.len();
            if are_stars {
                let before = star_around(one.clone(), first % hosts);
                return (before, star_around(one, second % hosts));
            }
            let names: Vec<_> = one.hosts.iter().map(|host| host.name.clone()).collect();
            let links = other.links.into_iter();
            let between = links.filter(|l| names.contains(&l.from) && names.contains(&l.to));
            let changed = Topology {
                links: between.collect(),
                ..one.clone()
            };
            (routed(one), routed(changed))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_frame_is_lost_doubled_or_led_astray(
        (before, after) in two_topologies(),
        course in prop_oneof![Just(Course::Stages), any::<usize>().prop_map(Course::Back)],
        seed: u64,
    ) {
        prop_assert_eq!(faults([&before, &after], course, seed), Vec::<String>::new());
    }
}

/// Else the property above would say nothing of the stages.
#[test]
fn the_same_changes_without_stages_lose_frames() {
    let mut runner = TestRunner::deterministic();
    let mut lossy = 0;
    for seed in 0..50 {
        let (before, after) = two_topologies().new_tree(&mut runner).unwrap().current();
        let faults = faults([&before, &after], Course::AtOnce, seed);
        lossy += u32::from(!faults.is_empty());
    }
    assert!(lossy > 0, "fifty changes at once lost nothing");
}
