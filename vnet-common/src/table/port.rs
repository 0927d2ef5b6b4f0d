//! Which devices are ports, and whose? Maps `PORTS` and `PORT_STATES`, both by device index.

use super::plain;
use crate::addr::{Mac, NetworkId};

/// How many addresses a port may list. A guest with more is a router: `any`.
pub const ADDRESSES_MAX: usize = 8;

plain! {
    /// What the agent says of a port. Written by the agent, read by the programs.
    pub struct PortEntry[88] {
        /// The port's network.
        pub network: NetworkId,
        /// That network's place in `NETWORKS`.
        pub network_slot: u32,
        /// The port's place in `LEDGERS`.
        pub ledger: u32,
        /// Bits of [`PortEntry::ANY_SOURCE`] and the others.
        pub flags: u32,
        /// The largest frame the device takes, Ethernet header included.
        pub frame_bytes_max: u32,
        /// The device's MTU before the agent set it, to be put back; 0 where it did not.
        pub mtu_before: u32,
        /// Nanoseconds of the slow path's budget that one frame uses up.
        pub slow_path_cost_ns: u32,
        /// How many nanoseconds' worth may be used at once.
        pub slow_path_burst_ns: u32,
        /// The source addresses it may use; zero in unused places.
        pub addresses: [Mac; ADDRESSES_MAX],
        /// Zero.
        pub _pad: [u8; 8],
    }
}

impl PortEntry {
    /// Every source address is fine.
    pub const ANY_SOURCE: u32 = 1;
    /// The first source address is learned, and from then on the only one.
    pub const LEARN: u32 = 2;
    /// Frames from the wire are joined for it where the underlay can: passed up to the kernel's
    /// GRO, and into the port by the TC program behind it.
    pub const JOIN: u32 = 4;
    /// A veth: the TC door hands frames to its other end at once (`bpf_redirect_peer`).
    pub const DIRECT: u32 = 8;

    /// Whether `source` is one of the listed addresses.
    #[inline(always)]
    pub fn lists(&self, source: Mac) -> bool {
        let [a, b, c, d, e, f, g, h] = self.addresses;
        // No early way out: eight compares without a branch are cheaper than a loop of jumps.
        (a == source)
            | (b == source)
            | (c == source)
            | (d == source)
            | (e == source)
            | (f == source)
            | (g == source)
            | (h == source)
    }
}

plain! {
    /// What the programs themselves keep for a port. Made by the agent (all zero), written by the
    /// programs with atomic operations, read by the agent.
    pub struct PortState[32] {
        /// The learned address ([`Mac::to_bits`]); 0 where none is yet.
        pub learned: u64,
        /// Until when the slow path's budget is used up, on the kernel's monotonic clock: the
        /// theoretical arrival time of the generic cell rate algorithm (ITU-T I.371, annex A).
        pub slow_path_until_ns: u64,
        /// Events of this port that found the ring full.
        pub events_lost: u64,
        /// What its guest's frames showed so far: bits of [`PortState::SEGMENTS`] and
        /// [`PortState::UNFINISHED`].
        pub shown: u32,
        /// Zero.
        pub _pad: u32,
    }
}

impl PortState {
    /// Of a port that is new.
    pub const NEW: Self = Self {
        learned: 0,
        slow_path_until_ns: 0,
        events_lost: 0,
        shown: 0,
        _pad: 0,
    };

    /// It leaves segmentation to the device: a frame was longer than its segments.
    pub const SEGMENTS: u32 = 1;
    /// It leaves checksums to the device: the first frames of two flows in succession had that of
    /// their pseudo header alone.
    pub const UNFINISHED: u32 = 2;
    /// The latest flow's first frame had: by chance, one of 65,536 finished ones has too.
    pub const MAYBE_UNFINISHED: u32 = 4;
    /// Of a frame: it had another checksum. Never kept.
    pub const FINISHED: u32 = 8;

    /// What is shown after a frame that showed this.
    #[inline(always)]
    #[must_use]
    pub const fn after(shown: u32, frame: u32) -> u32 {
        let certain = shown & !Self::MAYBE_UNFINISHED;
        if frame & Self::UNFINISHED != 0 {
            if shown & Self::MAYBE_UNFINISHED != 0 {
                certain | Self::UNFINISHED
            } else {
                certain | Self::MAYBE_UNFINISHED
            }
        } else if frame & Self::FINISHED != 0 {
            certain
        } else {
            shown | frame
        }
    }
}
