//! Every vector, without a kernel and without root.

use frames::heap::Heap;
use frames::judge::{Manner, Outcome, judge};
use frames::vector;
use vnet_common::reason::Reason;

#[test]
fn every_vector_holds() {
    let mut heap = Heap::new();
    let mut failures = Vec::new();
    for vector in vector::all().unwrap() {
        failures.extend(judge(&vector, &mut heap, Manner::Run).unwrap());
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

/// Reasons that no program gives, and who does.
const GIVEN_ELSEWHERE: [(Reason, &str); 6] = [
    (
        Reason::RedirectFailed,
        "counted as `refused` by programs in the kernel's own functions: tests/dataplane",
    ),
    (
        Reason::NestedTags,
        "the TC door alone, where tags are apart from the frame: tests/e2e",
    ),
    (
        Reason::JoinedDatagrams,
        "the TC door alone, which takes packets joined: tests/e2e",
    ),
    (
        Reason::ManySegments,
        "the TC door alone, where a frame may be many: tests/e2e",
    ),
    (Reason::QueueFull, "the agent's slow path"),
    (Reason::NoReceiver, "the agent's slow path"),
];

#[test]
fn every_reason_is_reached_by_a_vector() {
    let vectors = vector::all().unwrap();
    let steps = vectors.iter().flat_map(|vector| &vector.frame);
    let outcomes: Vec<Outcome> = steps.map(|step| Outcome::of(step).unwrap()).collect();
    for &reason in Reason::ALL {
        let is_reached = outcomes.contains(&Outcome::Dropped(reason));
        let elsewhere = GIVEN_ELSEWHERE.iter().find(|(given, _)| *given == reason);
        match elsewhere {
            None => assert!(is_reached, "no vector drops a frame for {reason}"),
            Some((_, by)) => assert!(!is_reached, "{reason} is given by {by}, not by a program"),
        }
    }
}
