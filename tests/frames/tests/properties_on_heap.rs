//! What holds for all rules and all frames, without a kernel.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; what fails, fails the test"
)]

use frames::actor::{AGENT, WIRE};
use frames::chance::{self, A_BUSY_HOST, STATIONS, Shown, any_frame, corpus, for_all, shown};
use frames::heap::Heap;
use frames::linear::deciding;
use frames::runner::{Door, Runner, Verdict};
use frames::vector::Vector;
use frames::world::{self, Entries};
use proptest::prelude::*;
use vnet_common::addr::{LinkId, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::action::Decision;
use vnet_common::table::ledger::Ledger;
use vnet_common::table::port::PortEntry;

/// A port that takes any source, its neighbour, and the links that tell their numbers.
fn entries(heap: &Heap) -> Entries {
    let ports = "why = ''\nframe = []\n[port.guest_one]\naddresses = 'any'\n[port.neighbour]";
    let vector: Vector = toml::from_str(ports).unwrap();
    let mut entries = world::entries(&vector, &[], heap.stage()).unwrap();
    chance::telling_links(&mut entries, heap.stage(), 0).unwrap();
    assert!(
        entries
            .ports
            .values()
            .any(|port| port.flags == PortEntry::ANY_SOURCE)
    );
    entries
}

/// The frame path over the tables decides as reading the list of rules does, for every pair of
/// stations, on a flow's first frame and on its second, and after every change of the rules.
#[test]
fn the_frame_path_decides_like_the_list_of_rules() {
    let mut heap = Heap::new();
    let base = entries(&heap);
    let port = heap.stage().device("guest_one").unwrap();
    let neighbour = PortId(heap.stage().device("neighbour").unwrap());
    let network = heap.stage().network("blue").unwrap();
    let mut generation = 1;
    let rules = chance::rules(0, neighbour);
    for_all(400, true, &rules, |rules| {
        let mut entries = base.clone();
        generation += 1;
        world::add_network(&mut entries, 0, network, generation, &rules);
        heap.write(&entries).unwrap();
        for (source, destination) in pairs() {
            let rule = deciding(&rules, source, destination);
            let input = chance::frame(source, destination);
            for _ in 0..2 {
                let ran = heap.run(Door::Port, port, &input, 1).unwrap();
                let seen = (ran.verdict, shown(&input, &ran.frame));
                let is_right = match rule.and_then(|rule| rule.action.decision()) {
                    None => ran.verdict == Verdict::Dropped(Some(Reason::NoRule)),
                    Some(Decision::Drop(why)) => ran.verdict == Verdict::Dropped(Some(why)),
                    Some(Decision::Deliver(_)) => seen.1 == Some(Shown::Port),
                    Some(Decision::Flood) => seen.1 == Some(Shown::Agent),
                    Some(Decision::Send(LinkId(link))) => seen.1 == Some(Shown::Link(link.into())),
                };
                prop_assert!(
                    is_right,
                    "{source} -> {destination}: {rule:?}, seen {seen:?}"
                );
            }
        }
        Ok(())
    });
}

fn pairs() -> impl Iterator<Item = (vnet_common::addr::Mac, vnet_common::addr::Mac)> {
    STATIONS
        .into_iter()
        .flat_map(|source| STATIONS.map(|destination| (source, destination)))
}

/// Whatever comes in by whatever door: nothing panics, and every frame has exactly one outcome.
#[test]
fn any_frame_has_exactly_one_outcome() {
    let mut heap = Heap::new();
    let vector: Vector = toml::from_str(A_BUSY_HOST).unwrap();
    heap.write(&world::entries(&vector, &[], heap.stage()).unwrap())
        .unwrap();
    let frames = any_frame(corpus(heap.stage()).unwrap());
    let mut sent = 0u64;
    for_all(20_000, false, &frames, |(door, bytes)| {
        let device = match door {
            Door::Port => "guest_one",
            Door::Underlay => WIRE,
            Door::Agent => AGENT,
        };
        let device = heap.stage().device(device).unwrap();
        let ran = heap.run(door, device, &bytes, 1).unwrap();
        sent += u64::from(!matches!(
            ran.verdict,
            Verdict::Dropped(_) | Verdict::Passed
        ));
        prop_assert_ne!(ran.verdict, Verdict::Aborted);
        let ledgers = heap.tables().ledgers();
        prop_assert!(ledgers.values().all(Ledger::is_balanced), "{ledgers:#?}");
        Ok(())
    });
    assert!(
        sent > 1000,
        "the frames are too bad to get anywhere: {sent} did"
    );
}
