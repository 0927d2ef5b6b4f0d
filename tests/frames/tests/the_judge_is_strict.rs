//! A vector that is wrong in one word fails, whichever word it is.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; what fails, fails the test"
)]

use frames::heap::Heap;
use frames::judge::{Manner, judge};
use frames::vector::{self, Step, Vector};

fn failures(change: impl FnOnce(&mut Step)) -> Vec<String> {
    let mut vector = a_vector();
    change(&mut vector.frame[0]);
    judge(&vector, &mut Heap::new(), Manner::Run).unwrap()
}

fn a_vector() -> Vector {
    let name = "a_guest_reaches_another_host_over_ipv4";
    let vectors = vector::all().unwrap();
    let found = vectors.into_iter().find(|vector| vector.name == name);
    let mut vector = found.unwrap();
    // So that nobody takes its capture files for those of a real failure.
    vector.name = "wrong_on_purpose".to_owned();
    vector
}

fn said(failures: &[String], what: &str) {
    assert!(
        failures.iter().any(|failure| failure.contains(what)),
        "{failures:#?}"
    );
}

#[test]
fn as_it_is_it_holds() {
    assert_eq!(failures(|_| ()), Vec::<String>::new());
}

#[test]
fn another_outcome_fails() {
    let failures = failures(|step| step.outcome = "passed".to_owned());
    said(&failures, "- passed");
}

#[test]
fn another_byte_fails() {
    let failures = failures(|step| {
        let leaves = step.leaves.as_mut().unwrap();
        leaves[1] = leaves[1].replace("ttl=64", "ttl=63");
    });
    said(&failures, "  + ipv4 host_one -> host_two ttl=64");
}

#[test]
fn a_frame_that_is_longer_fails() {
    let failures = failures(|step| step.leaves.as_mut().unwrap().push("padding 1".to_owned()));
    said(&failures, "139 bytes expected, 138 seen");
}

#[test]
fn a_movement_that_is_not_there_fails() {
    let failures = failures(|step| {
        step.counts
            .insert("port neighbour".to_owned(), "sent 1/60".to_owned());
    });
    said(&failures, "- port neighbour: sent 1/60");
}

#[test]
fn a_movement_that_is_not_said_fails() {
    for subject in [
        "port guest_one",
        "link to_two",
        "flow guest_one -> guest_two",
    ] {
        let failures = failures(|step| {
            step.counts.remove(subject).unwrap();
        });
        said(&failures, &format!("+ {subject}: "));
    }
}

#[test]
fn a_wrong_count_fails() {
    let failures = failures(|step| {
        let flow = "flow guest_one -> guest_two".to_owned();
        step.counts.insert(flow, "1/61 to link to_two".to_owned());
    });
    said(
        &failures,
        "- flow guest_one -> guest_two: 1/61 to link to_two",
    );
}

#[test]
fn a_misspelt_word_is_an_error() {
    for change in [
        (|step: &mut Step| step.enters = "prot guest_one".to_owned()) as fn(&mut Step),
        |step| step.outcome = "forwarded to to_two".to_owned(),
        |step| step.is[0].push_str(" sise=3"),
        |step| {
            step.counts
                .insert("agent".to_owned(), "recieved 1/60".to_owned());
        },
    ] {
        let mut vector = a_vector();
        change(&mut vector.frame[0]);
        assert!(judge(&vector, &mut Heap::new(), Manner::Run).is_err());
    }
}
