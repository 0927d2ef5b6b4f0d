//! The promise: an upgrade across schemas, and a downgrade, lose no frame: the devices' programs
//! are replaced one by one, tables that are as they were go on, and where an agent cannot know
//! what they hold it says what begins anew. Who fails or dies on the way leaves a data plane that
//! works.
//!
//! There is no second agent with another schema to test with: the pins of this one are moved to
//! where another's would be.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use e2e::build::{digest_on, with_refused};
use e2e::frame::{BROADCAST, expect, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{DEVICE, Family, PORT, Site, Stage, address, link_to};
use e2e::stranger::index_of;
use e2e::stream::{Stream, during};
use e2e::{ask, books};
use lab::{Agent, Host, in_lab};
use vnet_common::{SCHEMA, name};

/// Frames that must have arrived between two events.
const BETWEEN: u64 = 2000;
const PINS: &str = "/sys/fs/bpf/vnet";
const OLDER: u32 = SCHEMA - 1;
const NEWER: u32 = SCHEMA + 1;

/// Has the agent's pins be those of another schema.
fn pretend(host: &Host, schema: u32) -> Result<()> {
    let own = format!("{PINS}/v{SCHEMA}");
    let others = format!("{PINS}/v{schema}");
    Ok(host.inside(|| fs::rename(own, others))??)
}

/// The pins of programs by schema, for this host's devices.
fn pins(host: &Host) -> Result<BTreeSet<String>> {
    let listed = host.run(["find", PINS, "-path", "*/links/*", "-printf", "%P\n"])?;
    Ok(listed.stdout.lines().map(str::to_owned).collect())
}

/// Nothing of another schema is there, and each device has this agent's program.
fn is_taken_over(site: &Site, before: &BTreeSet<String>) -> Result<()> {
    ask::until_healthy(&site.host)?;
    assert_eq!(pins(&site.host)?, *before);
    let schemas = site.host.run(["ls", PINS])?.stdout;
    assert_eq!(schemas.trim(), format!("v{SCHEMA}"));
    Ok(())
}

/// Has this happen to the agent of host one in the middle of a stream. What it leaves must be a data
/// plane of this schema; returns how many frames were sent.
fn while_streaming(
    stage: &mut Stage,
    happen: impl FnOnce(&Host, &mut Agent, &Stream<'_>) -> Result<()>,
) -> Result<u64> {
    let [one, two] = &mut stage.sites[..] else {
        unreachable!("two sites")
    };
    let before = pins(&one.host)?;
    let outcome = during(&one.guest, &two.guest, |stream| {
        stream.flow_on(BETWEEN)?;
        one.agent.kill();
        happen(&one.host, &mut one.agent, stream)?;
        stream.flow_on(BETWEEN)
    })?;
    outcome.must_be_perfect(2 * BETWEEN)?;
    is_taken_over(one, &before)?;
    // Both ways, and the way by the agent.
    for (number, from, to) in [(1, &*one, &*two), (2, two, one)] {
        for destination in [to.guest.mac(), BROADCAST] {
            let frame = numbered(from.guest.mac(), destination, number, 100);
            from.guest.send(&frame)?;
            expect(&to.guest, &[frame])?;
        }
    }
    Ok(outcome.sent)
}

#[test]
fn an_upgrade_goes_on_with_the_books() {
    in_lab("upgrade", |lab| {
        let mut stage = Stage::pair(lab)?;
        let sent = while_streaming(&mut stage, |host, agent, stream| {
            pretend(host, OLDER)?;
            agent.restart()?;
            stream.flow_on(BETWEEN)
        })?;
        let (one, two) = stage.two()?;
        let (near, far) = (books::check_host(&one.host)?, books::check_host(&two.host)?);
        books::check_pair(&near, "to-two", &far, "to-one")?;
        assert_eq!(books::port(&near, PORT)?.forwarded, sent + 1);
        assert!(one.agent.log()?.contains("with its tables"));
        Ok(())
    });
}

#[test]
fn a_downgrade_begins_new_books_and_says_so() {
    in_lab("downgrade", |lab| {
        let mut stage = Stage::pair(lab)?;
        let sent = while_streaming(&mut stage, |host, agent, stream| {
            pretend(host, NEWER)?;
            agent.restart()?;
            stream.flow_on(BETWEEN)
        })?;
        let (one, _) = stage.two()?;
        let stats = books::check_host(&one.host)?;
        let counted = books::port(&stats, PORT)?.forwarded;
        assert!(counted > BETWEEN && counted < sent, "{counted} of {sent}");
        let log = one.agent.log()?;
        assert!(log.contains("learned addresses begin anew"), "{log}");
        Ok(())
    });
}

#[test]
fn programs_at_the_tc_door_are_replaced_in_place_as_well() {
    in_lab("tc", |lab| {
        let mut stage = Stage::new(lab, 2, |own| {
            let other = 3 - own;
            let port = format!("addresses = [\"{}\"]\ndoor = \"tc\"", guest(own));
            Settings::on("device = \"eth0\"\ndoor = \"tc\"")
                .port_with(PORT, &port)
                .link(&link_to(other), &address(Family::Ipv4, other))
                .way(guest(other), &link_to(other))
                .flood()
        })?;
        for schema in [OLDER, NEWER] {
            while_streaming(&mut stage, |host, agent, stream| {
                assert!(
                    pins(host)?
                        .iter()
                        .filter(|pin| pin.ends_with("-tc"))
                        .count()
                        >= 2
                );
                pretend(host, schema)?;
                agent.restart()?;
                stream.flow_on(BETWEEN)
            })?;
        }
        Ok(())
    });
}

#[test]
fn who_dies_on_the_way_has_a_successor() {
    for (name, schema) in [("dies-older", OLDER), ("dies-newer", NEWER)] {
        in_lab(name, |lab| {
            let mut stage = Stage::pair(lab)?;
            while_streaming(&mut stage, |host, agent, stream| {
                let usual = lab::Binaries::find()?;
                // After more and more of its start; a debug build is ready after about a second.
                for pause_ms in (100..1300).step_by(100) {
                    // Where the last one came far enough, what it left becomes another schema's.
                    let is_free = !pins(host)?
                        .iter()
                        .any(|pin| pin.starts_with(&format!("v{schema}")));
                    if is_free {
                        host.run(["rm", "-rf", &format!("{PINS}/v{schema}")])?;
                        pretend(host, schema)?;
                    }
                    let words = [
                        usual.agent.as_os_str(),
                        "run".as_ref(),
                        "--config".as_ref(),
                        agent.settings_file().as_os_str(),
                    ];
                    let starting = host.start("starting.log", words)?;
                    std::thread::sleep(std::time::Duration::from_millis(pause_ms));
                    drop(starting);
                    stream.flow_on(200)?;
                }
                agent.restart()
            })?;
            Ok(())
        });
    }
}

#[test]
fn who_fails_leaves_the_other_at_work() {
    in_lab("fails", |lab| {
        let mut stage = Stage::pair(lab)?;
        while_streaming(&mut stage, |host, agent, stream| {
            let refused = with_refused(host.directory(), name::AGENT_XDP)?;
            for schema in [OLDER, NEWER] {
                pretend(host, schema)?;
                let traces = || -> Result<_> {
                    Ok((
                        pins(host)?,
                        digest_on(host, PORT)?,
                        digest_on(host, DEVICE)?,
                    ))
                };
                let before = traces()?;
                let words = [
                    refused.agent.as_os_str(),
                    "run".as_ref(),
                    "--config".as_ref(),
                    agent.settings_file().as_os_str(),
                ];
                let failed = host.attempt(words)?;
                assert_eq!(failed.status, 1, "{}", failed.stderr);
                assert_eq!(traces()?, before);
                stream.flow_on(BETWEEN)?;
                agent.restart()?;
                agent.kill();
            }
            agent.restart()
        })?;
        Ok(())
    });
}

#[test]
fn a_device_that_is_wanted_no_more_is_let_go() {
    in_lab("unwanted", |lab| {
        let mut stage = Stage::pair(lab)?;
        let (one, _) = stage.two()?;
        let port = index_of(&one.host, PORT)?;
        let site = stage.site(1)?;
        site.agent.kill();
        pretend(&site.host, NEWER)?;
        let without = Settings::new().flood();
        site.agent.write_settings(&without.text())?;
        site.agent.restart()?;
        let held = pins(&site.host)?;
        let of_port = held
            .iter()
            .filter(|pin| pin.contains(&format!("port-{port}")));
        assert_eq!(of_port.count(), 0, "{held:?}");
        assert!(!e2e::stranger::has_program(&site.host, PORT)?);
        Ok(())
    });
}
