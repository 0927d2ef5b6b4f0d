//! The promise: rules can lead frames over hosts that have no guest of theirs, each hop counts the
//! outer TTL down, and rules that form a loop end in drops that say so.

use e2e::books;
use e2e::frame::{expect, expect_nothing, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Stage, address, link_to};
use lab::in_lab;
use vnet_common::reason::Reason;

/// What the agent of this host is told of its own guest and of links to others.
fn with_links(own: u8, others: &[u8]) -> Settings {
    others.iter().fold(
        Settings::new().port(PORT, guest(own)),
        |settings, &other| settings.link(&link_to(other), &address(Family::Ipv4, other)),
    )
}

#[test]
fn two_hosts_without_a_link_reach_each_other_over_a_third() {
    in_lab("transit", |lab| {
        let stage = Stage::new(lab, 3, |own| match own {
            2 => with_links(2, &[1, 3])
                .way(guest(1), "to-one")
                .way(guest(3), "to-three"),
            end => with_links(end, &[2]).way(guest(4 - end), "to-two"),
        })?;
        let [one, two, three] = &stage.sites[..] else {
            unreachable!("three sites")
        };
        let captures = [&one.host, &three.host].map(|host| {
            host.uplink()
                .and_then(|uplink| stage.underlay.capture_at(&uplink, "udp port 6081"))
        });
        let [at_one, at_three] = captures;
        let (at_one, at_three) = (at_one?, at_three?);

        let there: Vec<_> = (0..50)
            .map(|number| numbered(guest(1), guest(3), number, 300))
            .collect();
        there.iter().try_for_each(|frame| one.guest.send(frame))?;
        expect(&three.guest, &there)?;
        let back = numbered(guest(3), guest(1), 1, 1436);
        three.guest.send(&back)?;
        expect(&one.guest, &[back])?;
        expect_nothing(&two.guest)?;

        // 64 at the first hop, 63 after the host between.
        for (capture, own) in [(at_one, "10.0.0.1"), (at_three, "10.0.0.3")] {
            let text = capture.stop()?.decode(&["-nn", "-v", "-t"])?;
            let ttl_of = |from: &str| {
                let at = text.find(&format!("\n    {from}."))?;
                let (before, _) = text.split_at_checked(at)?;
                let (_, ttl) = before.rsplit_once("ttl ")?;
                ttl.split(',').next()?.parse::<u32>().ok()
            };
            assert_eq!(ttl_of(own), Some(64), "{text}");
            assert_eq!(ttl_of("10.0.0.2"), Some(63), "{text}");
        }
        let middle = books::check_host(&two.host)?;
        assert_eq!(books::link(&middle, "to-one")?.forwarded, 50);
        assert_eq!(books::link(&middle, "to-three")?.sent_packets, 50);
        Ok(())
    });
}

#[test]
fn a_loop_of_rules_ends_after_64_hops_and_is_named() {
    in_lab("loop", |lab| {
        let nobody = guest(99);
        let stage = Stage::new(lab, 3, |own| {
            let next = own % 3 + 1;
            let previous = (own + 1) % 3 + 1;
            with_links(own, &[next, previous]).way(nobody, &link_to(next))
        })?;
        let frames = 20;
        for number in 0..frames {
            stage.sites[0]
                .guest
                .send(&numbered(guest(1), nobody, number, 100))?;
        }
        let (mut sent, mut ended) = (0, 0);
        for (own, site) in (1..).zip(&stage.sites) {
            let stats = books::settled(&site.host)?;
            sent += books::link(&stats, &link_to(own % 3 + 1))?.sent_packets;
            let from = books::link(&stats, &link_to((own + 1) % 3 + 1))?;
            ended += books::dropped(from, Reason::HopLimit);
            expect_nothing(&site.guest)?;
        }
        assert_eq!((sent, ended), (64 * frames, frames));
        Ok(())
    });
}

#[test]
fn a_frame_never_goes_back_onto_the_link_it_came_from() {
    in_lab("back", |lab| {
        let nobody = guest(99);
        let stage = Stage::new(lab, 2, |own| {
            let other = 3 - own;
            with_links(own, &[other]).way(nobody, &link_to(other))
        })?;
        let (one, two) = stage.two()?;
        one.guest.send(&numbered(guest(1), nobody, 1, 100))?;
        expect_nothing(&one.guest)?;
        expect_nothing(&two.guest)?;
        let stats = books::check_host(&two.host)?;
        let link = books::link(&stats, "to-one")?;
        assert_eq!(
            (books::dropped(link, Reason::Reflection), link.sent_packets),
            (1, 0)
        );
        Ok(())
    });
}
