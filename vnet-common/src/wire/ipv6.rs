//! IPv6 (RFC 8200, section 3).
//!
//! ```text
//! | version 6, class, flow label 4 | payload length 2 | next header | hop limit |
//! | source 16 | destination 16 |
//! ```

use super::header;

header! {
    /// The header; extension headers are not read.
    pub struct Ipv6[40] {
        /// 6 in the high 4 bits, traffic class, flow label.
        pub version_and_flow: [u8; 4],
        /// Bytes after this header.
        pub payload_length: [u8; 2],
        /// What follows.
        pub next_header: u8,
        /// Hops left.
        pub hop_limit: u8,
        /// Who sends.
        pub source: [u8; 16],
        /// Who receives.
        pub destination: [u8; 16],
    }
}

impl Ipv6 {
    /// Whether the version is 6.
    #[inline(always)]
    pub const fn is_version_6(&self) -> bool {
        let [first, ..] = self.version_and_flow;
        first & 0xf0 == 0x60
    }

    /// Whether the source is an IPv4-mapped address (RFC 4291, section 2.5.5.2), which no packet
    /// may come from.
    #[inline(always)]
    pub const fn is_from_mapped_ipv4(&self) -> bool {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = self.source;
        let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let next = u32::from_ne_bytes([i, j, k, l]) ^ u32::from_ne_bytes([0, 0, 0xff, 0xff]);
        // One comparison: each further one doubles the verifier's work.
        first | next as u64 == 0
    }
}
