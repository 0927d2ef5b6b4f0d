//! The promise: a frame for one station arrives there, whole, once, and nowhere else; whatever is
//! in it, and up to the MTU that the agent names.

use anyhow::{Context, Result};
use e2e::ask;
use e2e::books;
use e2e::frame::{self, HEADER_BYTES, NUMBERED_BYTES_MIN, expect, expect_nothing, guest, numbered};
use e2e::stage::{Family, Site, Stage, mesh_settings};
use lab::{Lab, TapGuest, in_lab};
use vnet_common::reason::Reason;

fn exchange(one: &TapGuest, two: &TapGuest, lengths: &[usize]) -> Result<()> {
    for (from, to) in [(one, two), (two, one)] {
        let frames: Vec<_> = (0..)
            .zip(lengths)
            .map(|(number, &bytes)| numbered(from.mac(), to.mac(), number, bytes))
            .collect();
        frames.iter().try_for_each(|frame| from.send(frame))?;
        expect(to, &frames).with_context(|| format!("from {} to {}", from.mac(), to.mac()))?;
        expect_nothing(from)?;
    }
    Ok(())
}

fn over(lab: &Lab, family: Family, mtu: u32) -> Result<()> {
    let stage = Stage::mesh(lab, 2, family)?;
    let (one, two) = stage.two()?;
    for Site { host, .. } in [one, two] {
        let status = ask::status(host)?;
        assert_eq!(status.networks[0].mtu_bytes, Some(mtu));
        assert_eq!(
            e2e::stranger::mtu_of(host, "tap0")?,
            mtu,
            "the agent sets it"
        );
    }
    let largest = usize::try_from(mtu)? + HEADER_BYTES;
    exchange(
        &one.guest,
        &two.guest,
        &[NUMBERED_BYTES_MIN, 60, 61, 64, 512, 1000, largest],
    )?;

    one.guest
        .send(&numbered(guest(1), guest(2), 99, largest + 1))?;
    expect_nothing(&two.guest)?;
    let stats = books::check_host(&one.host)?;
    assert_eq!(
        books::dropped(books::port(&stats, "tap0")?, Reason::TooBig),
        1
    );
    Ok(())
}

#[test]
fn two_guests_exchange_frames_of_any_length_over_ipv4() {
    in_lab("ipv4", |lab| over(lab, Family::Ipv4, 1422));
}

#[test]
fn two_guests_exchange_frames_of_any_length_over_ipv6() {
    in_lab("ipv6", |lab| over(lab, Family::Ipv6, 1402));
}

#[test]
fn two_guests_of_one_host_exchange_frames_without_the_underlay() {
    in_lab("local", |lab| {
        let stage = Stage::new(lab, 2, |own| {
            let alone = mesh_settings(Family::Ipv4, own, 2);
            if own == 1 {
                alone.port("tap1", guest(3))
            } else {
                alone
            }
        })?;
        let (one, two) = stage.two()?;
        let three = one.host.tap_guest("tap1", guest(3))?;
        ask::until(&one.host, "both ports forward", |status| status.ports == 2)?;
        exchange(&one.guest, &three, &[NUMBERED_BYTES_MIN, 60, 1000, 1436])?;
        expect_nothing(&two.guest)?;
        let stats = books::check_host(&one.host)?;
        assert_eq!(books::link(&stats, "to-two")?.sent_packets, 0);
        assert_eq!(books::port(&stats, "tap0")?.delivered, 4);
        assert_eq!(books::port(&stats, "tap1")?.sent_packets, 4);
        Ok(())
    });
}

#[test]
fn what_is_in_a_frame_does_not_matter() {
    in_lab("content", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let mut frames = Vec::new();
        // Tagged, tagged twice, a length instead of a type, loopback's, IP that lies about itself.
        for ethertype in [
            [0x81, 0],
            [0x88, 0xa8],
            [0, 46],
            [0x90, 0],
            [8, 0],
            [0x86, 0xdd],
            [8, 6],
            [0, 0],
        ] {
            for filler in [0x00, 0x45, 0x60, 0xff] {
                let mut frame = frame::header(guest(1), guest(2), ethertype);
                frame.resize(80, filler);
                frames.push(frame);
            }
        }
        // Nothing but the header, and less than the shortest Ethernet frame.
        frames.extend((14..22).map(|bytes| {
            let mut frame = frame::header(guest(1), guest(2), [0x08, 0x00]);
            frame.resize(bytes, 7);
            frame
        }));
        frames.iter().try_for_each(|frame| one.guest.send(frame))?;
        expect(&two.guest, &frames)?;
        books::check_host(&one.host)?;
        Ok(())
    });
}

