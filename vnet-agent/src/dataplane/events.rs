//! What do the programs tell without being asked? The ring buffer, as a stream of values.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use vnet_common::table::event::Event;
use zerocopy::FromBytes;

/// Events read in one go, so that a busy ring does not starve the agent's other work.
const BATCH_MAX: usize = 64;

/// The reading end of the ring.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    /// Reads this ring from now on.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch it.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring owns its descriptor and keeps the same one until it is dropped, which
        // `AsyncFd` does after it has stopped watching.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE)? };
        Ok(Self { ring })
    }

    /// The next events, at least one. May be cancelled: what was not returned stays in the ring.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch the ring any more.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        loop {
            let mut ready = self.ring.readable_mut().await?;
            let ring = ready.get_inner_mut();
            let mut events = Vec::new();
            while events.len() < BATCH_MAX {
                let Some(item) = ring.next() else { break };
                // A record of another size is of another schema, which the pin check excludes.
                events.extend(Event::read_from_bytes(&item).ok());
            }
            if events.len() < BATCH_MAX {
                ready.clear_ready();
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}
