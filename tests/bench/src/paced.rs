//! What is lost, what comes twice, and for how long does nothing come, while something happens?
//!
//! Guests send each other numbered frames at a steady pace, far below what any part of the way could
//! carry, so that what is missing was not lost in a queue that was full.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::TapGuest;

use crate::frame::frame;

const FRAME_BYTES: usize = 64;
/// Where the number is: behind Ethernet, IPv4 and UDP.
const NUMBER_AT: usize = 42;
/// When nothing has come for so long after the last was sent, nothing more will.
const QUIET: Duration = Duration::from_millis(300);

/// Frames from one guest to another.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// Who sends.
    pub from: &'a TapGuest,
    /// Who receives.
    pub to: &'a TapGuest,
    /// Between two frames, at least.
    pub pause: Duration,
}

/// What came of a stream.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    /// Frames sent.
    pub sent: u64,
    /// When each came; those that never did have no time.
    at: Vec<Option<Instant>>,
    /// Frames that came once more than they should.
    pub doubled: u64,
}

impl Arrived {
    /// Frames that never came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let arrived = self.at.iter().flatten().count();
        self.sent
            .saturating_sub(u64::try_from(arrived).unwrap_or(0))
    }

    /// The longest time in which none came, from one to the next.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        let mut times: Vec<Instant> = self.at.iter().flatten().copied().collect();
        times.sort();
        let silences = times
            .windows(2)
            .filter_map(|pair| Some(pair.last()?.duration_since(*pair.first()?)));
        silences.max().unwrap_or_default()
    }

    fn record(&mut self, number: u64, now: Instant) {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if self.at.len() <= place {
            self.at.resize(place.saturating_add(1), None);
        }
        match self.at.get_mut(place) {
            Some(at @ None) => *at = Some(now),
            _ => self.doubled += 1,
        }
    }
}

/// Sends all of these streams while something happens.
///
/// # Errors
///
/// It fails, or a guest cannot send or receive.
pub fn while_sending(
    streams: &[Stream<'_>],
    happen: impl FnOnce() -> Result<()>,
) -> Result<Vec<Arrived>> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = streams
            .iter()
            .map(|stream| {
                (
                    scope.spawn(|| send(stream, &is_over)),
                    scope.spawn(|| receive(stream, &is_over)),
                )
            })
            .collect();
        let happened = happen();
        is_over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for (sender, receiver) in threads {
            let panicked = "a thread of a stream panicked";
            let sent = sender.join().ok().context(panicked)??;
            let arrived = receiver.join().ok().context(panicked)??;
            all.push(Arrived { sent, ..arrived });
        }
        happened?;
        Ok(all)
    })
}

fn send(stream: &Stream<'_>, is_over: &AtomicBool) -> Result<u64> {
    let mut bytes = frame(stream.from.mac(), stream.to.mac(), FRAME_BYTES);
    let mut number = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        if let Some(place) = bytes.get_mut(NUMBER_AT..NUMBER_AT + 8) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        stream.from.send(&bytes)?;
        number += 1;
        thread::sleep(stream.pause);
    }
    Ok(number)
}

fn receive(stream: &Stream<'_>, is_over: &AtomicBool) -> Result<Arrived> {
    let stations = [stream.to.mac().0, stream.from.mac().0].concat();
    let mut arrived = Arrived::default();
    loop {
        let was_over = is_over.load(Ordering::Relaxed);
        let Some(frame) = stream.to.receive(QUIET)? else {
            if was_over {
                return Ok(arrived);
            }
            continue;
        };
        let number = frame.get(NUMBER_AT..NUMBER_AT + 8);
        let number = number.and_then(|bytes| bytes.try_into().ok());
        if let Some(number) = number.filter(|_| frame.starts_with(&stations)) {
            arrived.record(u64::from_be_bytes(number), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_lost_and_what_came_before_is_doubled() {
        let began = Instant::now();
        let mut arrived = Arrived {
            sent: 6,
            ..Arrived::default()
        };
        for (number, ms) in [(0, 0), (1, 1), (4, 50), (4, 51), (2, 52)] {
            arrived.record(number, began + Duration::from_millis(ms));
        }
        assert_eq!((arrived.lost(), arrived.doubled), (2, 1));
        assert_eq!(arrived.longest_silence(), Duration::from_millis(49));
    }
}
