//! What is lost, and what comes twice, while something happens to an agent?
//!
//! One guest sends numbered frames to another without a pause, never more than a few ahead of
//! what has arrived: queues on the way (256 frames in a veth, 1000 in a tap) are never full, so
//! that whatever is missing was lost by those under test.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{LIMIT, TapGuest};

use crate::cpu;
use crate::frame::{is_whole, number_of, numbered};

/// Frames under way at one time.
const WINDOW: u64 = 64;
/// The length of the frames.
const BYTES: usize = 100;
/// How long to wait for frames that are late before they count as lost.
const LATE: Duration = Duration::from_secs(5);
/// How long to wait for frames that should not come.
const QUIET: Duration = Duration::from_millis(100);

/// What came of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Frames sent.
    pub sent: u64,
    /// Of those: never arrived.
    pub lost: u64,
    /// Frames that arrived once more than they should.
    pub doubled: u64,
    /// Frames that arrived after one that was sent later.
    pub overtaken: u64,
    /// Frames of this stream's stations that were not as they were sent.
    pub broken: u64,
}

impl Outcome {
    /// Nothing lost, doubled, overtaken or broken, and enough of it to mean something.
    ///
    /// # Errors
    ///
    /// It is not so.
    pub fn must_be_perfect(self, sent_min: u64) -> Result<Self> {
        let perfect = Self {
            sent: self.sent,
            ..Self::default()
        };
        ensure!(
            self == perfect,
            "not every frame arrived once, whole and in its turn: {self:?}"
        );
        ensure!(
            self.sent >= sent_min,
            "too few frames to mean anything: {self:?}"
        );
        Ok(self)
    }
}

/// A handle on a stream under way.
#[derive(Debug)]
pub struct Stream<'a> {
    arrived: &'a AtomicU64,
}

impl Stream<'_> {
    /// How many frames have arrived so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Waits until this many more frames have arrived.
    ///
    /// # Errors
    ///
    /// They do not arrive.
    pub fn flow_on(&self, frames: u64) -> Result<()> {
        let goal = self.arrived.load(Ordering::Relaxed) + frames;
        let deadline = Instant::now() + LIMIT;
        while self.arrived.load(Ordering::Relaxed) < goal {
            ensure!(
                Instant::now() < deadline,
                "the stream has stopped {frames} frames before its goal"
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Streams from one guest to another while `happen` happens.
///
/// # Errors
///
/// `happen` fails, or a guest cannot send or receive.
pub fn during(
    from: &TapGuest,
    to: &TapGuest,
    happen: impl FnOnce(&Stream<'_>) -> Result<()>,
) -> Result<Outcome> {
    let arrived = AtomicU64::new(0);
    let sent = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let result = send(from, to, &sent, &arrived, &over);
            done.store(true, Ordering::Release);
            result
        });
        let receiver = scope.spawn(|| receive(from, to, &sent, &arrived, &done));
        let happened = happen(&Stream { arrived: &arrived });
        over.store(true, Ordering::Relaxed);
        let panicked = "a thread of the stream panicked";
        sender.join().ok().context(panicked)??;
        let outcome = receiver.join().ok().context(panicked)??;
        happened.with_context(|| format!("the stream until then: {outcome:?}"))?;
        Ok(outcome)
    })
}

fn send(
    from: &TapGuest,
    to: &TapGuest,
    sent: &AtomicU64,
    arrived: &AtomicU64,
    over: &AtomicBool,
) -> Result<()> {
    // A bridge on the way has a queue for each CPU: who moves to another overtakes himself.
    cpu::stay_on(cpu::here()?)?;
    let mut lost = 0;
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        while number - lost >= arrived.load(Ordering::Relaxed) + WINDOW {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            if began.elapsed() > LATE {
                // Goes on, so that the outcome says how many are lost, not that all stood still.
                lost = number - arrived.load(Ordering::Relaxed);
                break;
            }
            thread::yield_now();
        }
        from.send(&numbered(from.mac(), to.mac(), number, BYTES))?;
        number += 1;
        sent.store(number, Ordering::Release);
    }
    Ok(())
}

fn receive(
    from: &TapGuest,
    to: &TapGuest,
    sent: &AtomicU64,
    arrived: &AtomicU64,
    done: &AtomicBool,
) -> Result<Outcome> {
    let mut seen: Vec<u8> = Vec::new();
    let mut next = 0;
    let mut outcome = Outcome::default();
    let mut last = Instant::now();
    loop {
        let is_done = done.load(Ordering::Acquire);
        let missing = sent
            .load(Ordering::Acquire)
            .saturating_sub(arrived.load(Ordering::Relaxed));
        if is_done && (missing == 0 || last.elapsed() > LATE) {
            break;
        }
        let Some(frame) = to.receive(Duration::from_millis(20))? else {
            continue;
        };
        let Some(number) = number_in(&frame, from, to) else {
            continue;
        };
        if !is_whole(&frame, from.mac(), to.mac()) {
            outcome.broken += 1;
            continue;
        }
        last = Instant::now();
        let place = usize::try_from(number)?;
        if seen.len() <= place {
            seen.resize(place + 1, 0);
        }
        let count = seen.get_mut(place).context("a number in range")?;
        *count = count.saturating_add(1);
        outcome.overtaken += u64::from(*count == 1 && number < next);
        next = next.max(number + 1);
        if *count == 1 {
            arrived.fetch_add(1, Ordering::Relaxed);
        } else {
            outcome.doubled += 1;
        }
    }
    // What comes late may come twice.
    let end = Instant::now() + QUIET;
    while Instant::now() < end {
        let late = to.receive(QUIET)?;
        let is_ours = late.is_some_and(|frame| number_in(&frame, from, to).is_some());
        outcome.doubled += u64::from(is_ours);
    }
    outcome.sent = sent.load(Ordering::Acquire);
    outcome.lost = outcome.sent - seen.iter().map(|&count| u64::from(count > 0)).sum::<u64>();
    Ok(outcome)
}

/// The number of a frame of this stream; nothing for what others sent to the same guest.
fn number_in(frame: &[u8], from: &TapGuest, to: &TapGuest) -> Option<u64> {
    let stations = frame.get(..12)?;
    let is_ours = stations == [to.mac().0, from.mac().0].concat();
    number_of(frame).filter(|_| is_ours)
}
