//! The promise: a packet that its way does not carry is answered with what would fit, at whichever
//! host it meets that way, so that connections work whatever a guest's MTU is. It is counted, and
//! the guest is named.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, anyhow};
use e2e::frame::guest;
use e2e::settings::Settings;
use e2e::stage::{Family, Site, Stage, link_to, mesh_settings, star_settings};
use e2e::{ask, books};
use lab::{Lab, NamespaceGuest, Station, in_lab};
use vnet_agent::api::Severity;
use vnet_common::reason::Reason;

/// The port of guests with an IP stack: 11 on host one, 12 on host two, and so on.
const STACK: &str = "veth0";

fn with_stack(settings: Settings, own: u8) -> Settings {
    settings.port(STACK, guest(10 + own))
}

/// A guest that thinks it is on an ordinary Ethernet, with an MTU of 1500.
fn join(site: &Site, own: u8) -> Result<NamespaceGuest> {
    let station = Station::new(STACK, guest(10 + own))
        .address(&format!("10.9.0.{own}/24"))
        .address(&format!("fd09::{own}/64"))
        .mtu(1500);
    let guest = site.host.namespace_guest(station)?;
    ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
    Ok(guest)
}

/// Two of them, each other's only peer.
fn pair(lab: &Lab, family: Family) -> Result<(Stage, NamespaceGuest, NamespaceGuest)> {
    let stage = Stage::new(lab, 2, |own| {
        let other = 3 - own;
        with_stack(mesh_settings(family, own, 2), own).way(guest(10 + other), &link_to(other))
    })?;
    let (one, two) = stage.two()?;
    let guests = (join(one, 1)?, join(two, 2)?);
    Ok((stage, guests.0, guests.1))
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// What a guest believes of the way to an address: nothing where nobody told it.
fn known_mtu(guest: &NamespaceGuest, to: &str) -> Result<Option<u32>> {
    let shown = guest.run(["ip", "route", "get", to])?.stdout;
    let mut words = shown.split_whitespace();
    match words.find(|word| *word == "mtu") {
        None => Ok(None),
        Some(_) => Ok(Some(words.next().context("no number")?.parse()?)),
    }
}

/// Has a guest send one whole packet of 1500 bytes, which must not arrive; returns what it says.
fn ping_whole(guest: &NamespaceGuest, to: &str, headers: u32) -> Result<String> {
    let payload = (1500 - headers).to_string();
    let said = guest.attempt(["ping", "-M", "do", "-c", "1", "-W", "1", "-s", &payload, to])?;
    assert!(!said.success(), "{}", said.stdout);
    Ok(format!("{}{}", said.stdout, said.stderr))
}

/// Stacks speak when they like, and books are compared while nothing moves.
fn hush(guests: &[&NamespaceGuest]) -> Result<()> {
    let down = |guest: &&NamespaceGuest| guest.run(words("ip link set eth0 down")).map(drop);
    guests.iter().try_for_each(down)
}

/// Sends two megabytes by TCP, and checks that all of them came.
fn transfer(from: &NamespaceGuest, to: &NamespaceGuest, address: &str) -> Result<()> {
    let sent: Vec<u8> = (0..2_000_000u32).map(|at| (at % 251) as u8).collect();
    let to_address = SocketAddr::new(address.parse()?, 5201);
    // Sockets stay in the namespace that they were made in.
    let listener = to.inside(|| TcpListener::bind(to_address))??;
    let received = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut received = Vec::new();
            listener.accept()?.0.read_to_end(&mut received)?;
            std::io::Result::Ok(received)
        });
        from.inside(|| TcpStream::connect(to_address)?.write_all(&sent))??;
        let received = receiver.join().map_err(|_| anyhow!("no receiver"))?;
        anyhow::Ok(received?)
    })?;
    assert!(received == sent, "{} bytes arrived", received.len());
    Ok(())
}

