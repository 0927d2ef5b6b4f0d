//! Do guests of all three sizes exchange frames with each other?
//!
//! A plain Linux bridge stands where the overlay will be.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::{
    Cut, Mac, Offloads, Segments, Station, TapGuest, TapSettings, Unfinished, VnetHeader, in_lab,
};

const GUEST_ONE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const GUEST_TWO: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
/// Far longer than a frame needs to cross a bridge.
const LIMIT: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn two_taps_exchange_frames() {
    in_lab("taps", |lab| {
        let host = lab.host("one")?;
        let one = host.tap_guest("tap1", GUEST_ONE)?;
        let two = host.tap_guest("tap2", GUEST_TWO)?;
        host.bridge("br0", &["tap1", "tap2"])?;
        let frame = experimental_frame(GUEST_TWO, GUEST_ONE, b"hello");
        one.send(&frame)?;
        assert_eq!(two.receive(LIMIT)?, Some(frame));
        assert_eq!(two.receive_all_until_quiet(QUIET)?, Vec::<Vec<u8>>::new());
        assert_eq!(
            one.receive(QUIET)?,
            None,
            "the host itself is to stay silent"
        );
        Ok(())
    });
}

const fn with(offloads: Offloads) -> TapSettings {
    TapSettings {
        mtu: 1500,
        offloads: Some(offloads),
    }
}

#[test]
fn a_tap_with_headers_says_which_work_a_frame_leaves_undone() {
    in_lab("header", |lab| {
        let host = lab.host("one")?;
        let one = host.tap_guest_with("tap1", GUEST_ONE, with(Offloads::NONE))?;
        let two = host.tap_guest_with("tap2", GUEST_TWO, with(Offloads::NONE))?;
        host.bridge("br0", &["tap1", "tap2"])?;
        // Sum from byte 34 on, to be put 2 bytes behind that.
        let header = VnetHeader {
            unfinished: Some(Unfinished {
                start: 34,
                offset: 2,
            }),
            ..VnetHeader::NONE
        };
        let mut payload = [0; 46];
        payload[30] = 0x12;
        let sent = experimental_frame(GUEST_TWO, GUEST_ONE, &payload);
        one.send_unfinished(header, &sent)?;
        // A guest that wants finished frames has the sum filled in.
        let (left, frame) = two.receive_unfinished(LIMIT)?.context("it is lost")?;
        assert_eq!(left, VnetHeader::NONE);
        assert_eq!(frame.get(36..38), Some([0xed, 0xff].as_slice()));
        // One that does not is told what is left to do.
        two.set_offloads(Offloads::ALL)?;
        one.send_unfinished(header, &sent)?;
        let received = two.receive_unfinished(LIMIT)?;
        assert_eq!(received, Some((header, sent)));
        Ok(())
    });
}

#[test]
fn frames_that_are_many_are_cut_for_who_does_not_take_them_whole() {
    in_lab("segments", |lab| {
        let host = lab.host("one")?;
        let one = host.tap_guest_with("tap1", GUEST_ONE, with(Offloads::NONE))?;
        let two = host.tap_guest_with("tap2", GUEST_TWO, with(Offloads::ALL))?;
        host.bridge("br0", &["tap1", "tap2"])?;
        // IPv4 without a checksum of its own, and UDP to port 2 from port 1: 3,000 bytes.
        let datagram = [[0, 1, 0, 2, 0x0b, 0xc0, 0, 0].as_slice(), &[7; 3000]].concat();
        let mut frame = [GUEST_TWO.0.as_slice(), &GUEST_ONE.0, &[8, 0]].concat();
        frame.extend([0x45, 0, 0x0b, 0xd4, 0, 0, 0x40, 0, 64, 17, 0x1a, 0x12]);
        frame.extend([10, 9, 0, 1, 10, 9, 0, 2]);
        frame.extend(datagram);
        let header = VnetHeader {
            unfinished: Some(Unfinished {
                start: 34,
                offset: 6,
            }),
            segments: Some(Segments {
                cut: Cut::Udp,
                data_bytes: 1300,
                header_bytes: 42,
            }),
            is_checked: false,
        };
        one.send_unfinished(header, &frame)?;
        let (left, whole) = two.receive_unfinished(LIMIT)?.context("it is lost")?;
        assert_eq!(left.unfinished, header.unfinished);
        let data_bytes = left.segments.map(|s| (s.cut, s.data_bytes));
        assert_eq!(data_bytes, Some((Cut::Udp, 1300)));
        assert!(whole == frame, "{} bytes", whole.len());
        two.set_offloads(Offloads::NONE)?;
        one.send_unfinished(header, &frame)?;
        let lengths: Vec<_> = two
            .receive_all_until_quiet(QUIET)?
            .iter()
            .map(Vec::len)
            .collect();
        assert_eq!(lengths, [1342, 1342, 442]);
        Ok(())
    });
}

