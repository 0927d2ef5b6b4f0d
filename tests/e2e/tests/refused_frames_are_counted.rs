//! The promise: a frame that the kernel cannot hand on after a program has redirected it is
//! counted, exactly, at the device that did not get it. No device's own counters show all of these.

use std::path::Path;

use anyhow::{Context, Result};
use e2e::frame::{BROADCAST, expect, expect_nothing, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{PORT, Stage};
use e2e::stranger::index_of;
use e2e::{ask, books};
use lab::{Host, Station, TapGuest, in_lab};
use vnet_agent::dataplane::DataPlane;
use vnet_agent::model::configuration::Limits;
use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;

const FRAMES: u64 = 100;

/// One host, where guest 1 on the usual port sends to guest 2 on `port2`.
fn alone(lab: &lab::Lab, more: &str) -> Result<Stage> {
    Stage::new(lab, 1, |_| {
        let lines = format!("addresses = [\"{}\"]\n{more}", guest(2));
        Settings::new()
            .port(PORT, guest(1))
            .port_with("port2", &lines)
            .flood()
    })
}

fn send(from: &TapGuest, count: u64) -> Result<()> {
    (0..count).try_for_each(|number| from.send(&numbered(guest(1), guest(2), number, 100)))
}

fn refused_at(host: &Host, port: &str) -> Result<(u64, u64)> {
    let stats = books::check_host(host)?;
    let ledger = books::port(&stats, port)?;
    let drops = ask::drops(host)?;
    let shown = drops
        .iter()
        .filter(|drop| drop.reason == Reason::RedirectFailed);
    assert_eq!(shown.map(|drop| drop.packets).sum::<u64>(), ledger.refused);
    Ok((ledger.sent_packets, ledger.refused))
}

#[test]
fn at_a_port_that_is_down() {
    in_lab("down", |lab| {
        let stage = alone(lab, "")?;
        let site = &stage.sites[0];
        let two = site.host.tap_guest("port2", guest(2))?;
        ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        site.host.run(["ip", "link", "set", "port2", "down"])?;
        send(&site.guest, FRAMES)?;
        assert_eq!(refused_at(&site.host, "port2")?, (FRAMES, FRAMES));
        site.host.run(["ip", "link", "set", "port2", "up"])?;
        send(&site.guest, 1)?;
        expect(&two, &[numbered(guest(1), guest(2), 0, 100)])?;
        assert_eq!(refused_at(&site.host, "port2")?, (FRAMES + 1, FRAMES));
        Ok(())
    });
}

#[test]
fn at_a_guest_that_does_not_read() {
    in_lab("full", |lab| {
        let stage = alone(lab, "")?;
        let site = &stage.sites[0];
        let two = site.host.tap_guest("port2", guest(2))?;
        ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        let count = 1500;
        send(&site.guest, count)?;
        let waiting = two.receive_all_until_quiet(std::time::Duration::from_millis(100))?;
        let waiting = u64::try_from(waiting.len())?;
        assert!(waiting < count, "a tap has room for {waiting}");
        assert_eq!(refused_at(&site.host, "port2")?, (count, count - waiting));
        Ok(())
    });
}

#[test]
fn at_a_veth_whose_other_end_is_not_ready_for_them() {
    in_lab("veth", |lab| {
        let stage = alone(lab, "")?;
        let site = &stage.sites[0];
        let station = Station::new("port2", guest(2)).mtu(1500);
        let two = site.host.namespace_guest(station)?;
        ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        two.run(["ethtool", "-K", "eth0", "gro", "off"])?;
        send(&site.guest, FRAMES)?;
        assert_eq!(refused_at(&site.host, "port2")?, (FRAMES, FRAMES));
        two.run(["ethtool", "-K", "eth0", "gro", "on"])?;
        send(&site.guest, FRAMES)?;
        assert_eq!(refused_at(&site.host, "port2")?, (2 * FRAMES, FRAMES));
        Ok(())
    });
}

#[test]
fn at_the_underlay_when_it_is_down() {
    in_lab("uplink", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        // The agent would see at once that there is no way any more: it must not look.
        let pid = nix::unistd::Pid::from_raw(one.agent.id().context("it runs")?.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP)?;
        one.host.run(["ip", "link", "set", "eth0", "down"])?;
        send(&one.guest, FRAMES)?;
        expect_nothing(&two.guest)?;
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT)?;
        one.host.run(["ip", "link", "set", "eth0", "up"])?;
        ask::until_healthy(&one.host)?;
        let stats = books::check_host(&one.host)?;
        assert_eq!(books::link(&stats, "to-two")?.sent_packets, FRAMES);
        assert_eq!(books::underlay(&stats, "eth0")?.refused, FRAMES);
        Ok(())
    });
}

