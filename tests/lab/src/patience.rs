//! How does a test wait for something without saying when it must happen?
//!
//! The limit is there so that a hang ends with a message; it is far above what anything takes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything may take before it is taken for not happening. The longest thing is the
/// start of agents on an emulated processor: the kernel verifies six programs there in half a minute,
/// and three times as many where three start at once.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Asks again and again until there is an answer.
///
/// # Errors
///
/// Where there is none within [`LIMIT`]; `what` says what was waited for.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    try_eventually(what, || Ok(probe()))
}

/// As [`eventually`], with a probe that may fail; its error ends the wait.
pub fn try_eventually<T>(what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {LIMIT:?} in vain until {what}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}
