//! When is a connection dead, when is the next one tried, and which of two stays?
//!
//! Input: what happened, and when. Output: what to do. Pure: whoever calls has the clock.

use std::time::{Duration, Instant};

use super::preface::Instance;

/// How long a conversation may take before the first frame.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// After so long without a frame to send, this end says that it is there.
pub const SAY_ALIVE: Duration = Duration::from_millis(1000);
/// After so long without a word, the other end is not there.
pub const SILENCE_MAX: Duration = Duration::from_millis(3500);
/// The end that is not the first to open a connection waits so long for the other.
pub const GIVE_WAY: Duration = Duration::from_millis(300);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Shorter than a second, in which a star has to be whole again once its paths are.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The pause before the next try, ever longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST_PAUSE }
    }
}

impl Backoff {
    /// After one more failure: up to a half less by chance (0 to 255), so that many ends do not try
    /// together.
    pub fn pause(&mut self, chance: u8) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(LONGEST_PAUSE);
        pause - pause.mul_f64(f64::from(chance) / 512.0)
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What was heard and said last.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    heard: Instant,
    said: Instant,
}

/// What a pulse asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Say that this end is there.
    Say,
    /// The other end is gone.
    Dead,
    /// Nothing until then.
    Wait(Instant),
}

impl Pulse {
    /// Of a connection that begins now.
    pub const fn new(now: Instant) -> Self {
        Self {
            heard: now,
            said: now,
        }
    }

    /// Something came.
    pub const fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Something went.
    pub const fn said(&mut self, now: Instant) {
        self.said = now;
    }

    /// What is to be done now.
    pub fn beat(&self, now: Instant) -> Beat {
        let dead_at = self.heard + SILENCE_MAX;
        let say_at = self.said + SAY_ALIVE;
        if now >= dead_at {
            Beat::Dead
        } else if now >= say_at {
            Beat::Say
        } else {
            Beat::Wait(dead_at.min(say_at))
        }
    }
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// This agent.
    pub own: Instance,
    /// The other.
    pub other: Instance,
    /// Whether this end opened it.
    pub opened_here: bool,
}

impl Ends {
    const fn opener(&self) -> Instance {
        if self.opened_here {
            self.own
        } else {
            self.other
        }
    }

    /// Whether this new connection takes the place of one that the link has.
    ///
    /// Both ends decide alike: an agent that has started anew wins over the one that it was; of two
    /// that the same end opened the later one; else the one that the smaller instance opened.
    pub fn replaces(&self, has: &Self) -> bool {
        if self.other != has.other || self.opened_here == has.opened_here {
            return true;
        }
        self.opener() < has.opener()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_bounds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..5).map(|_| backoff.pause(0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 500, 500]);
        assert!(backoff.pause(255) >= LONGEST_PAUSE / 2);
        backoff.reset();
        assert_eq!(backoff.pause(0), FIRST_PAUSE);
    }

    #[test]
    fn silence_is_broken_or_ends_it() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert_eq!(pulse.beat(start), Beat::Wait(start + SAY_ALIVE));
        let mut now = start + SAY_ALIVE;
        assert_eq!(pulse.beat(now), Beat::Say);
        pulse.said(now);
        assert_eq!(pulse.beat(now), Beat::Wait(now + SAY_ALIVE));
        // It says that it is there, hears nothing, and gives up.
        now = start + SILENCE_MAX;
        pulse.said(now);
        assert_eq!(pulse.beat(now), Beat::Dead);
        pulse.heard(now);
        assert_eq!(pulse.beat(now), Beat::Wait(now + SAY_ALIVE));
    }

    #[test]
    fn both_ends_keep_the_same_one_of_two() {
        let (one, two): (Instance, Instance) = ([1; 16], [2; 16]);
        let seen_by = |own, other, opener| Ends {
            own,
            other,
            opened_here: opener == own,
        };
        for (new, has) in [(one, two), (two, one), (one, one), (two, two)] {
            let here = seen_by(one, two, new).replaces(&seen_by(one, two, has));
            let there = seen_by(two, one, new).replaces(&seen_by(two, one, has));
            assert_eq!(here, there, "opened by {new:?}, has one by {has:?}");
        }
        // In either order the same survives.
        assert!(seen_by(one, two, one).replaces(&seen_by(one, two, two)));
        assert!(!seen_by(one, two, two).replaces(&seen_by(one, two, one)));
        // The other end has started anew.
        let anew = seen_by(one, [9; 16], [9; 16]);
        assert!(anew.replaces(&seen_by(one, two, one)));
    }
}
