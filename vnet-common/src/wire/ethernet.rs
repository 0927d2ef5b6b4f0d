//! Ethernet (IEEE 802.3-2018, section 3.1.1).
//!
//! ```text
//! | destination 6 | source 6 | type 2 | payload
//! ```

use super::header;
use crate::addr::Mac;

header! {
    /// The header without tags.
    pub struct Ethernet[14] {
        /// Who receives.
        pub destination: Mac,
        /// Who sends.
        pub source: Mac,
        /// What follows.
        pub ethertype: [u8; 2],
    }
}

/// IPv4 follows.
pub const IPV4: [u8; 2] = [0x08, 0x00];
/// IPv6 follows.
pub const IPV6: [u8; 2] = [0x86, 0xdd];
/// An 802.1Q tag follows.
pub const VLAN: [u8; 2] = [0x81, 0x00];
/// An 802.1ad service tag follows.
pub const SERVICE_VLAN: [u8; 2] = [0x88, 0xa8];
/// IEEE's "local experimental ethertype 1" (802-2014, section 9.2.4): never leaves a host or a
/// link of ours.
pub const LOCAL: [u8; 2] = [0x88, 0xb5];

/// Bytes of a VLAN tag, its type included.
pub const TAG_BYTES: usize = 4;

/// Whether a VLAN tag follows.
#[inline(always)]
pub const fn is_tag(ethertype: [u8; 2]) -> bool {
    matches!(ethertype, VLAN | SERVICE_VLAN)
}
