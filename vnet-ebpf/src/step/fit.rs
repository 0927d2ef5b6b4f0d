//! How large are the packets that a frame becomes? Itself, or one of its segments.

use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::ipv4::{self, Ipv4};
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::udp::Udp;

use crate::frame::Frame;

/// Where TCP says how long its header is, in words, in the high half (RFC 9293, section 3.1).
const TCP_WORDS_AT: usize = 12;
/// Tags that are looked behind.
const TAGS_MAX: usize = 2;

/// Packets that one frame of a guest may become: those that 64 KiB fill where nobody takes more than
/// hosts have to (536 bytes of TCP, RFC 9293, section 3.7.1), and what Linux grants its own senders
/// of UDP. To a connection of smaller ones, a frame that is lost says to send less at once.
const PACKETS_MAX: u32 = 128;

/// Whether a frame would become a flood: the kernel cuts it for whoever asks, byte by byte.
#[inline(always)]
pub fn is_flood<F: Frame>(frame: &F) -> bool {
    let segment_bytes = frame.segment_bytes();
    segment_bytes != 0 && frame.length() > segment_bytes.wrapping_mul(PACKETS_MAX)
}

/// Bytes of the largest one, Ethernet header included.
#[inline(always)]
pub fn packet_bytes<F: Frame>(frame: &F) -> u32 {
    let segment_bytes = frame.segment_bytes();
    if segment_bytes == 0 {
        return frame.length();
    }
    // What is segmented has headers that the kernel could read; else its whole length is the one
    // thing known.
    match headers_bytes(frame) {
        Some(headers) => (headers as u32).wrapping_add(segment_bytes),
        None => frame.length(),
    }
}

/// Bytes before the payload of TCP or UDP.
#[inline(always)]
fn headers_bytes<F: Frame>(frame: &F) -> Option<usize> {
    let mut at = Ethernet::BYTES;
    let mut ethertype: [u8; 2] = frame.read(12)?;
    for _ in 0..TAGS_MAX {
        if !ethernet::is_tag(ethertype) {
            break;
        }
        ethertype = frame.read(at.wrapping_add(2))?;
        at = at.wrapping_add(ethernet::TAG_BYTES);
    }
    let (protocol, transport_at) = match ethertype {
        ethernet::IPV4 => {
            let header: Ipv4 = frame.read(at)?;
            let words = usize::from(header.version_and_words & 0x0f);
            (header.protocol, at.wrapping_add(words.wrapping_mul(4)))
        }
        ethernet::IPV6 => {
            let header: Ipv6 = frame.read(at)?;
            (header.next_header, at.wrapping_add(Ipv6::BYTES))
        }
        _ => return None,
    };
    match protocol {
        ipv4::TCP => {
            let words: u8 = frame.read(transport_at.wrapping_add(TCP_WORDS_AT))?;
            let words = usize::from(words.wrapping_shr(4));
            Some(transport_at.wrapping_add(words.wrapping_mul(4)))
        }
        ipv4::UDP => Some(transport_at.wrapping_add(Udp::BYTES)),
        _ => None,
    }
}
