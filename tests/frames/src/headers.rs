//! Where in a frame do its headers begin?
//!
//! Read by hand, for [`finish`](crate::finish) and [`sound`](crate::sound): tags, IPv4 and IPv6 with
//! at most a fragment header, and what they carry.

/// The protocol numbers of transports.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// The places of one IP packet's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Where the IP header begins.
    pub ip: usize,
    /// Whether it is IPv6.
    pub is_ipv6: bool,
    /// Where it ends.
    pub transport: usize,
    /// What it carries.
    pub protocol: u8,
    /// Whether that is only a part.
    pub is_fragment: bool,
    /// Where the packet ends, by its own account.
    pub end: usize,
}

/// Two bytes as a number; nothing beyond the end.
pub fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|pair| u16::from_be_bytes(*pair))
}

/// Where the payload of Ethernet begins, tags skipped, and its type.
pub fn ethernet(frame: &[u8]) -> Option<(usize, [u8; 2])> {
    let mut at = 12;
    loop {
        let kind: [u8; 2] = *frame.get(at..)?.first_chunk()?;
        if !TAGS.contains(&kind) {
            return Some((at + 2, kind));
        }
        at += 4;
    }
}

/// The IP packet in this frame; nothing where there is none or it is cut short.
pub fn find(frame: &[u8]) -> Option<Headers> {
    match ethernet(frame)? {
        (ip, IPV4) => ipv4(frame, ip),
        (ip, IPV6) => ipv6(frame, ip),
        _ => None,
    }
}

fn ipv4(frame: &[u8], ip: usize) -> Option<Headers> {
    let words = frame.get(ip)? & 0x0f;
    let end = ip + usize::from(word(frame, ip + 2)?);
    Some(Headers {
        ip,
        is_ipv6: false,
        transport: ip + 4 * usize::from(words),
        protocol: *frame.get(ip + 9)?,
        is_fragment: word(frame, ip + 6)? & 0x3fff != 0,
        end,
    })
}

fn ipv6(frame: &[u8], ip: usize) -> Option<Headers> {
    let end = ip + 40 + usize::from(word(frame, ip + 4)?);
    let next = *frame.get(ip + 6)?;
    let is_fragment = next == FRAGMENT;
    Some(Headers {
        ip,
        is_ipv6: true,
        transport: if is_fragment { ip + 48 } else { ip + 40 },
        protocol: if is_fragment {
            *frame.get(ip + 40)?
        } else {
            next
        },
        is_fragment,
        end,
    })
}

impl Headers {
    /// Where in the transport's header its checksum is.
    pub fn checksum_offset(&self) -> Option<usize> {
        match self.protocol {
            TCP => Some(16),
            UDP => Some(6),
            ICMPV6 => Some(2),
            _ => None,
        }
    }

    /// The sum over the pseudo-header of RFC 793 or 8200, not folded.
    pub fn pseudo_sum(&self, frame: &[u8]) -> Option<u32> {
        let addresses = if self.is_ipv6 { 8..40 } else { 12..20 };
        let addresses = frame.get(self.ip + addresses.start..self.ip + addresses.end)?;
        let length = u32::try_from(self.end.checked_sub(self.transport)?).ok()?;
        Some(sum(addresses) + u32::from(self.protocol) + length)
    }
}

/// The sum of 16-bit words, the last one filled up with zeroes (RFC 1071), not folded.
pub fn sum(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    pairs.sum()
}

/// A sum in 16 bits.
pub fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // It fits: the loop ends there.
    (sum & 0xffff) as u16
}
