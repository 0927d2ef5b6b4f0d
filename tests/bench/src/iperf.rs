//! How fast is TCP, and what does it cost?
//!
//! `iperf3` from guest to guest, its client on the sender's core and its server on the receiver's,
//! both before other programs there. They are not real-time programs, as senders of frames are: the
//! kernel's own thread for the network (`ksoftirqd`) would starve beside them.
//! What arrived is taken from the server's count; the cost is what the whole machine worked.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use lab::{Namespace, Process};
use serde_json::Value;

use crate::busy::Busy;
use crate::cores::Cores;

/// What iperf3 says while the server is not done with the test before, or just about to listen
/// again.
const NOT_YET: [&str; 2] = ["the server is busy", "Connection refused"];

/// A server that takes one test after the other. It ends when dropped.
#[derive(Debug)]
pub struct Server {
    _process: Process,
    address: &'static str,
}

/// What was seen of one test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// What arrived, in a second.
    pub gigabits_per_second: f64,
    /// What all cores worked for each gigabyte that arrived.
    pub cpu_seconds_per_gigabyte: f64,
}

impl Server {
    /// Starts it in a guest that has this address, and waits until it listens.
    ///
    /// # Errors
    ///
    /// There is no `iperf3`, or it does not listen.
    pub fn start(guest: &Namespace, cores: Cores, address: &'static str) -> Result<Self> {
        let process = guest
            .start("iperf3.log", cores.words_of("iperf3 --server"))
            .context("iperf3 is missing: scripts/setup.sh lab")?;
        lab::try_eventually("iperf3 listens", || {
            let sockets = guest.inside(|| std::fs::read_to_string("/proc/thread-self/net/tcp6"))?;
            Ok(sockets?.contains(":1451 ").then_some(()))
        })?;
        Ok(Self {
            _process: process,
            address,
        })
    }

    /// Sends to it from this guest.
    ///
    /// # Errors
    ///
    /// The test fails.
    pub fn measure(
        &self,
        guest: &Namespace,
        cores: Cores,
        streams: u32,
        window: Duration,
    ) -> Result<Measured> {
        lab::try_eventually("iperf3 has ended its test before", || {
            let result = self.attempt(guest, cores, streams, window);
            let said = result.as_ref().err().map(ToString::to_string);
            let is_not_yet = |said: String| NOT_YET.iter().any(|words| said.contains(words));
            match said.is_some_and(is_not_yet) {
                true => Ok(None),
                false => result.map(Some),
            }
        })
    }

    fn attempt(
        &self,
        guest: &Namespace,
        cores: Cores,
        streams: u32,
        window: Duration,
    ) -> Result<Measured> {
        let seconds = window.as_secs().max(1);
        let affinity = cores.as_iperf_has_it();
        let busy = Busy::since_now()?;
        let client = format!(
            "iperf3 --client {} --time {seconds} --parallel {streams} --affinity {affinity} --json",
            self.address
        );
        let output = guest.attempt(cores.words_of(&client))?;
        let busy = busy.elapsed()?;
        let arrived = arrived(&output.stdout)?;
        Ok(Measured {
            gigabits_per_second: arrived.bits_per_second * 1e-9,
            cpu_seconds_per_gigabyte: busy.as_secs_f64() / (arrived.bytes * 1e-9),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Arrived {
    bits_per_second: f64,
    bytes: f64,
}

fn arrived(report: &str) -> Result<Arrived> {
    let report: Value =
        serde_json::from_str(report).with_context(|| format!("not JSON: {report}"))?;
    if let Some(error) = report.get("error") {
        return Err(anyhow!("{error}"));
    }
    let number = |name| {
        let value = report.pointer(&format!("/end/sum_received/{name}"));
        value.and_then(Value::as_f64).filter(|value| *value > 0.0)
    };
    Ok(Arrived {
        bits_per_second: number("bits_per_second").context("no rate")?,
        bytes: number("bytes").context("nothing arrived")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_counted_is_taken() {
        let report = r#"{"end":{"sum_sent":{"bytes":9,"bits_per_second":72.0},
                         "sum_received":{"bytes":8,"bits_per_second":64.5}}}"#;
        let expected = Arrived {
            bits_per_second: 64.5,
            bytes: 8.0,
        };
        assert_eq!(arrived(report).unwrap(), expected);
    }

    #[test]
    fn a_test_that_failed_or_moved_nothing_is_an_error() {
        let said = |report| arrived(report).unwrap_err().to_string();
        assert!(said(r#"{"end":{},"error":"unable to connect"}"#).contains("unable to connect"));
        let nothing = r#"{"end":{"sum_received":{"bytes":0,"bits_per_second":0}}}"#;
        assert!(said(nothing).contains("no rate"));
        assert!(said("iperf3: not found").contains("not JSON"));
    }
}
