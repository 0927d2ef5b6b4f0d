//! Probes answered in the kernel: a request goes back where it came from, an answer goes up to
//! the agent that asked.

use vnet_common::addr::Mac;
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
    let probe: Probe = frame.read(admitted.headers).ok_or(Reason::UnknownControl)?;
    match probe.kind {
        Probe::REQUEST => answer(frame, tables, admitted, &probe),
        Probe::REPLY => {
            frame.truncate(outer.end as u32).ok_or(Reason::OuterHeader)?;
            frame.shrink(admitted.headers).ok_or(Reason::UnknownControl)?;
            let header =
                Slow::to_agent(Slow::PROBE_REPLY, 0, admitted.network, Origin::link(admitted.link));
            deliver::to_agent(frame, tables, &header)
        }
        _ => Err(Reason::UnknownControl),
    }
}

/// Turns the request around in place. The sums of the headers do not change when the two sides
/// change places, so neither does the IPv4 checksum, nor UDP's, which is zero.
#[inline(always)]
fn answer<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    admitted: &Admitted,
    probe: &Probe,
) -> Result<Outcome, Reason> {
    let reply =
        Probe { kind: Probe::REPLY, answered_ns: tables.now_ns().to_be_bytes(), ..*probe };
    frame.write(admitted.headers, &reply).ok_or(Reason::UnknownControl)?;
    turn_around(frame).ok_or(Reason::UnknownControl)?;
    Ok(Outcome::Answered)
}

#[inline(always)]
fn turn_around<F: Frame>(frame: &mut F) -> Option<()> {
    let header: Ethernet = frame.read(0)?;
    let turned: [Mac; 2] = [header.source, header.destination];
    frame.write(0, &turned)?;
    if header.ethertype == ethernet::IPV4 {
        let ip: Ipv4 = frame.read(Ethernet::BYTES)?;
        let turned = Ipv4 { source: ip.destination, destination: ip.source, ..ip };
        frame.write(Ethernet::BYTES, &turned)?;
        turn_udp(frame, Ethernet::BYTES.wrapping_add(Ipv4::BYTES))
    } else {
        let ip: Ipv6 = frame.read(Ethernet::BYTES)?;
        let turned = Ipv6 { source: ip.destination, destination: ip.source, ..ip };
        frame.write(Ethernet::BYTES, &turned)?;
        turn_udp(frame, Ethernet::BYTES.wrapping_add(Ipv6::BYTES))
    }
}

/// The reply too goes to Geneve's port, so only the checksum has to go: it covers the probe.
#[inline(always)]
fn turn_udp<F: Frame>(frame: &mut F, at: usize) -> Option<()> {
    let udp: Udp = frame.read(at)?;
    frame.write(at, &Udp { checksum: [0; 2], ..udp })
}
