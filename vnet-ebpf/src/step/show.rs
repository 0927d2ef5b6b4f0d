//! What does a frame show of the work that its guest leaves to devices? Input: the first frame of
//! a flow. Output: bits for the port's state, by which the agent picks the door.

use core::mem::offset_of;

use vnet_common::checksum;
use vnet_common::table::port::PortState;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::ipv4::{self, Ipv4};
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::udp::Udp;

use super::parse::Parsed;
use crate::frame::Frame;

/// Where TCP's checksum is (RFC 9293, section 3.1).
const TCP_CHECKSUM_AT: usize = 16;

/// Bits of [`PortState::SEGMENTS`] and the others; 0 where it shows nothing.
#[inline(always)]
pub fn shown<F: Frame>(frame: &F, parsed: &Parsed) -> u32 {
    if frame.segment_bytes() != 0 {
        return PortState::SEGMENTS;
    }
    let unfinished = match parsed.ethertype {
        ethernet::IPV4 => over_ipv4(frame),
        ethernet::IPV6 => over_ipv6(frame),
        _ => None,
    };
    match unfinished {
        Some(true) => PortState::UNFINISHED,
        Some(false) => PortState::FINISHED,
        None => 0,
    }
}

#[inline(always)]
fn over_ipv4<F: Frame>(frame: &F) -> Option<bool> {
    let header: Ipv4 = frame.read(Ethernet::BYTES)?;
    if header.version_and_words != Ipv4::PLAIN || header.is_fragment() {
        return None;
    }
    let [a, b, c, d] = header.source;
    let [e, f, g, h] = header.destination;
    let addresses = word(a, b)
        .wrapping_add(word(c, d))
        .wrapping_add(word(e, f))
        .wrapping_add(word(g, h));
    let length = u16::from_be_bytes(header.total_length).wrapping_sub(Ipv4::BYTES as u16);
    let at = Ethernet::BYTES.wrapping_add(Ipv4::BYTES);
    is_unfinished(frame, at, header.protocol, length, addresses)
}

#[inline(always)]
fn over_ipv6<F: Frame>(frame: &F) -> Option<bool> {
    let header: Ipv6 = frame.read(Ethernet::BYTES)?;
    let addresses = sum(header.source).wrapping_add(sum(header.destination));
    let length = u16::from_be_bytes(header.payload_length);
    let at = Ethernet::BYTES.wrapping_add(Ipv6::BYTES);
    is_unfinished(frame, at, header.next_header, length, addresses)
}

/// Whether the checksum is that of the pseudo header alone, not complemented: where a sender stops
/// that leaves the rest to its device (RFC 9293, section 3.1; Linux, `CHECKSUM_PARTIAL`).
#[inline(always)]
fn is_unfinished<F: Frame>(
    frame: &F,
    at: usize,
    protocol: u8,
    length: u16,
    addresses: u32,
) -> Option<bool> {
    let place = match protocol {
        ipv4::TCP => TCP_CHECKSUM_AT,
        ipv4::UDP => offset_of!(Udp, checksum),
        _ => return None,
    };
    let there: [u8; 2] = frame.read(at.wrapping_add(place))?;
    let there = u16::from_be_bytes(there);
    if there == 0 {
        return None;
    }
    let pseudo = addresses
        .wrapping_add(u32::from(protocol))
        .wrapping_add(u32::from(length));
    Some(there == !checksum::finish(pseudo))
}

#[inline(always)]
const fn word(high: u8, low: u8) -> u32 {
    u16::from_be_bytes([high, low]) as u32
}

#[inline(always)]
const fn sum(address: [u8; 16]) -> u32 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    word(a, b)
        .wrapping_add(word(c, d))
        .wrapping_add(word(e, f))
        .wrapping_add(word(g, h))
        .wrapping_add(word(i, j))
        .wrapping_add(word(k, l))
        .wrapping_add(word(m, n))
        .wrapping_add(word(o, p))
}
