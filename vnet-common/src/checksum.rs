//! What is the Internet checksum of these bytes?
//!
//! RFC 1071 for whole headers; the IPv4 header of a link is prepared with everything but length
//! and TTL, so that sending adds two numbers to a partial sum (RFC 1624, equation 3).

/// One's complement sum of big-endian 16-bit words, not folded, not complemented; a last odd byte
/// is padded with zero. Exact for at most 128 KiB.
pub fn sum(bytes: &[u8]) -> u32 {
    let mut total = 0u32;
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        if let [high, low] = *pair {
            total = total.wrapping_add(u32::from(u16::from_be_bytes([high, low])));
        }
    }
    if let [last] = *pairs.remainder() {
        total = total.wrapping_add(u32::from(u16::from_be_bytes([last, 0])));
    }
    total
}

/// A sum folded to 16 bits and complemented: what goes into the header.
#[inline(always)]
pub const fn finish(sum: u32) -> u16 {
    let once = (sum & 0xffff).wrapping_add(sum.wrapping_shr(16));
    let twice = (once & 0xffff).wrapping_add(once.wrapping_shr(16));
    !(twice as u16)
}

#[cfg(test)]
mod tests {
    use super::{finish, sum};

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(finish(sum(&bytes)), !0xddf2);
    }

    #[test]
    fn a_header_with_its_checksum_sums_to_zero() {
        let mut header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        let check = finish(sum(&header));
        assert_eq!(check, 0xb861);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        assert_eq!(finish(sum(&header)), 0);
    }
}
