//! What became of every frame? Map `LEDGERS`, by slot, per CPU: one ledger for each port, link
//! and underlay device, and one for the agent.
//!
//! Two books, exact by construction. By origin: `received = forwarded + delivered + slow_path +
//! answered + passed + dropped`, where every frame takes one outcome in the program that received
//! it. By target: `sent` counts what programs handed to this port or link, and `refused` those of
//! them that the kernel then could not carry on ([`Reason::RedirectFailed`]), which it tells to
//! nobody but programs in it.

use super::plain;
use crate::reason::Reason;

plain! {
    /// Frames and bytes.
    pub struct Tally[16] {
        /// Frames (on an underlay: packets).
        pub packets: u64,
        /// Their bytes, inner Ethernet header included, outer headers not (on an underlay: all).
        pub bytes: u64,
    }
}

impl Tally {
    /// Adds one frame.
    #[inline(always)]
    pub const fn add(&mut self, bytes: u32) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes as u64);
    }

    /// Adds another tally.
    pub const fn merge(&mut self, other: &Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

plain! {
    /// One side's books. Written by the programs, read by the agent; zeroed by the agent when it
    /// deals the slot anew.
    pub struct Ledger[336] {
        /// Came in here.
        pub received: Tally,
        /// Of those: left over a link (on an underlay: admitted by a link).
        pub forwarded: u64,
        /// Of those: left into a port of this host.
        pub delivered: u64,
        /// Of those: went up to the agent.
        pub slow_path: u64,
        /// Of those: probes answered.
        pub answered: u64,
        /// Of those: left to the host's own stack.
        pub passed: u64,
        /// Of those: dropped, by [`Reason::number`].
        pub dropped: [u64; Reason::ROOM],
        /// Handed to this port or link.
        pub sent: Tally,
        /// Of those sent: refused by the kernel or the device.
        pub refused: u64,
    }
}

impl Ledger {
    /// The agent's own slot: frames that it injects, and those it is sent.
    pub const AGENT: u32 = 0;

    /// Nothing yet.
    pub const ZERO: Self = Self {
        received: Tally {
            packets: 0,
            bytes: 0,
        },
        forwarded: 0,
        delivered: 0,
        slow_path: 0,
        answered: 0,
        passed: 0,
        dropped: [0; Reason::ROOM],
        sent: Tally {
            packets: 0,
            bytes: 0,
        },
        refused: 0,
    };

    /// Counts a drop.
    #[inline(always)]
    pub fn drop(&mut self, reason: Reason) {
        // The compiler knows that every reason has room and leaves the check out; the verifier does
        // not know it. So the number is made opaque to the first and bounded for the second.
        let number = usize::from(core::hint::black_box(reason.number())) & (Reason::ROOM - 1);
        if let Some(count) = self.dropped.get_mut(number) {
            *count = count.wrapping_add(1);
        }
    }

    /// All drops together.
    pub fn dropped_total(&self) -> u64 {
        self.dropped
            .iter()
            .fold(0, |total, count| total.wrapping_add(*count))
    }

    /// Whether every frame received has exactly one outcome.
    pub fn is_balanced(&self) -> bool {
        let outcomes = [
            self.forwarded,
            self.delivered,
            self.slow_path,
            self.answered,
            self.passed,
        ];
        let total = outcomes
            .iter()
            .fold(self.dropped_total(), |total, outcome| {
                total.wrapping_add(*outcome)
            });
        total == self.received.packets
    }

    /// Adds the books of another CPU.
    pub fn merge(&mut self, other: &Self) {
        self.received.merge(&other.received);
        self.sent.merge(&other.sent);
        for (mine, theirs) in [
            (&mut self.forwarded, other.forwarded),
            (&mut self.delivered, other.delivered),
            (&mut self.slow_path, other.slow_path),
            (&mut self.answered, other.answered),
            (&mut self.passed, other.passed),
            (&mut self.refused, other.refused),
        ] {
            *mine = mine.wrapping_add(theirs);
        }
        for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
            *mine = mine.wrapping_add(theirs);
        }
    }
}
