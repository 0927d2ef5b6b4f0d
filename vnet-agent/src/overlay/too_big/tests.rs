//! Answers, read by a decoder that is not ours.

use etherparse::{
    Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpNumber, LinkSlice, NetSlice, PacketBuilder,
    SlicedPacket, VlanSlice, icmpv4,
};
use proptest::prelude::*;

use super::answer;

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const PEER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const GUEST_4: [u8; 4] = [10, 9, 0, 1];
const PEER_4: [u8; 4] = [10, 9, 0, 2];
const GUEST_6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const PEER_6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// What the data plane sends up at the most.
const BEGINNING_BYTES: usize = 1250;

fn udp(is_ipv6: bool, tag: Option<u16>, payload: usize) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(GUEST, PEER);
    let id = |tag: u16| tag.try_into().unwrap();
    let ip = match (tag, is_ipv6) {
        (None, false) => ethernet.ipv4(GUEST_4, PEER_4, 9),
        (None, true) => ethernet.ipv6(GUEST_6, PEER_6, 9),
        (Some(tag), false) => ethernet.single_vlan(id(tag)).ipv4(GUEST_4, PEER_4, 9),
        (Some(tag), true) => ethernet.single_vlan(id(tag)).ipv6(GUEST_6, PEER_6, 9),
    };
    let mut frame = Vec::new();
    let payload: Vec<u8> = (0..payload).map(|place| (place % 251) as u8).collect();
    ip.udp(4000, 5000).write(&mut frame, &payload).unwrap();
    frame
}

fn beginning(frame: &[u8]) -> &[u8] {
    &frame[..frame.len().min(BEGINNING_BYTES)]
}

/// Reads an answer and checks all of it: addresses, tag, kind, MTU, checksums and quotation.
fn check(frame: &[u8], mtu: u16) {
    // A tag takes room from the packet.
    let room = if frame[12..14] == [0x81, 0] {
        mtu + 4
    } else {
        mtu
    };
    let answer = answer(beginning(frame), room).expect("an answer");
    let read = SlicedPacket::from_ethernet(&answer).expect("a frame");
    let asked = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(LinkSlice::Ethernet2(link)) = &read.link else {
        panic!("{read:?}")
    };
    assert_eq!((link.source(), link.destination()), (PEER, GUEST));
    let tag_of = |packet: &SlicedPacket<'_>| {
        packet.vlan().map(|vlan| match vlan {
            VlanSlice::SingleVlan(tag) => (tag.vlan_identifier(), tag.ether_type()),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(tag_of(&read), tag_of(&asked));
    let packet_at = if asked.vlan().is_some() { 18 } else { 14 };
    let packet = &frame[packet_at..];
    let quote = match read.net.as_ref().expect("IP") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(header.source(), PEER_4);
            assert_eq!(header.destination(), GUEST_4);
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            let icmp = Icmpv4Slice::from_slice(ip.payload().payload).unwrap();
            let unreachable =
                icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            assert_eq!(
                icmp.header().icmp_type,
                Icmpv4Type::DestinationUnreachable(unreachable)
            );
            let right = icmp.header().icmp_type.calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), right);
            assert!(answer.len() - packet_at <= 576);
            assert_eq!(icmp.payload().len(), packet.len().min(576 - 28));
            icmp.payload()
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            assert_eq!(header.source(), PEER_6);
            assert_eq!(header.destination(), GUEST_6);
            assert_eq!(ip.payload().ip_number, IpNumber::IPV6_ICMP);
            let icmp = Icmpv6Slice::from_slice(ip.payload().payload).unwrap();
            assert_eq!(
                icmp.icmp_type(),
                Icmpv6Type::PacketTooBig { mtu: mtu.into() }
            );
            assert!(icmp.is_checksum_valid(PEER_6, GUEST_6));
            assert!(answer.len() - packet_at <= 1280);
            assert_eq!(icmp.payload().len(), packet.len().min(1280 - 48));
            icmp.payload()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(quote, &packet[..quote.len()]);
}

#[test]
fn both_families_hear_what_fits_with_and_without_a_tag() {
    for is_ipv6 in [false, true] {
        for tag in [None, Some(5)] {
            check(&udp(is_ipv6, tag, 1472), 1430);
            check(&udp(is_ipv6, tag, 8000), 1280);
        }
    }
    check(&udp(false, None, 60), 68);
}

/// By hand, from the drawings in RFC 791, 792 and 1191, with sums added up by hand: 100 bytes, and 80 would fit.
#[test]
fn an_answer_is_what_its_rfcs_draw() {
    let mut frame = [&PEER[..], &GUEST, &[8, 0]].concat();
    frame.extend([
        0x45, 0, 0, 100, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
    ]);
    frame.extend([0x0f, 0xa0, 0x13, 0x88, 0, 80, 0, 0]);
    let mut expected = [&GUEST[..], &PEER, &[8, 0]].concat();
    expected.extend([0x45, 0xc0, 0, 56, 0, 0, 0x40, 0, 64, 1, 0x25, 0xf1]);
    expected.extend([10, 9, 0, 2, 10, 9, 0, 1]);
    expected.extend([3, 4, 0xff, 0xa8, 0, 0, 0, 80]);
    expected.extend(&frame[14..]);
    assert_eq!(answer(&frame, 80).unwrap(), expected);
}

