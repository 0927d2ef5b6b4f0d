//! How large a packet does the underlay carry to the other end of a link?
//!
//! Packetization layer path MTU discovery for datagrams (RFC 8899): probes of different sizes, which
//! the other end's data plane answers, and no trust in ICMP. Input: the clock, and the answers that
//! came. Output: the probes to send, and the largest packet that is known to arrive. Pure; time is a
//! number of milliseconds.
//!
//! ```text
//!               no answer            answer                no answer
//!   Largest ───────────────> Small ─────────> LargestAgain ─────────> Search ──┐
//!    │  ^                      │ no answer      │ answer                       │ nothing is
//!    │  └── later ── Silent <──┘                │                              │ left to ask
//!    │ answer                                   v                              │
//!    └────────────────────────────────────> Settled <──────────────────────────┘
//!                                            │   ^ answer     now and then: Search above
//!                      no answer: Small <────┴───┘
//! ```
//!
//! A size counts as too large when it got no answer to [`TRIES`] probes while a smaller one did:
//! a link that is down, or whose other end answers nobody, does not change what is known.

use vnet_common::wire::ipv4::Ipv4;

/// Bytes of an IP packet.
pub type Size = u16;
/// A time, or how long.
type Ms = u64;

/// Probes of one size before it counts as too large: what is lost for other reasons is rarely three
/// times in a row (RFC 8899, section 5.1.2: MAX_PROBES).
pub const TRIES: u8 = 3;
/// Between two probes of one size. An answer to any of them will do, however late.
pub const RETRY_MS: Ms = 500;
/// How long an answer to the last of them may take: a second, as RFC 8899 has it (section 5.1.1:
/// PROBE_TIMER).
pub const PATIENCE_MS: Ms = 1000;
/// Between two looks at whether what is known still holds (CONFIRMATION_TIMER).
pub const CONFIRM_MS: Ms = 10_000;
/// Until a larger size is tried again, for the first time and at the longest (PMTU_RAISE_TIMER is
/// the latter). In between it doubles: what has just become narrow is often mended soon.
pub const RAISE_FIRST_MS: Ms = 10_000;
/// See [`RAISE_FIRST_MS`].
pub const RAISE_MS: Ms = 600_000;
/// Until a silent link is asked again, for the first time and at the longest: in between it doubles.
pub const SILENT_FIRST_MS: Ms = 1000;
/// See [`SILENT_FIRST_MS`].
pub const SILENT_MS: Ms = 30_000;

/// What every path carries that is worth trying: IPv6's smallest MTU (RFC 8200, section 5), which
/// real IPv4 paths carry too (RFC 8899, section 5.1.2: BASE_PLPMTU).
pub const BASE: Size = 1280;
/// What every IPv4 host takes (RFC 791, section 3.1: MIN_PLPMTU).
pub const IPV4_MIN: Size = 576;

const _: () = assert!(IPV4_MIN as usize > Ipv4::BYTES);

/// A probe to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// Bytes of the whole IP packet.
    pub size: Size,
    /// Its number: the answer has it too.
    pub sequence: u32,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sizes are being tried.
    Searching,
    /// The largest that arrives is known.
    Settled,
    /// Nobody answers: nothing is found out.
    Silent,
}

/// What is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Whether the largest size arrives, or the one that did so far.
    Largest,
    /// It does not: whether a small one does. Below it are others to try.
    Small,
    /// A small one does: whether the large one still does not.
    LargestAgain {
        low: Size,
    },
    /// What lies between; `low` arrives, nothing above `high` does.
    Search {
        low: Size,
        high: Size,
    },
    Settled,
    Silent,
}

/// What is known of one link's path.
#[derive(Clone, Debug)]
pub struct PathMtu {
    /// The largest size that makes sense: what the device sends.
    top: Size,
    /// The smallest.
    bottom: Size,
    /// A size that once arrived, as somebody remembers.
    hint: Option<Size>,
    known: Option<Size>,
    phase: Phase,
    /// The size that is asked about, and the one that [`Phase::Largest`] was about.
    size: Size,
    large: Size,
    tries: u8,
    /// The number of the next probe, and of the first of this size.
    next: u32,
    first: u32,
    due_ms: Ms,
    raise_ms: Ms,
    /// How long it is to [`PathMtu::raise_ms`] from when a size is settled on next, and the size that
    /// was settled on last.
    raise_after_ms: Ms,
    settled: Option<Size>,
    /// How long it stays silent when nobody answers next.
    silent_ms: Ms,
}

impl PathMtu {
    /// Nothing is known yet, but that the device sends packets of `top` bytes, and perhaps what
    /// arrived earlier. Probes are numbered from `sequence`.
    pub fn new(top: Size, is_ipv6: bool, hint: Option<Size>, sequence: u32, now_ms: Ms) -> Self {
        let bottom = if is_ipv6 { BASE } else { IPV4_MIN };
        let mut path = Self {
            top,
            bottom,
            hint,
            known: None,
            phase: Phase::Largest,
            size: top,
            large: top,
            tries: 0,
            next: sequence,
            first: sequence,
            due_ms: now_ms,
            raise_ms: now_ms,
            raise_after_ms: RAISE_FIRST_MS,
            settled: None,
            silent_ms: SILENT_FIRST_MS,
        };
        path.ask(Phase::Largest, top, now_ms);
        path
    }

