//! How does a test signal an agent, and know that it has listened?

use anyhow::{Context, Result};
use lab::{Agent, try_eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sends a signal to the agent.
///
/// # Errors
///
/// It does not run.
pub fn send(agent: &Agent, signal: Signal) -> Result<()> {
    let id = agent.id().context("the agent does not run")?;
    Ok(kill(Pid::from_raw(id.cast_signed()), signal)?)
}

/// Waits until the agent has said something with these words more often than before.
///
/// # Errors
///
/// It does not.
pub fn until_said(agent: &Agent, words: &str, before: usize) -> Result<String> {
    try_eventually(&format!("the agent says: {words}"), || {
        let log = agent.log()?;
        Ok((said(&log, words) > before).then_some(log))
    })
}

/// How often these words are in a log.
pub fn said(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

/// Has the agent read its settings again, and waits until it has.
///
/// # Errors
///
/// It does not like them.
pub fn reload(agent: &Agent) -> Result<()> {
    let words = "is read again";
    let before = said(&agent.log()?, words);
    send(agent, Signal::SIGHUP)?;
    until_said(agent, words, before).map(drop)
}
