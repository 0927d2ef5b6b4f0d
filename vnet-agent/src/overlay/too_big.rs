//! What does the sender of a frame that is too big hear?
//!
//! Input: the beginning of the frame, as the data plane sent it up, and how many bytes behind an
//! Ethernet header would have fitted. Output: the frame that says so to the sender, or nothing where there must be
//! none. Pure.
//!
//! IPv4 gets "fragmentation needed" with the next hop's MTU (RFC 792, RFC 1191 section 4), IPv6
//! "packet too big" (RFC 4443, section 3.2). The overlay has no addresses in its guests' networks:
//! the answer comes from whom the packet was for, as from the tunnels of Linux, and so passes any
//! filter that lets the connection itself pass. A packet without the DF flag is answered too, for
//! it is not fragmented here.
//!
//! Nobody is told about errors, later fragments and packets to or from groups (RFC 1122 section
//! 3.2.2, RFC 4443 section 2.4 (e)), nor of an MTU that a host must not believe. The checksum of
//! the packet's header is not asked: a guest may leave it to its device.

use std::net::{Ipv4Addr, Ipv6Addr};

use vnet_common::addr::Mac;
use vnet_common::checksum;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::ipv4::{DONT_FRAGMENT, Ipv4};
use vnet_common::wire::ipv6::Ipv6;
use zerocopy::{FromBytes, IntoBytes};

use crate::model::mtu::IPV6_MTU_MIN;

/// The smallest MTU that IPv4 allows a link (RFC 791, section 3.2).
const IPV4_MTU_MIN: u16 = 68;
/// Bytes of an answer over IPv4 at the most, IP header included (RFC 1812, section 4.3.2.3).
const IPV4_ANSWER_BYTES_MAX: usize = 576;
/// The same over IPv6 (RFC 4443, section 2.4 (c)).
const IPV6_ANSWER_BYTES_MAX: usize = 1280;

const ICMP_BYTES: usize = 8;
/// What must be there of a packet behind its IP header: what tells connections apart.
const PAYLOAD_BYTES_MIN: usize = 8;
/// Precedence "internetwork control", as RFC 1812 wants it for errors (section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
const HOPS: u8 = 64;

const ICMP: u8 = 1;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_FRAGMENTATION_NEEDED: u8 = 4;
/// Unreachable, quench, redirect, time exceeded, parameter problem (RFC 1122, section 3.2.2), and
/// security failures (RFC 2521).
const ICMP_ERRORS: [u8; 6] = [3, 4, 5, 11, 12, 40];

const ICMPV6: u8 = 58;
const ICMPV6_TOO_BIG: u8 = 2;
/// Up to here all are errors (RFC 4443, section 2.1).
const ICMPV6_ERROR_MAX: u8 = 127;
const ICMPV6_REDIRECT: u8 = 137;

/// The answer to a frame, without the agent's header.
pub fn answer(frame: &[u8], room: u16) -> Option<Vec<u8>> {
    let (header, rest) = Ethernet::read_from_prefix(frame).ok()?;
    let is_of_one = |mac: Mac| !mac.is_group() && mac != Mac::ZERO;
    if !is_of_one(header.source) || !is_of_one(header.destination) {
        return None;
    }
    let (tag, ethertype, packet) = match header.ethertype {
        ethernet::VLAN => {
            let (&[high, low, e1, e2], packet) = rest.split_first_chunk()?;
            ([high, low, e1, e2].to_vec(), [e1, e2], packet)
        }
        ethertype => (Vec::new(), ethertype, rest),
    };
    let mtu = room.checked_sub(u16::try_from(tag.len()).ok()?)?;
    let message = match ethertype {
        ethernet::IPV4 => over_ipv4(packet, mtu)?,
        ethernet::IPV6 => over_ipv6(packet, mtu)?,
        _ => return None,
    };
    let back = Ethernet {
        destination: header.source,
        source: header.destination,
        ethertype: header.ethertype,
    };
    Some([back.as_bytes(), &tag, &message].concat())
}

