//! What did this CPU look up a moment ago? Maps `NEAR_PORTS`, `NEAR_ADMISSIONS` and `NEAR_FLOWS`, per
//! CPU: copies of what hash tables hold, each in the one place that its key leads to, because an array
//! is reached by an index and a hash table by calls.
//!
//! Written and read by the programs. Copies of what the agent writes count while their epoch is that of
//! the map `EPOCHS`, which the agent raises after each change. Flows are counted in their copies: what
//! the flow table holds of them is older, and the agent reads both.

use super::admission::{AdmissionEntry, AdmissionKey};
use super::flow::{FlowEntry, FlowKey};
use super::plain;
use super::port::PortEntry;

plain! {
    /// Which copies are good. One entry.
    pub struct Epoch[8] {
        /// Raised by the agent after each change of ports and admissions, and when it starts: the one
        /// before may have died in between.
        pub number: u64,
    }
}

plain! {
    /// A port.
    pub struct NearPort[104] {
        /// When it was copied.
        pub epoch: u64,
        /// Its device; 0 where there is none.
        pub device: u32,
        /// Zero.
        pub _pad: u32,
        /// Its entry.
        pub entry: PortEntry,
    }
}

impl NearPort {
    /// How many places a CPU has.
    pub const PLACES: u32 = 256;

    /// The place of a port: devices have numbers in a row.
    #[inline(always)]
    pub const fn place(device: u32) -> u32 {
        device & (Self::PLACES - 1)
    }
}

plain! {
    /// An admission.
    pub struct NearAdmission[56] {
        /// When it was copied.
        pub epoch: u64,
        /// Its entry.
        pub entry: AdmissionEntry,
        /// Its key.
        pub key: AdmissionKey,
        /// Zero.
        pub _pad: u32,
    }
}

impl NearAdmission {
    /// How many places a CPU has.
    pub const PLACES: u32 = 256;

    /// The place of an admission.
    #[inline(always)]
    pub const fn place(key: &AdmissionKey) -> u32 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = key.source;
        let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let last = u64::from_ne_bytes([i, j, k, l, m, n, o, p]);
        mix(first ^ key.network.get() as u64, last) & (Self::PLACES - 1)
    }
}

plain! {
    /// A flow, and what this CPU has counted of it since it came up.
    pub struct NearFlow[64] {
        /// Its key; zero where there is none.
        pub key: FlowKey,
        /// Its entry.
        pub entry: FlowEntry,
    }
}

plain! {
    /// Neighbouring places: as many as the agent reads at once.
    pub struct NearFlows[8192] {
        /// The flows.
        pub places: [NearFlow; NearFlow::PLACES_OF_ENTRY],
    }
}

impl NearFlow {
    /// Places of one entry of the map.
    pub const PLACES_OF_ENTRY: usize = 128;
    /// Entries of the map.
    pub const ENTRIES: u32 = 32;

    /// How often a flow that has a place is written back, in frames: so that the flow table knows that it is
    /// in use.
    pub const FRAMES_TO_WRITE_BACK: u64 = 64;
    /// How often a flow that has none takes it, in frames: so that two flows with one place do not
    /// push each other out at every frame.
    pub const FRAMES_TO_PLACE: u64 = 8;

    /// A key in two words: one comparison each.
    #[inline(always)]
    pub const fn words(key: &FlowKey) -> [u64; 2] {
        let [first, middle, last] = key.stations.words();
        [pair(key.network.get(), first), pair(middle, last)]
    }

    /// The place of a flow, as the map's entry and the place in it.
    #[inline(always)]
    pub const fn place(key: &FlowKey) -> (u32, usize) {
        let [first, last] = Self::words(key);
        let place = mix(first, last);
        (
            place.wrapping_shr(Self::PLACES_OF_ENTRY.trailing_zeros()) & (Self::ENTRIES - 1),
            place as usize & (Self::PLACES_OF_ENTRY - 1),
        )
    }
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    (high as u64).wrapping_shl(32) | low as u64
}

/// 2^64 divided by the golden ratio (Knuth, TAOCP volume 3, section 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Every bit of both words in the bits of one: the high ones of a product depend on all of its factors.
#[inline(always)]
const fn mix(a: u64, b: u64) -> u32 {
    let mixed = (a ^ b.wrapping_mul(GOLDEN)).wrapping_mul(GOLDEN);
    mixed.wrapping_shr(40) as u32
}
