//! The promise: what does not work is named with its cause and its cure, in `status` (exit status
//! 3) and in what `vnetctl` answers, and everything else goes on working.

use anyhow::{Context, Result};
use e2e::frame::{expect, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Stage, mesh_settings};
use e2e::stranger::{Program, has_program, index_of};
use e2e::{ask, books, signal};
use lab::{Host, Station, TapGuest, in_lab};
use nix::sys::signal::Signal;
use vnet_agent::api::{InterfaceState, Problem};
use vnet_common::reason::Reason;

fn problem(host: &Host, subject: &str) -> Result<Problem> {
    let status = ask::until(
        host,
        &format!("there is a problem with {subject}"),
        |status| {
            status
                .problems
                .iter()
                .any(|problem| problem.subject.ends_with(subject))
        },
    )?;
    let shown = host.attempt_vnetctl(["status"])?;
    assert_eq!(shown.status, 3, "{}", shown.stdout);
    let found = status
        .problems
        .into_iter()
        .find(|problem| problem.subject.ends_with(subject));
    found.context("it was there")
}

fn said(problem: &Problem) -> String {
    format!(
        "{} {}",
        problem.message,
        problem.cure.as_deref().unwrap_or_default()
    )
}

fn arrives(from: &TapGuest, to: &TapGuest) -> Result<()> {
    let frame = numbered(from.mac(), to.mac(), 1, 100);
    from.send(&frame)?;
    expect(to, &[frame])
}

/// A host whose guests 1 and 2 are to reach each other whatever else is wrong.
fn two_guests(lab: &lab::Lab, settings: Settings) -> Result<(Stage, TapGuest)> {
    let settings = settings.port(PORT, guest(1)).port("tap1", guest(2));
    let stage = Stage::start(lab, 1, |_| settings.clone())?;
    let two = stage.sites[0].host.tap_guest("tap1", guest(2))?;
    ask::until_interface(&stage.sites[0].host, "tap1", InterfaceState::Forwarding)?;
    Ok((stage, two))
}

#[test]
fn an_underlay_device_that_is_not_there() {
    in_lab("underlay", |lab| {
        for underlay in ["device = \"eth7\"", "address = \"10.7.7.7\""] {
            let settings = Settings::on(underlay)
                .link("to-two", "10.0.0.2")
                .way(guest(3), "to-two");
            let name = underlay.split(' ').next().context("a word")?;
            let host = lab.host(name)?;
            let one = host.tap_guest(PORT, guest(1))?;
            let two = host.tap_guest("tap1", guest(2))?;
            let settings = settings.port(PORT, guest(1)).port("tap1", guest(2));
            let _agent = host.agent(&settings.text())?;
            let problem = problem(&host, "underlay")?;
            let what = underlay.replace([' ', '"'], "").replace('=', " ");
            assert!(
                problem
                    .message
                    .contains(&format!("there is no {what} on this host")),
                "{problem:?}"
            );
            arrives(&one, &two)?;
            one.send(&numbered(guest(1), guest(3), 1, 100))?;
            let stats = books::check_host(&host)?;
            assert_eq!(
                books::dropped(books::port(&stats, PORT)?, Reason::LinkUnresolved),
                1
            );
        }
        Ok(())
    });
}

#[test]
fn a_port_with_somebody_elses_program() {
    in_lab("port", |lab| {
        let (stage, two) = two_guests(lab, Settings::new().port("tap2", guest(3)))?;
        let site = &stage.sites[0];
        let host = &site.host;
        // The device comes under another name, so that their program is there before ours.
        let three = host.tap_guest("later", guest(3))?;
        let theirs = Program::on(host, "later")?;
        host.run("ip link set later name tap2".split(' '))?;
        let failed = ask::until_interface(host, "tap2", InterfaceState::Failed)?;
        assert!(failed.note.is_some_and(|note| note.contains("XDP program")));
        let problem = problem(host, "tap2")?;
        assert!(
            said(&problem).contains("tap2 already has an XDP program"),
            "{problem:?}"
        );
        assert!(
            said(&problem).contains("ip link set dev tap2 xdp off"),
            "{problem:?}"
        );
        assert!(has_program(host, "tap2")?, "theirs was left alone");
        arrives(&site.guest, &two)?;
        // Without its owner it goes; whatever happens next on this host has the agent try again.
        drop(theirs);
        host.run("ip link set tap2 alias free".split(' '))?;
        host.run("ip link set tap2 mtu 1400".split(' '))?;
        ask::until_interface(host, "tap2", InterfaceState::Forwarding)?;
        arrives(&three, &two)?;
        assert!(ask::status(host)?.healthy);
        Ok(())
    });
}

