//! What do the guests send?
//!
//! One UDP datagram over IPv4, from guest one to guest two, padded to the wanted length. The
//! header is valid, since a bridge may look at it; the UDP checksum is left out (RFC 768).

use lab::Mac;

/// The guest that sends.
pub const GUEST_ONE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
/// The guest that receives.
pub const GUEST_TWO: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const HEADERS_BYTES: usize = ETHERNET_BYTES + IPV4_BYTES + 8;

/// A frame of `length` bytes, from its destination address on, without frame check sequence.
///
/// Lengths below 42 give 42, the least that holds the headers.
#[must_use]
pub fn frame(source: Mac, destination: Mac, length: usize) -> Vec<u8> {
    let length = length.max(HEADERS_BYTES);
    let packet = length - ETHERNET_BYTES;
    let mut header = [
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
    ];
    let be = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes();
    header[2..4].copy_from_slice(&be(packet));
    let checksum = checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = Vec::with_capacity(length);
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&[0x08, 0x00]);
    frame.extend_from_slice(&header);
    frame.extend_from_slice(&be(4000));
    frame.extend_from_slice(&be(4001));
    frame.extend_from_slice(&be(packet - IPV4_BYTES));
    frame.extend_from_slice(&[0, 0]);
    frame.resize(length, 0);
    frame
}

/// The Internet checksum (RFC 1071) of a header whose checksum field is zero.
fn checksum(header: &[u8; IPV4_BYTES]) -> u16 {
    let words = header
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_length_that_was_asked_for_and_says_so_itself() {
        for length in [64, 1400] {
            let frame = frame(GUEST_ONE, GUEST_TWO, length);
            assert_eq!(frame.len(), length);
            assert_eq!(
                usize::from(u16::from_be_bytes([frame[16], frame[17]])),
                length - 14
            );
            assert_eq!(
                usize::from(u16::from_be_bytes([frame[38], frame[39]])),
                length - 34
            );
        }
    }

    #[test]
    fn the_header_sums_up_to_all_ones() {
        let frame = frame(GUEST_ONE, GUEST_TWO, 64);
        let mut header = [0; IPV4_BYTES];
        header.copy_from_slice(&frame[14..34]);
        assert_eq!(checksum(&header), 0);
    }
}
