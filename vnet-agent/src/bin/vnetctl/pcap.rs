//! Which frames are in a capture file?
//!
//! Input: the bytes of a classic libpcap file (draft-ietf-opsawg-pcap) of either byte order, with
//! times in micro- or nanoseconds. Output: the packets, borrowed from the input. Everything that
//! is not exactly such a file of Ethernet frames is refused; nothing is allocated by what a
//! length field claims.
//!
//! ```text
//!  0        4      6      8          16        20         24
//!  | magic  | 2    | 4    | 0, 0     | snaplen | linktype |      file header
//!  0        4        8          12         16
//!  | time   | part   | captured | original | bytes ...           before each packet
//! ```

/// The longest packet that libpcap writes (its MAXIMUM_SNAPLEN).
const CAPTURED_BYTES_MAX: u32 = 262_144;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;

const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;

/// A packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What was kept of it.
    pub captured: &'a [u8],
    /// How long it was.
    pub original_bytes: u32,
}

/// Why a file is no capture that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcapError {
    /// Another magic number, or too short for one.
    #[error("not a pcap file")]
    NotPcap,
    /// The next generation of the format.
    #[error("a pcapng file; convert it: tcpdump -r FILE -w OTHER, or editcap -F pcap FILE OTHER")]
    PcapNg,
    /// Compressed.
    #[error("compressed; unpack it: gunzip < FILE | vnetctl trace --pcap -")]
    Compressed,
    /// Ends within the file header.
    #[error("the file ends within its header")]
    ShortHeader,
    /// Another version of the format.
    #[error("version {major}.{minor} of the format; only 2.4 is known")]
    Version {
        /// The major version.
        major: u16,
        /// The minor version.
        minor: u16,
    },
    /// Frames of another kind.
    #[error("the packets are not Ethernet frames (link type {0}); capture on an Ethernet device")]
    LinkType(u32),
    /// Ends within a packet.
    #[error("the file ends within packet {number}; {} before it are whole", number - 1)]
    ShortPacket {
        /// Which packet, from 1.
        number: usize,
    },
    /// More bytes than a packet can have.
    #[error("packet {number} claims {bytes} bytes; no packet has more than {CAPTURED_BYTES_MAX}")]
    TooLong {
        /// Which packet, from 1.
        number: usize,
        /// What it claims.
        bytes: u32,
    },
    /// More bytes captured than there were.
    #[error("packet {number} claims that more of it was captured than there was")]
    MoreThanAll {
        /// Which packet, from 1.
        number: usize,
    },
}

/// The packets of a capture file.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn packets(file: &[u8]) -> Result<Vec<Packet<'_>>, PcapError> {
    let order = byte_order(file)?;
    let header = file
        .get(..FILE_HEADER_BYTES)
        .ok_or(PcapError::ShortHeader)?;
    let major = order.u16(header, 4).unwrap_or_default();
    let minor = order.u16(header, 6).unwrap_or_default();
    if (major, minor) != (2, 4) {
        return Err(PcapError::Version { major, minor });
    }
    // The high bits tell of a frame check sequence at the end, which a trace must not have.
    let link_type = order.u32(header, 20).unwrap_or_default();
    if link_type != ETHERNET {
        return Err(PcapError::LinkType(link_type));
    }
    let mut rest = file.get(FILE_HEADER_BYTES..).unwrap_or_default();
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let (packet, after) = packet(rest, order, packets.len() + 1)?;
        packets.push(packet);
        rest = after;
    }
    Ok(packets)
}

fn packet(rest: &[u8], order: Order, number: usize) -> Result<(Packet<'_>, &[u8]), PcapError> {
    let short = PcapError::ShortPacket { number };
    let captured_bytes = order.u32(rest, 8).ok_or(short)?;
    let original_bytes = order.u32(rest, 12).ok_or(short)?;
    if captured_bytes > CAPTURED_BYTES_MAX {
        return Err(PcapError::TooLong {
            number,
            bytes: captured_bytes,
        });
    }
    if captured_bytes > original_bytes {
        return Err(PcapError::MoreThanAll { number });
    }
    let bytes = usize::try_from(captured_bytes).map_err(|_| short)?;
    let (captured, after) = rest
        .get(RECORD_HEADER_BYTES..)
        .and_then(|rest| rest.split_at_checked(bytes))
        .ok_or(short)?;
    Ok((
        Packet {
            captured,
            original_bytes,
        },
        after,
    ))
}

