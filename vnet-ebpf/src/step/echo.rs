//! Probes answered in the kernel: a request goes back where it came from, an answer goes up to
//! the agent that asked.

use core::mem::offset_of;

use vnet_common::addr::Stations;
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
use crate::frame::Frame;
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
    if admitted.protocol != ethernet::LOCAL
        || outer.end != admitted.headers.wrapping_add(Probe::BYTES)
    {
        return Err(Reason::UnknownControl);
    }
    let kind: u8 = frame.read(admitted.headers).ok_or(Reason::UnknownControl)?;
    match kind {
        Probe::REQUEST => answer(frame, tables, admitted),
        Probe::REPLY => {
            frame
                .truncate(outer.end as u32)
                .ok_or(Reason::OuterHeader)?;
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

/// Turns the request around in place. The sums of the headers do not change when the two sides
/// change places, so neither does the IPv4 checksum.
#[inline(always)]
fn answer<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    admitted: &Admitted,
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
    turn_around(frame).ok_or(Reason::UnknownControl)?;
    Ok(Outcome::ANSWERED)
}

#[inline(always)]
fn turn_around<F: Frame>(frame: &mut F) -> Option<()> {
    let stations: Stations = frame.read(0)?;
    let ethertype: [u8; 2] = frame.read(offset_of!(Ethernet, ethertype))?;
    frame.write(0, &stations.swapped())?;
    let udp_at = if ethertype == ethernet::IPV4 {
        let at = Ethernet::BYTES.wrapping_add(offset_of!(Ipv4, source));
        let [source, destination]: [u32; 2] = frame.read(at)?;
        frame.write(at, &[destination, source])?;
        Ethernet::BYTES.wrapping_add(Ipv4::BYTES)
    } else {
        let at = Ethernet::BYTES.wrapping_add(offset_of!(Ipv6, source));
        let [a, b, c, d]: [u64; 4] = frame.read(at)?;
        frame.write(at, &[c, d, a, b])?;
        Ethernet::BYTES.wrapping_add(Ipv6::BYTES)
    };
    // The answer too goes to Geneve's port. A checksum would cover the probe: none is sent.
    frame.write(udp_at.wrapping_add(offset_of!(Udp, checksum)), &[0u8; 2])
}
