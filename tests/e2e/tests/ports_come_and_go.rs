//! The promise: a device that is named is taken in when it appears and let go when it vanishes,
//! with everything that was kept for it; whoever comes next under its name is somebody new.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use e2e::frame::{BROADCAST, expect, expect_nothing, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Stage, mesh_settings};
use e2e::stranger::{has_program, index_of, mtu_of};
use e2e::{ask, books, signal};
use lab::{Host, Station, in_lab, try_eventually};
use nix::sys::signal::Signal;
use vnet_agent::api::InterfaceState;
use vnet_agent::dataplane::{DataPlane, Role};
use vnet_agent::model::configuration::Limits;

/// The names of pins that hold programs on devices of ports.
fn port_pins(host: &Host) -> Result<BTreeSet<String>> {
    host.inside(|| -> Result<_> {
        let mut found = BTreeSet::new();
        for schema in fs::read_dir("/sys/fs/bpf/vnet")? {
            for pin in fs::read_dir(schema?.path().join("links"))? {
                let name = pin?.file_name().to_string_lossy().into_owned();
                found.extend(Some(name).filter(|name| name.starts_with("port-")));
            }
        }
        Ok(found)
    })?
}

fn pin_of(host: &Host, device: &str) -> Result<String> {
    Ok(format!("port-{}-xdp", index_of(host, device)?))
}

fn until_pins(host: &Host, wanted: &BTreeSet<String>) -> Result<()> {
    try_eventually(&format!("the pins are {wanted:?}"), || {
        Ok((port_pins(host)? == *wanted).then_some(()))
    })
}

#[test]
fn a_port_that_vanishes_takes_everything_with_it_and_comes_back_as_new() {
    in_lab("vanish", |lab| {
        let stage = Stage::new(lab, 1, |_| {
            Settings::new()
                .port(PORT, guest(1))
                .port("tap1", guest(2))
                .flood()
        })?;
        let site = &stage.sites[0];
        let host = &site.host;
        let absent = ask::interface(host, "tap1")?;
        assert_eq!(absent.state, InterfaceState::Absent);
        assert!(absent.note.is_some());
        for round in 0..3 {
            let two = host.tap_guest("tap1", guest(2))?;
            ask::until_interface(host, "tap1", InterfaceState::Forwarding)?;
            until_pins(
                host,
                &BTreeSet::from([pin_of(host, PORT)?, pin_of(host, "tap1")?]),
            )?;
            let books = books::settled(host)?;
            assert_eq!(
                books::port(&books, "tap1")?.sent_packets,
                0,
                "round {round}: new books"
            );
            let frames = [
                numbered(guest(1), guest(2), 1, 100),
                numbered(guest(1), BROADCAST, 2, 100),
            ];
            for frame in &frames {
                site.guest.send(frame)?;
                expect(&two, std::slice::from_ref(frame))?;
            }
            drop(two);
            ask::until_interface(host, "tap1", InterfaceState::Absent)?;
            until_pins(host, &BTreeSet::from([pin_of(host, PORT)?]))?;
            let status = ask::status(host)?;
            let ports = status.tables.iter().find(|table| table.name == "ports");
            assert_eq!(ports.map(|table| table.entries), Some(1));
            assert!(status.healthy, "a VM that is off is nothing wrong");
        }
        Ok(())
    });
}

#[test]
fn a_new_device_under_the_same_name_is_taken_in_even_where_no_room_is_left() {
    in_lab("again", |lab| {
        let stage = Stage::start(lab, 1, |_| {
            Settings::new()
                .port(PORT, guest(1))
                .port("tap1", guest(2))
                .limit("ports = 2")
                .limit("rules = 2")
        })?;
        let site = &stage.sites[0];
        let host = &site.host;
        let mut two = Some(host.tap_guest("tap1", guest(2))?);
        ask::until_interface(host, "tap1", InterfaceState::Forwarding)?;
        for number in 0..5 {
            let before = index_of(host, "tap1")?;
            // Every other time the agent hears of both at once.
            let at_once = number % 2 == 0;
            if at_once {
                signal::send(&site.agent, Signal::SIGSTOP)?;
            }
            drop(two.take());
            let new = host.tap_guest("tap1", guest(2))?;
            if at_once {
                signal::send(&site.agent, Signal::SIGCONT)?;
            }
            assert_ne!(index_of(host, "tap1")?, before);
            let wanted = index_of(host, "tap1")?;
            try_eventually("the new device is the port", || {
                let interface = ask::interface(host, "tap1")?;
                let is_new = interface.ifindex == Some(wanted);
                Ok((is_new && interface.state == InterfaceState::Forwarding).then_some(()))
            })?;
            let frame = numbered(guest(1), guest(2), number, 100);
            site.guest.send(&frame)?;
            expect(&new, &[frame])?;
            two = Some(new);
        }
        until_pins(
            host,
            &BTreeSet::from([pin_of(host, PORT)?, pin_of(host, "tap1")?]),
        )
    });
}