/// Both agents' programs run for every frame that this kernel refuses.
#[test]
fn by_the_agent_whose_device_it_was_and_no_other() {
    in_lab("two", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let sites = [(one, 1, two, 2, 1500), (two, 2, one, 1, 1400)];
        let mut refused = [0, 0];
        for (at, (from, own, to, other, count)) in sites.into_iter().enumerate() {
            for number in 0..count {
                from.guest
                    .send(&numbered(guest(own), guest(other), number, 100))?;
            }
            let quiet = std::time::Duration::from_millis(100);
            let arrived = to.guest.receive_all_until_quiet(quiet)?;
            refused[1 - at] = count - u64::try_from(arrived.len())?;
            assert!(refused[1 - at] > 0, "a tap has room for {count}");
        }
        for (site, refused) in [one, two].into_iter().zip(refused) {
            let stats = books::check_host(&site.host)?;
            assert_eq!(books::port(&stats, PORT)?.refused, refused);
            assert_eq!(books::underlay(&stats, "eth0")?.refused, 0);
            assert_eq!(stats.agent.ledger.refused, 0);
        }
        Ok(())
    });
}

/// The books in the kernel, read past the agent: the ledger of a port, and the agent's own.
fn in_the_kernel(host: &Host, ifindex: u32) -> Result<(Ledger, Ledger)> {
    host.inside(|| -> Result<_> {
        let plane = DataPlane::open(Path::new("/sys/fs/bpf/vnet"), &Limits::default(), false)?;
        let tables = plane.tables();
        let ports = tables.ports()?;
        let port = ports.iter().find(|(index, _)| *index == ifindex);
        let slot = port.context("the port is still in the table")?.1.ledger;
        Ok((tables.ledger(slot)?, tables.ledger(Ledger::AGENT)?))
    })?
}

#[test]
fn while_no_agent_runs() {
    in_lab("gone", |lab| {
        let mut stage = alone(lab, "")?;
        let site = stage.site(1)?;
        let two = site.host.tap_guest("port2", guest(2))?;
        ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        let index = index_of(&site.host, "port2")?;
        site.agent.kill();
        // Nobody cleans up after a device that goes, and nobody takes what goes up.
        drop(two);
        send(&site.guest, FRAMES)?;
        for number in 0..FRAMES / 2 {
            site.guest
                .send(&numbered(guest(1), BROADCAST, number, 100))?;
        }
        let (port, agent) = in_the_kernel(&site.host, index)?;
        assert_eq!((port.sent.packets, port.refused), (FRAMES, FRAMES));
        assert_eq!(
            (agent.sent.packets, agent.refused),
            (FRAMES / 2, FRAMES / 2)
        );

        // The next agent cleans up, and its books go on from there.
        site.agent.restart()?;
        ask::until(&site.host, "one port is left", |status| status.ports == 1)?;
        let stats = books::settled(&site.host)?;
        assert_eq!(stats.agent.ledger.refused, FRAMES / 2);
        send(&site.guest, FRAMES)?;
        let stats = books::settled(&site.host)?;
        let absent = books::dropped(books::port(&stats, PORT)?, Reason::PortAbsent);
        assert_eq!(absent, FRAMES);
        Ok(())
    });
}

/// Before the agent dies, while there is none, and before the next one: each once.
#[test]
fn at_a_full_guest_from_one_agent_to_the_next() {
    in_lab("again", |lab| {
        let mut stage = alone(lab, "")?;
        let site = stage.site(1)?;
        let two = site.host.tap_guest("port2", guest(2))?;
        ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        let index = index_of(&site.host, "port2")?;
        let count = 1500;
        send(&site.guest, count)?;
        site.agent.kill();
        send(&site.guest, FRAMES)?;
        let (without_agent, _) = in_the_kernel(&site.host, index)?;
        site.agent.restart()?;
        ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        send(&site.guest, FRAMES)?;
        let (sent, refused) = refused_at(&site.host, "port2")?;
        let waiting = two.receive_all_until_quiet(std::time::Duration::from_millis(100))?;
        let waiting = u64::try_from(waiting.len())?;
        assert!(waiting < count, "a tap has room for {waiting}");
        assert_eq!(without_agent.refused, count + FRAMES - waiting);
        assert_eq!((sent, refused), (count + 2 * FRAMES, sent - waiting));
        Ok(())
    });
}
