//! Who sends to whom, and which flow is it? Bytes in, keys out; no pointers kept.

use vnet_common::addr::Stations;
use vnet_common::entropy::Entropy;
use vnet_common::reason::Reason;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::ipv4::{self, Ipv4};
use vnet_common::wire::ipv6::Ipv6;

use crate::frame::Frame;

/// What a frame begins with.
#[derive(Clone, Copy, Debug)]
pub struct Parsed {
    /// Who sends, and who receives.
    pub stations: Stations,
    /// What follows.
    pub ethertype: [u8; 2],
}

/// The frame's addresses, and what follows them.
///
/// # Errors
///
/// Too short for an Ethernet header, or from an address that no station has.
#[inline(always)]
pub fn ethernet<F: Frame>(frame: &F) -> Result<Parsed, Reason> {
    let ethertype = frame.read(12).ok_or(Reason::Runt)?;
    let stations: Stations = frame.read(0).ok_or(Reason::Runt)?;
    if stations.is_from_nobody() {
        return Err(Reason::InvalidSource);
    }
    Ok(Parsed {
        stations,
        ethertype,
    })
}

/// A mixture of what tells the frame's flow apart: addresses and ports where it carries IP, else
/// the Ethernet header alone. Fragments leave the ports out, so that all go the same way.
#[inline(always)]
pub fn entropy<F: Frame>(frame: &F, parsed: &Parsed) -> Entropy {
    match parsed.ethertype {
        ethernet::IPV4 => of_ipv4(frame, Ethernet::BYTES),
        ethernet::IPV6 => of_ipv6(frame, Ethernet::BYTES),
        ethernet::VLAN => of_tagged(frame),
        _ => None,
    }
    .unwrap_or_else(|| of_addresses(parsed.stations))
}

/// Four bytes of VLAN tag, then what the untagged frame would have.
#[inline(always)]
fn of_tagged<F: Frame>(frame: &F) -> Option<Entropy> {
    let ethertype: [u8; 2] = frame.read(16)?;
    match ethertype {
        ethernet::IPV4 => of_ipv4(frame, 18),
        ethernet::IPV6 => of_ipv6(frame, 18),
        _ => None,
    }
}

#[inline(always)]
fn of_addresses(stations: Stations) -> Entropy {
    let [first, middle, last] = stations.words();
    Entropy::new().with(first).with(middle).with(last)
}

#[inline(always)]
fn of_ipv4<F: Frame>(frame: &F, at: usize) -> Option<Entropy> {
    let header: Ipv4 = frame.read(at)?;
    let mixed = Entropy::new()
        .with(u32::from_ne_bytes(header.source))
        .with(u32::from_ne_bytes(header.destination));
    let has_ports = begins_with_ports(header.protocol)
        && header.version_and_words == Ipv4::PLAIN
        && !header.is_fragment();
    Some(mix_ports(
        frame,
        mixed,
        header.protocol,
        has_ports,
        at.wrapping_add(Ipv4::BYTES),
    ))
}

#[inline(always)]
fn of_ipv6<F: Frame>(frame: &F, at: usize) -> Option<Entropy> {
    let header: Ipv6 = frame.read(at)?;
    let [s0, s1, s2, s3] = words(header.source);
    let [d0, d1, d2, d3] = words(header.destination);
    let mixed = Entropy::new()
        .with(s0 ^ s1)
        .with(s2)
        .with(s3)
        .with(d0 ^ d1)
        .with(d2)
        .with(d3);
    let has_ports = begins_with_ports(header.next_header);
    Some(mix_ports(
        frame,
        mixed,
        header.next_header,
        has_ports,
        at.wrapping_add(Ipv6::BYTES),
    ))
}

/// Whether the protocol's header begins with two ports.
#[inline(always)]
const fn begins_with_ports(protocol: u8) -> bool {
    matches!(protocol, ipv4::TCP | ipv4::UDP)
}

#[inline(always)]
fn mix_ports<F: Frame>(
    frame: &F,
    mixed: Entropy,
    protocol: u8,
    has_ports: bool,
    at: usize,
) -> Entropy {
    let ports = if has_ports {
        frame.read::<[u8; 4]>(at)
    } else {
        None
    };
    mixed.with(u32::from(protocol) ^ ports.map_or(0, u32::from_ne_bytes))
}

#[inline(always)]
const fn words(address: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}
