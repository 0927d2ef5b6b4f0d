//! UDP (RFC 768).
//!
//! ```text
//! | source port 2 | destination port 2 | length 2 | checksum 2 |
//! ```
//!
//! The checksum outside is zero over IPv4 and, for tunnels, over IPv6 too (RFC 6935 and 6936): the
//! inner frame has its own.

use super::header;

header! {
    /// The header.
    pub struct Udp[8] {
        /// From here: the flow's entropy.
        pub source: [u8; 2],
        /// To here.
        pub destination: [u8; 2],
        /// Header and payload, bytes.
        pub length: [u8; 2],
        /// Zero: none.
        pub checksum: [u8; 2],
    }
}
