//! Does a link have a connection, since when, and what became of its frames?

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The connection of a link, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// Whom it is with, and whether this end opened it; nothing while there is none.
    pub peer: Option<(SocketAddr, bool)>,
    /// Since when it is as it is.
    pub since: SystemTime,
    /// Why there is none, as far as is known.
    pub why: String,
}

impl Default for ConnectionState {
    fn default() -> Self {
        Self {
            peer: None,
            since: SystemTime::now(),
            why: "nobody has opened it yet".to_owned(),
        }
    }
}

/// What became of a link's frames since the agent started.
#[derive(Debug, Default)]
pub struct CarriedCounts {
    /// Handed to a connection.
    pub sent: AtomicU64,
    /// Found the queue full.
    pub queue_full: AtomicU64,
    /// Were in the queue, or half sent, when the connection ended.
    pub lost: AtomicU64,
    /// Came over a connection and were written to the tap.
    pub arrived: AtomicU64,
    /// Came over a connection and were refused: of a network that does not cross the link, or not
    /// what they said they were.
    pub refused: AtomicU64,
    /// Connections so far.
    pub connections: AtomicU64,
}

/// The same, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the counter of its name")]
pub struct Carried {
    pub sent: u64,
    pub queue_full: u64,
    pub lost: u64,
    pub arrived: u64,
    pub refused: u64,
    pub connections: u64,
}

impl CarriedCounts {
    /// What they are now.
    pub fn read(&self) -> Carried {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Carried {
            sent: load(&self.sent),
            queue_full: load(&self.queue_full),
            lost: load(&self.lost),
            arrived: load(&self.arrived),
            refused: load(&self.refused),
            connections: load(&self.connections),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, frames: u64) {
    counter.fetch_add(frames, Ordering::Relaxed);
}
