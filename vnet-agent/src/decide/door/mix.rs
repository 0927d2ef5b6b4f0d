//! What sort of frames does a port carry, in the long run?
//!
//! Input: a port's counters, looked at every now and then. Output: habits, which change only when
//! several looks in a row agree, so that what is decided by them does not flap.

use vnet_common::table::ledger::Tally;

/// Below this rate it does not matter: two thousand frames a second cost a core less than a
/// hundredth of its time at either door.
const FRAMES_PER_S_MIN: u64 = 2000;
/// So many looks in a row must agree. At a look a second: longer than a burst, shorter than a copy
/// of anything large.
const LOOKS: u8 = 3;

/// What frames mostly are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Small ones.
    Small,
    /// Large ones.
    Large,
}

/// From where on frames are small, and from where on large. What lies between changes nothing.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    small_max: u64,
    large_min: u64,
}

/// To the guest: whether joining pays. Segments of a bulk transfer are full; what is smaller than a
/// quarter of that is questions and answers, which have nothing to join.
const JOINING: Bounds = Bounds {
    small_max: 350,
    large_min: 1000,
};

/// From the guest: whether frames fit a page. On those a tap runs XDP as they come; others are
/// copied into one piece first (`tun_can_build_skb` in the kernel's `drivers/net/tun.c`).
const PAGE: Bounds = Bounds {
    small_max: 3000,
    large_min: 3500,
};

/// A habit in the making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Habitual {
    now: Option<Habit>,
    next: Option<Habit>,
    looks: u8,
}

impl Habitual {
    fn see(&mut self, seen: Option<Habit>) {
        match seen {
            Some(habit) if self.now == Some(habit) => self.looks = 0,
            Some(habit) if self.next == Some(habit) => {
                self.looks += 1;
                if self.looks >= LOOKS {
                    (self.now, self.looks) = (Some(habit), 0);
                }
            }
            Some(habit) => (self.next, self.looks) = (Some(habit), 1),
            None => self.looks = 0,
        }
    }
}

/// What is known of a port's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    last: Option<(Tally, Tally)>,
    to_guest: Habitual,
    from_guest: Habitual,
    frames: u64,
}

impl Mix {
    /// Takes a look: all that was received from and sent to the guest so far, and how long ago the
    /// last look was.
    pub fn look(&mut self, received: Tally, sent: Tally, elapsed_ms: u64) {
        if let Some((received_before, sent_before)) = self.last {
            let from = since(received_before, received);
            self.frames = self.frames.saturating_add(from.packets);
            self.from_guest.see(habit(PAGE, from, elapsed_ms));
            self.to_guest
                .see(habit(JOINING, since(sent_before, sent), elapsed_ms));
        }
        self.last = Some((received, sent));
    }

    /// Frames that the guest has sent since the first look.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether the guest gets small frames.
    pub fn gets_small(&self) -> bool {
        self.to_guest.now == Some(Habit::Small)
    }

    /// Whether the guest sends frames that do not fit a page.
    pub fn sends_huge(&self) -> bool {
        self.from_guest.now == Some(Habit::Large)
    }
}

fn since(before: Tally, now: Tally) -> Tally {
    Tally {
        packets: now.packets.saturating_sub(before.packets),
        bytes: now.bytes.saturating_sub(before.bytes),
    }
}

fn habit(bounds: Bounds, load: Tally, elapsed_ms: u64) -> Option<Habit> {
    let frames_per_s = load.packets.saturating_mul(1000) / elapsed_ms.max(1);
    // Bytes count too: few frames can be a lot where they are large.
    let full_frames_per_s =
        (load.bytes / bounds.large_min).saturating_mul(1000) / elapsed_ms.max(1);
    let mean = load.bytes.checked_div(load.packets)?;
    if frames_per_s.max(full_frames_per_s) < FRAMES_PER_S_MIN {
        None
    } else if mean <= bounds.small_max {
        Some(Habit::Small)
    } else if mean >= bounds.large_min {
        Some(Habit::Large)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Tally = Tally {
        packets: 0,
        bytes: 0,
    };

    /// So many looks, a second apart, at so many frames of this length to and from the guest.
    fn looks(mix: &mut Mix, count: u64, frames: u64, bytes: u64) {
        for _ in 0..count {
            let (received, sent) = mix.last.unwrap_or((NOTHING, NOTHING));
            let more = |tally: Tally| Tally {
                packets: tally.packets + frames,
                bytes: tally.bytes + frames * bytes,
            };
            mix.look(more(received), more(sent), 1000);
        }
    }

    #[test]
    fn a_habit_takes_several_looks() {
        let mut mix = Mix::default();
        looks(&mut mix, 3, 10_000, 64);
        assert!(!mix.gets_small(), "the first look has nothing to compare");
        looks(&mut mix, 1, 10_000, 64);
        assert!(mix.gets_small());
        assert_eq!(mix.frames(), 30_000);
        looks(&mut mix, 2, 10_000, 1400);
        assert!(mix.gets_small());
        looks(&mut mix, 1, 10_000, 1400);
        assert!(!mix.gets_small() && !mix.sends_huge());
        looks(&mut mix, 3, 10_000, 8000);
        assert!(mix.sends_huge());
    }

    #[test]
    fn neither_a_burst_nor_a_few_frames_nor_a_medium_size_change_a_habit() {
        let mut mix = Mix::default();
        looks(&mut mix, 4, 10_000, 64);
        for (frames, bytes) in [(10_000, 700), (100, 1400), (0, 0)] {
            looks(&mut mix, 10, frames, bytes);
            assert!(mix.gets_small(), "{frames} of {bytes}");
        }
        for _ in 0..10 {
            looks(&mut mix, 2, 10_000, 1400);
            looks(&mut mix, 1, 10_000, 64);
        }
        assert!(mix.gets_small());
    }

    #[test]
    fn joined_frames_are_few_and_count_all_the_same() {
        let mut mix = Mix::default();
        looks(&mut mix, 4, 10_000, 64);
        looks(&mut mix, 4, 500, 60_000);
        assert!(!mix.gets_small());
    }

    #[test]
    fn counters_that_begin_anew_are_no_traffic() {
        let mut mix = Mix::default();
        looks(&mut mix, 4, 10_000, 64);
        let before = mix.frames();
        mix.look(NOTHING, NOTHING, 1000);
        assert_eq!(mix.frames(), before);
        assert!(mix.gets_small());
    }
}
