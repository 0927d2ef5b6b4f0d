//! The promise: wrong settings change nothing, neither at a start nor while running, and the
//! message says what is wrong and where; right ones take effect without a frame lost.

use anyhow::Result;
use e2e::frame::{expect, expect_nothing, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Stage, mesh_settings};
use e2e::stream::during;
use e2e::{ask, books, signal};
use lab::{Agent, Host, Output, in_lab};
use nix::sys::signal::Signal;
use vnet_common::reason::Reason;

fn wrong() -> Settings {
    mesh_settings(Family::Ipv4, 1, 2).rule("any", &guest(9).to_string(), "link = \"to-tow\"")
}

/// The lines that say what is wrong.
fn points_at_the_mistake(text: &str) -> bool {
    text.contains("to-tow") && text.contains("to-two") && text.contains("agent.toml")
}

fn start_anyway(host: &Host, agent: &Agent) -> Result<Output> {
    let binaries = lab::Binaries::find()?;
    let settings = agent.settings_file().as_os_str();
    host.attempt([
        binaries.agent.as_os_str(),
        "run".as_ref(),
        "--config".as_ref(),
        settings,
    ])
}

#[test]
fn an_agent_does_not_start_with_wrong_ones_and_what_runs_goes_on() {
    in_lab("start", |lab| {
        let mut stage = Stage::pair(lab)?;
        let right = mesh_settings(Family::Ipv4, 1, 2).text();
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(500)?;
            one.agent.kill();
            one.agent.write_settings(&wrong().text())?;
            let check = one.agent.attempt("check")?;
            assert_eq!(check.status, 1);
            assert!(points_at_the_mistake(&check.stdout), "{}", check.stdout);
            let error = one.agent.restart().expect_err("it must not start");
            assert!(points_at_the_mistake(&format!("{error:?}")), "{error:?}");
            stream.flow_on(500)?;
            one.agent.write_settings(&right)?;
            one.agent.restart()?;
            stream.flow_on(500)
        })?;
        outcome.must_be_perfect(1500).map(drop)
    });
}

#[test]
fn wrong_ones_are_refused_while_running_and_nothing_changes() {
    in_lab("reload", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let rules = ask::rules(&one.host)?;
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(500)?;
            one.agent.write_settings(&wrong().text())?;
            signal::send(&one.agent, Signal::SIGHUP)?;
            let log = signal::until_said(&one.agent, "the settings stay as they were", 0)?;
            assert!(points_at_the_mistake(&log), "{log}");
            assert_eq!(ask::rules(&one.host)?, rules);
            stream.flow_on(500)?;
            std::fs::remove_file(one.agent.settings_file())?;
            signal::send(&one.agent, Signal::SIGHUP)?;
            signal::until_said(&one.agent, "the settings stay as they were", 1)?;
            assert_eq!(ask::rules(&one.host)?, rules);
            stream.flow_on(500)
        })?;
        outcome.must_be_perfect(1500).map(drop)
    });
}

#[test]
fn right_ones_take_effect_without_a_frame_lost() {
    in_lab("change", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(500)?;
            for round in 0..5 {
                // Rules that come and go around the one that counts, and once another cookie's
                // worth of links: all of it make before break.
                let mut settings = mesh_settings(Family::Ipv4, 1, 2);
                for number in 0..50 {
                    settings = settings.way(guest(100 + number + round), "to-two");
                }
                if round % 2 == 0 {
                    settings = settings.link("to-nobody", "10.0.0.77").network("green", 8);
                }
                one.agent.write_settings(&settings.text())?;
                signal::reload(&one.agent)?;
                stream.flow_on(500)?;
            }
            Ok(())
        })?;
        outcome.must_be_perfect(3000)?;
        let rules = ask::rules(&one.host)?;
        assert_eq!(rules.len(), 53, "{rules:?}");
        Ok(())
    });
}

#[test]
fn a_rule_that_changes_reaches_flows_that_are_under_way() {
    in_lab("flows", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let frame = numbered(guest(1), guest(2), 1, 100);
        one.guest.send(&frame)?;
        expect(&two.guest, std::slice::from_ref(&frame))?;
        let dropping =
            mesh_settings(Family::Ipv4, 1, 2).rule(&guest(1).to_string(), "any", "drop = true");
        let stronger = dropping.rule(&guest(1).to_string(), &guest(2).to_string(), "drop = true");
        one.agent.write_settings(&stronger.text())?;
        signal::reload(&one.agent)?;
        one.guest.send(&frame)?;
        expect_nothing(&two.guest)?;
        let stats = books::check_host(&one.host)?;
        assert_eq!(books::dropped(books::port(&stats, PORT)?, Reason::Rule), 1);
        Ok(())
    });
}

