//! Probes answered in the kernel: a request goes back where it came from, an answer goes up to
//! the agent that asked.

use core::mem::offset_of;

use vnet_common::addr::Stations;
use vnet_common::checksum;
use vnet_common::reason::Reason;
use vnet_common::table::flow::Origin;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::ipv4::Ipv4;
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::probe::Probe;
use vnet_common::wire::slow::Slow;
use vnet_common::wire::udp::Udp;

use super::admit::{Admitted, Outer};
use super::deliver;
use crate::Outcome;
use crate::frame::{Door, Frame};
use crate::tables::Tables;

/// Handles a control packet.
///
/// # Errors
///
/// It is no probe, or a broken one.
#[inline(always)]
pub fn control<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    outer: &Outer,
    admitted: &Admitted,
) -> Result<Outcome, Reason> {
    let end = admitted.headers.wrapping_add(Probe::BYTES);
    if admitted.protocol != ethernet::LOCAL || outer.end < end {
        return Err(Reason::UnknownControl);
    }
    let kind: u8 = frame.read(admitted.headers).ok_or(Reason::UnknownControl)?;
    // What is behind a probe made it large, to ask whether so much arrives, and has done its work. At
    // the TC door the kernel takes nothing off the end of what it knows as a tunnel's packet, which it
    // is to it where a veth brought it from its sender: then the answer is as large.
    if frame.truncate(end as u32).is_none() && F::DOOR == Door::Xdp {
        return Err(Reason::OuterHeader);
    }
    let end = frame.length() as usize;
    match kind {
        Probe::REQUEST => answer(frame, tables, admitted, end),
        Probe::REPLY => {
            frame
                .shrink(admitted.headers)
                .ok_or(Reason::UnknownControl)?;
            let header = Slow::to_agent(
                Slow::PROBE_REPLY,
                0,
                admitted.network,
                Origin::link(admitted.link),
            );
            deliver::to_agent(frame, tables, &header)
        }
        _ => Err(Reason::UnknownControl),
    }
}

/// Turns the request around in place, without what was behind it where that can be: the answer tells
/// of the way here and should not be lost for the size of the way back.
#[inline(always)]
fn answer<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    admitted: &Admitted,
    end: usize,
) -> Result<Outcome, Reason> {
    let answered_ns_at = admitted
        .headers
        .wrapping_add(offset_of!(Probe, answered_ns));
    frame
        .write(admitted.headers, &Probe::REPLY)
        .ok_or(Reason::UnknownControl)?;
    frame
        .write(answered_ns_at, &tables.now_ns().to_be_bytes())
        .ok_or(Reason::UnknownControl)?;
    turn_around(frame, end).ok_or(Reason::UnknownControl)?;
    Ok(Outcome::ANSWERED)
}

#[inline(always)]
fn turn_around<F: Frame>(frame: &mut F, end: usize) -> Option<()> {
    let stations: Stations = frame.read(0)?;
    let ethertype: [u8; 2] = frame.read(offset_of!(Ethernet, ethertype))?;
    frame.write(0, &stations.swapped())?;
    let packet_bytes = end.wrapping_sub(Ethernet::BYTES) as u16;
    let ip_bytes = if ethertype == ethernet::IPV4 {
        let at = Ethernet::BYTES.wrapping_add(offset_of!(Ipv4, source));
        let [source, destination]: [u32; 2] = frame.read(at)?;
        frame.write(at, &[destination, source])?;
        // Of what is summed only the length changes (RFC 1624, equation 3).
        let length_at = Ethernet::BYTES.wrapping_add(offset_of!(Ipv4, total_length));
        let sum_at = Ethernet::BYTES.wrapping_add(offset_of!(Ipv4, checksum));
        let before = u16::from_be_bytes(frame.read(length_at)?);
        let sum = u32::from(!u16::from_be_bytes(frame.read(sum_at)?))
            .wrapping_add(u32::from(!before))
            .wrapping_add(u32::from(packet_bytes));
        frame.write(length_at, &packet_bytes.to_be_bytes())?;
        frame.write(sum_at, &checksum::finish(sum).to_be_bytes())?;
        Ipv4::BYTES
    } else {
        let at = Ethernet::BYTES.wrapping_add(offset_of!(Ipv6, source));
        let [a, b, c, d]: [u64; 4] = frame.read(at)?;
        frame.write(at, &[c, d, a, b])?;
        let length_at = Ethernet::BYTES.wrapping_add(offset_of!(Ipv6, payload_length));
        let payload_bytes = packet_bytes.wrapping_sub(Ipv6::BYTES as u16);
        frame.write(length_at, &payload_bytes.to_be_bytes())?;
        Ipv6::BYTES
    };
    let udp_at = Ethernet::BYTES.wrapping_add(ip_bytes);
    let length = packet_bytes.wrapping_sub(ip_bytes as u16).to_be_bytes();
    frame.write(udp_at.wrapping_add(offset_of!(Udp, length)), &length)?;
    // The answer too goes to Geneve's port. A checksum would cover the probe: none is sent.
    frame.write(udp_at.wrapping_add(offset_of!(Udp, checksum)), &[0u8; 2])
}
