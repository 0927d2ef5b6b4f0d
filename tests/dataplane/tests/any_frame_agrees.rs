//! Frames that are right, nearly right and anything at all, at every door: kernel and host do the
//! same with them, and every frame has exactly one outcome.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; what fails, fails the test"
)]

use dataplane::kernel::{FRAME_BYTES_MAX, Kernel};
use dataplane::machine::on_a_machine;
use frames::actor::{AGENT, WIRE};
use frames::chance::{A_BUSY_HOST, any_frame, corpus, for_all};
use frames::diff;
use frames::heap::{Heap, NOW_NS};
use frames::runner::{Door, Ran, Runner, Verdict};
use frames::vector::Vector;
use frames::world;
use proptest::prelude::*;

/// Whether both did the same: a host says the reason and the device, a kernel does not.
fn is_same(on_host: Verdict, in_kernel: Verdict) -> bool {
    match (on_host, in_kernel) {
        (Verdict::Dropped(_), Verdict::Dropped(_)) => true,
        (Verdict::Redirected(_) | Verdict::Back, Verdict::RedirectedOrBack) => true,
        (a, b) => a == b,
    }
}

/// The kernel's frame with the host's time, where the host's clock shows that there is one.
fn at_the_same_time(on_host: &Ran, in_kernel: &Ran) -> Vec<u8> {
    let mut frame = in_kernel.frame.clone();
    let time = NOW_NS.to_be_bytes();
    if on_host.verdict == Verdict::Back
        && let Some(at) = on_host.frame.windows(8).rposition(|bytes| bytes == time)
        && let Some(field) = frame.get_mut(at..at + 8)
    {
        field.copy_from_slice(&time);
    }
    frame
}

#[test]
fn kernel_and_host_do_the_same_with_any_frame() {
    on_a_machine(|machine| {
        let mut kernel = Kernel::load(machine).unwrap();
        let mut heap = Heap::on(kernel.stage().clone());
        let vector: Vector = toml::from_str(A_BUSY_HOST).unwrap();
        let entries = world::entries(&vector, &[], kernel.stage()).unwrap();
        kernel.write(&entries).unwrap();
        heap.write(&entries).unwrap();
        let frames = any_frame(corpus(kernel.stage()).unwrap());
        for_all(5000, false, &frames, |(door, bytes)| {
            if (kernel.frame_bytes_min()..=FRAME_BYTES_MAX).contains(&bytes.len()) {
                both(&mut kernel, &mut heap, door, &bytes)?;
            }
            Ok(())
        });
        let (on_host, in_kernel) = (heap.books().unwrap(), kernel.books().unwrap());
        assert_eq!(on_host.flows, in_kernel.flows);
        assert!(on_host.flows.len() > 100, "hardly a frame got anywhere");
    });
}

fn both(
    kernel: &mut Kernel,
    heap: &mut Heap,
    door: Door,
    bytes: &[u8],
) -> Result<(), TestCaseError> {
    // Both networks' ports take part: one takes any source, the other learns.
    let port = if bytes.last().is_some_and(|last| last % 4 == 0) {
        "neighbour"
    } else {
        "guest_one"
    };
    let device = match door {
        Door::Port => port,
        Door::Underlay => WIRE,
        Door::Agent => AGENT,
    };
    let device = kernel.stage().device(device).unwrap();
    let on_host = heap.run(door, device, bytes, 1).unwrap();
    let in_kernel = kernel.run(door, device, bytes, 1).unwrap();
    let difference = || {
        diff::show(
            "any frame",
            "both",
            bytes,
            Some(&on_host.frame),
            &in_kernel.frame,
        )
    };
    prop_assert!(
        is_same(on_host.verdict, in_kernel.verdict),
        "{:?} on the host, {:?} in the kernel\n{}",
        on_host.verdict,
        in_kernel.verdict,
        difference()
    );
    let is_dropped = matches!(on_host.verdict, Verdict::Dropped(_));
    let frame = at_the_same_time(&on_host, &in_kernel);
    prop_assert!(is_dropped || frame == on_host.frame, "{}", difference());
    let books = kernel.books_without_flows().unwrap();
    prop_assert_eq!(&heap.tables().ledgers(), &books.ledgers, "{}", difference());
    prop_assert_eq!(&heap.take_events(), &books.events, "{}", difference());
    prop_assert_eq!(books.unbalanced(), Vec::<String>::new());
    Ok(())
}