#[test]
fn a_pattern_takes_in_a_family_and_an_exact_name_wins() {
    in_lab("pattern", |lab| {
        let stage = Stage::new(lab, 1, |_| {
            Settings::new()
                .port(PORT, guest(1))
                .and("[[port]]\npattern = \"vm-*\"\nnetwork = \"blue\"\naddresses = \"learn\"")
                .network("green", 8)
                .and("[[port]]\nname = \"vm-odd\"\nnetwork = \"green\"\naddresses = \"any\"")
                .flood()
        })?;
        let site = &stage.sites[0];
        let host = &site.host;
        let family = [("vm-a", 11), ("vm-b", 12), ("vm-odd", 13)];
        let [a, b, odd] = family.map(|(name, number)| host.tap_guest(name, guest(number)));
        let (a, b, odd) = (a?, b?, odd?);
        let other = host.tap_guest("other", guest(14))?;
        ask::until(host, "the family is in", |status| status.ports == 4)?;
        assert_eq!(
            ask::interface(host, "vm-odd")?.network.as_deref(),
            Some("green")
        );
        assert_eq!(ask::interface(host, "other")?.state, InterfaceState::Free);
        assert!(!has_program(host, "other")?);
        let frame = numbered(guest(11), BROADCAST, 1, 100);
        a.send(&frame)?;
        for receiver in [&b, &site.guest] {
            expect(receiver, std::slice::from_ref(&frame))?;
        }
        expect_nothing(&odd)?;
        expect_nothing(&other)?;

        // A device that is renamed into the family joins it, and one that is renamed out leaves.
        host.run("ip link set other name vm-c".split(' '))?;
        host.run("ip link set vm-b name gone".split(' '))?;
        ask::until_interface(host, "vm-c", InterfaceState::Forwarding)?;
        ask::until_interface(host, "gone", InterfaceState::Free)?;
        let frame = numbered(guest(11), BROADCAST, 2, 100);
        a.send(&frame)?;
        expect(&other, std::slice::from_ref(&frame))?;
        expect_nothing(&b)?;
        assert!(!has_program(host, "gone")?);
        Ok(())
    });
}

#[test]
fn what_comes_and_goes_while_no_agent_runs_is_found_afterwards() {
    in_lab("meanwhile", |lab| {
        let mut stage = Stage::new(lab, 1, |_| {
            let settings = Settings::new().port(PORT, guest(1));
            (1..=3).fold(settings, |settings, n| {
                settings.port(&format!("tap{n}"), guest(10 + n))
            })
        })?;
        let site = stage.site(1)?;
        let host = site.host.clone();
        let one = host.tap_guest("tap1", guest(11))?;
        let two = host.tap_guest("tap2", guest(12))?;
        ask::until(&host, "three ports forward", |status| status.ports == 3)?;
        site.agent.kill();
        drop(one);
        drop(two);
        let two = host.tap_guest("tap2", guest(12))?;
        let three = host.tap_guest("tap3", guest(13))?;
        site.agent.restart()?;
        ask::until(&host, "three ports forward", |status| status.ports == 3)?;
        assert_eq!(ask::interface(&host, "tap1")?.state, InterfaceState::Absent);
        let wanted = [PORT, "tap2", "tap3"].map(|device| pin_of(&host, device));
        until_pins(&host, &wanted.into_iter().collect::<Result<_>>()?)?;
        for (receiver, number) in [(&two, 12), (&three, 13)] {
            let frame = numbered(guest(1), guest(number), 1, 100);
            site.guest.send(&frame)?;
            expect(receiver, &[frame])?;
        }
        Ok(())
    });
}

