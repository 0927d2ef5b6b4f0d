//! The promise: an agent that cannot start says in one line why and what to do, and what ran
//! before runs on; what it can do without it does without, and says so.

use std::ffi::OsString;

use anyhow::{Context, Result};
use e2e::ask;
use e2e::frame::{expect, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Site, Stage, mesh_settings};
use e2e::stranger::pin_map;
use lab::{Binaries, Host, in_lab};
use vnet_agent::api::Severity;

/// The last line of what an agent says that ends at once.
fn refusal(host: &Host, before: &[&str], settings: &Settings) -> Result<String> {
    let mut agent = host.agent(&settings.text());
    if before.is_empty() {
        let error = agent.err().context("it started")?;
        let text = format!("{error:?}");
        let line = text.lines().find(|line| line.starts_with("vnet-agent: "));
        return Ok(line.with_context(|| text.clone())?.to_owned());
    }
    // Once to have the settings written, then as the words before say.
    let file = agent
        .as_mut()
        .map_err(|error| anyhow::anyhow!("{error:?}"))?
        .settings_file()
        .to_owned();
    drop(agent);
    run_as(host, before, &file)
}

fn run_as(host: &Host, before: &[&str], settings: &std::path::Path) -> Result<String> {
    let binaries = Binaries::find()?;
    let mut words: Vec<OsString> = before.iter().map(OsString::from).collect();
    words.extend([
        binaries.agent.into(),
        "run".into(),
        "--config".into(),
        settings.into(),
    ]);
    let output = host.attempt(words)?;
    assert_eq!(output.status, 1, "{}", output.stderr);
    Ok(output.stderr.lines().last().unwrap_or_default().to_owned())
}

