//! What waits to be sent over a link? Like the queue of a network card: bounded, and what finds it full
//! is dropped and counted.
//!
//! Frames lie one behind the other as they will be sent, so that whoever sends takes all of them at
//! once.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;
use vnet_common::addr::LinkId;
use vnet_common::reason::Reason;
use vnet_common::wire::slow::Slow;

use super::state::{CarriedCounts, add};
use crate::model::offload::Offload;
use crate::overlay::carrier::message::{self, Carried, HEADER_BYTES};

/// Bytes that may wait, and as many that are being sent.
const BYTES_MAX: usize = 1 << 20;

/// What waits for one link.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// What became of the link's frames.
    pub counts: CarriedCounts,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Whether there is a connection that takes them.
    is_open: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds it can panic half way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame.
    ///
    /// # Errors
    ///
    /// There is no connection, it is full, or it is no frame that can be carried.
    pub fn push(&self, frame: &Carried<'_>) -> Result<(), Reason> {
        let mut waiting = self.lock();
        if !waiting.is_open {
            add(&self.counts.lost, 1);
            return Err(Reason::LinkUnresolved);
        }
        if waiting.bytes.len() + HEADER_BYTES + frame.bytes.len() > BYTES_MAX {
            add(&self.counts.queue_full, 1);
            return Err(Reason::QueueFull);
        }
        let was_empty = waiting.bytes.is_empty();
        message::write(&mut waiting.bytes, frame).ok_or(Reason::SlowHeader)?;
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes all that waits, for an empty vector whose room is used again.
    pub(super) fn take(&self, mut empty: Vec<u8>) -> Vec<u8> {
        empty.clear();
        mem::replace(&mut self.lock().bytes, empty)
    }

    /// Until something waits. May be cancelled.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// There is a connection.
    pub(super) fn open(&self) {
        self.lock().is_open = true;
    }

    /// There is none any more: what waits is lost, for it would be old when there is one again.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_open = false;
        let bytes = mem::take(&mut waiting.bytes);
        add(&self.counts.lost, frames_in(&bytes));
    }
}

/// How many whole messages, all of them frames, these bytes are.
pub(super) fn frames_in(mut bytes: &[u8]) -> u64 {
    let mut frames = 0;
    while let Ok(Some((_, used))) = message::first(bytes) {
        frames += 1;
        bytes = bytes.get(used..).unwrap_or_default();
    }
    frames
}

/// The outboxes of all links: what the slow path sees of this.
#[derive(Clone, Debug, Default)]
pub struct Outboxes(Arc<RwLock<BTreeMap<LinkId, Arc<Outbox>>>>);

impl Outboxes {
    pub(super) fn set(&self, boxes: BTreeMap<LinkId, Arc<Outbox>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = boxes;
    }

    /// Takes a frame for the link that its header names.
    ///
    /// # Errors
    ///
    /// There is no such link, or its outbox does not take the frame.
    pub fn carry(&self, header: &Slow, offload: &Offload, frame: &[u8]) -> Result<(), Reason> {
        let work = offload.behind(Slow::BYTES as u16);
        let carried = Carried {
            network: header.network().ok_or(Reason::SlowHeader)?,
            hop_limit: header.hop_limit,
            work: work.ok_or(Reason::SlowHeader)?,
            copy: header.copy(),
            bytes: frame,
        };
        let boxes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let outbox = boxes.get(&header.link()).ok_or(Reason::LinkAbsent)?;
        outbox.push(&carried)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use vnet_common::addr::NetworkId;

    use super::*;
    use crate::model::offload::Work;

    fn frame(bytes: &[u8]) -> Carried<'_> {
        Carried {
            network: NetworkId::new(7).unwrap(),
            hop_limit: 64,
            work: Work::default(),
            copy: 0,
            bytes,
        }
    }

    #[test]
    fn a_full_outbox_drops_and_counts_and_takes_again_once_it_was_emptied() {
        let outbox = Outbox::default();
        let bytes = [7; 60_000];
        assert_eq!(outbox.push(&frame(&bytes)), Err(Reason::LinkUnresolved));
        outbox.open();
        let mut taken = 0;
        while outbox.push(&frame(&bytes)).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, BYTES_MAX as u64 / 60_024);
        assert_eq!(outbox.push(&frame(&bytes)), Err(Reason::QueueFull));
        let batch = outbox.take(Vec::new());
        assert_eq!(frames_in(&batch), taken);
        assert_eq!(outbox.push(&frame(&bytes)), Ok(()));
        outbox.close();
        assert_eq!(outbox.push(&frame(&bytes)), Err(Reason::LinkUnresolved));
        assert_eq!(outbox.counts.queue_full.load(Ordering::Relaxed), 2);
        assert_eq!(outbox.counts.lost.load(Ordering::Relaxed), 3);
    }
}
