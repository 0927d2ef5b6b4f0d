//! How does a test run the real agent, and end it in every way that agents end?
//!
//! [`crate::Host::agent`] takes the text of a settings file, fills in the places that must be in
//! the lab, starts `vnet-agent run` in the host and waits for the line `ready` in its log. The
//! programs come from [`Binaries`].

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::binaries::Binaries;
use crate::host::Host;
use crate::laboratory::last_lines;
use crate::namespace::BPF_DIRECTORY;
use crate::patience::{LIMIT, try_eventually};
use crate::process::{self, Output, Process};

/// An agent on a host. It is killed when dropped; what it left in the kernel goes with the host.
#[derive(Debug)]
pub struct Agent {
    host: Host,
    binaries: Binaries,
    settings_file: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Agent {
    pub(crate) fn start(host: &Host, binaries: Binaries, settings: &str) -> Result<Self> {
        let number = (0..).find(|n| !host.directory().join(file_name(*n, "toml")).exists());
        let number: u32 = number.context("there are no numbers left")?;
        let log = host.new_file(&file_name(number, "log"))?;
        host.estate().add_log(log.clone());
        let mut agent = Self {
            host: host.clone(),
            binaries,
            settings_file: host.new_file(&file_name(number, "toml"))?,
            log,
            process: None,
        };
        agent.write_settings(settings)?;
        agent.start_again()?;
        Ok(agent)
    }

    /// Replaces the settings file; a running agent does not look at it.
    pub fn write_settings(&self, settings: &str) -> Result<()> {
        fs::write(&self.settings_file, in_the_lab(settings, &self.host)?)?;
        // There are cookies in it, and the agent warns where others may read them.
        fs::set_permissions(&self.settings_file, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// The file that the agent reads.
    #[must_use]
    pub fn settings_file(&self) -> &Path {
        &self.settings_file
    }

    /// The process id, or nothing where the agent was ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What the agents of this handle have said so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Asks the agent to end, and waits for it.
    ///
    /// # Errors
    ///
    /// Where it does not end, or its exit status is not 0.
    pub fn terminate(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the agent does not run")?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(LIMIT)?;
        ensure!(
            status == 0,
            "the agent ended with status {status}\n{}",
            self.end_of_log()
        );
        Ok(())
    }

    /// Ends the agent at once, with no chance to do anything about it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the agent again, after asking it to end if it runs, and waits until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.terminate()?;
        }
        self.start_again()
    }

    /// Runs `vnet-agent` with this verb on the settings file, for example `check` or `teardown`.
    pub fn attempt(&self, verb: &str) -> Result<Output> {
        process::attempt(self.command(verb).env_remove("NOTIFY_SOCKET"))
    }

    /// The same with these programs: an upgrade, or a downgrade.
    pub fn restart_from(&mut self, binaries: &Binaries) -> Result<()> {
        self.binaries = binaries.clone();
        self.restart()
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = self.host.command(&self.binaries.agent);
        command
            .arg(verb)
            .arg("--config")
            .arg(&self.settings_file)
            .env("NO_COLOR", "1");
        if std::env::var_os("VNET_LOG").is_none() {
            command.env("VNET_LOG", "info");
        }
        command
    }

    fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let before = log.metadata()?.len();
        let mut process = Process::start_logged(self.command("run"), &log)?;
        try_eventually("the agent is ready", || {
            // Asked before the log is read, so that the log of an agent that ended is whole.
            let ended = process.ended()?;
            let bytes = fs::read(&self.log)?;
            let said = bytes.get(usize::try_from(before)?..).unwrap_or_default();
            let said = String::from_utf8_lossy(said);
            if said.lines().any(says_ready) {
                return Ok(Some(()));
            }
            match ended {
                Some(status) => bail!("it ended with status {status}"),
                None => Ok(None),
            }
        })
        .with_context(|| {
            format!(
                "the agent on `{}` did not start; its log:\n{}",
                self.host.name(),
                self.end_of_log()
            )
        })?;
        self.process = Some(process);
        Ok(())
    }

    fn end_of_log(&self) -> String {
        let lines = last_lines(&self.log, 40).unwrap_or_default();
        Vec::from(lines).join("\n")
    }
}

fn file_name(number: u32, extension: &str) -> String {
    match number {
        0 => format!("agent.{extension}"),
        _ => format!("agent-{number}.{extension}"),
    }
}

/// Whether a line of the log has the message `ready`, alone or before fields (`ready ports=2`).
fn says_ready(line: &str) -> bool {
    let message = line
        .rsplit_once(": ")
        .map_or(line, |(_, message)| message)
        .trim();
    message == "ready"
        || message
            .strip_prefix("ready ")
            .is_some_and(|rest| rest.contains('='))
}

/// The settings with every place that they leave open set to one in the lab.
fn in_the_lab(settings: &str, host: &Host) -> Result<String> {
    let places = [
        ("name", host.name().to_owned()),
        ("socket", host.agent_socket().display().to_string()),
        ("pin_directory", format!("{BPF_DIRECTORY}/vnet")),
        (
            "state_directory",
            host.directory().join("state").display().to_string(),
        ),
    ];
    if !settings
        .lines()
        .any(|line| line.trim_start().starts_with("[agent]"))
    {
        // Behind the text as it came, so that the agent's messages point at the right lines.
        let table: toml::Table = places
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        return Ok(format!("{settings}\n[agent]\n{}", toml::to_string(&table)?));
    }
    let mut table: toml::Table = settings.parse().context("the settings are not TOML")?;
    let agent = table.get_mut("agent").and_then(toml::Value::as_table_mut);
    let agent = agent.context("`agent` is not a table")?;
    for (key, value) in places {
        agent.entry(key).or_insert(value.into());
    }
    Ok(toml::to_string(&table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_itself_means_ready() {
        assert!(says_ready("2026-01-01T00:00:00Z  INFO vnet_agent: ready"));
        assert!(says_ready("INFO vnet_agent::agent: ready ports=2"));
        assert!(says_ready("ready"));
        assert!(!says_ready("INFO vnet_agent: not ready"));
        assert!(!says_ready("INFO vnet_agent: ready soon"));
    }
}
