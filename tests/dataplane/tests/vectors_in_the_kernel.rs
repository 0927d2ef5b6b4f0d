//! Every vector, by the programs in this machine's kernel: with the same result, byte for byte and
//! count for count, as on the host.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; what fails, fails the test"
)]

use dataplane::kernel::Kernel;
use dataplane::machine::on_a_machine;
use frames::judge::{Manner, judge};
use frames::vector;
use vnet_agent::model::door::Door;

fn every_vector(door: Door, manner: Manner) {
    let failures = on_a_machine(|machine| {
        let mut kernel = Kernel::load_at(machine, door).unwrap();
        let mut failures = Vec::new();
        for vector in vector::all().unwrap() {
            // Runs over what the run before left wear out a driver's headroom; a socket buffer's is
            // made anew.
            if door == Door::Tc && vector.frame.iter().any(|step| step.runs.is_some()) {
                continue;
            }
            failures.extend(judge(&vector, &mut kernel, manner).unwrap());
        }
        failures
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

#[test]
fn every_vector_holds() {
    every_vector(Door::Xdp, Manner::Run);
}

/// A question has the answer that a run then gives, and moves no counter, no flow, no learned
/// address, no budget and no sequence.
#[test]
fn a_question_tells_the_truth_and_leaves_no_trace() {
    every_vector(Door::Xdp, Manner::AskAndRun);
}

#[test]
fn every_vector_holds_at_the_tc_door() {
    every_vector(Door::Tc, Manner::Run);
}

#[test]
fn a_question_tells_the_truth_at_the_tc_door_too() {
    every_vector(Door::Tc, Manner::AskAndRun);
}
