//! The promise: broadcasts, multicasts and frames for stations that no rule knows reach every
//! other guest of the network exactly once, over the agents, and never come back to their sender.

use anyhow::Result;
use e2e::books;
use e2e::frame::{BROADCAST, GROUP, expect, guest, header, numbered};
use e2e::settings::BLUE;
use e2e::stage::{Family, PORT, Stage, mesh_settings};
use lab::{Mac, TapGuest, in_lab};
use vnet_common::reason::Reason;

/// Who asks for guest two's address, as every IPv4 stack does (RFC 826).
fn arp_request(from: Mac) -> Vec<u8> {
    let mut frame = header(from, BROADCAST, [8, 6]);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(from.0);
    frame.extend([10, 9, 0, 1, 0, 0, 0, 0, 0, 0, 10, 9, 0, 2]);
    frame.resize(60, 0);
    frame
}

/// One of each kind.
fn for_many(from: Mac) -> Vec<Vec<u8>> {
    vec![
        numbered(from, BROADCAST, 1, 60),
        numbered(from, GROUP, 2, 1000),
        arp_request(from),
        // Nobody has this address: the default rule says flood.
        numbered(from, guest(99), 3, 200),
        numbered(from, BROADCAST, 4, 1416),
    ]
}

/// Sends from each in turn; all others hear everything once.
fn everybody_hears_everybody(guests: &[&TapGuest]) -> Result<()> {
    for sender in guests {
        let frames = for_many(sender.mac());
        frames.iter().try_for_each(|frame| sender.send(frame))?;
        for receiver in guests {
            let is_sender = receiver.mac() == sender.mac();
            expect(receiver, if is_sender { &[] } else { &frames })?;
        }
    }
    Ok(())
}

fn check_books(stage: &Stage) -> Result<()> {
    stage.sites.iter().try_for_each(|site| {
        let stats = books::check_host(&site.host)?;
        assert!(
            stats.agent.slow_path_dropped_by_reason.is_empty(),
            "{stats:?}"
        );
        let books = books::port(&stats, PORT)?;
        assert_eq!(books.slow_path, books.received_packets);
        Ok(())
    })
}

fn on(stage: &Stage) -> Result<()> {
    let guests: Vec<_> = stage.sites.iter().map(|site| &site.guest).collect();
    everybody_hears_everybody(&guests)?;
    check_books(stage)
}

#[test]
fn in_a_mesh_over_ipv4() {
    in_lab("mesh4", |lab| on(&Stage::mesh(lab, 3, Family::Ipv4)?));
}

#[test]
fn in_a_mesh_over_ipv6() {
    in_lab("mesh6", |lab| on(&Stage::mesh(lab, 2, Family::Ipv6)?));
}

#[test]
fn in_a_star_through_its_hub() {
    in_lab("star", |lab| {
        let stage = Stage::star(lab, 3)?;
        on(&stage)?;
        // Three senders, five frames each: what comes over one link of the hub goes out by the
        // other, once, and what comes from the hub's own port by both.
        let hub = books::settled(&stage.sites[0].host)?;
        for link in ["to-two", "to-three"] {
            let ledger = books::link(&hub, link)?;
            assert_eq!(
                (ledger.sent_packets, ledger.received_packets),
                (10, 5),
                "{link}"
            );
        }
        Ok(())
    });
}

#[test]
fn among_the_ports_of_one_host_and_not_into_other_networks() {
    in_lab("ports", |lab| {
        let stage = Stage::new(lab, 2, |own| {
            let alone = mesh_settings(Family::Ipv4, own, 2);
            let more = alone.port("tap1", guest(10 + own)).network("green", 8);
            more.and(&format!(
                "[[port]]\nname = \"tap2\"\nnetwork = \"green\"\naddresses = [\"{}\"]",
                guest(own)
            ))
        })?;
        let (one, two) = stage.two()?;
        let mut more = Vec::new();
        for (site, number) in [(one, 11), (two, 12)] {
            more.push(site.host.tap_guest("tap1", guest(number))?);
            // The same address in another network: another station.
            more.push(site.host.tap_guest("tap2", guest(number - 10))?);
            e2e::ask::until(&site.host, "its ports forward", |status| status.ports == 3)?;
        }
        everybody_hears_everybody(&[&one.guest, &two.guest, &more[0], &more[2]])?;
        for stranger in [&more[1], &more[3]] {
            expect(stranger, &[])?;
            // Green has no default rule and no link: nobody is there to hear a broadcast.
            stranger.send(&numbered(stranger.mac(), BROADCAST, 1, 60))?;
        }
        for guest in [&one.guest, &two.guest, &more[0], &more[2]] {
            expect(guest, &[])?;
        }
        let stats = books::check_host(&one.host)?;
        let dropped = &stats.agent.slow_path_dropped_by_reason;
        assert_eq!(dropped.get(&Reason::NoReceiver), Some(&1), "{stats:?}");
        Ok(())
    });
}

#[test]
fn a_link_that_must_not_flood_hears_nothing() {
    in_lab("never", |lab| {
        let stage = Stage::new(lab, 2, |own| {
            let other = 3 - own;
            let link = e2e::stage::link_to(other);
            let settings = e2e::settings::Settings::new()
                .port(PORT, guest(own))
                .flood();
            let address = e2e::stage::address(Family::Ipv4, other);
            settings
                .link_with(&link, &address, "flood = \"never\"")
                .way(guest(other), &link)
        })?;
        let (one, two) = stage.two()?;
        one.guest.send(&numbered(guest(1), BROADCAST, 1, 60))?;
        let single = numbered(guest(1), guest(2), 2, 60);
        one.guest.send(&single)?;
        expect(&two.guest, &[single])?;
        let stats = books::check_host(&one.host)?;
        assert_eq!(
            books::link(&stats, "to-two")?.sent_packets,
            1,
            "{BLUE}: {stats:?}"
        );
        Ok(())
    });
}
