//! How much of the machine did something take?
//!
//! The time that all cores together were not idle, of `/proc/stat`: the programs, the kernel on
//! their behalf, and what interrupts do on nobody's. Time that a virtual machine's host took away
//! is not counted. The kernel knows how long a core was idle to the microsecond, and shows it in
//! hundredths of a second.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What one unit of `/proc/stat` is.
const TICKS_A_SECOND: f64 = 100.0;

/// A moment from which to count.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    at: Instant,
    rest: Rest,
}

/// What the cores did not work, seconds, since the machine started.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rest {
    seconds: f64,
    cores: usize,
}

impl Busy {
    /// Counts from now on.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn since_now() -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            rest: rest_now()?,
        })
    }

    /// The working time of all cores since then.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn elapsed(self) -> Result<Duration> {
        let rest = rest_now()?.seconds - self.rest.seconds;
        let all = self.at.elapsed().as_secs_f64() * self.rest.cores as f64;
        Ok(Duration::from_secs_f64((all - rest).max(0.0)))
    }
}

fn rest_now() -> Result<Rest> {
    rest(&fs::read_to_string("/proc/stat")?).context("/proc/stat says nothing about idle time")
}

fn rest(stat: &str) -> Option<Rest> {
    let mut lines = stat.lines();
    let (_, numbers) = lines.next()?.split_once("cpu ")?;
    let numbers: Vec<f64> = numbers
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    // user, nice, system, idle, iowait, irq, softirq, steal
    let [_, _, _, idle, waiting, _, _, stolen, ..] = numbers.as_slice() else {
        return None;
    };
    Some(Rest {
        seconds: (idle + waiting + stolen) / TICKS_A_SECOND,
        cores: lines.take_while(|line| line.starts_with("cpu")).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_of_all_cores_is_rest() {
        let stat = "cpu  100 0 200 3000 50 0 70 25 0 0\ncpu0 1 0 1 1 0 0 0 0 0 0\n\
                    cpu1 1 0 1 1 0 0 0 0 0 0\nintr 1\n";
        let expected = Rest {
            seconds: 30.75,
            cores: 2,
        };
        assert_eq!(rest(stat), Some(expected));
        assert_eq!(rest("cpu  1 2 3\n"), None);
        assert_eq!(rest(""), None);
    }
}
