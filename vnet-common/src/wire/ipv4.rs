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

/// TCP follows; of IPv6 too.
pub const TCP: u8 = 6;
/// UDP follows; of IPv6 too.
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

    /// Whether the checksum fits the header.
    ///
    /// A one's complement sum does not depend on the order of bytes (RFC 1071, section 2, B), so the
    /// header is added up as it lies, in words.
    #[inline(always)]
    pub const fn is_intact(&self) -> bool {
        let [a, b] = self.total_length;
        let [c, d] = self.identification;
        let [e, f] = self.flags_and_offset;
        let [g, h] = self.checksum;
        let sum = word([self.version_and_words, self.service, a, b])
            .wrapping_add(word([c, d, e, f]))
            .wrapping_add(word([self.ttl, self.protocol, g, h]))
            .wrapping_add(word(self.source))
            .wrapping_add(word(self.destination));
        let once = (sum & 0xffff_ffff).wrapping_add(sum.wrapping_shr(32));
        let twice = (once & 0xffff).wrapping_add(once.wrapping_shr(16));
        checksum::finish(twice as u32) == 0
    }
}

#[inline(always)]
const fn word(bytes: [u8; 4]) -> u64 {
    u32::from_ne_bytes(bytes) as u64
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromBytes, IntoBytes};

    use super::Ipv4;
    use crate::checksum;

    #[test]
    fn a_header_is_intact_with_its_own_checksum_and_no_other() {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for round in 0..20_000u32 {
            let mut bytes = [0u8; Ipv4::BYTES];
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Many extremes, where carries are.
                *byte = if state & 0x300 == 0 {
                    0xff
                } else {
                    state as u8
                };
            }
            bytes[10..12].fill(0);
            let right = checksum::finish(checksum::sum(&bytes));
            bytes[10..12].copy_from_slice(&right.to_be_bytes());
            let mut header = Ipv4::read_from_bytes(&bytes).unwrap();
            assert!(
                header.is_intact(),
                "round {round}: {:02x?}",
                header.as_bytes()
            );
            header.ttl ^= 1 << (round % 8);
            assert!(
                !header.is_intact(),
                "round {round}: {:02x?}",
                header.as_bytes()
            );
        }
    }
}
