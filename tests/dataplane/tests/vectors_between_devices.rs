//! Every vector with real frames: written to a tap whose program is attached, read where they come
//! out. And what only real redirects have: the kernel's refusal.

use dataplane::live::Live;
use dataplane::machine::on_a_machine;
use frames::judge::{Manner, judge};
use frames::runner::{Door, Runner, Verdict};
use frames::vector::{self, Vector};
use frames::{chance, world};
use vnet_common::reason::Reason;

#[test]
fn every_vector_holds() {
    let failures = on_a_machine(|machine| {
        let mut live = Live::attach(machine).unwrap();
        let mut failures = Vec::new();
        let vectors = vector::all().unwrap();
        // A frame goes through a device once: several runs over one frame are for test runs.
        let once = |vector: &&Vector| vector.frame.iter().all(|step| step.runs.is_none());
        assert!(vectors.iter().filter(once).count() > 60);
        for vector in vectors.iter().filter(once) {
            failures.extend(judge(vector, &mut live, Manner::Run).unwrap());
        }
        failures
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

/// A redirect that the kernel refuses shows on no device. It is counted as sent by the program and
/// as refused ([`Reason::RedirectFailed`]) by a program that the kernel runs then, at the port that did not
/// get the frame.
#[test]
fn a_frame_that_the_kernel_refuses_is_counted() {
    on_a_machine(|machine| {
        let mut live = Live::attach(machine).unwrap();
        assert!(
            live.kernel.plane.counting().is_on(),
            "this kernel hides its structures"
        );
        let vector: Vector = toml::from_str(chance::A_BUSY_HOST).unwrap();
        let mut entries = world::entries(&vector, &[], live.stage()).unwrap();
        let (from, to) = (machine.devices["guest_one"], machine.devices["neighbour"]);
        let ledger = entries.ports[&to].ledger;
        entries.ports.get_mut(&to).unwrap().network_slot = 0;
        live.write(&entries).unwrap();
        let frame = chance::frame(chance::STATIONS[0], frames::actor::NEIGHBOUR.mac);

        let ran = live.run(Door::Port, from, &frame, 1).unwrap();
        assert_eq!(ran.verdict, Verdict::Out { at: to });
        machine.ip("link set neighbour down").unwrap();
        let ran = live.run(Door::Port, from, &frame, 1).unwrap();
        assert_eq!(ran.verdict, Verdict::Nowhere);

        let ledger = live.kernel.plane.tables().ledger(ledger).unwrap();
        assert_eq!(
            (ledger.sent.packets, ledger.refused),
            (2, 1),
            "{}",
            Reason::RedirectFailed
        );
    });
}

/// What does not fit a page goes another way through the kernel (generic XDP), where a test run
/// cannot follow: the frame comes out whole, and is counted the same.
#[test]
fn a_frame_larger_than_a_page_is_delivered_whole() {
    on_a_machine(|machine| {
        let mut live = Live::attach(machine).unwrap();
        let mut vector: Vector = toml::from_str(chance::A_BUSY_HOST).unwrap();
        for port in vector.port.values_mut() {
            port.carries = 9014;
            port.network = "blue".to_owned();
        }
        live.write(&world::entries(&vector, &[], live.stage()).unwrap())
            .unwrap();
        let (from, to) = (machine.devices["guest_one"], machine.devices["neighbour"]);
        for bytes in [3600, 4096, 9000] {
            let mut frame = chance::frame(chance::STATIONS[0], frames::actor::NEIGHBOUR.mac);
            frame.resize(bytes, 0xab);
            let before = live.books().unwrap();
            let ran = live.run(Door::Port, from, &frame, 1).unwrap();
            assert_eq!(ran.verdict, Verdict::Out { at: to });
            assert!(ran.frame == frame, "{bytes} bytes");
            let moved = live.books().unwrap().since(&before, live.stage());
            let received = &moved["port guest_one"];
            assert!(
                received.contains(&format!("received 1/{bytes}")),
                "{received:?}"
            );
        }
    });
}