/// Every device that the kernel's tables and pins name, while no agent runs: ports, underlay
/// devices, devices with programs. A port state is part of its port.
fn named_in_the_kernel(host: &Host) -> Result<[BTreeSet<u32>; 3]> {
    host.inside(|| -> Result<_> {
        let plane = DataPlane::open(Path::new("/sys/fs/bpf/vnet"), &Limits::default(), true)?;
        let tables = plane.tables();
        // Beyond the highest index that a namespace with so few devices has given.
        let with_state =
            (1..1000).filter(|&index| tables.port_state(index).is_ok_and(|state| state.is_some()));
        let ports: BTreeSet<u32> = tables
            .ports()?
            .into_iter()
            .map(|(index, _)| index)
            .collect();
        assert_eq!(with_state.collect::<BTreeSet<_>>(), ports);
        let underlays = tables.underlays()?.into_iter().map(|(index, _)| index);
        let attachments = plane.attachments()?.into_iter();
        let held = attachments
            .filter(|held| held.role != Role::Agent)
            .map(|held| held.ifindex);
        Ok([ports, underlays.collect(), held.collect()])
    })?
}

#[test]
fn nothing_in_the_kernel_names_a_device_that_is_gone() {
    in_lab("litter", |lab| {
        let mut stage = Stage::new(lab, 2, |own| {
            let settings = mesh_settings(Family::Ipv4, own, 2);
            settings.port("tap1", guest(11)).port("veth1", guest(12))
        })?;
        for killed_before in [false, true] {
            let site = stage.site(1)?;
            let host = site.host.clone();
            let tap = host.tap_guest("tap1", guest(11))?;
            let veth = host.namespace_guest(Station::new("veth1", guest(12)).mtu(1500))?;
            ask::until(&host, "three ports forward", |status| status.ports == 3)?;
            if killed_before {
                site.agent.kill();
            }
            drop(tap);
            drop(veth);
            if killed_before {
                host.run("ip link delete eth0".split(' '))?;
                site.agent.restart()?;
            }
            ask::until(&host, "one port forwards", |status| status.ports == 1)?;
            site.agent.kill();
            let port = BTreeSet::from([index_of(&host, PORT)?]);
            let underlay: BTreeSet<u32> = index_of(&host, "eth0").into_iter().collect();
            assert_eq!(underlay.is_empty(), killed_before);
            let programs = &port | &underlay;
            assert_eq!(named_in_the_kernel(&host)?, [port, underlay, programs]);
            site.agent.restart()?;
        }
        Ok(())
    });
}

#[test]
fn a_pattern_that_fits_the_underlay_leaves_it_alone() {
    in_lab("all", |lab| {
        let stage = Stage::new(lab, 2, |own| {
            let other = e2e::stage::address(Family::Ipv4, 3 - own);
            let four_letters =
                "[[port]]\npattern = \"????\"\nnetwork = \"blue\"\naddresses = \"any\"";
            Settings::on(&format!(
                "address = \"{}\"",
                e2e::stage::address(Family::Ipv4, own)
            ))
            .and(four_letters)
            .link("link", &other)
            .way(guest(3 - own), "link")
            .rule("any", &guest(own).to_string(), "port = \"tap0\"")
        })?;
        let (one, two) = stage.two()?;
        for site in [one, two] {
            let log = site.agent.log()?;
            assert!(!log.contains("already has an XDP program"), "{log}");
            assert_eq!(ask::status(&site.host)?.ports, 1);
        }
        let frame = numbered(guest(1), guest(2), 1, 100);
        one.guest.send(&frame)?;
        expect(&two.guest, &[frame])
    });
}

#[test]
fn a_port_that_is_taken_out_of_the_settings_is_let_go() {
    in_lab("out", |lab| {
        let mut stage = Stage::pair(lab)?;
        let site = stage.site(1)?;
        assert_eq!(mtu_of(&site.host, PORT)?, 1422);
        site.agent.write_settings(
            &mesh_settings(Family::Ipv4, 1, 2)
                .text()
                .replace("tap0", "tap9"),
        )?;
        signal::reload(&site.agent)?;
        ask::until_interface(&site.host, PORT, InterfaceState::Free)?;
        assert!(!has_program(&site.host, PORT)?);
        assert_eq!(mtu_of(&site.host, PORT)?, 1500, "as it was before");
        until_pins(&site.host, &BTreeSet::new())
    });
}