#[test]
fn an_underlay_with_somebody_elses_program() {
    in_lab("taken", |lab| {
        let (one, two, _underlay) = lab.two_hosts(lab::UnderlaySettings::default())?;
        let theirs = Program::on(&one, "eth0")?;
        let guests = [
            one.tap_guest(PORT, guest(1))?,
            two.tap_guest(PORT, guest(2))?,
        ];
        let more = one.tap_guest("tap1", guest(3))?;
        let settings = mesh_settings(Family::Ipv4, 1, 2).port("tap1", guest(3));
        let _agent_one = one.agent(&settings.text())?;
        let _agent_two = two.agent(&mesh_settings(Family::Ipv4, 2, 2).text())?;
        let problem = problem(&one, "eth0")?;
        assert!(
            said(&problem).contains("eth0 already has an XDP program"),
            "{problem:?}"
        );
        arrives(&guests[0], &more)?;
        one.run(["ping", "-c", "1", "-W", "5", "10.0.0.2"])?;
        drop(theirs);
        one.run("ip link set eth0 alias free".split(' '))?;
        one.run("ip address add 10.0.0.99/24 dev eth0".split(' '))?;
        ask::until_healthy(&one)?;
        ask::until_healthy(&two)?;
        arrives(&guests[0], &guests[1])?;
        arrives(&guests[1], &guests[0])
    });
}

#[test]
fn a_veth_with_a_larger_mtu_than_xdp_takes() {
    in_lab("jumbo", |lab| {
        let more = "addresses = \"any\"\nset_mtu = false";
        let (stage, two) = two_guests(lab, Settings::new().port_with("veth1", more))?;
        let site = &stage.sites[0];
        let _jumbo = site
            .host
            .namespace_guest(Station::new("veth1", guest(3)).mtu(9000))?;
        // Before that, the problem is that the device is not there.
        ask::until(&site.host, "the device has been tried", |status| {
            status
                .problems
                .iter()
                .any(|problem| problem.message.contains("too large an MTU"))
        })?;
        let problem = problem(&site.host, "veth1")?;
        assert!(said(&problem).contains("mtu 1500"), "{problem:?}");
        arrives(&site.guest, &two)
    });
}

#[test]
fn a_rule_table_that_is_full() {
    in_lab("rules", |lab| {
        let (stage, two) = two_guests(lab, Settings::new().limit("rules = 6"))?;
        let site = &stage.sites[0];
        let host = &site.host;
        let add = |number| format!("rule add --network blue --to {} --drop", guest(number));
        for number in 10..14 {
            ask::change(host, &add(number))?;
        }
        for _ in 0..3 {
            let refused = ask::attempt(host, &add(14))?;
            assert_eq!(refused.status, 1);
            assert!(
                refused.stderr.contains("raise it under [limits]"),
                "{}",
                refused.stderr
            );
        }
        assert_eq!(ask::rules(host)?.len(), 6);
        arrives(&site.guest, &two)?;
        let status = ask::status(host)?;
        let full = status
            .problems
            .iter()
            .find(|problem| problem.subject == "table rules");
        assert!(
            full.is_some_and(|full| full.message == "6 of 6 entries are in use"),
            "{status:?}"
        );
        // What takes another's place needs no room, and what goes makes some.
        ask::change(
            host,
            &format!("rule add --network blue --to {} --flood", guest(13)),
        )?;
        ask::change(
            host,
            &format!("rule delete --network blue --from any --to {}", guest(10)),
        )?;
        ask::change(host, &add(14))?;
        arrives(&site.guest, &two)
    });
}

#[test]
fn more_ports_than_there_is_room_for() {
    in_lab("ports", |lab| {
        let settings = Settings::new()
            .limit("ports = 2")
            .and("[[port]]\npattern = \"more-*\"\nnetwork = \"blue\"\naddresses = \"learn\"");
        let stage = Stage::start(lab, 1, |_| settings.clone().port(PORT, guest(1)))?;
        let site = &stage.sites[0];
        let two = site.host.tap_guest("more-1", guest(2))?;
        ask::until_interface(&site.host, "more-1", InterfaceState::Forwarding)?;
        let three = site.host.tap_guest("more-2", guest(3))?;
        let problem = problem(&site.host, "more-2")?;
        assert!(said(&problem).contains("limits.ports"), "{problem:?}");
        arrives(&two, &site.guest)?;
        // One goes, and the other gets its place.
        drop(two);
        ask::until_interface(&site.host, "more-2", InterfaceState::Forwarding)?;
        arrives(&three, &site.guest)?;
        assert!(ask::status(&site.host)?.healthy);
        Ok(())
    });
}

