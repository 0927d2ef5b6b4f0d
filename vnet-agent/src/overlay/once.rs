//! Has this host had a frame for many before?
//!
//! Input: frames for many as they come up, from ports and from links. Output: the number that all copies of
//! a frame carry, or that this is one which has been here. So a frame reaches everyone once, whatever the
//! links that frames for many take: also over rings, and while one tree gives way to another. Pure.
//!
//! A number is one of 2^24, given by the host where the frame came in, one after the other. What was here
//! is remembered for [`MEMORY_MS`], and never more than [`FRAMES_MAX`].

use std::collections::{BTreeSet, VecDeque};

use vnet_common::addr::{Mac, NetworkId};
use vnet_common::reason::Reason;
use vnet_common::wire::ethernet::Ethernet;
use vnet_common::wire::slow::Slow;
use zerocopy::FromBytes;

/// How long a copy may be under way after the first one, milliseconds: longer than any queue on the way
/// holds a frame.
const MEMORY_MS: u64 = 4000;
/// Frames remembered. The budgets of ports allow fewer in that time; a hostile link pushes out its own.
const FRAMES_MAX: usize = 16 << 10;
/// Numbers are below.
const NUMBERS: u32 = Slow::COPY_MAX + 1;

/// What tells one frame from another: its number, and what hosts that give the same number differ in.
type Key = (u32, NetworkId, Mac, Mac);

/// What was here.
#[derive(Debug)]
pub struct Once {
    last: u32,
    seen: BTreeSet<Key>,
    order: VecDeque<(u64, Key)>,
}

impl Once {
    /// Nothing was. Numbers go on from any number: another one than before a restart.
    pub const fn new(start: u32) -> Self {
        Self {
            last: start % NUMBERS,
            seen: BTreeSet::new(),
            order: VecDeque::new(),
        }
    }

    /// The headers of a frame's copies with the number that they are to carry. Asked last, once it is known
    /// that there are some: a frame that found nobody here may find them by its next copy.
    ///
    /// # Errors
    ///
    /// It has been here.
    pub fn number(
        &mut self,
        mut copies: Vec<Slow>,
        header: &Slow,
        frame: &[u8],
        is_to_be_cut: bool,
        now_ms: u64,
    ) -> Result<Vec<Slow>, Reason> {
        let network = header.network().ok_or(Reason::SlowHeader)?;
        let (ethernet, _) = Ethernet::read_from_prefix(frame).map_err(|_| Reason::Runt)?;
        let number = self.admit(header.copy(), is_to_be_cut, network, &ethernet, now_ms);
        let number = number.ok_or(Reason::Reflection)?;
        for copy in &mut copies {
            *copy = copy.numbered(number);
        }
        Ok(copies)
    }

    /// The number that copies of this frame are to carry; nothing where it has been here. `number` is
    /// the one that it came with, 0 for none. One that is still to be cut gets none, and is never known
    /// again: what is cut from it would be.
    fn admit(
        &mut self,
        number: u32,
        is_to_be_cut: bool,
        network: NetworkId,
        ethernet: &Ethernet,
        now_ms: u64,
    ) -> Option<u32> {
        let number = match number {
            0 if is_to_be_cut => return Some(0),
            0 => self.next(),
            number => number,
        };
        self.forget(now_ms);
        let key = (number, network, ethernet.source, ethernet.destination);
        if !self.seen.insert(key) {
            return None;
        }
        self.order.push_back((now_ms, key));
        Some(number)
    }

    fn next(&mut self) -> u32 {
        self.last = match self.last.wrapping_add(1) % NUMBERS {
            0 => 1,
            number => number,
        };
        self.last
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some(&(then_ms, key)) = self.order.front() {
            let is_over = now_ms.saturating_sub(then_ms) > MEMORY_MS;
            if !is_over && self.order.len() < FRAMES_MAX {
                return;
            }
            self.order.pop_front();
            self.seen.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = match NetworkId::new(7) {
        Some(network) => network,
        None => unreachable!(),
    };

    fn frame(source: u8) -> Ethernet {
        Ethernet {
            destination: Mac::BROADCAST,
            source: Mac([2, 0, 0, 0, 0, source]),
            ethertype: [8, 6],
        }
    }

    #[test]
    fn a_copy_is_known_by_its_number_and_nothing_else_is_taken_for_it() {
        let mut here = Once::new(NUMBERS - 2);
        let mut there = Once::new(5);
        let first = here.admit(0, false, NETWORK, &frame(1), 0).unwrap();
        let second = here.admit(0, false, NETWORK, &frame(1), 0).unwrap();
        assert_eq!((first, second), (NUMBERS - 1, 1), "0 is no number");
        assert_eq!(here.admit(first, false, NETWORK, &frame(1), 1), None);
        assert_eq!(
            there.admit(first, false, NETWORK, &frame(1), 1),
            Some(first)
        );
        assert_eq!(there.admit(first, false, NETWORK, &frame(1), 2), None);
        let other = NetworkId::new(8).unwrap();
        assert_eq!(there.admit(first, false, other, &frame(1), 2), Some(first));
        assert_eq!(
            there.admit(first, false, NETWORK, &frame(2), 2),
            Some(first)
        );
    }

    #[test]
    fn what_is_to_be_cut_has_no_number_and_always_passes() {
        let mut once = Once::new(0);
        for _ in 0..3 {
            assert_eq!(once.admit(0, true, NETWORK, &frame(1), 0), Some(0));
        }
        assert!(once.order.is_empty());
    }

    #[test]
    fn memory_is_bounded_in_time_and_number() {
        let mut once = Once::new(0);
        assert_eq!(once.admit(9, false, NETWORK, &frame(1), 0), Some(9));
        assert_eq!(once.admit(9, false, NETWORK, &frame(1), MEMORY_MS), None);
        assert_eq!(
            once.admit(9, false, NETWORK, &frame(1), MEMORY_MS + 1),
            Some(9)
        );
        for _ in 0..2 * FRAMES_MAX {
            once.admit(0, false, NETWORK, &frame(1), MEMORY_MS + 1);
        }
        assert!(once.order.len() <= FRAMES_MAX && once.seen.len() <= FRAMES_MAX);
        // The oldest went first.
        assert_eq!(
            once.admit(9, false, NETWORK, &frame(1), MEMORY_MS + 1),
            Some(9)
        );
    }
}
