//! The promise: whatever comes in from the underlay is forwarded, passed or dropped under its own
//! reason, one packet one count, and what claims to come over a link proves it.

use anyhow::{Context, Result, ensure};
use e2e::frame::{BROADCAST, expect, guest, header};
use e2e::stage::{Family, Stage};
use e2e::stranger::Wire;
use e2e::{ask, books};
use lab::{Host, Lab, in_lab};
use vnet_agent::api::{LedgerValues, Stats, TraceReport};
use vnet_common::checksum;
use vnet_common::reason::Reason;

/// Offsets in an outer packet over IPv4 with our option.
const IP: usize = 14;
const UDP: usize = IP + 20;
const GENEVE: usize = UDP + 8;
const OPTION: usize = GENEVE + 8;
const INNER: usize = OPTION + 28;

/// The packet that host one would send for a frame from guest one to guest two.
fn genuine(host: &Host) -> Result<Vec<u8>> {
    let (source, destination) = (guest(1).to_string(), guest(2).to_string());
    let verb = [
        "trace",
        "--source",
        &source,
        "--destination",
        &destination,
        "--bytes",
        "100",
    ];
    let report: TraceReport = ask::ask(host, &verb)?;
    Ok(report.kernel.context("the kernel was asked")?.output_hex.0)
}

/// The packet with lengths and the checksum of the IPv4 header made to fit again.
fn fitting(mut packet: Vec<u8>) -> Vec<u8> {
    let ip = u16::try_from(packet.len() - IP)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let udp = u16::try_from(packet.len() - UDP)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    packet[IP + 2..IP + 4].copy_from_slice(&ip);
    packet[UDP + 4..UDP + 6].copy_from_slice(&udp);
    with_ip_checksum(packet)
}