/// The order of the writer's bytes.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let &four = bytes.get(at..)?.first_chunk::<4>()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(four),
            Self::Big => u32::from_be_bytes(four),
        })
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let &two = bytes.get(at..)?.first_chunk::<2>()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(two),
            Self::Big => u16::from_be_bytes(two),
        })
    }
}

fn byte_order(file: &[u8]) -> Result<Order, PcapError> {
    match file {
        // Micro- and nanoseconds; a trace has no use for the times.
        [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0x4d, 0x3c, 0xb2, 0xa1, ..] => Ok(Order::Little),
        [0xa1, 0xb2, 0xc3, 0xd4, ..] | [0xa1, 0xb2, 0x3c, 0x4d, ..] => Ok(Order::Big),
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => Err(PcapError::PcapNg),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(PcapError::Compressed),
        _ => Err(PcapError::NotPcap),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written by hand from the format's description, not with the reader's constants.
    fn file(big: bool, magic: u32, link_type: u32, packets: &[(&[u8], u32)]) -> Vec<u8> {
        let word = |n: u32| {
            if big {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
        };
        let half = |n: u16| {
            if big {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
        };
        let mut file = Vec::new();
        file.extend(word(magic));
        file.extend(half(2));
        file.extend(half(4));
        file.extend([0; 8]);
        file.extend(word(65_535));
        file.extend(word(link_type));
        for (bytes, original) in packets {
            file.extend([0; 8]);
            file.extend(word(u32::try_from(bytes.len()).unwrap()));
            file.extend(word(*original));
            file.extend(*bytes);
        }
        file
    }

    #[test]
    fn every_kind_of_writer_is_understood() {
        for big in [false, true] {
            for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
                let bytes = file(big, magic, 1, &[(b"abc", 3), (b"de", 100), (b"", 0)]);
                let read = packets(&bytes).unwrap();
                let expected: [(&[u8], u32); 3] = [(b"abc", 3), (b"de", 100), (b"", 0)];
                let read: Vec<_> = read
                    .iter()
                    .map(|packet| (packet.captured, packet.original_bytes))
                    .collect();
                assert_eq!(read, expected);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = file(false, 0xa1b2_c3d4, 1, &[(b"abc", 3)]);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            packets(&bytes).unwrap_err()
        };
        assert_eq!(packets(b""), Err(PcapError::NotPcap));
        assert_eq!(packets(b"\x0a\x0d\x0d\x0a...."), Err(PcapError::PcapNg));
        assert_eq!(packets(b"\x1f\x8b\x08"), Err(PcapError::Compressed));
        assert_eq!(packets(&good[..23]), Err(PcapError::ShortHeader));
        assert_eq!(with(4, 3), PcapError::Version { major: 3, minor: 4 });
        assert_eq!(with(20, 113), PcapError::LinkType(113));
        assert_eq!(with(23, 0x14), PcapError::LinkType(0x1400_0001));
        assert_eq!(with(32, 4), PcapError::MoreThanAll { number: 1 });
        assert_eq!(
            with(35, 1),
            PcapError::TooLong {
                number: 1,
                bytes: 0x0100_0003
            }
        );
        for short in 25..good.len() {
            assert_eq!(
                packets(&good[..short]),
                Err(PcapError::ShortPacket { number: 1 })
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            start in 0..4usize,
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let magic: [&[u8]; 4] = [b"", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d",
                b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0"];
            let mut file = magic[start].to_vec();
            file.extend(&bytes);
            if let Ok(packets) = packets(&file) {
                let total: usize = packets.iter().map(|packet| packet.captured.len() + 16).sum();
                prop_assert_eq!(total + 24, file.len());
            }
        }

        #[test]
        fn a_flipped_byte_never_makes_packets_overlap(at in 0..80usize, byte in any::<u8>()) {
            let mut bytes = file(false, 0xa1b2_c3d4, 1, &[(b"abcdefgh", 8), (b"ijkl", 9), (b"", 0)]);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(packets) = packets(&bytes) {
                let total: usize = packets.iter().map(|packet| packet.captured.len() + 16).sum();
                prop_assert_eq!(total + 24, bytes.len());
            }
        }
    }
}
