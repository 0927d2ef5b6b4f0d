//! Which packets on an underlay device are meant for us? Map `UNDERLAYS`, by slot.
//!
//! There is one underlay device, and for a moment two while it changes: so a few slots, looked
//! through one after the other, are cheaper than a hash.

use super::plain;

plain! {
    /// Written by the agent, read by the underlay program.
    pub struct UnderlayEntry[32] {
        /// This host's IPv4 address there, in the order of the wire; zero where it has none.
        pub ipv4: [u8; 4],
        /// This host's IPv6 address there; zero likewise.
        pub ipv6: [u8; 16],
        /// The UDP port of Geneve, in the order of the wire.
        pub udp_port: [u8; 2],
        /// Bits of [`UnderlayEntry::JOINS`].
        pub flags: u8,
        /// Zero.
        pub _pad: u8,
        /// The device's place in `LEDGERS`: packets that claim to be ours, and those of them that
        /// no link admits.
        pub ledger: u32,
        /// The device's index; 0 where the slot is free.
        pub device: u32,
    }
}

impl UnderlayEntry {
    /// Behind the XDP program sits the TC program, which takes what the first passes up.
    pub const JOINS: u8 = 1;

    /// How many there may be at one time.
    pub const SLOTS: u32 = 4;

    /// A free slot.
    pub const NONE: Self = Self {
        ipv4: [0; 4],
        ipv6: [0; 16],
        udp_port: [0; 2],
        flags: 0,
        _pad: 0,
        ledger: 0,
        device: 0,
    };
}
