//! What is the agent told without asking? Map `EVENTS`, a ring buffer.

use super::plain;
use crate::addr::{Mac, PortId};

plain! {
    /// Written by the programs, read by the agent.
    pub struct Event[16] {
        /// What happened: [`Event::LEARNED`].
        pub kind: u32,
        /// On which port.
        pub port: PortId,
        /// Which address.
        pub address: Mac,
        /// Zero.
        pub _pad: [u8; 2],
    }
}

impl Event {
    /// The port's address was learned.
    pub const LEARNED: u32 = 1;

    /// Bytes of the ring.
    pub const RING_BYTES: u32 = 65_536;
}
