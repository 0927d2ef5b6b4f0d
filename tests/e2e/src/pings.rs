//! Which of a guest's pings come back while something happens on the way?
//!
//! `ping` sends at a steady pace, whatever becomes of the ones before, and numbers what it sends.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{NamespaceGuest, Process, try_eventually};
use nix::sys::signal::Signal;

/// Seconds between two pings.
const PAUSE: &str = "0.01";
/// For `ping` to end once it is told to.
const END: Duration = Duration::from_secs(10);

/// Pings that are under way.
#[derive(Debug)]
pub struct Pings {
    process: Process,
    log: PathBuf,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Echoes {
    /// How many were sent.
    pub sent: u64,
    /// How often each was answered, by its number from 1.
    pub answers: BTreeMap<u64, u64>,
}

impl Pings {
    /// Begins to ping a guest of the overlay.
    ///
    /// # Errors
    ///
    /// `ping` does not start, or is never answered.
    pub fn start(guest: &NamespaceGuest, to: u8) -> Result<Self> {
        let log = format!("pings-{to}");
        let path = guest.directory().join(&log);
        drop(fs::remove_file(&path));
        let address = format!("10.9.0.{to}");
        // Lines are written as they come: others wait for them.
        let words = ["stdbuf", "-oL", "ping", "-n", "-i", PAUSE, &address];
        let process = guest.start(&log, words)?;
        let pings = Self { process, log: path };
        pings.until_more()?;
        Ok(pings)
    }

    /// Waits until some are answered that were not yet.
    ///
    /// # Errors
    ///
    /// None is.
    pub fn until_more(&self) -> Result<()> {
        let before = self.answered()?;
        try_eventually("pings are answered", || {
            Ok((self.answered()? > before + 20).then_some(()))
        })
    }

    fn answered(&self) -> Result<usize> {
        let said = fs::read_to_string(&self.log)?;
        Ok(said.lines().filter_map(number).count())
    }

    /// Ends them.
    ///
    /// # Errors
    ///
    /// `ping` does not say what it sent.
    pub fn stop(mut self) -> Result<Echoes> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(END)?;
        let said = fs::read_to_string(&self.log)?;
        let mut answers = BTreeMap::new();
        for number in said.lines().filter_map(number) {
            *answers.entry(number).or_insert(0) += 1;
        }
        let sent = said
            .lines()
            .find_map(|line| line.split_once(" packets transmitted")?.0.parse().ok());
        Ok(Echoes {
            sent: sent.with_context(|| format!("ping says: {said}"))?,
            answers,
        })
    }
}

/// The number of the ping that a line says was answered.
fn number(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("bytes from ")?.1.split_once("icmp_seq=")?;
    rest.split_once(' ')?.0.parse().ok()
}

impl Echoes {
    /// The runs of pings that were not answered: the first one's number, and how many. What was sent
    /// last may still have been under way.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        let last = self.answers.keys().next_back().copied().unwrap_or(0);
        for number in (1..last).filter(|number| !self.answers.contains_key(number)) {
            match gaps.last_mut() {
                Some((first, count)) if *first + *count == number => *count += 1,
                _ => gaps.push((number, 1)),
            }
        }
        gaps
    }

    /// Checks that none came twice.
    ///
    /// # Errors
    ///
    /// One did.
    pub fn never_twice(&self) -> Result<()> {
        let twice: Vec<_> = self.answers.iter().filter(|&(_, &n)| n > 1).collect();
        ensure!(twice.is_empty(), "answered more than once: {twice:?}");
        Ok(())
    }

    /// Checks that there is one gap at the most, and none twice; answers how many were lost.
    ///
    /// # Errors
    ///
    /// There are several.
    pub fn lost_in_one_gap(&self) -> Result<u64> {
        self.never_twice()?;
        let gaps = self.gaps();
        ensure!(gaps.len() < 2, "there are several gaps: {gaps:?}");
        Ok(gaps.first().map_or(0, |(_, lost)| *lost))
    }
}