fn over_ipv4(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let (header, _) = Ipv4::read_from_prefix(packet).ok()?;
    let header_bytes = usize::from(header.version_and_words & 0x0f) * 4;
    let total = u16::from_be_bytes(header.total_length);
    let packet = packet.get(..packet.len().min(usize::from(total)))?;
    let is_whole = header.version_and_words >> 4 == 4
        && header_bytes >= Ipv4::BYTES
        && packet.len() >= header_bytes + PAYLOAD_BYTES_MIN;
    let (source, destination) = (header.source.into(), header.destination.into());
    if !is_whole
        || mtu < IPV4_MTU_MIN
        || total <= mtu
        || header.is_later_fragment()
        || !is_one_host(source)
        || !is_one_host(destination)
    {
        return None;
    }
    let kind = *packet.get(header_bytes)?;
    if header.protocol == ICMP && ICMP_ERRORS.contains(&kind) {
        return None;
    }
    let quote_max = IPV4_ANSWER_BYTES_MAX - Ipv4::BYTES - ICMP_BYTES;
    let quote = packet.get(..packet.len().min(quote_max))?;
    let [high, low] = mtu.to_be_bytes();
    let mut message = vec![
        ICMP_UNREACHABLE,
        ICMP_FRAGMENTATION_NEEDED,
        0,
        0,
        0,
        0,
        high,
        low,
    ];
    message.extend_from_slice(quote);
    let sum = checksum::sum(&message);
    set_checksum(&mut message, sum);
    let total = u16::try_from(Ipv4::BYTES + message.len()).ok()?;
    let mut back = Ipv4 {
        version_and_words: Ipv4::PLAIN,
        service: INTERNETWORK_CONTROL,
        total_length: total.to_be_bytes(),
        identification: [0; 2],
        flags_and_offset: DONT_FRAGMENT,
        ttl: HOPS,
        protocol: ICMP,
        checksum: [0; 2],
        source: header.destination,
        destination: header.source,
    };
    back.checksum = checksum::finish(checksum::sum(back.as_bytes())).to_be_bytes();
    Some([back.as_bytes(), &message].concat())
}

fn over_ipv6(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let (header, _) = Ipv6::read_from_prefix(packet).ok()?;
    let payload = usize::from(u16::from_be_bytes(header.payload_length));
    let total = Ipv6::BYTES + payload;
    let packet = packet.get(..packet.len().min(total))?;
    let source = Ipv6Addr::from(header.source);
    if !header.is_version_6()
        || u32::from(mtu) < IPV6_MTU_MIN
        || total <= usize::from(mtu)
        || source.is_multicast()
        || source.is_unspecified()
        || source.is_loopback()
        || Ipv6Addr::from(header.destination).is_multicast()
        || !may_be_answered(header.next_header, packet.get(Ipv6::BYTES..)?)
    {
        return None;
    }
    let quote_max = IPV6_ANSWER_BYTES_MAX - Ipv6::BYTES - ICMP_BYTES;
    let quote = packet.get(..packet.len().min(quote_max))?;
    let mut message = vec![ICMPV6_TOO_BIG, 0, 0, 0];
    message.extend_from_slice(&u32::from(mtu).to_be_bytes());
    message.extend_from_slice(quote);
    let length = u16::try_from(message.len()).ok()?;
    let back = Ipv6 {
        version_and_flow: [0x60, 0, 0, 0],
        payload_length: length.to_be_bytes(),
        next_header: ICMPV6,
        hop_limit: HOPS,
        source: header.destination,
        destination: header.source,
    };
    // The pseudo header (RFC 8200, section 8.1).
    let sum = checksum::sum(&back.source)
        + checksum::sum(&back.destination)
        + u32::from(length)
        + u32::from(ICMPV6)
        + checksum::sum(&message);
    set_checksum(&mut message, sum);
    Some([back.as_bytes(), &message].concat())
}

/// Both kinds of ICMP have theirs after type and code.
fn set_checksum(message: &mut [u8], sum: u32) {
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&checksum::finish(sum).to_be_bytes());
    }
}

/// Not zero, loopback, a group, reserved, or everybody (RFC 1122, section 3.2.2).
fn is_one_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && !address.is_loopback() && first < 224
}

/// Whether what follows an IPv6 header is neither an ICMPv6 error or redirect nor a later fragment,
/// as far as its extension headers can be read to the end.
fn may_be_answered(first: u8, mut rest: &[u8]) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const OPTIONS: u8 = 60;
    const MOBILITY: u8 = 135;
    const CHAIN_MAX: usize = 8;
    let mut kind = first;
    for _ in 0..CHAIN_MAX {
        let is_extension = [
            HOP_BY_HOP,
            ROUTING,
            FRAGMENT,
            AUTHENTICATION,
            OPTIONS,
            MOBILITY,
        ];
        if !is_extension.contains(&kind) {
            return match rest.first() {
                Some(&message) if kind == ICMPV6 => {
                    message > ICMPV6_ERROR_MAX && message != ICMPV6_REDIRECT
                }
                Some(_) => true,
                None => false,
            };
        }
        let Some(&[next, length, offset_high, offset_low, ..]) = rest.first_chunk::<8>() else {
            return false;
        };
        let bytes = match kind {
            FRAGMENT if u16::from_be_bytes([offset_high, offset_low]) & 0xfff8 != 0 => {
                return false;
            }
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        let Some(after) = rest.get(bytes..) else {
            return false;
        };
        (kind, rest) = (next, after);
    }
    false
}

#[cfg(test)]
mod tests;
