//! What do the outer headers of a packet say?

use std::net::IpAddr;

use vnet_common::addr::NetworkId;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::geneve::Geneve;
use vnet_common::wire::ipv4::Ipv4;
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::udp::Udp;
use zerocopy::FromBytes;

/// A packet of a link without what differs from packet to packet: stream, sequence, send time.
pub(super) fn without_sequence(bytes: &[u8], is_packet: bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if !is_packet {
        return bytes;
    }
    let is_ipv4 = bytes.get(12..14) == Some(&ethernet::IPV4);
    let geneve = if is_ipv4 { 42 } else { 62 };
    let has_option = bytes.get(geneve).is_some_and(|words| words & 0x3f != 0);
    if has_option && let Some(varying) = bytes.get_mut(geneve + 20..geneve + 28) {
        varying.fill(0);
    }
    bytes
}

/// The outer headers in words.
pub(super) fn outer(bytes: &[u8]) -> Option<String> {
    let (link, rest) = Ethernet::read_from_prefix(bytes).ok()?;
    let (source, destination, hops, rest): (IpAddr, IpAddr, u8, &[u8]) = match link.ethertype {
        ethernet::IPV4 => {
            let (ip, rest) = Ipv4::read_from_prefix(rest).ok()?;
            (ip.source.into(), ip.destination.into(), ip.ttl, rest)
        }
        ethernet::IPV6 => {
            let (ip, rest) = Ipv6::read_from_prefix(rest).ok()?;
            (ip.source.into(), ip.destination.into(), ip.hop_limit, rest)
        }
        // What goes up to the agent to be carried has none.
        _ => return None,
    };
    let (udp, rest) = Udp::read_from_prefix(rest).ok()?;
    let (geneve, _) = Geneve::read_from_prefix(rest).ok()?;
    Some(format!(
        "{} to {}, {source} port {} to {destination} port {}, TTL {hops}, Geneve network {}, {} \
         bytes of options",
        link.source,
        link.destination,
        u16::from_be_bytes(udp.source),
        u16::from_be_bytes(udp.destination),
        geneve.network().map_or(0, NetworkId::get),
        geneve.options_bytes(),
    ))
}