fn guests_hear_what_fits(family: Family, mtu: u32) {
    in_lab("hear", |lab| {
        let (stage, one, two) = pair(lab, family)?;
        for address in ["10.9.0.2", "fd09::2"] {
            assert_eq!(known_mtu(&one, address)?, None);
            transfer(&one, &two, address)?;
            assert_eq!(known_mtu(&one, address)?, Some(mtu));
        }
        for (to, headers) in [("10.9.0.1", 28), ("fd09::1", 48)] {
            let said = ping_whole(&two, to, headers)?;
            assert!(said.contains(&mtu.to_string()), "{said}");
            assert_eq!(known_mtu(&two, to)?, Some(mtu), "{said}");
        }
        hush(&[&one, &two])?;
        for site in &stage.sites {
            let stats = books::check_host(&site.host)?;
            let dropped = books::dropped(books::port(&stats, STACK)?, Reason::TooBig);
            assert!(dropped >= 2, "{stats:?}");
            let agent = &stats.agent;
            assert_eq!(agent.too_big_answered, dropped, "{agent:?}");
            assert_eq!(agent.too_big_unanswered, 0, "{agent:?}");
        }
        Ok(())
    });
}

#[test]
fn connections_work_between_guests_that_think_they_have_1500_bytes_over_ipv4() {
    guests_hear_what_fits(Family::Ipv4, 1422);
}

#[test]
fn connections_work_between_guests_that_think_they_have_1500_bytes_over_ipv6() {
    guests_hear_what_fits(Family::Ipv6, 1402);
}

#[test]
fn a_host_on_the_way_answers_for_the_link_that_it_sends_on() {
    in_lab("way", |lab| {
        let stage = Stage::new(lab, 3, |own| {
            let others = (2..=3).filter(|&other| other != own);
            let all = others.fold(star_settings(Family::Ipv4, own, 3), |settings, other| {
                let link = if own == 1 { link_to(other) } else { link_to(1) };
                settings.way(guest(10 + other), &link)
            });
            if own == 1 { all } else { with_stack(all, own) }
        })?;
        let [hub, two, three] = &stage.sites[..] else {
            unreachable!("three sites")
        };
        // The way from the hub to host three is narrower than all others.
        hub.host
            .run(words("ip route add 10.0.0.3/32 dev eth0 mtu 1378"))?;
        ask::until_guest_mtu(&hub.host, "to-three", 1300)?;
        let (two, three) = (join(two, 2)?, join(three, 3)?);

        // The first packet is answered at home, the next one at the hub.
        for (to, headers) in [("10.9.0.3", 28), ("fd09::3", 48)] {
            ping_whole(&two, to, headers)?;
            assert_eq!(known_mtu(&two, to)?, Some(1422));
            let payload = (1422 - headers).to_string();
            let ping = ["ping", "-M", "do", "-c", "1", "-W", "1", "-s", &payload, to];
            assert!(!two.attempt(ping)?.success());
            assert_eq!(known_mtu(&two, to)?, Some(1300));
            transfer(&two, &three, to)?;
        }
        hush(&[&two, &three])?;
        let stats = books::check_host(&hub.host)?;
        let from_two = books::link(&stats, "to-two")?;
        assert_eq!(books::dropped(from_two, Reason::TooBig), 2, "{stats:?}");
        assert_eq!(stats.agent.too_big_answered, 2);
        Ok(())
    });
}

#[test]
fn a_guest_whose_mtu_is_too_large_is_named() {
    in_lab("named", |lab| {
        let (stage, one, _two) = pair(lab, Family::Ipv4)?;
        let (site, _) = stage.two()?;
        let subject = format!("port {STACK}");
        let named = |what: &str| {
            ask::until(&site.host, what, |status| {
                let mut problems = status.problems.iter();
                problems.any(|problem| {
                    problem.severity == Severity::Warning
                        && problem.subject == subject
                        && problem.message.contains(what)
                        && problem.message.contains("1422")
                })
            })
        };
        // By what its device would take, and by what it sends.
        named("MTU is 1500")?;
        ping_whole(&one, "10.9.0.2", 28)?;
        let status = named("1 of its frames were larger")?;
        assert!(status.healthy, "it works: {status:?}");
        let shown = site.host.attempt_vnetctl(["status"])?.successful()?.stdout;
        assert!(
            shown.contains("set the MTU to 1422 or less in the guest"),
            "{shown}"
        );
        // The guest on the tap does as it is told.
        let others = status
            .problems
            .iter()
            .filter(|problem| problem.subject != subject);
        assert_eq!(others.count(), 0, "{status:?}");
        Ok(())
    });
}