#[test]
fn other_limits_are_refused_with_the_cure_and_what_runs_goes_on() {
    in_lab("limits", |lab| {
        let mut stage = Stage::pair(lab)?;
        let settings = mesh_settings(Family::Ipv4, 1, 2).limit("rules = 1000");
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(500)?;
            one.agent.write_settings(&settings.text())?;
            signal::reload(&one.agent)?;
            let log = one.agent.log()?;
            assert!(
                log.contains("[limits] take effect when the agent starts again"),
                "{log}"
            );
            // What a client changes now begins as the new file, and must not bring the old back.
            ask::change(
                &one.host,
                &format!("rule add --network blue --to {} --drop", guest(9)),
            )?;
            one.agent.terminate()?;
            let refused = start_anyway(&one.host, &one.agent)?;
            assert_eq!(refused.status, 1);
            let message = refused.stderr.lines().last().unwrap_or_default().to_owned();
            for words in [
                "RULES",
                "capacity is 131072, not 1000",
                "Put limits.rules back",
                "teardown",
            ] {
                assert!(message.contains(words), "{message}");
            }
            stream.flow_on(500)
        })?;
        outcome.must_be_perfect(1000)?;
        one.agent.attempt("teardown")?.successful()?;
        one.agent.restart()?;
        let status = ask::until_healthy(&one.host)?;
        let rules = status.tables.iter().find(|table| table.name == "rules");
        assert_eq!(rules.map(|table| table.capacity), Some(1000));
        Ok(())
    });
}

#[test]
fn another_name_for_the_agents_tap_leaves_none_behind() {
    in_lab("rename", |lab| {
        let mut stage = Stage::pair(lab)?;
        let settings = mesh_settings(Family::Ipv4, 1, 2).agent("slow_path_device = \"other-slow\"");
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(500)?;
            one.agent.write_settings(&settings.text())?;
            one.agent.restart()?;
            stream.flow_on(500)
        })?;
        outcome.must_be_perfect(1000)?;
        ask::until_healthy(&one.host)?;
        let devices = one.host.run(["ip", "-brief", "link"])?.stdout;
        assert!(
            devices.contains("other-slow") && !devices.contains("vnet-slow"),
            "{devices}"
        );
        let broadcast = numbered(guest(1), e2e::frame::BROADCAST, 1, 100);
        one.guest.send(&broadcast)?;
        expect(&two.guest, &[broadcast])?;
        // A tap of that name which is not ours is nobody's to remove.
        one.host
            .run("ip tuntap add vnet-slow mode tap".split(' '))?;
        one.agent.restart()?;
        let devices = one.host.run(["ip", "-brief", "link"])?.stdout;
        assert!(
            devices.contains("other-slow") && devices.contains("vnet-slow"),
            "{devices}"
        );
        Ok(())
    });
}

#[test]
fn the_underlay_moves_to_another_device() {
    in_lab("move", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let second = lab.underlay(lab::UnderlaySettings::default())?;
        for site in [one, two] {
            second.connect(&site.host, "eth1")?;
        }
        let frame = numbered(guest(1), guest(2), 1, 100);
        one.guest.send(&frame)?;
        expect(&two.guest, std::slice::from_ref(&frame))?;
        for (site, own) in [(one, 1_u8), (two, 2)] {
            let settings = mesh_settings(Family::Ipv4, own, 2).text();
            let moved = settings
                .replace("\"eth0\"", "\"eth1\"")
                .replace("\"10.0.0.", "\"10.0.1.");
            site.agent.write_settings(&moved)?;
            signal::reload(&site.agent)?;
        }
        for site in [one, two] {
            let status = ask::until_healthy(&site.host)?;
            assert_eq!(
                status.underlay.map(|underlay| underlay.device).as_deref(),
                Some("eth1")
            );
            assert!(!e2e::stranger::has_program(&site.host, "eth0")?);
        }
        let seen = second.capture("udp port 6081")?;
        one.guest.send(&frame)?;
        expect(&two.guest, std::slice::from_ref(&frame))?;
        assert_eq!(seen.stop()?.count()?, 1);
        Ok(())
    });
}
