//! The promise: a guest sends from its own addresses only; where the port learns, the first
//! address is its own, and the others find it there.

use anyhow::Result;
use e2e::frame::{BROADCAST, expect, expect_nothing, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Stage, mesh_settings};
use e2e::{ask, books};
use lab::{TapGuest, in_lab, try_eventually};
use vnet_agent::model::RuleOrigin;
use vnet_common::reason::Reason;
use vnet_common::rule::Destination;

#[test]
fn a_foreign_source_is_dropped_and_counted() {
    in_lab("foreign", |lab| {
        let stage = Stage::new(lab, 2, |own| {
            let settings = mesh_settings(Family::Ipv4, own, 2);
            let both = format!("addresses = [\"{}\", \"{}\"]", guest(3), guest(4));
            if own == 1 {
                settings.port_with("tap1", &both)
            } else {
                settings
            }
        })?;
        let (one, two) = stage.two()?;
        let more = one.host.tap_guest("tap1", guest(3))?;
        ask::until(&one.host, "both ports forward", |status| status.ports == 2)?;
        // Neither guest two's own name, nor a neighbour's, nor an invented one; broadcast or not.
        for source in [2, 3, 77] {
            for to in [guest(2), BROADCAST] {
                one.guest.send(&numbered(guest(source), to, 1, 100))?;
            }
        }
        let own = [3, 4].map(|source| numbered(guest(source), guest(2), 2, 100));
        own.iter().try_for_each(|frame| more.send(frame))?;
        more.send(&numbered(guest(1), guest(2), 3, 100))?;
        expect(&two.guest, &own)?;
        let stats = books::check_host(&one.host)?;
        let foreign = |port| {
            Ok::<_, anyhow::Error>(books::dropped(
                books::port(&stats, port)?,
                Reason::ForeignSource,
            ))
        };
        assert_eq!((foreign(PORT)?, foreign("tap1")?), (6, 1));
        Ok(())
    });
}

#[test]
fn a_flow_that_was_allowed_ends_when_its_source_is_not_any_more() {
    in_lab("moved", |lab| {
        let settings = |own: u8, number: u8| {
            let other = 3 - own;
            let link = e2e::stage::link_to(other);
            let address = e2e::stage::address(Family::Ipv4, other);
            Settings::new()
                .port(PORT, guest(number))
                .link(&link, &address)
                .way(guest(other), &link)
        };
        let stage = Stage::new(lab, 2, |own| settings(own, own))?;
        let (one, two) = stage.two()?;
        let frame = numbered(guest(1), guest(2), 1, 100);
        one.guest.send(&frame)?;
        expect(&two.guest, std::slice::from_ref(&frame))?;
        one.agent.write_settings(&settings(1, 5).text())?;
        e2e::signal::reload(&one.agent)?;
        one.guest.send(&frame)?;
        expect_nothing(&two.guest)?;
        let own = numbered(guest(5), guest(2), 2, 100);
        one.guest.send(&own)?;
        expect(&two.guest, &[own])
    });
}

fn learning(lab: &lab::Lab) -> Result<(Stage, TapGuest)> {
    let stage = Stage::new(lab, 1, |_| {
        let learn = "addresses = \"learn\"";
        Settings::new()
            .port_with(PORT, learn)
            .port_with("tap1", learn)
    })?;
    let two = stage.sites[0].host.tap_guest("tap1", guest(2))?;
    ask::until(&stage.sites[0].host, "both ports forward", |status| {
        status.ports == 2
    })?;
    Ok((stage, two))
}

/// Waits until the agent lists the rule that a learned address implies.
fn until_learned(stage: &Stage, number: u8) -> Result<()> {
    let host = &stage.sites[0].host;
    try_eventually("the address is known", || {
        let rules = ask::rules(host)?;
        let implied = rules.iter().find(|rule| {
            rule.destination == Destination::Is(guest(number)) && rule.origin == RuleOrigin::Port
        });
        Ok(implied.map(|_| ()))
    })
}

#[test]
fn the_first_address_is_learned_and_others_find_it() {
    in_lab("learn", |lab| {
        let (stage, two) = learning(lab)?;
        let host = &stage.sites[0].host;
        let one = &stage.sites[0].guest;
        assert_eq!(ask::interface(host, PORT)?.learned, None);
        // There is no rule: nothing but the address comes of it.
        one.send(&numbered(guest(1), guest(2), 1, 100))?;
        until_learned(&stage, 1)?;
        assert_eq!(ask::interface(host, PORT)?.learned, Some(guest(1)));
        one.send(&numbered(guest(66), guest(2), 2, 100))?;
        expect_nothing(&two)?;
        let frame = numbered(guest(2), guest(1), 3, 100);
        two.send(&frame)?;
        expect(one, &[frame])?;
        until_learned(&stage, 2)?;
        let back = numbered(guest(1), guest(2), 4, 100);
        one.send(&back)?;
        expect(&two, &[back])?;

        let stats = books::check_host(host)?;
        assert_eq!(
            books::dropped(books::port(&stats, PORT)?, Reason::ForeignSource),
            1
        );
        Ok(())
    });
}

#[test]
fn what_was_learned_outlives_the_agent() {
    in_lab("relearn", |lab| {
        let (mut stage, two) = learning(lab)?;
        stage
            .site(1)?
            .guest
            .send(&numbered(guest(1), guest(2), 1, 100))?;
        until_learned(&stage, 1)?;
        stage.site(1)?.agent.kill();
        // Learned while nobody looks.
        two.send(&numbered(guest(2), guest(1), 2, 100))?;
        expect(
            &stage.site(1)?.guest,
            &[numbered(guest(2), guest(1), 2, 100)],
        )?;
        stage.site(1)?.agent.restart()?;
        until_learned(&stage, 1)?;
        until_learned(&stage, 2)?;
        let one = &stage.sites[0].guest;
        one.send(&numbered(guest(66), guest(2), 3, 100))?;
        let frame = numbered(guest(1), guest(2), 4, 100);
        one.send(&frame)?;
        expect(&two, &[frame])
    });
}

#[test]
fn a_router_may_send_from_any_address_but_not_from_a_group() {
    in_lab("any", |lab| {
        let stage = Stage::new(lab, 1, |_| {
            Settings::new()
                .port_with(PORT, "addresses = \"any\"")
                .port("tap1", guest(2))
        })?;
        let site = &stage.sites[0];
        let two = site.host.tap_guest("tap1", guest(2))?;
        ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        let frames = [1, 50, 51].map(|source| numbered(guest(source), guest(2), 1, 100));
        frames.iter().try_for_each(|frame| site.guest.send(frame))?;
        site.guest.send(&numbered(BROADCAST, guest(2), 1, 100))?;
        expect(&two, &frames)?;
        let stats = books::check_host(&site.host)?;
        assert_eq!(
            books::dropped(books::port(&stats, PORT)?, Reason::InvalidSource),
            1
        );
        Ok(())
    });
}