fn with_ip_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    packet[IP + 10..IP + 12].fill(0);
    let sum = checksum::finish(checksum::sum(&packet[IP..UDP]));
    packet[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The packet after a change of some bytes.
fn changed(packet: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    packet
}

/// The packet with other bytes between these two places.
fn spliced(packet: &[u8], from: usize, to: usize, bytes: &[u8]) -> Vec<u8> {
    fitting([&packet[..from], bytes, &packet[to..]].concat())
}

/// What every change comes to, and whose books show it.
fn cases(packet: &[u8]) -> Vec<(&'static str, Vec<u8>, Book, Reason)> {
    use Book::{Link, Underlay};
    let words = |count: u8| [count];
    let critical = [0xff, 0x00, 0x80, 0x00];
    vec![
        (
            "outer checksum",
            changed(packet, IP + 10, &[0xde, 0xad]),
            Underlay,
            Reason::OuterHeader,
        ),
        (
            "UDP longer than IP",
            changed(packet, UDP + 4, &[0xff, 0xff]),
            Underlay,
            Reason::OuterHeader,
        ),
        (
            "UDP shorter than its header",
            changed(packet, UDP + 4, &[0, 7]),
            Underlay,
            Reason::OuterHeader,
        ),
        (
            "cut off",
            packet[..packet.len() - 1].to_vec(),
            Underlay,
            Reason::OuterHeader,
        ),
        (
            "first fragment",
            with_ip_checksum(changed(packet, IP + 6, &[0x20, 0])),
            Underlay,
            Reason::OuterFragment,
        ),
        (
            "Geneve version 1",
            changed(packet, GENEVE, &[0x47]),
            Underlay,
            Reason::Geneve,
        ),
        (
            "options longer than the packet",
            changed(packet, GENEVE, &words(0x3f)),
            Underlay,
            Reason::Geneve,
        ),
        (
            "an option longer than all",
            changed(packet, OPTION + 3, &[0x1f]),
            Underlay,
            Reason::Geneve,
        ),
        (
            "no Geneve header",
            spliced(packet, GENEVE, packet.len(), &[0; 7]),
            Underlay,
            Reason::Geneve,
        ),
        (
            "another network",
            changed(packet, GENEVE + 4, &[0, 0, 9]),
            Underlay,
            Reason::UnknownPeer,
        ),
        (
            "network 0",
            changed(packet, GENEVE + 4, &[0, 0, 0]),
            Underlay,
            Reason::UnknownPeer,
        ),
        (
            "another source",
            with_ip_checksum(changed(packet, IP + 12, &[10, 0, 0, 77])),
            Underlay,
            Reason::UnknownPeer,
        ),
        (
            "another cookie",
            changed(packet, OPTION + 4, &[0xff]),
            Underlay,
            Reason::WrongCookie,
        ),
        (
            "no option",
            spliced(&changed(packet, GENEVE, &[0]), OPTION, INNER, &[]),
            Underlay,
            Reason::NoCookie,
        ),
        (
            "somebody's critical option",
            spliced(&changed(packet, GENEVE, &[1]), OPTION, INNER, &critical),
            Underlay,
            Reason::CriticalOption,
        ),
        (
            "ours and a critical one",
            spliced(&changed(packet, GENEVE, &[8]), INNER, INNER, &critical),
            Underlay,
            Reason::CriticalOption,
        ),
        (
            "IP inside",
            changed(packet, GENEVE + 2, &[8, 0]),
            Link,
            Reason::NotEthernet,
        ),
        (
            "half an Ethernet header inside",
            spliced(packet, INNER, packet.len(), &[2; 13]),
            Link,
            Reason::Runt,
        ),
        (
            "nothing inside",
            spliced(packet, INNER, packet.len(), &[]),
            Link,
            Reason::Runt,
        ),
        (
            "from a group",
            changed(packet, INNER + 6, &BROADCAST.0),
            Link,
            Reason::InvalidSource,
        ),
        (
            "for a guest of the other host",
            changed(packet, INNER, &guest(1).0),
            Link,
            Reason::Reflection,
        ),
        (
            "a control packet of no kind",
            changed(packet, GENEVE + 1, &[0x80]),
            Link,
            Reason::UnknownControl,
        ),
    ]
}

/// Where a drop is counted: before a link is believed, or after.
#[derive(Clone, Copy, Debug)]
enum Book {
    Underlay,
    Link,
}

impl Book {
    fn of(self, stats: &Stats) -> Result<&LedgerValues> {
        match self {
            Self::Underlay => books::underlay(stats, "eth0"),
            Self::Link => books::link(stats, "to-one"),
        }
    }
}

/// Two hosts, and a wire on which a third station has heard a packet of host one's.
fn with_stranger(lab: &Lab) -> Result<(Stage, Wire, Vec<u8>)> {
    let stage = Stage::pair(lab)?;
    let stranger = lab.host("stranger")?;
    stage.underlay.connect(&stranger, "eth0")?;
    let wire = Wire::of(&stranger, "eth0")?;
    let packet = genuine(&stage.sites[0].host)?;
    Ok((stage, wire, packet))
}

#[test]
fn each_is_counted_once_and_where_it_belongs() {
    in_lab("reasons", |lab| {
        let (stage, wire, packet) = with_stranger(lab)?;
        let two = &stage.sites[1];
        for (what, bad, book, reason) in cases(&packet) {
            let before = books::settled(&two.host)?;
            wire.send(&bad)?;
            let after = lab::try_eventually(&format!("`{what}` is counted"), || {
                let now = books::settled(&two.host)?;
                Ok((now != before).then_some(now))
            })?;
            let (old, new) = (book.of(&before)?, book.of(&after)?);
            let rose = books::dropped(new, reason) - books::dropped(old, reason);
            ensure!(
                rose == 1 && new.dropped == old.dropped + 1,
                "{what}: {old:?}, {new:?}"
            );
        }
        expect(&two.guest, &[])?;
        // The genuine one, said again by somebody else, is indeed as good as new.
        wire.send(&packet)?;
        let mut frame = header(guest(1), guest(2), [0x88, 0xb6]);
        frame.resize(100, 0);
        expect(&two.guest, &[frame])?;
        books::check_host(&two.host).map(drop)
    });
}

#[test]
fn what_a_packet_has_beside_is_no_harm() {
    in_lab("beside", |lab| {
        let (stage, wire, packet) = with_stranger(lab)?;
        let two = &stage.sites[1];
        let unknown = [0xff, 0x00, 0x00, 0x01, 1, 2, 3, 4];
        let mut frame = header(guest(1), guest(2), [0x88, 0xb6]);
        frame.resize(100, 0);
        for good in [
            // Options that are not critical, before ours and behind.
            spliced(&changed(&packet, GENEVE, &[9]), OPTION, OPTION, &unknown),
            spliced(&changed(&packet, GENEVE, &[9]), INNER, INNER, &unknown),
            // Padding behind the packet, as short frames have it.
            [packet.clone(), vec![0; 30]].concat(),
            // A checksum over UDP, which is not needed: IPv4 has it optional.
            changed(&packet, UDP + 6, &[0x12, 0x34]),
        ] {
            wire.send(&good)?;
            expect(&two.guest, std::slice::from_ref(&frame))?;
        }
        books::check_host(&two.host).map(drop)
    });
}

#[test]
fn what_is_not_for_us_is_the_hosts_own() {
    in_lab("passes", |lab| {
        let (stage, wire, packet) = with_stranger(lab)?;
        let two = &stage.sites[1];
        let before = books::settled(&two.host)?;
        let others = [
            // Another port, another address, a later fragment, IP options, no IP at all.
            changed(&packet, UDP + 2, &[0x17, 0xc0]),
            with_ip_checksum(changed(&packet, IP + 16, &[10, 0, 0, 99])),
            with_ip_checksum(changed(&packet, IP + 6, &[0x00, 0x10])),
            with_ip_checksum(changed(&packet, IP, &[0x46])),
            changed(&packet, 12, &[0x12, 0x34]),
            packet[..15].to_vec(),
        ];
        let seen = two.host.capture(
            "eth0",
            "ether src 02:00:0a:00:00:01 and not arp and not ip6",
        )?;
        others.iter().try_for_each(|other| wire.send(other))?;
        let count = seen.stop()?.count()?;
        assert_eq!(count, others.len(), "the host's own stack has them all");
        assert_eq!(books::settled(&two.host)?, before, "none is in our books");
        Ok(())
    });
}

#[test]
fn over_ipv6_the_same_holds() {
    in_lab("ipv6", |lab| {
        let stage = Stage::mesh(lab, 2, Family::Ipv6)?;
        let stranger = lab.host("stranger")?;
        stage.underlay.connect(&stranger, "eth0")?;
        let wire = Wire::of(&stranger, "eth0")?;
        let packet = genuine(&stage.sites[0].host)?;
        let two = &stage.sites[1];
        let (ip, udp) = (14, 14 + 40);
        let geneve = udp + 8;
        for (bad, reason) in [
            (changed(&packet, ip + 4, &[0xff, 0xff]), Reason::OuterHeader),
            (changed(&packet, udp + 4, &[0, 3]), Reason::OuterHeader),
            (packet[..packet.len() - 5].to_vec(), Reason::OuterHeader),
            (changed(&packet, geneve, &[0x80]), Reason::Geneve),
            (changed(&packet, ip + 8, &[0xfe]), Reason::UnknownPeer),
            (
                changed(&packet, geneve + 8 + 4, &[0xff]),
                Reason::WrongCookie,
            ),
        ] {
            let before = books::dropped(
                books::underlay(&books::settled(&two.host)?, "eth0")?,
                reason,
            );
            wire.send(&bad)?;
            lab::try_eventually(&format!("{reason} is counted"), || {
                let now = books::settled(&two.host)?;
                Ok(
                    (books::dropped(books::underlay(&now, "eth0")?, reason) == before + 1)
                        .then_some(()),
                )
            })?;
        }
        wire.send(&packet)?;
        let mut frame = header(guest(1), guest(2), [0x88, 0xb6]);
        frame.resize(100, 0);
        expect(&two.guest, &[frame])
    });
}