fn must_contain(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// That the data plane which an agent left goes on.
fn still_forwards(one: &Site, two: &Site) -> Result<()> {
    let frame = numbered(guest(1), guest(2), 1, 100);
    one.guest.send(&frame)?;
    expect(&two.guest, &[frame])
}

#[test]
fn too_few_privileges() {
    in_lab("privileges", |lab| {
        let mut stage = Stage::pair(lab)?;
        stage.site(1)?.agent.kill();
        let (one, two) = stage.two()?;
        for bounding in ["-all", "-bpf,-sys_admin", "-net_admin"] {
            let option = format!("--bounding-set={bounding}");
            let said = run_as(
                &one.host,
                &["setpriv", &option, "--inh-caps=-all"],
                one.agent.settings_file(),
            )?;
            must_contain(&said, &["CAP_NET_ADMIN"]);
            still_forwards(one, two)?;
        }
        stage.site(1)?.agent.restart()?;
        ask::until_healthy(&stage.site(1)?.host)?;
        Ok(())
    });
}

#[test]
fn a_pin_directory_elsewhere() {
    in_lab("elsewhere", |lab| {
        let host = lab.host("one")?;
        let settings = Settings::new().agent(&format!(
            "pin_directory = \"{}/pins\"",
            host.directory().display()
        ));
        let said = refusal(&host, &[], &settings)?;
        must_contain(
            &said,
            &[
                "/pins is not on a bpf file system",
                "mount -t bpf bpf /sys/fs/bpf",
            ],
        );
        Ok(())
    });
}

#[test]
fn somebody_elses_map_in_the_place_of_ours() {
    in_lab("map", |lab| {
        let host = lab.host("one")?;
        let schema = vnet_common::SCHEMA;
        let maps = format!("/sys/fs/bpf/vnet/v{schema}/maps");
        host.run(["mkdir", "-p", &maps])?;
        pin_map(&host, &format!("{maps}/RULES"))?;
        let said = refusal(&host, &[], &Settings::new())?;
        must_contain(
            &said,
            &["/maps/RULES is not this agent's", "vnet-agent teardown"],
        );
        let left = host.run(["ls", &maps])?.stdout;
        assert_eq!(
            left.trim(),
            "RULES",
            "it is still there, and nothing was put beside it"
        );
        Ok(())
    });
}

#[test]
fn a_device_of_another_kind_where_the_agents_tap_should_be() {
    in_lab("tap", |lab| {
        let host = lab.host("one")?;
        host.run("ip link add vnet-slow type veth peer name far".split(' '))?;
        let said = refusal(&host, &[], &Settings::new())?;
        must_contain(
            &said,
            &["vnet-slow", "no tap (veth)", "choose another name"],
        );
        Ok(())
    });
}

#[test]
fn a_state_directory_that_cannot_be_made() {
    in_lab("state", |lab| {
        let host = lab.host("one")?;
        let place = host.directory().join("full");
        std::fs::create_dir(&place)?;
        host.run([
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "ro",
            "none",
            &place.display().to_string(),
        ])?;
        let settings =
            Settings::new().agent(&format!("state_directory = \"{}/state\"", place.display()));
        let said = refusal(&host, &[], &settings)?;
        must_contain(
            &said,
            &[
                "cannot make the directory",
                "/full/state",
                "state_directory under [agent]",
            ],
        );
        Ok(())
    });
}

#[test]
fn the_bpf_file_system_is_mounted_if_it_is_not() {
    in_lab("bpffs", |lab| {
        let stage = {
            let underlay = lab.underlay(lab::UnderlaySettings::default())?;
            let host = lab.host("one")?;
            underlay.connect(&host, "eth0")?;
            host.run(["umount", "/sys/fs/bpf"])?;
            let guest = host.tap_guest(PORT, guest(1))?;
            let agent = host.agent(&Settings::new().port(PORT, e2e::frame::guest(1)).text())?;
            Stage {
                sites: vec![Site { agent, guest, host }],
                underlay,
            }
        };
        let site = &stage.sites[0];
        must_contain(
            &site.agent.log()?,
            &["mounting a bpf file system on /sys/fs/bpf"],
        );
        ask::until_healthy(&site.host)?;
        Ok(())
    });
}

#[test]
fn a_kernel_that_does_not_tell_its_structures() {
    in_lab("btf", |lab| {
        let stage = {
            let host = lab.host("one")?;
            let underlay = lab.underlay(lab::UnderlaySettings::default())?;
            underlay.connect(&host, "eth0")?;
            host.run(["mount", "-t", "tmpfs", "none", "/sys/kernel/btf"])?;
            let guest_one = host.tap_guest(PORT, guest(1))?;
            let agent = host.agent(
                &Settings::new()
                    .port(PORT, guest(1))
                    .port("tap1", guest(2))
                    .text(),
            )?;
            Stage {
                sites: vec![Site {
                    agent,
                    guest: guest_one,
                    host,
                }],
                underlay,
            }
        };
        let site = &stage.sites[0];
        let two = site.host.tap_guest("tap1", guest(2))?;
        let status = ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        assert!(status.healthy && !status.redirect_failures.is_on());
        let problem = status.problems.first().context("it says so")?;
        assert_eq!(problem.severity, Severity::Warning);
        must_contain(
            &format!("{problem:?}"),
            &["not counted", "/sys/kernel/btf/vmlinux"],
        );
        let frame = numbered(guest(1), guest(2), 1, 100);
        site.guest.send(&frame)?;
        expect(&two, &[frame])
    });
}

#[test]
fn the_capabilities_of_the_service_are_enough() {
    in_lab("unit", |lab| {
        let unit = include_str!("../../../scripts/vnet-agent.service");
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let capabilities = line.context("the unit bounds capabilities")?;
        let set: Vec<_> = capabilities
            .split_whitespace()
            .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
            .collect();
        let script = lab.directory().join("as-the-service");
        let binaries = Binaries::find()?;
        let text = format!(
            "#!/bin/sh\nexec setpriv --bounding-set=-all{} --inh-caps=-all {} \"$@\"\n",
            set.concat(),
            binaries.agent.display()
        );
        std::fs::write(&script, text)?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let bounded = Binaries {
            agent: script,
            ..binaries
        };
        let (one, two, _underlay) = lab.two_hosts(lab::UnderlaySettings::default())?;
        let guests = [
            one.tap_guest(PORT, guest(1))?,
            two.tap_guest(PORT, guest(2))?,
        ];
        let mut agents = Vec::new();
        for (own, host) in [(1, &one), (2, &two)] {
            agents.push(host.agent_from(&bounded, &mesh_settings(Family::Ipv4, own, 2).text())?);
        }
        for host in [&one, &two] {
            let status = ask::until_healthy(host)?;
            assert!(
                status.redirect_failures.is_on() && status.problems.is_empty(),
                "{status:?}"
            );
        }
        for (number, to) in [(1, guest(2)), (2, e2e::frame::BROADCAST)] {
            let frame = numbered(guest(1), to, number, 100);
            guests[0].send(&frame)?;
            expect(&guests[1], &[frame])?;
        }
        ask::change(
            &one,
            "rule add --network blue --to 52:54:00:00:00:09 --drop",
        )?;
        agents.iter_mut().try_for_each(lab::Agent::restart)?;
        agents.iter_mut().try_for_each(lab::Agent::terminate)?;
        agents[0].attempt("teardown")?.successful().map(drop)
    });
}
