//! The ordinary headers, by `etherparse`.
//!
//! Input: a layer's words and the bytes inside it. Output: the header. Every field that a packet
//! can lie in can be set; what is not said is right.

use anyhow::{Context, Result, bail, ensure};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ethernet2Header, Icmpv6Header, Icmpv6Type,
    IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header,
    SingleVlanHeader, TcpHeader, UdpHeader, VlanId, VlanPcp,
};

use crate::actor;
use crate::build::Inside;
use crate::flow_port::flow_port;
use crate::words::{Words, number};

/// The ethertype of what follows.
fn ether_type(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<EtherType> {
    if let Some(text) = words.value("type") {
        return Ok(EtherType(u16::try_from(number(text)?)?));
    }
    Ok(match inside.next_kind() {
        "vlan" => EtherType::VLAN_TAGGED_FRAME,
        "service-vlan" => EtherType::PROVIDER_BRIDGING,
        "arp" => EtherType::ARP,
        "ipv4" => EtherType::IPV4,
        "ipv6" => EtherType::IPV6,
        _ => bail!("what follows? `type=` says it"),
    })
}

/// `ethernet a -> b [type=N]`
pub fn ethernet(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    let (source, destination) = words.pair()?;
    let header = Ethernet2Header {
        source: actor::mac(source)?.0,
        destination: actor::mac(destination)?.0,
        ether_type: ether_type(words, inside)?,
    };
    Ok(header.to_bytes().to_vec())
}

/// `vlan ID [pcp=N] [type=N]`, `service-vlan ID …`: the four bytes of a tag after its ethertype.
pub fn vlan(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    let id = number(words.next_plain().context("which VLAN?")?)?;
    let header = SingleVlanHeader {
        pcp: VlanPcp::try_new(words.number("pcp", 0)?)?,
        drop_eligible_indicator: false,
        vlan_id: VlanId::try_new(u16::try_from(id)?)?,
        ether_type: ether_type(words, inside)?,
    };
    Ok(header.to_bytes().to_vec())
}

/// `arp a -> b`: a asks for the Ethernet address of b.
pub fn arp(words: &mut Words<'_>) -> Result<Vec<u8>> {
    let (asker, wanted) = words.pair()?;
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &actor::mac(asker)?.0,
        &actor::ipv4(asker)?.octets(),
        &[0; 6],
        &actor::ipv4(wanted)?.octets(),
    )?;
    Ok(packet.to_bytes().to_vec())
}

/// The protocol of what follows.
fn protocol(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<IpNumber> {
    if let Some(text) = words.value("protocol") {
        return Ok(IpNumber(u8::try_from(number(text)?)?));
    }
    Ok(match inside.next_kind() {
        "udp" => IpNumber::UDP,
        "tcp" => IpNumber::TCP,
        "neighbour" => IpNumber::IPV6_ICMP,
        "fragment" => IpNumber::IPV6_FRAGMENTATION_HEADER,
        _ => bail!("what follows? `protocol=` says it"),
    })
}

/// `ipv4 a -> b [ttl=N] [df] [mf] [offset=N] [id=N] [tos=N] [options=WORDS] [version=N]
/// [protocol=N] [total-length=±N] [checksum=±N]`
pub fn ipv4(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    let (source, destination) = words.pair()?;
    let mut header = Ipv4Header::new(
        0,
        words.number("ttl", 64)?,
        protocol(words, inside)?,
        actor::ipv4(source)?.octets(),
        actor::ipv4(destination)?.octets(),
    )?;
    // Options that say nothing (RFC 791: type 1, "no operation").
    let options = vec![1; 4 * words.number("options", 0usize)?];
    header.options = Ipv4Options::try_from(options.as_slice())?;
    header.total_len = words.lie("total-length", header.header_len() + inside.bytes.len())?;
    header.dont_fragment = words.flag("df");
    header.more_fragments = words.flag("mf");
    header.fragment_offset = IpFragOffset::try_new(words.number("offset", 0)?)?;
    header.identification = words.number("id", 0)?;
    let checksum = header.calc_header_checksum();
    header.header_checksum = words.lie("checksum", usize::from(checksum))?;
    let mut bytes = header.to_bytes().to_vec();
    if let Some(version) = words.value("version") {
        bytes[0] = bytes[0] & 0x0f | u8::try_from(number(version)?)? << 4;
    }
    Ok(bytes)
}

/// `ipv6 a -> b [hops=N] [protocol=N] [payload-length=±N] [version=N]`
pub fn ipv6(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    let (source, destination) = words.pair()?;
    let header = Ipv6Header {
        payload_length: words.lie("payload-length", inside.bytes.len())?,
        next_header: protocol(words, inside)?,
        hop_limit: words.number("hops", 64)?,
        source: actor::ipv6(source)?.octets(),
        destination: actor::ipv6(destination)?.octets(),
        ..Ipv6Header::default()
    };
    let mut bytes = header.to_bytes().to_vec();
    if let Some(version) = words.value("version") {
        bytes[0] = bytes[0] & 0x0f | u8::try_from(number(version)?)? << 4;
    }
    Ok(bytes)
}

/// `fragment PROTOCOL [mf] [offset=N] [id=N]`: what IPv6 has in place of IPv4's fields.
pub fn fragment(words: &mut Words<'_>) -> Result<Vec<u8>> {
    let protocol = number(words.next_plain().context("of what?")?)?;
    let header = Ipv6FragmentHeader {
        next_header: IpNumber(u8::try_from(protocol)?),
        fragment_offset: IpFragOffset::try_new(words.number("offset", 0)?)?,
        more_fragments: words.flag("mf"),
        identification: words.number("id", 0)?,
    };
    Ok(header.to_bytes().to_vec())
}

/// `neighbour a -> b`: a asks over IPv6 for the Ethernet address of b.
pub fn neighbour(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    let (asker, wanted) = words.pair()?;
    // RFC 4861: the option 1 with a length of one times 8 bytes is the asker's link-layer address.
    let mut body = actor::ipv6(wanted)?.octets().to_vec();
    body.extend([1, 1]);
    body.extend(actor::mac(asker)?.0);
    let Ends::V6(from, to) = ends(inside)? else {
        bail!("neighbours are asked for over IPv6");
    };
    let header = Icmpv6Header::with_checksum(Icmpv6Type::NeighborSolicitation, from, to, &body)?;
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend(body);
    Ok(bytes)
}

/// The IP addresses of the layer around, for checksums.
enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
    None,
}

