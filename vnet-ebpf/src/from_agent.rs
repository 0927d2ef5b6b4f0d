//! A frame that the agent wrote to its tap: into the port, or out over the link, that its header
//! names.

use core::mem::offset_of;

use vnet_common::entropy::Entropy;
use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::geneve::Geneve;
use vnet_common::wire::ipv4::Ipv4;
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::slow::Slow;
use vnet_common::wire::udp::Udp;

use crate::Outcome;
use crate::frame::Frame;
use crate::step::encap::Outside;
use crate::step::resolve::IntoPort;
use crate::step::{account, deliver, parse};
use crate::tables::Tables;

/// Takes a frame from the agent.
///
/// # Errors
///
/// The reason why it is dropped; it is counted already, in the agent's ledger.
#[inline(always)]
pub fn from_agent<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Outcome, Reason> {
    let bytes = frame.length().saturating_sub(Slow::BYTES as u32);
    let result = switch(frame, tables);
    tables.count(Ledger::AGENT, |ledger| {
        account::account(ledger, bytes, &result)
    });
    result
}

#[inline(always)]
fn switch<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Outcome, Reason> {
    let header: Slow = frame.read(0).ok_or(Reason::SlowHeader)?;
    if !header.is_from_agent() {
        return Err(Reason::SlowHeader);
    }
    let network = header.network().ok_or(Reason::SlowHeader)?;
    frame.shrink(Slow::BYTES).ok_or(Reason::SlowHeader)?;
    let [_, a, b, c] = network.get().to_be_bytes();
    let mut outside = Outside {
        hop_limit: header.hop_limit,
        network: [a, b, c],
        entropy: Entropy::new(),
    };
    match header.kind {
        Slow::DELIVER => {
            let port = tables.port(header.port().0).ok_or(Reason::PortAbsent)?;
            let into = IntoPort {
                ledger: port.ledger,
                bytes_max: port.frame_bytes_max,
                flags: 0,
            };
            deliver::to_port(frame, tables, header.port(), &into)
        }
        Slow::SEND | Slow::PROBE => {
            let is_probe = header.kind == Slow::PROBE;
            if !is_probe {
                let parsed = parse::ethernet(frame)?;
                outside.entropy = parse::entropy(frame, &parsed);
            }
            // A probe is as large as the agent wants: it is sent to find out what the link carries.
            let sent = deliver::over(frame, tables, header.link(), &outside, is_probe)?;
            if is_probe {
                mark_as_probe(frame).ok_or(Reason::SlowHeader)?;
            }
            Ok(sent)
        }
        _ => Err(Reason::SlowHeader),
    }
}

/// Makes the Geneve packet a control packet with a probe inside.
#[inline(always)]
fn mark_as_probe<F: Frame>(frame: &mut F) -> Option<()> {
    let ethertype: [u8; 2] = frame.read(offset_of!(Ethernet, ethertype))?;
    let ip_bytes = if ethertype == ethernet::IPV4 {
        Ipv4::BYTES
    } else {
        Ipv6::BYTES
    };
    let geneve_at = Ethernet::BYTES
        .wrapping_add(ip_bytes)
        .wrapping_add(Udp::BYTES);
    frame.write(
        geneve_at.wrapping_add(offset_of!(Geneve, flags)),
        &Geneve::CONTROL,
    )?;
    frame.write(
        geneve_at.wrapping_add(offset_of!(Geneve, protocol)),
        &ethernet::LOCAL,
    )
}
