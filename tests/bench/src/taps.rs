//! How do frames get in and out of a bed, one by one?
//!
//! A tap on each host, and this process as the guest behind both.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Host, Mac, TapGuest};

use crate::bed::Bed;
use crate::frame::{GUEST_ONE, GUEST_TWO, frame};

/// The device of a guest on either host.
pub const TAP: &str = "tap0";

/// Frames that a tap keeps for its reader, the same for every path: the kernel's own default, so
/// that it does not matter whether anything else on the way would change it.
const QUEUE_FRAMES: u32 = 1000;

/// The guests of a bed.
#[derive(Debug)]
pub struct Taps {
    /// The guest that sends.
    pub sender: TapGuest,
    /// The guest that receives.
    pub receiver: TapGuest,
}

impl Taps {
    /// Puts guests into a bed whose port is [`TAP`].
    ///
    /// # Errors
    ///
    /// The kernel refuses a device.
    pub fn new(bed: &Bed) -> Result<Self> {
        Ok(Self {
            sender: guest(&bed.one, GUEST_ONE)?,
            receiver: guest(&bed.two, GUEST_TWO)?,
        })
    }

    /// Waits until frames pass in both directions, the receiver's first: so a bridge that learns
    /// has learned both guests.
    ///
    /// # Errors
    ///
    /// None passes.
    pub fn prove(&self) -> Result<()> {
        let there = (&self.sender, &self.receiver);
        let back = (&self.receiver, &self.sender);
        for (from, to) in [back, there, back] {
            let sent = frame(from.mac(), to.mac(), 64);
            lab::try_eventually("a frame crosses", || {
                from.send(&sent)?;
                let received = to.receive(Duration::from_millis(50))?;
                Ok(received.filter(|frame| *frame == sent).map(drop))
            })
            .with_context(|| format!("from `{}` to `{}`", from.host().name(), to.host().name()))?;
        }
        for guest in [&self.sender, &self.receiver] {
            guest.receive_all_until_quiet(Duration::from_millis(20))?;
        }
        Ok(())
    }
}

fn guest(host: &Host, mac: Mac) -> Result<TapGuest> {
    let guest = host.tap_guest(TAP, mac)?;
    let frames = QUEUE_FRAMES.to_string();
    host.run(["ip", "link", "set", TAP, "txqueuelen", &frames])?;
    Ok(guest)
}