fn ends(inside: &Inside<'_>) -> Result<Ends> {
    let Some(line) = inside.before else {
        return Ok(Ends::None);
    };
    let mut words = Words::of(line)?;
    Ok(match words.kind {
        "ipv4" => {
            let (a, b) = words.pair()?;
            Ends::V4(actor::ipv4(a)?.octets(), actor::ipv4(b)?.octets())
        }
        "ipv6" => {
            let (a, b) = words.pair()?;
            Ends::V6(actor::ipv6(a)?.octets(), actor::ipv6(b)?.octets())
        }
        _ => Ends::None,
    })
}

/// `udp a -> b [length=±N] [checksum=N]`: a port is a number, `geneve` (6081), or `flow`, which
/// follows from the frame inside the tunnel. Tunnels have no checksum, others have the right one.
pub fn udp(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    let (source, destination) = words.pair()?;
    let port = |word: &str| match word {
        "geneve" => Ok(6081),
        "flow" => flow_port(inside_tunnel(inside)?),
        word => Ok(u16::try_from(number(word)?)?),
    };
    let mut header = UdpHeader {
        source_port: port(source)?,
        destination_port: port(destination)?,
        length: words.lie("length", UdpHeader::LEN + inside.bytes.len())?,
        checksum: 0,
    };
    let checksum = match ends(inside)? {
        _ if inside.next_kind() == "geneve" => 0,
        Ends::V4(a, b) => header.calc_checksum_ipv4_raw(a, b, inside.bytes)?,
        Ends::V6(a, b) => header.calc_checksum_ipv6_raw(a, b, inside.bytes)?,
        Ends::None => 0,
    };
    header.checksum = words.lie("checksum", usize::from(checksum))?;
    Ok(header.to_bytes().to_vec())
}

/// The frame after Geneve's header and options.
fn inside_tunnel<'a>(inside: &Inside<'a>) -> Result<&'a [u8]> {
    ensure!(
        inside.next_kind() == "geneve",
        "`flow` is the port of a tunnel"
    );
    let first = inside.bytes.first().context("no Geneve header")?;
    let headers = 8 + 4 * usize::from(first & 0x3f);
    inside.bytes.get(headers..).context("no frame inside")
}

/// `tcp a -> b [sequence=N] [acknowledges=N] [push]`
pub fn tcp(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    let (source, destination) = words.pair()?;
    let port = |word| Ok::<u16, anyhow::Error>(u16::try_from(number(word)?)?);
    let sequence = words.number("sequence", 1)?;
    let mut header = TcpHeader::new(port(source)?, port(destination)?, sequence, 1024);
    if let Some(text) = words.value("acknowledges") {
        header.ack = true;
        header.acknowledgment_number = u32::try_from(number(text)?)?;
    }
    header.psh = words.flag("push");
    header.checksum = match ends(inside)? {
        Ends::V4(a, b) => header.calc_checksum_ipv4_raw(a, b, inside.bytes)?,
        Ends::V6(a, b) => header.calc_checksum_ipv6_raw(a, b, inside.bytes)?,
        Ends::None => 0,
    };
    Ok(header.to_bytes().to_vec())
}
