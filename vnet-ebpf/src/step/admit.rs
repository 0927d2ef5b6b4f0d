//! Is this packet ours, and does it come over a link of ours? Nothing in it is believed before
//! its source, its network and its cookie agree.

use vnet_common::addr::{Cookie, LinkId, NetworkId};
use vnet_common::reason::Reason;
use vnet_common::table::admission::AdmissionKey;
use vnet_common::table::underlay::UnderlayEntry;
use vnet_common::wire::ethernet::Ethernet;
use vnet_common::wire::geneve::{self, Geneve, OptionHeader};
use vnet_common::wire::ipv4::{self, Ipv4};
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::link_option::LinkOption;
use vnet_common::wire::udp::Udp;

use crate::frame::Frame;
use crate::tables::Tables;

/// What the headers up to UDP say of a packet that is for us.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Who sent it: as the admission table writes it.
    pub source: [u8; 16],
    /// Where Geneve begins.
    pub geneve_at: usize,
    /// Where the packet ends, counted from its first byte: what comes after is padding.
    pub end: usize,
    /// Outer TTL.
    pub hop_limit: u8,
}

/// A packet that came over a link of ours.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// The link.
    pub link: LinkId,
    /// Its place in the ledgers.
    pub ledger: u32,
    /// The network inside.
    pub network: NetworkId,
    /// Its place.
    pub network_slot: u32,
    /// Bytes of all outer headers.
    pub headers: usize,
    /// For the endpoint itself, not for a guest.
    pub is_control: bool,
    /// The ethertype of what is inside.
    pub protocol: [u8; 2],
    /// The number of a frame for many; 0 for all others.
    pub copy: u32,
}

/// What the outer headers make of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Claim {
    /// The host's own business.
    NotOurs,
    /// For us, but broken.
    Broken(Reason),
    /// Geneve, for us.
    Ours(Outer),
}

const IP_AT: usize = Ethernet::BYTES;

/// Whether an IPv4 packet is Geneve for us.
#[inline(always)]
pub fn ipv4<F: Frame>(frame: &F, underlay: &UnderlayEntry) -> Claim {
    let Some(ip) = frame.read::<Ipv4>(IP_AT) else {
        return Claim::NotOurs;
    };
    // We never send options; a packet with some is for the host to judge.
    if ip.version_and_words != Ipv4::PLAIN
        || ip.protocol != ipv4::UDP
        || ip.destination != underlay.ipv4
        || ip.is_later_fragment()
    {
        return Claim::NotOurs;
    }
    let Some(udp) = udp_for_us(frame, IP_AT.wrapping_add(Ipv4::BYTES), underlay) else {
        return Claim::NotOurs;
    };
    if ip.is_fragment() {
        return Claim::Broken(Reason::OuterFragment);
    }
    let total = packet_bytes(frame, u16::from_be_bytes(ip.total_length));
    if !ip.is_intact() || !lengths_agree(frame, IP_AT, total, Ipv4::BYTES, &udp) {
        return Claim::Broken(Reason::OuterHeader);
    }
    Claim::Ours(Outer {
        source: AdmissionKey::ipv4(ip.source, NETWORK_ANY).source,
        geneve_at: IP_AT.wrapping_add(Ipv4::BYTES).wrapping_add(Udp::BYTES),
        end: IP_AT.wrapping_add(total),
        hop_limit: ip.ttl,
    })
}

/// Whether an IPv6 packet is Geneve for us.
#[inline(always)]
pub fn ipv6<F: Frame>(frame: &F, underlay: &UnderlayEntry) -> Claim {
    let Some(ip) = frame.read::<Ipv6>(IP_AT) else {
        return Claim::NotOurs;
    };
    if !ip.is_version_6() || ip.next_header != ipv4::UDP || ip.destination != underlay.ipv6 {
        return Claim::NotOurs;
    }
    let Some(udp) = udp_for_us(frame, IP_AT.wrapping_add(Ipv6::BYTES), underlay) else {
        return Claim::NotOurs;
    };
    // The table of peers writes IPv4 addresses so; on the wire nobody has such an address.
    if ip.is_from_mapped_ipv4() {
        return Claim::Broken(Reason::UnknownPeer);
    }
    let total = u16::from_be_bytes(ip.payload_length).wrapping_add(Ipv6::BYTES as u16);
    let total = packet_bytes(frame, total);
    if !lengths_agree(frame, IP_AT, total, Ipv6::BYTES, &udp) {
        return Claim::Broken(Reason::OuterHeader);
    }
    Claim::Ours(Outer {
        source: ip.source,
        geneve_at: IP_AT.wrapping_add(Ipv6::BYTES).wrapping_add(Udp::BYTES),
        end: IP_AT.wrapping_add(total),
        hop_limit: ip.hop_limit,
    })
}

/// Any network, where only the address part of a key is wanted.
const NETWORK_ANY: NetworkId = match NetworkId::new(1) {
    Some(network) => network,
    None => unreachable!(),
};

#[inline(always)]
fn udp_for_us<F: Frame>(frame: &F, at: usize, underlay: &UnderlayEntry) -> Option<Udp> {
    let udp: Udp = frame.read(at)?;
    if udp.destination == underlay.udp_port {
        Some(udp)
    } else {
        None
    }
}