    /// The largest packet that is known to arrive.
    pub const fn known(&self) -> Option<Size> {
        self.known
    }

    /// The largest packet that was known to arrive when the last search was over: while another one
    /// goes on, what is known may be much less for a moment.
    pub const fn settled(&self) -> Option<Size> {
        self.settled
    }

    /// How far it is.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Settled => State::Settled,
            // Whether there is more by now: what was settled on holds until then.
            Phase::Search { .. } if self.known == self.settled => State::Settled,
            Phase::Silent => State::Silent,
            _ => State::Searching,
        }
    }

    /// When there is something to do: before that, [`PathMtu::poll`] does nothing.
    pub const fn due_ms(&self) -> Ms {
        self.due_ms
    }

    /// What the clock brings about: a probe to send, or nothing.
    pub fn poll(&mut self, now_ms: Ms) -> Option<Send> {
        if now_ms < self.due_ms {
            return None;
        }
        match self.phase {
            Phase::Silent => self.ask(Phase::Largest, self.known.unwrap_or(self.top), now_ms),
            Phase::Settled
                if self.tries == 0 && now_ms >= self.raise_ms && self.size < self.top =>
            {
                self.search(self.size, self.top, self.top, now_ms);
            }
            _ => {}
        }
        if self.tries >= TRIES {
            self.unanswered(now_ms);
            // A size that was settled on without another question is asked about later.
            if now_ms < self.due_ms {
                return None;
            }
        }
        self.tries += 1;
        let is_last = self.tries >= TRIES;
        self.due_ms = now_ms + if is_last { PATIENCE_MS } else { RETRY_MS };
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        Some(Send {
            size: self.size,
            sequence,
        })
    }

    /// The probe with this number was answered. Numbers that are not asked about now are ignored.
    pub fn answered(&mut self, sequence: u32, now_ms: Ms) {
        let asked = self.next.wrapping_sub(self.first);
        if sequence.wrapping_sub(self.first) >= asked {
            return;
        }
        self.silent_ms = SILENT_FIRST_MS;
        match self.phase {
            Phase::Largest | Phase::LargestAgain { .. } => self.settle(self.size, now_ms),
            Phase::Small => {
                let low = self.size;
                self.ask(Phase::LargestAgain { low }, self.large, now_ms);
            }
            Phase::Search { high, .. } => self.narrow(self.size, high, now_ms),
            Phase::Settled => {
                self.first = self.next;
                self.tries = 0;
                self.due_ms = now_ms + CONFIRM_MS;
            }
            Phase::Silent => {}
        }
    }

    fn unanswered(&mut self, now_ms: Ms) {
        match self.phase {
            Phase::Largest | Phase::Settled => {
                self.large = self.size;
                self.smaller(now_ms);
            }
            Phase::Small => self.smaller(now_ms),
            Phase::LargestAgain { low } | Phase::Search { low, .. } => {
                self.narrow(low, self.size.saturating_sub(1), now_ms);
            }
            Phase::Silent => {}
        }
    }

    /// Asks about the next smaller of the sizes that should arrive; where there is none, nobody
    /// answers.
    fn smaller(&mut self, now_ms: Ms) {
        let sizes = [self.hint.unwrap_or(0), BASE, self.bottom];
        let smaller = sizes
            .into_iter()
            .filter(|&size| size < self.size && size >= self.bottom);
        match smaller.max() {
            Some(size) => self.ask(Phase::Small, size, now_ms),
            None => {
                self.phase = Phase::Silent;
                self.first = self.next;
                self.tries = 0;
                self.due_ms = now_ms + self.silent_ms;
                self.silent_ms = SILENT_MS.min(self.silent_ms * 2);
            }
        }
    }

    /// `low` arrives, nothing above `high` does: asks about what lies between, half of it at a time.
    fn narrow(&mut self, low: Size, high: Size, now_ms: Ms) {
        let half = low + high.saturating_sub(low).div_ceil(2);
        self.search(low, high, half, now_ms);
    }

    fn search(&mut self, low: Size, high: Size, next: Size, now_ms: Ms) {
        self.known = Some(low);
        if low >= high {
            self.settle(low, now_ms);
        } else {
            self.ask(Phase::Search { low, high }, next, now_ms);
        }
    }

    fn settle(&mut self, size: Size, now_ms: Ms) {
        self.ask(Phase::Settled, size, now_ms);
        self.known = Some(size);
        self.hint = None;
        self.due_ms = now_ms + CONFIRM_MS;
        if self.settled.replace(size) != Some(size) {
            self.raise_after_ms = RAISE_FIRST_MS;
        }
        self.raise_ms = now_ms + self.raise_after_ms;
        self.raise_after_ms = RAISE_MS.min(self.raise_after_ms * 2);
    }

    /// From now on an answer is one about this size.
    fn ask(&mut self, phase: Phase, size: Size, now_ms: Ms) {
        self.phase = phase;
        self.size = size;
        self.tries = 0;
        self.first = self.next;
        self.due_ms = now_ms;
    }
}

#[cfg(test)]
mod tests;