#[test]
fn a_tap_goes_with_its_guest() {
    in_lab("gone", |lab| {
        let host = lab.host("one")?;
        let guest = host.tap_guest("tap1", GUEST_ONE)?;
        assert!(host.attempt(["ip", "link", "show", "tap1"])?.success());
        drop(guest);
        assert!(!host.attempt(["ip", "link", "show", "tap1"])?.success());
        Ok(())
    });
}

#[test]
fn two_namespaces_ping_and_do_without_offloads() {
    in_lab("namespaces", |lab| {
        let host = lab.host("one")?;
        let one = host.namespace_guest(Station::new("veth1", GUEST_ONE).address("10.9.0.1/24"))?;
        let station = Station::new("veth2", GUEST_TWO)
            .address("10.9.0.2/24")
            .address("fd09::2/64");
        let two = host.namespace_guest(station)?;
        host.bridge("br0", &["veth1", "veth2"])?;
        one.run(["ping", "-c", "1", "-W", "5", "10.9.0.2"])?;
        let features = two.run(["ethtool", "-k", "eth0"])?.stdout;
        for off in ["tx-checksumming: off", "tcp-segmentation-offload: off"] {
            assert!(features.contains(off), "{features}");
        }
        assert!(
            features.contains("generic-receive-offload: on"),
            "{features}"
        );
        drop(two);
        assert!(!host.attempt(["ip", "link", "show", "veth2"])?.success());
        Ok(())
    });
}

#[test]
fn a_virtual_machine_runs_commands_and_exchanges_frames_with_a_tap() {
    in_lab("vm", |lab| {
        let host = lab.host("one")?;
        let station = Station::new("tap1", GUEST_ONE)
            .address("10.9.0.1/24")
            .mtu(1430);
        let machine = host.vm_guest(station)?;
        let tap = host.tap_guest("tap2", GUEST_TWO)?;
        host.bridge("br0", &["tap1", "tap2"])?;

        let output = machine.attempt("uname -r; echo oops >&2; false")?;
        assert_eq!(output.stdout.trim(), machine.kernel_version());
        assert_eq!((output.status, output.stderr.as_str()), (1, "oops\n"));
        let device = machine.run("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu")?;
        assert_eq!(device.stdout, "52:54:00:00:00:01\n1430\n");

        // The machine asks for an address, and this test answers.
        machine.leave_running("ping -c 1 10.9.0.2")?;
        let request = wait_for_arp(&tap)?;
        assert_eq!(
            request.get(..12),
            Some([[0xff; 6], GUEST_ONE.0].concat().as_slice())
        );
        tap.send(&arp_reply(
            GUEST_TWO,
            [10, 9, 0, 2],
            GUEST_ONE,
            [10, 9, 0, 1],
        ))?;
        machine.run("for t in $(seq 100); do grep -q 52:54:00:00:00:02 /proc/net/arp && exit; sleep 0.1; done; exit 1")?;
        Ok(())
    });
}

#[test]
fn two_virtual_machines_ping_and_transfer_a_file() {
    in_lab("vms", |lab| {
        let host = lab.host("one")?;
        let boot = |port: &str, mac, address: &str| {
            host.vm_guest(
                Station::new(port, mac)
                    .address(address)
                    .address("fd09::1/64"),
            )
        };
        let (one, two) = std::thread::scope(|scope| {
            let one = scope.spawn(|| boot("tap1", GUEST_ONE, "10.9.0.1/24"));
            let two = boot("tap2", GUEST_TWO, "10.9.0.2/24");
            (one.join(), two)
        });
        let one = one.map_err(|_| anyhow::anyhow!("booting panicked"))??;
        let two = two?;
        host.bridge("br0", &["tap1", "tap2"])?;
        one.run("ping -c 2 -W 5 10.9.0.2")?;
        let transfer = one.send_file(&two, "10.9.0.2", 8 << 20)?;
        assert_eq!(transfer.bytes, 8 << 20);
        assert_eq!(transfer.sha256.len(), 64);
        two.kill();
        assert!(!host.attempt(["ip", "link", "show", "tap2"])?.success());
        Ok(())
    });
}

/// A frame of a type that IEEE set aside for experiments.
fn experimental_frame(to: Mac, from: Mac, payload: &[u8]) -> Vec<u8> {
    [to.0.as_slice(), &from.0, &[0x88, 0xb5], payload].concat()
}

fn wait_for_arp(tap: &TapGuest) -> Result<Vec<u8>> {
    loop {
        let frame = tap.receive(LIMIT)?.context("no ARP request came")?;
        if frame.get(12..14) == Some(&[0x08, 0x06]) {
            return Ok(frame);
        }
    }
}

/// "`from` has `from_address`" (RFC 826).
fn arp_reply(from: Mac, from_address: [u8; 4], to: Mac, to_address: [u8; 4]) -> Vec<u8> {
    let header = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2];
    let ethernet = [to.0, from.0].concat();
    [
        &ethernet,
        header.as_slice(),
        &from.0,
        &from_address,
        &to.0,
        &to_address,
    ]
    .concat()
}
