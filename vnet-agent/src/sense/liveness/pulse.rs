//! Is a link alive, and for how long must it be well before it is believed again?
//!
//! Input: the clock, and the answers to probes that came. Output: the probes to send, and whether the
//! link is up or down. Pure; time is a number of milliseconds.
//!
//! ```text
//!                answer                   MISSES probes without any answer
//!   Unknown ──────────────> Up ─────────────────────────────────────────────> Down
//!      │                     ^                                                 │ ^
//!      │                     └── GOOD answers in a row, over the hold time ────┘ │
//!      └────────────────── MISSES probes without any answer ─────────────────────┘
//! ```
//!
//! Of a link of which nobody knows anything, it is asked more often, at first at once after each other:
//! whoever waits for the link learns soon that it is there, also where the other end's is made a moment
//! later. That ends with the first answer, or when the link counts as down; what is asked in between
//! two intervals does not count as missed.
//!
//! The hold time begins short. Each time that a link goes down soon after it came up it doubles, up to
//! a limit; a link that stayed up for long begins anew. An answer that is late is an answer: how long
//! the way is does not matter, only that answers keep coming.

/// A time, or how long.
type Ms = u64;

/// Between two probes, unless there are so many links that all together would be too many.
pub const INTERVAL_MS: Ms = 50;
/// Between two probes while nobody knows anything: at first, twice as long each time, up to this.
const EAGER_MS: (Ms, Ms) = (1, 8);
/// So many probes in a row without any answer mean that the link is down: with the interval behind the
/// last of them, 250 ms after the last answer.
pub const MISSES: u32 = 4;
/// So many answers in a row, at the least, and it is up again.
pub const GOOD: u32 = 5;
/// How long answers must keep coming, at first and at the longest.
pub const HOLD_FIRST_MS: Ms = 500;
/// See [`HOLD_FIRST_MS`].
pub const HOLD_MAX_MS: Ms = 30_000;
/// A link that was up for so long has calmed down.
pub const CALM_MS: Ms = 60_000;
/// Answers to older probes than these are not believed.
const WINDOW: u32 = 1024;

/// Whether a link is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody knows yet.
    Unknown,
    /// Probes are answered.
    Up,
    /// They are not, or not for long enough.
    Down,
}

/// What is known of one link.
#[derive(Clone, Debug)]
pub struct Pulse {
    state: State,
    /// Since when.
    since_ms: Ms,
    /// The number of the next probe, and how many were sent.
    next: u32,
    sent: u32,
    /// Probes sent since the last answer, one an interval.
    unanswered: u32,
    /// When the next of them is sent, and the next of all.
    counted_ms: Ms,
    due_ms: Ms,
    /// Between the last probe and the next, while nobody knows anything.
    eager_ms: Ms,
    hold_ms: Ms,
    /// Answers in a row, since when, and the number of the last.
    good: u32,
    good_since_ms: Ms,
    last_good: u32,
}

impl Pulse {
    /// Nothing is known, but perhaps that it was down. Probes are numbered from `sequence`.
    pub const fn new(was_down: bool, sequence: u32, now_ms: Ms) -> Self {
        Self {
            state: if was_down {
                State::Down
            } else {
                State::Unknown
            },
            since_ms: now_ms,
            next: sequence,
            sent: 0,
            unanswered: 0,
            counted_ms: now_ms,
            due_ms: now_ms,
            eager_ms: EAGER_MS.0,
            hold_ms: HOLD_FIRST_MS,
            good: 0,
            good_since_ms: now_ms,
            last_good: sequence,
        }
    }

    /// Whether it is alive.
    pub const fn state(&self) -> State {
        self.state
    }

    /// How long answers must keep coming now, or the next time.
    pub const fn hold_ms(&self) -> Ms {
        self.hold_ms
    }

    /// When there is something to do: before that, [`Pulse::poll`] does nothing.
    pub const fn due_ms(&self) -> Ms {
        self.due_ms
    }

    /// What the clock brings about: the number of a probe to send, or nothing. Who is called late asks
    /// late, and takes the time that answers need from then: a host that was busy blames no link.
    pub fn poll(&mut self, interval_ms: Ms, now_ms: Ms) -> Option<u32> {
        if now_ms < self.due_ms {
            return None;
        }
        if now_ms >= self.counted_ms {
            if self.unanswered >= MISSES {
                self.good = 0;
                if self.state != State::Down {
                    self.went_down(now_ms);
                }
            }
            self.unanswered = self.unanswered.saturating_add(1);
            self.counted_ms = now_ms + interval_ms;
        }
        self.due_ms = match self.state {
            State::Unknown => self.counted_ms.min(now_ms + self.eager_pause(interval_ms)),
            State::Up | State::Down => self.counted_ms,
        };
        self.sent = self.sent.saturating_add(1);
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        Some(sequence)
    }

    /// How long it waits while nobody knows anything. Where there are so many links that each is asked
    /// less often, it is no more than twice as often.
    fn eager_pause(&mut self, interval_ms: Ms) -> Ms {
        let pause_ms = self.eager_ms;
        self.eager_ms = EAGER_MS.1.min(pause_ms * 2);
        match interval_ms > INTERVAL_MS {
            true => interval_ms / 2,
            false => pause_ms,
        }
    }

    /// There is a way to the other end now, and there was none: what was not answered before says
    /// nothing, and it is asked at once.
    pub fn has_way(&mut self, now_ms: Ms) {
        self.unanswered = 0;
        self.counted_ms = now_ms;
        self.due_ms = now_ms;
        self.eager_ms = EAGER_MS.0;
    }

    /// The probe with this number was answered. Numbers that were not sent lately are ignored.
    pub fn answered(&mut self, sequence: u32, now_ms: Ms) {
        let age = self.next.wrapping_sub(sequence);
        if age == 0 || age > self.sent.min(WINDOW) {
            return;
        }
        self.unanswered = 0;
        match self.state {
            State::Unknown => {
                self.turn(State::Up, now_ms);
                self.due_ms = self.counted_ms;
            }
            State::Up => {}
            State::Down => self.count_good(sequence, now_ms),
        }
    }

    fn count_good(&mut self, sequence: u32, now_ms: Ms) {
        if self.good > 0 && sequence == self.last_good.wrapping_add(1) {
            self.good = self.good.saturating_add(1);
        } else {
            self.good = 1;
            self.good_since_ms = now_ms;
        }
        self.last_good = sequence;
        if self.good >= GOOD && now_ms.saturating_sub(self.good_since_ms) >= self.hold_ms {
            self.turn(State::Up, now_ms);
        }
    }

    fn went_down(&mut self, now_ms: Ms) {
        if self.state == State::Up {
            let was_short = now_ms.saturating_sub(self.since_ms) < CALM_MS;
            self.hold_ms = match was_short {
                true => HOLD_MAX_MS.min(self.hold_ms * 2),
                false => HOLD_FIRST_MS,
            };
        }
        self.turn(State::Down, now_ms);
    }

    fn turn(&mut self, state: State, now_ms: Ms) {
        self.state = state;
        self.since_ms = now_ms;
        self.good = 0;
    }
}

#[cfg(test)]
mod tests;
