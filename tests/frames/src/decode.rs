//! What is in these bytes? One line a header, in the words of the builder, for people who read
//! failures. Best effort: what cannot be read is shown as bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2Slice, Ipv4HeaderSlice, Ipv6HeaderSlice, SingleVlanSlice, UdpHeaderSlice,
};

use crate::actor::{self, ACTORS};
use vnet_common::addr::Mac;

/// The headers of an Ethernet frame (or of the agent's header and the frame behind it).
#[must_use]
pub fn decode(frame: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let rest = ethernet(frame, &mut lines).unwrap_or(frame);
    if !rest.is_empty() {
        lines.push(bytes(rest));
    }
    lines
}

fn bytes(rest: &[u8]) -> String {
    const SHOWN: usize = 48;
    let digits: Vec<String> = rest
        .iter()
        .take(SHOWN)
        .map(|b| format!("{b:02x}"))
        .collect();
    let more = if rest.len() > SHOWN { " …" } else { "" };
    format!("{} bytes {}{more}", rest.len(), digits.join(" "))
}

fn mac(bytes: [u8; 6]) -> String {
    actor::name_of(Mac(bytes))
}

/// Reads one header and goes on with what it says follows. Returns what is left over.
fn ethernet<'a>(frame: &'a [u8], lines: &mut Vec<String>) -> Option<&'a [u8]> {
    const AGENT: [u8; 6] = [0x02, b'v', b'n', b'e', b't', 0];
    let header = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    let (from, to) = (mac(header.source()), mac(header.destination()));
    let kind = header.ether_type();
    if header.destination() == AGENT && frame.len() >= 32 {
        lines.push(slow(frame));
        return Some(ethernet(&frame[32..], lines).unwrap_or(&frame[32..]));
    }
    lines.push(format!("ethernet {from} -> {to} type=0x{:04x}", kind.0));
    Some(after_ether_type(kind, header.payload_slice(), lines))
}

fn after_ether_type<'a>(kind: EtherType, rest: &'a [u8], lines: &mut Vec<String>) -> &'a [u8] {
    let read = match kind {
        EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING => vlan(rest, lines),
        EtherType::IPV4 => ipv4(rest, lines),
        EtherType::IPV6 => ipv6(rest, lines),
        _ => None,
    };
    read.unwrap_or(rest)
}

fn slow(frame: &[u8]) -> String {
    let number = |at: usize| {
        let bytes = frame.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    };
    let kinds = [
        "?",
        "frame",
        "probe-reply",
        "deliver",
        "send",
        "probe",
        "too-big",
        "carry",
        "arrived",
    ];
    let kind = kinds.get(usize::from(frame[14])).unwrap_or(&"?");
    format!(
        "slow {kind} hops={} network={} port={} link={} origin={} mtu={} or copy={}",
        frame[15],
        number(16),
        number(20),
        number(24),
        frame[28],
        u16::from_ne_bytes([frame[30], frame[31]]),
        u32::from_be_bytes([0, frame[29], frame[30], frame[31]])
    )
}

fn vlan<'a>(rest: &'a [u8], lines: &mut Vec<String>) -> Option<&'a [u8]> {
    let tag = SingleVlanSlice::from_slice(rest).ok()?;
    lines.push(format!("vlan {}", tag.vlan_identifier().value()));
    Some(after_ether_type(
        tag.ether_type(),
        tag.payload_slice(),
        lines,
    ))
}

fn ipv4<'a>(rest: &'a [u8], lines: &mut Vec<String>) -> Option<&'a [u8]> {
    let header = Ipv4HeaderSlice::from_slice(rest).ok()?;
    let name = |address: Ipv4Addr| {
        let actor = ACTORS.iter().find(|actor| actor.ipv4 == address);
        actor.map_or(address.to_string(), |actor| actor.name.to_owned())
    };
    let (from, to) = (name(header.source_addr()), name(header.destination_addr()));
    let flag = |is_set, word| if is_set { word } else { "" };
    lines.push(format!(
        "ipv4 {from} -> {to} ttl={}{}{} offset={} id={} protocol={} total-length={} checksum=0x{:04x}",
        header.ttl(),
        flag(header.dont_fragment(), " df"),
        flag(header.more_fragments(), " mf"),
        header.fragments_offset().value(),
        header.identification(),
        header.protocol().0,
        header.total_len(),
        header.header_checksum()
    ));
    let rest = rest.get(header.slice().len()..)?;
    Some(after_protocol(header.protocol().0, rest, lines))
}

fn ipv6<'a>(rest: &'a [u8], lines: &mut Vec<String>) -> Option<&'a [u8]> {
    let header = Ipv6HeaderSlice::from_slice(rest).ok()?;
    let name = |address: Ipv6Addr| {
        let actor = ACTORS.iter().find(|actor| actor.ipv6 == address);
        actor.map_or(address.to_string(), |actor| actor.name.to_owned())
    };
    lines.push(format!(
        "ipv6 {} -> {} hops={} protocol={} payload-length={}",
        name(header.source_addr()),
        name(header.destination_addr()),
        header.hop_limit(),
        header.next_header().0,
        header.payload_length()
    ));
    let rest = rest.get(40..)?;
    Some(after_protocol(header.next_header().0, rest, lines))
}

fn after_protocol<'a>(protocol: u8, rest: &'a [u8], lines: &mut Vec<String>) -> &'a [u8] {
    if protocol != 17 {
        return rest;
    }
    udp(rest, lines).unwrap_or(rest)
}

fn udp<'a>(rest: &'a [u8], lines: &mut Vec<String>) -> Option<&'a [u8]> {
    let header = UdpHeaderSlice::from_slice(rest).ok()?;
    lines.push(format!(
        "udp {} -> {} length={} checksum=0x{:04x}",
        header.source_port(),
        header.destination_port(),
        header.length(),
        header.checksum()
    ));
    let rest = rest.get(8..)?;
    Some(match header.destination_port() {
        6081 => geneve(rest, lines).unwrap_or(rest),
        _ => rest,
    })
}

fn geneve<'a>(rest: &'a [u8], lines: &mut Vec<String>) -> Option<&'a [u8]> {
    let [version_and_words, flags, p1, p2, n1, n2, n3, reserved] = *rest.first_chunk()?;
    let words = version_and_words & 0x3f;
    lines.push(format!(
        "geneve network={} version={} words={words} flags=0x{flags:02x} protocol=0x{p1:02x}{p2:02x} \
         reserved={reserved}",
        u32::from_be_bytes([0, n1, n2, n3]),
        version_and_words >> 6,
    ));
    let (mut options, rest) = rest.get(8..)?.split_at_checked(usize::from(words) * 4)?;
    while let Some([class1, class2, kind, length]) = options.first_chunk().copied() {
        let bytes_of_it = 4 + 4 * usize::from(length & 0x1f);
        let option = options.get(..bytes_of_it)?;
        lines.push(format!(
            "option class=0x{class1:02x}{class2:02x} type=0x{kind:02x} {}",
            bytes(&option[4..])
        ));
        options = options.get(bytes_of_it..)?;
    }
    Some(match (p1, p2) {
        (0x65, 0x58) => ethernet(rest, lines).unwrap_or(rest),
        _ => rest,
    })
}