#[test]
fn networks_that_share_hosts_links_and_addresses_never_meet() {
    in_lab("networks", |lab| {
        // Guests 1 and 2 of blue, and others with the same addresses in green, over one link.
        let stage = Stage::new(lab, 2, |own| {
            let other = 3 - own;
            let link = "[[link]]\nname = \"link\"\nnetworks = [\"blue\", \"green\"]";
            let remote = e2e::stage::address(Family::Ipv4, other);
            let way = |network| {
                format!(
                    "[[rule]]\nnetwork = \"{network}\"\ndestination = \"{}\"\nlink = \"link\"",
                    guest(other)
                )
            };
            let flood = "[[rule]]\nnetwork = \"green\"\ndestination = \"none\"\nflood = true";
            let port = format!(
                "[[port]]\nname = \"tap1\"\nnetwork = \"green\"\naddresses = [\"{}\"]",
                guest(own)
            );
            e2e::settings::Settings::new()
                .network("green", 0x00ff_ffff)
                .port("tap0", guest(own))
                .and(&port)
                .and(&format!(
                    "{link}\nremote = \"{remote}\"\ncookie = \"{}\"",
                    e2e::settings::COOKIE
                ))
                .and(&way("blue"))
                .and(&way("green"))
                .and(flood)
                .flood()
        })?;
        let (one, two) = stage.two()?;
        let green_one = one.host.tap_guest("tap1", guest(1))?;
        let green_two = two.host.tap_guest("tap1", guest(2))?;
        for site in [one, two] {
            ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        }
        for (number, to) in [(1, guest(2)), (2, frame::BROADCAST)] {
            let (blue, green) = (
                numbered(guest(1), to, number, 100),
                numbered(guest(1), to, number, 200),
            );
            one.guest.send(&blue)?;
            green_one.send(&green)?;
            expect(&two.guest, &[blue])?;
            expect(&green_two, &[green])?;
        }
        expect_nothing(&one.guest)?;
        expect_nothing(&green_one)?;
        for site in [one, two] {
            books::check_host(&site.host)?;
        }
        Ok(())
    });
}

#[test]
fn links_without_cookies_are_bare_geneve_and_both_ends_must_agree() {
    in_lab("plain", |lab| {
        let settings = |own: u8, secret: &str| {
            let other = 3 - own;
            let remote = e2e::stage::address(Family::Ipv4, other);
            let link = "[[link]]\nname = \"link\"\nnetworks = [\"blue\"]";
            e2e::settings::Settings::new()
                .port("tap0", guest(own))
                .and(&format!("{link}\nremote = \"{remote}\"\n{secret}"))
                .way(guest(other), "link")
        };
        let stage = Stage::new(lab, 2, |own| settings(own, "plain = true"))?;
        let (one, two) = stage.two()?;
        assert_eq!(ask::status(&one.host)?.networks[0].mtu_bytes, Some(1450));
        let capture = stage
            .underlay
            .capture_at(&two.host.uplink()?, "udp port 6081")?;
        exchange(&one.guest, &two.guest, &[NUMBERED_BYTES_MIN, 60, 1464])?;
        let text = capture.stop()?.decode(&["-nn", "-v", "-t"])?;
        assert!(
            text.contains("Geneve") && !text.contains("options ["),
            "{text}"
        );

        // One end wants proof from now on, and the other gives none.
        let cookie = format!("cookie = \"{}\"", e2e::settings::COOKIE);
        two.agent.write_settings(&settings(2, &cookie).text())?;
        e2e::signal::reload(&two.agent)?;
        one.guest.send(&numbered(guest(1), guest(2), 9, 100))?;
        expect_nothing(&two.guest)?;
        let stats = books::settled(&two.host)?;
        assert_eq!(
            books::dropped(books::underlay(&stats, "eth0")?, Reason::NoCookie),
            1
        );
        // The other way around the proof is not asked for, and noise to whoever does not know it.
        let frame = numbered(guest(2), guest(1), 9, 100);
        two.guest.send(&frame)?;
        expect(&one.guest, &[frame])
    });
}
