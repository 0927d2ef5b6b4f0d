//! The promise: received = forwarded + delivered + slow path + answered + passed + dropped, to the
//! frame, on every port, link, underlay device and for the agent; and what one host sent is what
//! the other received, and what ports were sent is what the guests have.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use e2e::chance::Chance;
use e2e::frame::{BROADCAST, GROUP, guest, header, numbered};
use e2e::listener::while_listening;
use e2e::stage::{Family, PORT, Stage, mesh_settings};
use e2e::stranger::Wire;
use e2e::{ask, books};
use lab::{Mac, TapGuest, in_lab};
use vnet_agent::api::{LedgerValues, Stats, TraceReport};
use vnet_common::reason::Reason;

const FRAMES: u64 = 3000;

/// What a random frame must come to at the port that it is sent into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Forwarded,
    Delivered,
    /// Up to the agent, or over the port's budget.
    ForMany,
    Dropped(Reason),
}

const ENDS: [End; 10] = [
    End::Forwarded,
    End::Forwarded,
    End::Delivered,
    End::ForMany,
    End::Dropped(Reason::TooBig),
    End::Dropped(Reason::InvalidSource),
    End::Dropped(Reason::ForeignSource),
    End::Dropped(Reason::Reflection),
    End::Dropped(Reason::Rule),
    End::Dropped(Reason::PortAbsent),
];

/// A frame of guest `own` that comes to this end.
fn frame_for(end: End, own: u8, number: u64, chance: &mut Chance) -> Vec<u8> {
    let bytes = 22 + chance.below(1000);
    let from = guest(own);
    match end {
        End::Forwarded => numbered(from, guest(3 - own), number, bytes),
        End::Delivered => numbered(from, guest(10 + own), number, bytes),
        End::ForMany => numbered(
            from,
            *chance.one_of(&[BROADCAST, GROUP, guest(77)]),
            number,
            bytes,
        ),
        End::Dropped(Reason::TooBig) => {
            numbered(from, guest(3 - own), number, 1437 + chance.below(70))
        }
        End::Dropped(Reason::InvalidSource) => numbered(
            *chance.one_of(&[BROADCAST, GROUP, Mac([0; 6])]),
            guest(3 - own),
            number,
            bytes,
        ),
        End::Dropped(Reason::ForeignSource) => numbered(guest(60), guest(3 - own), number, bytes),
        End::Dropped(Reason::Reflection) => numbered(from, from, number, bytes),
        End::Dropped(Reason::Rule) => {
            let mut frame = header(from, guest(50), [8, 0]);
            frame.extend(chance.bytes(bytes));
            frame
        }
        End::Dropped(_) => numbered(from, guest(51), number, bytes),
    }
}

