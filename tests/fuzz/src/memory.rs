//! How much memory does an input cost?
//!
//! An allocator that counts for each thread: what is held now, the most that was, and all that was
//! ever asked for. The last is a measure of work that no clock has to tell: whoever looks at a text
//! once for each of its bytes asks for many times as much.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
    static ASKED: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // A thread that is just ending has no counters any more.
    let _ = HELD.try_with(|held| {
        let now = held.get().wrapping_add(bytes);
        held.set(now);
        let _ = MOST.try_with(|most| most.set(most.get().max(now)));
    });
    let _ = ASKED.try_with(|asked| asked.set(asked.get().wrapping_add(bytes.max(0))));
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(-signed(layout.size()));
        count(signed(bytes));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, bytes) }
    }
}

/// What something cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The most bytes held at one time, beyond those held before.
    pub held_bytes: u64,
    /// All bytes that were asked for.
    pub asked_bytes: u64,
}

/// What `work` costs this thread.
pub fn cost_of<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let before = HELD.get();
    MOST.set(before);
    let asked = ASKED.get();
    let done = work();
    let positive = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let cost = Cost {
        held_bytes: positive(MOST.get().wrapping_sub(before)),
        asked_bytes: positive(ASKED.get().wrapping_sub(asked)),
    };
    (done, cost)
}

#[cfg(test)]
mod tests {
    use super::cost_of;

    #[test]
    fn what_is_held_and_what_is_asked_for_are_told_apart() {
        let ((), cost) = cost_of(|| {
            for _ in 0..10 {
                drop(std::hint::black_box(vec![0u8; 1000]));
            }
        });
        assert!((1000..2000).contains(&cost.held_bytes), "{cost:?}");
        assert!((10_000..11_000).contains(&cost.asked_bytes), "{cost:?}");
    }
}