/// IP header and payload. Where several packets were joined, or were never apart, they say of
/// themselves what one of them would, and the kernel has made sure that they fit.
#[inline(always)]
fn packet_bytes<F: Frame>(frame: &F, said: u16) -> usize {
    if frame.segment_bytes() == 0 {
        usize::from(said)
    } else {
        (frame.length() as usize).wrapping_sub(IP_AT)
    }
}

/// IP's length fits the frame, and UDP's fits IP's exactly.
#[inline(always)]
fn lengths_agree<F: Frame>(
    frame: &F,
    ip_at: usize,
    total: usize,
    ip_bytes: usize,
    udp: &Udp,
) -> bool {
    if frame.segment_bytes() != 0 {
        return true;
    }
    let udp_length = usize::from(u16::from_be_bytes(udp.length));
    total == ip_bytes.wrapping_add(udp_length)
        && udp_length >= Udp::BYTES
        && ip_at.wrapping_add(total) <= frame.length() as usize
}

/// The link that the packet came over.
///
/// # Errors
///
/// Geneve's header or options are broken or unknown and critical, or the sender is not one of
/// ours, or does not prove it.
#[inline(always)]
pub fn admit<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    outer: &Outer,
) -> Result<Admitted, Reason> {
    let geneve: Geneve = frame.read(outer.geneve_at).ok_or(Reason::Geneve)?;
    let options = geneve.options_bytes();
    let headers = outer
        .geneve_at
        .wrapping_add(Geneve::BYTES)
        .wrapping_add(options);
    if !geneve.is_version_0() || headers > outer.end {
        return Err(Reason::Geneve);
    }
    let network = geneve.network().ok_or(Reason::UnknownPeer)?;
    let key = AdmissionKey {
        source: outer.source,
        network,
    };
    let entry = tables.admission(&key).ok_or(Reason::UnknownPeer)?;
    let at = outer.geneve_at.wrapping_add(Geneve::BYTES);
    let copy = match own_option_alone(frame, at, options) {
        Some(option) => {
            proves(Some(option.cookie()), entry.cookie)?;
            option.copy()
        }
        // Not from an agent of ours: nobody there gives numbers.
        None => {
            frame.walk_options(at, options, entry.cookie)?;
            0
        }
    };
    Ok(Admitted {
        link: entry.link,
        ledger: entry.ledger,
        network,
        network_slot: entry.network_slot,
        // Read once more, as a number that the verifier knows nothing of: it would follow every
        // length that the options were found to have to the program's end.
        headers: headers_bytes(frame, outer).ok_or(Reason::Geneve)?,
        is_control: geneve.flags & Geneve::CONTROL != 0,
        protocol: geneve.protocol,
        copy,
    })
}

/// Bytes of all outer headers.
#[inline(always)]
fn headers_bytes<F: Frame>(frame: &F, outer: &Outer) -> Option<usize> {
    let geneve: Geneve = frame.read(outer.geneve_at)?;
    let before = outer.geneve_at.wrapping_add(Geneve::BYTES);
    Some(before.wrapping_add(core::hint::black_box(geneve.options_bytes()) & 0xfc))
}

/// The common case: our option and no other.
#[inline(always)]
fn own_option_alone<F: Frame>(frame: &F, at: usize, options: usize) -> Option<LinkOption> {
    if options != LinkOption::BYTES {
        return None;
    }
    let option: LinkOption = frame.read(at)?;
    if option.header == LinkOption::HEADER {
        Some(option)
    } else {
        None
    }
}

#[inline(always)]
fn proves(said: Option<Cookie>, expected: Cookie) -> Result<(), Reason> {
    match said {
        _ if expected == Cookie::NONE => Ok(()),
        None => Err(Reason::NoCookie),
        Some(cookie) if cookie != expected => Err(Reason::WrongCookie),
        Some(_) => Ok(()),
    }
}

/// Whether any options are sound, and the cookie among them the expected one.
///
/// # Errors
///
/// They are broken, or one is unknown and critical, or the cookie is another or not there.
#[inline(always)]
pub fn walk_options<F: Frame>(
    frame: &F,
    at: usize,
    options: usize,
    expected: Cookie,
) -> Result<(), Reason> {
    let mut cookie = None;
    let mut offset = 0usize;
    // At most 63: each takes at least its header's four bytes.
    for _ in 0..(geneve::OPTIONS_BYTES_MAX / OptionHeader::BYTES) {
        if offset >= options {
            break;
        }
        // Tells the verifier what the loop's condition already says.
        let offset_bounded = offset & 0xff;
        let header: OptionHeader = frame
            .read(at.wrapping_add(offset_bounded))
            .ok_or(Reason::Geneve)?;
        if offset.wrapping_add(header.bytes()) > options {
            return Err(Reason::Geneve);
        }
        if header == LinkOption::HEADER {
            let option: LinkOption = frame
                .read(at.wrapping_add(offset_bounded))
                .ok_or(Reason::Geneve)?;
            cookie = Some(option.cookie());
        } else if header.is_critical() {
            return Err(Reason::CriticalOption);
        }
        offset = offset.wrapping_add(header.bytes());
    }
    proves(cookie, expected)
}
