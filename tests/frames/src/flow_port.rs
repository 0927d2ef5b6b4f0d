//! Which outer source port must a frame get? The reference for `vnet_ebpf::step::parse::entropy`.
//!
//! Which fields of a frame tell its flow apart is worked out here from `etherparse`'s reading of
//! the frame; how they are mixed is [`Entropy`]'s business, which has tests of its own.

use anyhow::Result;
use etherparse::{EtherType, Ethernet2Slice, Ipv4HeaderSlice, Ipv6HeaderSlice, SingleVlanSlice};
use vnet_common::entropy::Entropy;

/// The UDP source port of the packet that carries this frame.
///
/// # Errors
///
/// It is no Ethernet frame.
pub fn flow_port(frame: &[u8]) -> Result<u16> {
    if frame.len() < 14 {
        // A probe: there is no frame and so no flow.
        return Ok(Entropy::new().source_port());
    }
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame)?;
    let mixed = match ethernet.ether_type() {
        EtherType::IPV4 => of_ipv4(ethernet.payload_slice()),
        EtherType::IPV6 => of_ipv6(ethernet.payload_slice()),
        EtherType::VLAN_TAGGED_FRAME => of_tagged(ethernet.payload_slice()),
        _ => None,
    };
    let addresses = || {
        let words = frame.chunks_exact(4).take(3);
        words.fold(Entropy::new(), |mixed, word| mixed.with(native(word)))
    };
    Ok(mixed.unwrap_or_else(addresses).source_port())
}

fn native(word: &[u8]) -> u32 {
    word.try_into().map_or(0, u32::from_ne_bytes)
}

fn of_tagged(payload: &[u8]) -> Option<Entropy> {
    let tag = SingleVlanSlice::from_slice(payload).ok()?;
    match tag.ether_type() {
        EtherType::IPV4 => of_ipv4(tag.payload_slice()),
        EtherType::IPV6 => of_ipv6(tag.payload_slice()),
        _ => None,
    }
}

/// Source, destination, and the protocol with the ports, if every packet of the flow shows them.
fn of_ipv4(payload: &[u8]) -> Option<Entropy> {
    let header = Ipv4HeaderSlice::from_slice(payload).ok()?;
    let mixed = Entropy::new()
        .with(u32::from_ne_bytes(header.source()))
        .with(u32::from_ne_bytes(header.destination()));
    let shows_ports = header.ihl() == 5 && !header.is_fragmenting_payload();
    Some(mixed.with(last(header.protocol().0, shows_ports, payload.get(20..24))))
}

fn of_ipv6(payload: &[u8]) -> Option<Entropy> {
    let header = Ipv6HeaderSlice::from_slice(payload).ok()?;
    let mut mixed = Entropy::new();
    for address in [header.source(), header.destination()] {
        let words: Vec<u32> = address.chunks_exact(4).map(native).collect();
        // The prefix is one word: it hardly differs from flow to flow.
        mixed = mixed
            .with(words[0] ^ words[1])
            .with(words[2])
            .with(words[3]);
    }
    Some(mixed.with(last(header.next_header().0, true, payload.get(40..44))))
}

fn last(protocol: u8, shows_ports: bool, ports: Option<&[u8]>) -> u32 {
    let has_ports = matches!(protocol, 6 | 17);
    let ports = ports.filter(|_| shows_ports && has_ports).map_or(0, native);
    u32::from(protocol) ^ ports
}