#[test]
fn a_state_directory_that_cannot_be_written() {
    in_lab("full", |lab| {
        for (trouble, words) in [
            ("full", "make room there"),
            ("read-only", "must be able to write there"),
        ] {
            let host = lab.host(trouble)?;
            let place = host.directory().join("disk");
            std::fs::create_dir(&place)?;
            let target = place.display().to_string();
            host.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", &target])?;
            let one = host.tap_guest(PORT, guest(1))?;
            let two = host.tap_guest("tap1", guest(2))?;
            let settings = Settings::new()
                .port(PORT, guest(1))
                .port("tap1", guest(2))
                .agent(&format!("state_directory = \"{target}/state\""));
            let mut agent = host.agent(&settings.text())?;
            let add = |number| format!("rule add --network blue --to {} --drop", guest(number));
            ask::change(&host, &add(10))?;
            let before = ask::rules(&host)?;
            if trouble == "read-only" {
                host.run(["mount", "-o", "remount,ro", &target])?;
            } else {
                // Fails when the disk is full, which is the point.
                let _ = host.attempt([
                    "dd",
                    "if=/dev/zero",
                    &format!("of={target}/filler"),
                    "bs=4k",
                ])?;
            }
            let refused = ask::attempt(&host, &add(11))?;
            assert_eq!(refused.status, 1);
            for word in ["cannot", "/disk/state", words] {
                assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
            }
            assert_eq!(ask::rules(&host)?, before, "nothing has changed");
            arrives(&one, &two)?;
            // What was stored before is still there for the next agent.
            agent.restart()?;
            assert_eq!(ask::rules(&host)?, before);
            arrives(&one, &two)?;
        }
        Ok(())
    });
}

#[test]
fn an_underlay_with_a_larger_mtu_than_xdp_takes() {
    in_lab("large", |lab| {
        let underlay = lab.underlay(lab::UnderlaySettings {
            mtu: 9000,
            ..Default::default()
        })?;
        let host = lab.host("one")?;
        underlay.connect(&host, "eth0")?;
        let one = host.tap_guest(PORT, guest(1))?;
        let two = host.tap_guest("tap1", guest(2))?;
        let settings = Settings::new().port(PORT, guest(1)).port("tap1", guest(2));
        let _agent = host.agent(&settings.text())?;
        let problem = problem(&host, "eth0")?;
        assert!(said(&problem).contains("too large an MTU"), "{problem:?}");
        arrives(&one, &two)
    });
}

#[test]
fn the_agents_own_tap_is_taken_away() {
    in_lab("tap", |lab| {
        let (stage, two) = two_guests(lab, Settings::new().flood())?;
        let site = &stage.sites[0];
        let broadcast = |number| -> Result<Vec<u8>> {
            let frame = numbered(guest(1), e2e::frame::BROADCAST, number, 100);
            site.guest.send(&frame)?;
            Ok(frame)
        };
        // It is made again.
        let before = index_of(&site.host, "vnet-slow")?;
        site.host.run("ip link delete vnet-slow".split(' '))?;
        lab::try_eventually("there is a new tap", || {
            let now = index_of(&site.host, "vnet-slow").ok();
            let has_program = now.is_some() && has_program(&site.host, "vnet-slow")?;
            Ok(now.filter(|now| has_program && *now != before))
        })?;
        ask::until_healthy(&site.host)?;
        expect(&two, &[broadcast(1)?])?;

        // Unless somebody else has its name.
        signal::send(&site.agent, Signal::SIGSTOP)?;
        site.host.run("ip link delete vnet-slow".split(' '))?;
        site.host
            .run("ip link add vnet-slow type veth peer name far".split(' '))?;
        signal::send(&site.agent, Signal::SIGCONT)?;
        let problem = problem(&site.host, "vnet-slow")?;
        assert!(
            said(&problem).contains("the agent's tap is gone"),
            "{problem:?}"
        );
        assert!(said(&problem).contains("no tap (veth)"), "{problem:?}");
        arrives(&site.guest, &two)?;
        broadcast(2)?;
        let stats = books::settled(&site.host)?;
        assert_eq!(
            books::dropped(books::port(&stats, PORT)?, Reason::NoAgent),
            1,
            "{stats:?}"
        );
        site.host.run("ip link delete vnet-slow".split(' '))?;
        ask::until_healthy(&site.host)?;
        expect(&two, &[broadcast(3)?])
    });
}