/// The frame with other bytes at some place.
fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = frame.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

#[test]
fn nobody_hears_of_what_must_not_be_answered() {
    let (four, six) = (udp(false, None, 1472), udp(true, None, 1472));
    for (what, frame) in [
        ("to a group", with(&four, 0, &[0x01])),
        ("from a group", with(&four, 6, &[0x01])),
        ("from nobody", with(&four, 6, &[0; 6])),
        ("ARP", with(&four, 12, &[8, 6])),
        ("a later fragment", with(&four, 20, &[0x20, 1])),
        ("version 5", with(&four, 14, &[0x55])),
        ("a header of four words", with(&four, 14, &[0x44])),
        ("from zero", with(&four, 26, &[0; 4])),
        ("from a loop", with(&four, 26, &[127])),
        ("from a multicast", with(&four, 26, &[224])),
        ("from everybody", with(&four, 26, &[255; 4])),
        ("to a multicast", with(&four, 30, &[239])),
        ("to everybody", with(&four, 30, &[255; 4])),
        (
            "shorter than it says",
            with(&four, 16, &1430u16.to_be_bytes()),
        ),
        ("version 4 in IPv6", with(&six, 14, &[0x40])),
        ("from an IPv6 multicast", with(&six, 22, &[0xff])),
        ("from unspecified", with(&six, 22, &[0; 16])),
        ("to an IPv6 multicast", with(&six, 38, &[0xff])),
        ("small IPv6", with(&six, 18, &1390u16.to_be_bytes())),
    ] {
        assert_eq!(answer(beginning(&frame), 1430), None, "{what}");
    }
    assert_eq!(answer(beginning(&four), 67), None, "no host believes it");
    assert_eq!(answer(beginning(&six), 1279), None, "no host believes it");
    for (cut, frame) in [(14 + 27, &four), (14 + 40, &six)] {
        assert_eq!(
            answer(&frame[..cut], 1430),
            None,
            "the beginning is too short"
        );
        assert!(answer(&frame[..=cut], 1430).is_some());
    }
}

#[test]
fn errors_are_not_answered_and_questions_are() {
    let icmp = |kind| with(&with(&udp(false, None, 1472), 23, &[1]), 34, &[kind]);
    for kind in [3, 4, 5, 11, 12, 40] {
        assert_eq!(answer(beginning(&icmp(kind)), 1430), None, "{kind}");
    }
    for kind in [0, 8, 13, 42] {
        assert!(answer(beginning(&icmp(kind)), 1430).is_some(), "{kind}");
    }
    // Behind a fragment header of the first fragment, and behind options.
    let behind = |extension: &[u8], kind| {
        let six = with(&udp(true, None, 1472), 20, &[extension[0]]);
        let next = [&extension[1..], &[kind]].concat();
        with(&six, 54, &next)
    };
    let fragment = |offset: u8| [44, 58, 0, 0, offset | 1, 0, 0, 0, 9];
    let options = [0, 58, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (extension, kind, answered) in [
        (&[58][..], 1, false),
        (&[58], 127, false),
        (&[58], 137, false),
        (&[58], 128, true),
        (&fragment(0), 1, false),
        (&fragment(0), 128, true),
        (&fragment(8), 128, false),
        (&options, 2, false),
        (&options, 129, true),
    ] {
        let frame = behind(extension, kind);
        let found = answer(beginning(&frame), 1430).is_some();
        assert_eq!(found, answered, "{extension:?} {kind}");
    }
}

/// Bytes that begin like a frame of IP, so that chance comes far.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let begins = prop::sample::select(vec![
        udp(false, None, 100),
        udp(true, None, 100),
        udp(false, Some(5), 100),
        udp(true, Some(5), 100),
    ]);
    let changes = prop::collection::vec((0usize..80, any::<u8>()), 0..6);
    (begins, changes, 0usize..160).prop_map(|(mut frame, changes, length)| {
        for (at, byte) in changes {
            frame[at] = byte;
        }
        frame.truncate(length);
        frame
    })
}

proptest! {
    #[test]
    fn any_packet_that_is_too_big_is_answered_right(
        is_ipv6 in any::<bool>(),
        tag in prop::option::of(0u16..4096),
        mtu in 1280u16..9000,
        more in 1usize..500,
    ) {
        let headers = if is_ipv6 { 48 } else { 28 };
        check(&udp(is_ipv6, tag, usize::from(mtu) - headers + more), mtu);
    }

    #[test]
    fn no_bytes_make_it_panic_or_answer_what_is_no_frame(frame in hostile(), mtu in any::<u16>()) {
        if let Some(answer) = answer(&frame, mtu) {
            let read = SlicedPacket::from_ethernet(&answer).unwrap();
            prop_assert!(read.net.is_some());
            prop_assert!(answer.len() <= frame.len() + 48);
            prop_assert_eq!(&answer[..6], &frame[6..12]);
            prop_assert_eq!(&answer[6..12], &frame[..6]);
        }
    }

    #[test]
    fn nor_do_bytes_by_chance(
        frame in prop::collection::vec(any::<u8>(), 0..200),
        mtu in any::<u16>(),
    ) {
        let _ = answer(&frame, mtu);
    }
}
