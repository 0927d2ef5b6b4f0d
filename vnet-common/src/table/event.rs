//! What is the agent told without asking? Map `EVENTS`, a ring buffer.

use super::plain;
use crate::addr::{Mac, PortId};

plain! {
    /// Written by the programs, read by the agent.
    pub struct Event[16] {
        /// What happened: [`Event::LEARNED`] or [`Event::SHOWN`].
        pub kind: u32,
        /// On which port.
        pub port: PortId,
        /// Which address; zero where the event is not about one.
        pub address: Mac,
        /// Zero.
        pub _pad: [u8; 2],
    }
}

impl Event {
    /// The port's address was learned.
    pub const LEARNED: u32 = 1;
    /// The port's guest showed that it leaves work to devices ([`PortState::shown`]).
    ///
    /// [`PortState::shown`]: super::port::PortState::shown
    pub const SHOWN: u32 = 2;

    /// Bytes of the ring.
    pub const RING_BYTES: u32 = 65_536;
}
