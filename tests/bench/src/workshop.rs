//! What do all measurements share?
//!
//! A lab, the two cores, the peers' programs, and one voice that tells the progress with the time
//! it took so far, on standard error.

use std::fmt::Display;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::Result;
use lab::Lab;

use crate::bed::Bed;
use crate::constellation::Constellation;
use crate::cores::Cores;
use crate::packages::Packages;

/// What measurements are made with.
#[derive(Debug)]
pub struct Workshop {
    lab: Lab,
    /// The cores of sender and receiver.
    pub cores: Cores,
    /// Where the peers' programs come from.
    pub packages: Packages,
    began: Instant,
    beds: AtomicU32,
    troubles: Mutex<Vec<String>>,
}

impl Workshop {
    /// An empty workshop.
    ///
    /// # Errors
    ///
    /// The process is not root.
    pub fn new(cores: Cores, packages: Packages) -> Result<Self> {
        Ok(Self {
            lab: Lab::new("bench")?,
            cores,
            packages,
            began: Instant::now(),
            beds: AtomicU32::new(1),
            troubles: Mutex::default(),
        })
    }

    /// Two new hosts, whose guests' port will have this name.
    ///
    /// # Errors
    ///
    /// The kernel refuses a namespace or a device.
    pub fn bed(&self, port: &'static str) -> Result<Bed> {
        Bed::new(&self.lab, self.beds.fetch_add(1, Ordering::Relaxed), port)
    }

    /// A new proxy and so many agents that have not met yet.
    ///
    /// # Errors
    ///
    /// One does not start.
    pub fn constellation(&self, count: usize) -> Result<Constellation> {
        let number = self.beds.fetch_add(1, Ordering::Relaxed);
        Constellation::new(&self.lab, number, count)
    }

    /// Where hosts are made.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Tells the progress.
    pub fn say(&self, line: impl Display) {
        eprintln!("[{:>4.0} s] {line}", self.began.elapsed().as_secs_f64());
    }

    /// Tells of something that could not be measured: the others are, and the run fails at its end.
    pub fn complain(&self, line: impl Display) {
        self.say(format_args!("FAILED: {line}"));
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.push(line.to_string());
    }

    /// Everything that was complained of.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.clone()
    }
}