/// Sends random frames; returns how many of which end.
fn storm(sender: &TapGuest, own: u8, seed: u64) -> Result<BTreeMap<End, u64>> {
    let mut chance = Chance::seeded(seed);
    let mut sent = BTreeMap::new();
    for number in 0..FRAMES {
        let end = *chance.one_of(&ENDS);
        sender.send(&frame_for(end, own, number, &mut chance))?;
        *sent.entry(end).or_default() += 1;
        if number % 16 == 0 {
            // Devices on the way have queues for 256 frames: a sender that never pauses on a busy
            // machine would be about them.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(sent)
}

fn check_port(books: &LedgerValues, sent: &BTreeMap<End, u64>) {
    let count = |end| sent.get(&end).copied().unwrap_or(0);
    assert_eq!(books.received_packets, FRAMES);
    assert_eq!(books.forwarded, count(End::Forwarded), "{books:?}");
    assert_eq!(books.delivered, count(End::Delivered), "{books:?}");
    let over_budget = books::dropped(books, Reason::SlowPathRate);
    assert_eq!(
        books.slow_path + over_budget,
        count(End::ForMany),
        "{books:?}"
    );
    for (&end, &count) in sent {
        if let End::Dropped(reason) = end {
            assert_eq!(books::dropped(books, reason), count, "{reason}: {books:?}");
        }
    }
    assert_eq!((books.answered, books.passed), (0, 0), "{books:?}");
}

fn check_received(books: &LedgerValues, received: &[Vec<u8>]) -> Result<()> {
    let bytes: usize = received.iter().map(Vec::len).sum();
    assert_eq!(
        books.sent_packets,
        u64::try_from(received.len())? + books.refused,
        "{books:?}"
    );
    if books.refused == 0 {
        assert_eq!(books.sent_bytes, u64::try_from(bytes)?, "{books:?}");
    }
    Ok(())
}

#[test]
fn after_a_storm_from_both_sides_the_books_are_exact() {
    in_lab("storm", |lab| {
        let stage = Stage::new(lab, 2, |own| {
            mesh_settings(Family::Ipv4, own, 2)
                .port("tap1", guest(10 + own))
                .rule("any", &guest(50).to_string(), "drop = true")
                .rule("any", &guest(51).to_string(), "port = \"tap9\"")
                .port("tap9", guest(9))
        })?;
        let (one, two) = stage.two()?;
        let more = [(one, 11), (two, 12)].map(|(site, number)| {
            let guest = site.host.tap_guest("tap1", guest(number));
            ask::until(&site.host, "its ports forward", |status| status.ports == 2)?;
            guest
        });
        let [three, four] = more;
        let (three, four) = (three?, four?);

        let mut sent = None;
        let received = while_listening([&one.guest, &two.guest, &three, &four], || {
            let both = std::thread::scope(|scope| {
                let other = scope.spawn(|| storm(&two.guest, 2, 0x5eed_0002));
                let own = storm(&one.guest, 1, 0x5eed_0001);
                other.join().map(|other| (own, other))
            });
            let (first, second) = both.ok().context("a sender panicked")?;
            sent = Some([first?, second?]);
            Ok(())
        })?;
        let [sent_one, sent_two] = sent.context("nothing was sent")?;

        let stats: Vec<Stats> = [one, two]
            .iter()
            .map(|site| books::check_host(&site.host))
            .collect::<Result<_>>()?;
        check_port(books::port(&stats[0], PORT)?, &sent_one);
        check_port(books::port(&stats[1], PORT)?, &sent_two);
        books::check_pair(&stats[0], "to-two", &stats[1], "to-one")?;
        books::check_pair(&stats[1], "to-one", &stats[0], "to-two")?;
        let [at_one, at_two, at_three, at_four] = &received;
        check_received(books::port(&stats[0], PORT)?, at_one)?;
        check_received(books::port(&stats[1], PORT)?, at_two)?;
        check_received(books::port(&stats[0], "tap1")?, at_three)?;
        check_received(books::port(&stats[1], "tap1")?, at_four)?;
        assert!(at_one.len() > 500 && at_two.len() > 500, "it was a storm");
        Ok(())
    });
}

/// The packet that host one would send for a frame to guest two.
fn outer_packet(host: &lab::Host) -> Result<Vec<u8>> {
    let (source, destination) = (guest(1).to_string(), guest(2).to_string());
    let verb = [
        "trace",
        "--source",
        &source,
        "--destination",
        &destination,
        "--bytes",
        "200",
    ];
    let report: TraceReport = ask::ask(host, &verb)?;
    Ok(report.kernel.context("the kernel was asked")?.output_hex.0)
}

/// The packet with some of its bytes changed, or its end missing, or more behind it.
fn damaged(packet: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match chance.below(8) {
        0 => packet.truncate(14 + chance.below(packet.len() - 14)),
        1 => packet.extend(chance.bytes(50)),
        _ => {}
    }
    for _ in 0..chance.below(4) {
        // Not the outer Ethernet header: another station's packets never come this far.
        let at = 14 + chance.below(packet.len().saturating_sub(14).max(1));
        if let Some(byte) = packet.get_mut(at) {
            *byte ^= 1 << chance.below(8);
        }
    }
    packet
}

#[test]
fn a_storm_of_damaged_packets_from_the_wire_is_accounted_for_too() {
    in_lab("wire", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        // Somebody on the underlay who has seen a packet of host one and sends others like it.
        let stranger = lab.host("stranger")?;
        stage.underlay.connect(&stranger, "eth0")?;
        let wire = Wire::of(&stranger, "eth0")?;
        let genuine = outer_packet(&one.host)?;

        let mut chance = Chance::seeded(0x0bad_5eed);
        let [received] = while_listening([&two.guest], || {
            for number in 0..FRAMES {
                wire.send(&damaged(&genuine, &mut chance))?;
                if number % 16 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
            Ok(())
        })?;
        let stats = books::check_host(&two.host)?;
        let underlay = books::underlay(&stats, "eth0")?;
        let link = books::link(&stats, "to-one")?;
        assert_eq!(underlay.forwarded, link.received_packets);
        check_received(books::port(&stats, PORT)?, &received)?;
        // Some of each: what was not damaged where it matters, and what every check found.
        assert!(received.len() > 100, "{stats:?}");
        for reason in [
            Reason::OuterHeader,
            Reason::WrongCookie,
            Reason::UnknownPeer,
            Reason::Geneve,
        ] {
            assert!(
                books::dropped(underlay, reason) > 0,
                "{reason}: {underlay:?}"
            );
        }
        assert!(ask::status(&two.host)?.healthy);
        // And the guests still reach each other.
        let frame = numbered(guest(1), guest(2), 1, 100);
        one.guest.send(&frame)?;
        e2e::frame::expect(&two.guest, &[frame])
    });
}

#[test]
fn more_flows_than_there_is_room_for_cost_none_of_the_ports_counts() {
    in_lab("flows", |lab| {
        let stage = Stage::new(lab, 1, |_| {
            let dropping = e2e::settings::Settings::new().port(PORT, guest(1));
            dropping
                .rule("any", "none", "drop = true")
                .limit("flows = 1024")
        })?;
        let site = &stage.sites[0];
        let stations = 5000_u64;
        for number in 0..stations {
            let [.., a, b] = number.to_be_bytes();
            site.guest
                .send(&numbered(guest(1), Mac([2, 0, 0, 1, a, b]), number, 60))?;
        }
        let stats = books::settled(&site.host)?;
        let ledger = books::port(&stats, PORT)?;
        assert_eq!(
            (
                ledger.received_packets,
                books::dropped(ledger, Reason::Rule)
            ),
            (stations, stations)
        );
        let flows = ask::flows(&site.host)?;
        assert!(flows.total <= 1024, "{}", flows.total);
        let counted: u64 = flows.flows.iter().map(|flow| flow.packets).sum();
        assert!(counted > 0 && counted <= stations, "{counted}");
        // What comes now belongs to a flow again.
        site.guest.send(&numbered(guest(1), guest(2), 1, 60))?;
        let flows = ask::flows(&site.host)?;
        assert!(
            flows
                .flows
                .iter()
                .any(|flow| flow.destination == guest(2) && flow.packets == 1)
        );
        Ok(())
    });
}
