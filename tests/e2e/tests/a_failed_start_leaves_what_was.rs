//! The promise: an agent that cannot load its programs, or whose tables do not fit those that are
//! there, ends with the cure, and nothing has changed: not a pin, not a program, not a frame.

use std::path::Path;

use anyhow::{Result, ensure};
use e2e::build::{digest_on, with_refused};
use e2e::settings::Settings;
use e2e::stage::{DEVICE, Family, PORT, Stage, mesh_settings};
use e2e::stream::{Stream, during};
use e2e::{ask, books};
use lab::{Agent, Binaries, Host, in_lab};
use vnet_common::name;

/// Frames that must have arrived between two events.
const BETWEEN: u64 = 1000;

/// What an agent leaves in the kernel: every pin, and the programs of the devices.
fn traces(host: &Host) -> Result<Vec<String>> {
    let pins = host.run(["find", "/sys/fs/bpf/vnet", "-printf", "%P %i\n"])?;
    let mut traces: Vec<String> = pins.stdout.lines().map(str::to_owned).collect();
    traces.sort();
    traces.extend([digest_on(host, PORT)?, digest_on(host, DEVICE)?]);
    Ok(traces)
}

/// Runs an agent that must fail, and returns the line that says why.
fn failure(host: &Host, agent: &Path, settings: &Path) -> Result<String> {
    let words = [
        agent.as_os_str(),
        "run".as_ref(),
        "--config".as_ref(),
        settings.as_os_str(),
    ];
    let output = host.attempt(words)?;
    ensure!(output.status == 1, "it ended otherwise: {}", output.stderr);
    let mut said = output.stderr.lines();
    let last = said.rfind(|line| line.starts_with("vnet-agent: "));
    Ok(last.unwrap_or_default().to_owned())
}

/// Has this fail on host one, in the middle of a stream, and a right agent come back afterwards.
fn while_streaming(name: &str, fail: impl FnOnce(&Host, &Agent, &Stream<'_>) -> Result<()>) {
    in_lab(name, |lab| {
        let mut stage = Stage::pair(lab)?;
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let outcome = during(&one.guest, &two.guest, |stream| {
            one.agent.kill();
            let before = traces(&one.host)?;
            stream.flow_on(BETWEEN)?;
            fail(&one.host, &one.agent, stream)?;
            stream.flow_on(BETWEEN)?;
            assert_eq!(traces(&one.host)?, before);
            let settings = mesh_settings(Family::Ipv4, 1, 2);
            one.agent.write_settings(&settings.text())?;
            one.agent.restart()?;
            stream.flow_on(BETWEEN)
        })?;
        outcome.must_be_perfect(3 * BETWEEN)?;
        ask::until_healthy(&one.host)?;
        let stats = books::check_host(&one.host)?;
        assert_eq!(books::port(&stats, PORT)?.forwarded, outcome.sent);
        Ok(())
    });
}

#[test]
fn the_kernel_refuses_a_program() {
    while_streaming("refused", |host, agent, stream| {
        let lab_directory = host.directory().to_owned();
        for program in [name::PORT_XDP, name::UNDERLAY_XDP, name::AGENT_TC] {
            let refused = with_refused(&lab_directory, program)?;
            let said = failure(host, &refused.agent, agent.settings_file())?;
            assert!(
                said.contains(&format!("the kernel refuses the program {program}")),
                "{said}"
            );
            stream.flow_on(BETWEEN)?;
        }
        Ok(())
    });
}

#[test]
fn the_limits_are_others() {
    while_streaming("limits", |host, agent, stream| {
        for limit in ["ports", "links", "networks", "rules", "flows"] {
            let settings = mesh_settings(Family::Ipv4, 1, 2).limit(&format!("{limit} = 100"));
            agent.write_settings(&settings.text())?;
            let usual = Binaries::find()?;
            let said = failure(host, &usual.agent, agent.settings_file())?;
            let cure = format!("Put limits.{limit} back, or run `vnet-agent teardown`");
            assert!(said.contains(&cure), "{said}");
            stream.flow_on(BETWEEN)?;
        }
        Ok(())
    });
}

#[test]
fn where_nothing_was_nothing_is_left() {
    in_lab("nothing", |lab| {
        let host = lab.host("one")?;
        let settings = host.directory().join("agent.toml");
        let file = Settings::new().agent(&format!(
            "state_directory = \"{}\"\nname = \"one\"",
            host.directory().display()
        ));
        std::fs::write(&settings, file.text())?;
        let devices = |host: &Host| Ok::<_, anyhow::Error>(host.run(["ip", "link"])?.stdout);
        let before = devices(&host)?;
        let refused = with_refused(host.directory(), name::AGENT_XDP)?;
        failure(&host, &refused.agent, &settings)?;
        let left = host.run(["find", "/sys/fs/bpf/vnet", "-type", "f"])?.stdout;
        assert_eq!(left, "");
        assert_eq!(devices(&host)?, before);
        Ok(())
    });
}
