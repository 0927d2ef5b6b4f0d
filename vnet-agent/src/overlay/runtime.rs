//! The slow path's task: frames from the tap, copies and answers back to it.
//!
//! May be aborted at any `await`: a frame that was read and not yet copied to everyone is then
//! lost, as in a full queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tracing::warn;
use vnet_common::addr::LinkId;
use vnet_common::reason::Reason;
use vnet_common::wire::probe::Probe;
use vnet_common::wire::slow::Slow;
use zerocopy::{FromBytes, IntoBytes};

use super::once::Once;
use super::slow_path::{Receivers, parse};
use super::too_big;
use super::via::carry::outbox::Outboxes;
use crate::model::offload::Offload;
use crate::world::tap::{FRAME_BYTES_MAX, Tap};

/// What the slow path did since the agent started.
#[derive(Debug, Default)]
pub struct SlowPathCounts {
    /// Frames read from the tap.
    pub taken: AtomicU64,
    /// Of those: copied to at least one target.
    pub flooded: AtomicU64,
    /// Copies written.
    pub copies: AtomicU64,
    /// Frames handed to the connection of a link.
    pub carried: AtomicU64,
    /// Answers to probes.
    pub probe_replies: AtomicU64,
    /// Beginnings of frames that were too big, answered.
    pub too_big_answered: AtomicU64,
    /// The others, of packets that must not be answered.
    pub too_big_unanswered: AtomicU64,
    dropped: [AtomicU64; Reason::ROOM],
}

impl SlowPathCounts {
    fn count_drop(&self, reason: Reason) {
        if let Some(count) = self.dropped.get(usize::from(reason.number())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was dropped, without reasons that never happened.
    pub fn dropped(&self) -> BTreeMap<Reason, u64> {
        Reason::ALL
            .iter()
            .filter_map(|&reason| {
                let count = self.dropped.get(usize::from(reason.number()))?;
                Some((reason, count.load(Ordering::Relaxed))).filter(|(_, count)| *count > 0)
            })
            .collect()
    }
}

/// Between two tries to read from a tap that does not work: it is re-made with the agent.
const RETRY: Duration = Duration::from_secs(1);

/// How long the tap may take to take a copy; beyond, its queue counts as full.
const PATIENCE: Duration = Duration::from_millis(10);

/// Whose the frames are that are not to be copied.
#[derive(Debug)]
pub struct Askers {
    /// Whoever sent probes hears the answers.
    pub replies: [mpsc::Sender<(LinkId, Probe)>; 2],
    /// What connections carry.
    pub outboxes: Outboxes,
}

/// Copies frames for many, until it is aborted.
pub async fn run(
    tap: Arc<Tap>,
    receivers: watch::Receiver<Arc<Receivers>>,
    askers: Askers,
    counts: Arc<SlowPathCounts>,
) {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let began = Instant::now();
    let mut once = Once::new(start());
    loop {
        let (length, offload) = match tap.read(&mut buffer).await {
            Ok(read) => read,
            Err(error) => {
                warn!(tap = tap.name(), %error, "the slow path's tap cannot be read");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        counts.taken.fetch_add(1, Ordering::Relaxed);
        let bytes = buffer.get(..length).unwrap_or_default();
        let settled = match parse(bytes) {
            Err(reason) => Err(reason),
            Ok((header, frame)) => match header.kind {
                Slow::CARRY => carry(&askers.outboxes, &header, &offload, frame, &counts),
                Slow::FRAME => {
                    let receivers = Arc::clone(&receivers.borrow());
                    let now_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let copies = receivers.copies(&header, frame).and_then(|copies| {
                        once.number(copies, &header, frame, offload.is_to_be_cut(), now_ms)
                    });
                    spread(&tap, copies, (&offload, frame), &counts).await
                }
                Slow::TOO_BIG => {
                    let back = receivers.borrow().back_to_sender(&header);
                    tell(&tap, back, (&header, frame), &counts).await
                }
                Slow::PROBE_REPLY => pass_on(&askers.replies, &header, frame, &counts),
                _ => Err(Reason::SlowHeader),
            },
        };
        if let Err(reason) = settled {
            counts.count_drop(reason);
        }
    }
}

/// Hands an answer to a probe to those who may have asked: each knows its own.
fn pass_on(
    replies: &[mpsc::Sender<(LinkId, Probe)>],
    header: &Slow,
    frame: &[u8],
    counts: &SlowPathCounts,
) -> Result<(), Reason> {
    let (probe, _) = Probe::read_from_prefix(frame).map_err(|_| Reason::UnknownControl)?;
    counts.probe_replies.fetch_add(1, Ordering::Relaxed);
    // Nobody asks now, or too many answers wait: then the probe is sent again.
    for replies in replies {
        let _ = replies.try_send((header.link(), probe));
    }
    Ok(())
}

/// Puts a frame where the connection of its link takes it from.
fn carry(
    outboxes: &Outboxes,
    header: &Slow,
    offload: &Offload,
    frame: &[u8],
    counts: &SlowPathCounts,
) -> Result<(), Reason> {
    outboxes.carry(header, offload, frame)?;
    counts.carried.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Where numbers go on from: another place after a restart.
fn start() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.subsec_nanos())
}

/// Copies a frame to everyone who gets it.
async fn spread(
    tap: &Tap,
    copies: Result<Vec<Slow>, Reason>,
    (offload, frame): (&Offload, &[u8]),
    counts: &SlowPathCounts,
) -> Result<(), Reason> {
    let mut written = 0;
    for target in copies? {
        match write(tap, &target, offload, frame).await {
            Ok(()) => written += 1,
            Err(reason) => counts.count_drop(reason),
        }
    }
    counts.copies.fetch_add(written, Ordering::Relaxed);
    counts
        .flooded
        .fetch_add(u64::from(written > 0), Ordering::Relaxed);
    Ok(())
}

/// Tells the sender of a frame that was too big what would have fitted.
async fn tell(
    tap: &Tap,
    back: Result<Slow, Reason>,
    (header, frame): (&Slow, &[u8]),
    counts: &SlowPathCounts,
) -> Result<(), Reason> {
    let back = back?;
    let Some(answer) = too_big::answer(frame, header.mtu()) else {
        counts.too_big_unanswered.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    };
    write(tap, &back, &Offload::NONE, &answer).await?;
    counts.too_big_answered.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn write(tap: &Tap, header: &Slow, offload: &Offload, frame: &[u8]) -> Result<(), Reason> {
    // The header that it had is as long as this one: what the offload counts stays right.
    let write = tap.write_parts(offload, header.as_bytes(), frame);
    match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(())) => Ok(()),
        Err(_elapsed) => Err(Reason::QueueFull),
        Ok(Err(_)) => Err(Reason::NoAgent),
    }
}
