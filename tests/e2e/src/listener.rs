//! What does a guest receive while much else goes on?
//!
//! A thread that reads all the time, so that no queue of a tap fills up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::TapGuest;

/// Nothing more is on its way when nothing came for this long.
const QUIET: Duration = Duration::from_millis(300);

/// Does something while the guests receive; returns what each received, in their order.
///
/// # Errors
///
/// `work` fails, or a guest cannot receive.
pub fn while_listening<const N: usize>(
    guests: [&TapGuest; N],
    work: impl FnOnce() -> Result<()>,
) -> Result<[Vec<Vec<u8>>; N]> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        let listeners = guests.map(|guest| scope.spawn(move || listen(guest, over)));
        let worked = work();
        over.store(true, Ordering::Release);
        let mut received = [const { Vec::new() }; N];
        for (place, listener) in received.iter_mut().zip(listeners) {
            *place = listener.join().ok().context("a listener panicked")??;
        }
        worked.map(|()| received)
    })
}

fn listen(guest: &TapGuest, over: &AtomicBool) -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    loop {
        let was_over = over.load(Ordering::Acquire);
        match guest.receive(QUIET)? {
            Some(frame) => frames.push(frame),
            None if was_over => return Ok(frames),
            None => {}
        }
    }
}
