//! The outer headers on: copied whole from the link's entry, then the fields that differ from
//! frame to frame.

use vnet_common::addr::LinkId;
use vnet_common::checksum;
use vnet_common::entropy::Entropy;
use vnet_common::reason::Reason;
use vnet_common::table::link::LinkEntry;
use vnet_common::wire::ethernet::Ethernet;
use vnet_common::wire::geneve::Geneve;
use vnet_common::wire::ipv4::Ipv4;
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::link_option::LinkOption;
use vnet_common::wire::udp::Udp;

use crate::frame::Frame;
use crate::tables::Tables;

/// What the outer headers need to know of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// The outer TTL.
    pub hop_limit: u8,
    /// The network's number on the wire.
    pub network: [u8; 3],
    /// What chooses the outer source port.
    pub entropy: Entropy,
    /// The number of a frame for many; 0 for all others.
    pub copy: u32,
}

const AFTER_IPV4: usize = 34;
const AFTER_IPV6: usize = 54;

/// Puts the link's headers in front of the frame.
///
/// # Errors
///
/// [`Reason::NoHeadroom`] where the driver left no room, or the kernel cannot put a tunnel around
/// this frame.
#[inline(always)]
pub fn encap<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    id: LinkId,
    link: &LinkEntry,
    outside: &Outside,
) -> Result<(), Reason> {
    let is_plain = link.flags & LinkEntry::PLAIN != 0;
    let after_ip = match (link.flags & LinkEntry::IPV6 != 0, is_plain) {
        (false, false) => over_ipv4::<F, 78>(frame, link, outside),
        (false, true) => over_ipv4::<F, 50>(frame, link, outside),
        (true, false) => over_ipv6::<F, 98>(frame, link, outside),
        (true, true) => over_ipv6::<F, 70>(frame, link, outside),
    }?;
    if !is_plain && !cfg!(feature = "without-link-fields") {
        option(frame, tables, id, link, after_ip, outside.copy).ok_or(Reason::NoHeadroom)?;
    }
    Ok(())
}

#[inline(always)]
fn over_ipv4<F: Frame, const HEADERS: usize>(
    frame: &mut F,
    link: &LinkEntry,
    outside: &Outside,
) -> Result<usize, Reason> {
    frame.encapsulate(HEADERS, false)?;
    fill_ipv4::<F, HEADERS>(frame, link, outside).ok_or(Reason::NoHeadroom)
}

#[inline(always)]
fn fill_ipv4<F: Frame, const HEADERS: usize>(
    frame: &mut F,
    link: &LinkEntry,
    outside: &Outside,
) -> Option<usize> {
    frame.write(0, link.header.first_chunk::<HEADERS>()?)?;
    let length = (frame.length() as u16).wrapping_sub(Ethernet::BYTES as u16);
    // The TTL is the high byte of its word.
    let sum = link
        .ipv4_sum
        .wrapping_add(u32::from(length))
        .wrapping_add(u32::from(outside.hop_limit).wrapping_shl(8));
    frame.write(16, &length.to_be_bytes())?;
    frame.write(22, &outside.hop_limit)?;
    frame.write(24, &checksum::finish(sum).to_be_bytes())?;
    let udp_length = length.wrapping_sub(Ipv4::BYTES as u16);
    udp_and_network(frame, AFTER_IPV4, udp_length, outside)?;
    Some(AFTER_IPV4)
}

#[inline(always)]
fn over_ipv6<F: Frame, const HEADERS: usize>(
    frame: &mut F,
    link: &LinkEntry,
    outside: &Outside,
) -> Result<usize, Reason> {
    frame.encapsulate(HEADERS, true)?;
    fill_ipv6::<F, HEADERS>(frame, link, outside).ok_or(Reason::NoHeadroom)
}

#[inline(always)]
fn fill_ipv6<F: Frame, const HEADERS: usize>(
    frame: &mut F,
    link: &LinkEntry,
    outside: &Outside,
) -> Option<usize> {
    frame.write(0, link.header.first_chunk::<HEADERS>()?)?;
    let length = (frame.length() as u16)
        .wrapping_sub((Ethernet::BYTES as u16).wrapping_add(Ipv6::BYTES as u16));
    frame.write(18, &length.to_be_bytes())?;
    frame.write(21, &outside.hop_limit)?;
    udp_and_network(frame, AFTER_IPV6, length, outside)?;
    Some(AFTER_IPV6)
}

#[inline(always)]
fn udp_and_network<F: Frame>(
    frame: &mut F,
    udp: usize,
    length: u16,
    outside: &Outside,
) -> Option<()> {
    frame.write(udp, &outside.entropy.source_port().to_be_bytes())?;
    frame.write(udp.wrapping_add(4), &length.to_be_bytes())?;
    frame.write(
        udp.wrapping_add(Udp::BYTES).wrapping_add(4),
        &outside.network,
    )
}

#[inline(always)]
fn option<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    id: LinkId,
    link: &LinkEntry,
    after_ip: usize,
    copy: u32,
) -> Option<()> {
    let (stream, sequence) = tables.next_sequence(id);
    let [_, high, middle, low] = sequence.to_be_bytes();
    let option_at = after_ip
        .wrapping_add(Udp::BYTES)
        .wrapping_add(Geneve::BYTES);
    if copy != 0 {
        let [_, a, b, c] = copy.to_be_bytes();
        frame.write(option_at.wrapping_add(LinkOption::COPY_AT), &[a, b, c])?;
    }
    let at = option_at.wrapping_add(LinkOption::STREAM_AT);
    frame.write(at, &[stream, high, middle, low])?;
    if link.flags & LinkEntry::STAMP != 0 {
        // 0 means "not stamped"; the one instant in 2^32 that is 0 is told as 1.
        let sent_ns = match tables.now_ns() as u32 {
            0 => 1,
            sent_ns => sent_ns,
        };
        frame.write(at.wrapping_add(4), &sent_ns.to_be_bytes())?;
    }
    Some(())
}
