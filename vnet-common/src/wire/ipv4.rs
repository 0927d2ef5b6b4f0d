//! IPv4 without options (RFC 791, section 3.1).
//!
//! ```text
//! | version 4, length 5 | service | total length 2 | identification 2 | flags, offset 2 |
//! | TTL | protocol | checksum 2 | source 4 | destination 4 |
//! ```

use super::header;
use crate::checksum;

header! {
    /// The header without options.
    pub struct Ipv4[20] {
        /// 4 in the high half, the header's length in words in the low one.
        pub version_and_words: u8,
        /// DSCP and ECN.
        pub service: u8,
        /// Header and payload, bytes.
        pub total_length: [u8; 2],
        /// Which packet a fragment belongs to.
        pub identification: [u8; 2],
        /// 3 flags, and the offset of a fragment in words of 8 bytes.
        pub flags_and_offset: [u8; 2],
        /// Hops left.
        pub ttl: u8,
        /// What follows.
        pub protocol: u8,
        /// Over this header.
        pub checksum: [u8; 2],
        /// Who sends.
        pub source: [u8; 4],
        /// Who receives.
        pub destination: [u8; 4],
    }
}

/// UDP follows.
pub const UDP: u8 = 17;
/// Do not fragment.
pub const DONT_FRAGMENT: [u8; 2] = [0x40, 0x00];

impl Ipv4 {
    /// Version 4 and five words: no options.
    pub const PLAIN: u8 = 0x45;

    /// Whether this is a fragment of a larger packet, the first one included.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        // More fragments, or an offset; the DF flag and the reserved bit do not matter.
        u16::from_be_bytes(self.flags_and_offset) & 0x3fff != 0
    }

    /// Whether this is a fragment that does not begin its packet.
    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        u16::from_be_bytes(self.flags_and_offset) & 0x1fff != 0
    }

    /// One's complement sum of the header as it stands, not folded.
    #[inline(always)]
    pub const fn sum(&self) -> u32 {
        let [a, b] = self.total_length;
        let [c, d] = self.identification;
        let [e, f] = self.flags_and_offset;
        let [g, h] = self.checksum;
        let [s1, s2, s3, s4] = self.source;
        let [d1, d2, d3, d4] = self.destination;
        word(self.version_and_words, self.service)
            .wrapping_add(word(a, b))
            .wrapping_add(word(c, d))
            .wrapping_add(word(e, f))
            .wrapping_add(word(self.ttl, self.protocol))
            .wrapping_add(word(g, h))
            .wrapping_add(word(s1, s2))
            .wrapping_add(word(s3, s4))
            .wrapping_add(word(d1, d2))
            .wrapping_add(word(d3, d4))
    }

    /// Whether the checksum fits the header.
    #[inline(always)]
    pub const fn is_intact(&self) -> bool {
        checksum::finish(self.sum()) == 0
    }
}

#[inline(always)]
const fn word(high: u8, low: u8) -> u32 {
    u16::from_be_bytes([high, low]) as u32
}
