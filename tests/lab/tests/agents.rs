//! Does the lab start, end and restart an agent, and say why where that fails?
//!
//! A shell script stands where the agent will be: this is about the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use lab::{Binaries, Lab, in_lab};

const SETTINGS: &str = "[underlay]\ndevice = \"eth0\"\n";

#[test]
fn an_agent_gets_places_of_its_own_and_is_ready_when_it_says_so() {
    in_lab("agent", |lab| {
        let host = lab.host("one")?;
        let script = "cat \"$3\" >&2; echo 'INFO vnet_agent: ready ports=0' >&2; exec sleep 1000";
        let agent = host.agent_from(&stand_in(lab, script)?, SETTINGS)?;
        let read: toml::Table = fs::read_to_string(agent.settings_file())?.parse()?;
        let value = |path: [&str; 2]| read.get(path[0])?.get(path[1])?.as_str();
        assert_eq!(value(["underlay", "device"]), Some("eth0"));
        assert_eq!(value(["agent", "name"]), Some("one"));
        assert_eq!(value(["agent", "pin_directory"]), Some("/sys/fs/bpf/vnet"));
        assert_eq!(value(["agent", "socket"]), host.agent_socket().to_str());
        assert!(agent.log()?.starts_with(SETTINGS));
        Ok(())
    });
}

#[test]
fn what_the_settings_say_is_left_alone() {
    in_lab("own", |lab| {
        let host = lab.host("one")?;
        let binaries = stand_in(lab, "echo ready >&2; exec sleep 1000")?;
        let agent = host.agent_from(&binaries, "[agent]\nname = \"mine\"\n")?;
        let text = fs::read_to_string(agent.settings_file())?;
        assert!(
            text.contains("name = \"mine\"") && text.contains("state_directory"),
            "{text}"
        );
        Ok(())
    });
}

#[test]
fn an_agent_that_is_terminated_or_killed_can_be_started_again() {
    in_lab("again", |lab| {
        let host = lab.host("one")?;
        let script =
            "trap 'echo bye >&2; exit 0' TERM; echo ready >&2; while :; do sleep 0.01; done";
        let mut agent = host.agent_from(&stand_in(lab, script)?, SETTINGS)?;
        let first = agent.id().context("it does not run")?;
        agent.restart()?;
        assert_ne!(agent.id(), Some(first));
        assert_eq!(agent.log()?, "ready\nbye\nready\n");
        agent.kill();
        assert_eq!(agent.id(), None);
        agent.restart()?;
        agent.terminate()?;
        assert!(agent.terminate().is_err());
        assert_eq!(agent.log()?, "ready\nbye\nready\nready\nbye\n");
        Ok(())
    });
}

#[test]
fn an_agent_that_refuses_is_quoted() {
    in_lab("refuse", |lab| {
        let host = lab.host("one")?;
        let binaries = stand_in(lab, "echo 'ERROR no device eth0' >&2; exit 1")?;
        let error = host
            .agent_from(&binaries, SETTINGS)
            .err()
            .context("it started")?;
        let message = format!("{error:?}");
        assert!(
            message.contains("status 1") && message.contains("no device eth0"),
            "{message}"
        );
        Ok(())
    });
}

/// A program that stands in for the agent and its client.
fn stand_in(lab: &Lab, script: &str) -> Result<Binaries> {
    let path = lab.directory().join("stand-in");
    fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(Binaries {
        agent: path.clone(),
        vnetctl: path,
    })
}
