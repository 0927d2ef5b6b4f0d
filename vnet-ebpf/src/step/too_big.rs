//! A frame that its way does not carry: who sent it should hear what would fit.
//!
//! An answer has to be made up, and most of the bytes of one are the frame's own: so the frame's
//! beginning goes up to the agent, which writes it (`overlay/too_big.rs`). The frame itself is
//! dropped, and counted as that. Where nobody can be told, that is all that happens.
//!
//! It is the end of a journey, when the frame is accounted for: by then the verifier has little left
//! in which the ways that lead here differ, and goes through it once.

use vnet_common::addr::{LinkId, NetworkId, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::action::{Action, Kind};
use vnet_common::table::flow::Origin;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::slow::Slow;

use super::deliver;
use super::resolve::{Arrival, IntoPort};
use crate::frame::Frame;
use crate::tables::Tables;
use crate::{Outcome, Way};

/// What the agent gets of the frame: an Ethernet header, a tag, and as much as an ICMPv6 error of
/// 1280 bytes quotes (RFC 4443, section 2.4 (c)).
pub const BEGINNING_BYTES: u32 = 14 + 4 + 1280 - 40 - 8;

/// What has to be known of a frame that was too big.
#[derive(Clone, Copy)]
pub struct TooBig {
    /// Its network; 0 where there was no such frame.
    network: u32,
    origin: Origin,
    action: Action,
    /// What the port takes that it was for, if it was for one.
    bytes_max: u32,
}

impl TooBig {
    /// No frame was.
    pub const NONE: Self = Self {
        network: 0,
        origin: Origin::AGENT,
        action: Action::NONE,
        bytes_max: 0,
    };

    /// Takes note of one that may carry IP; whether it does behind a tag is left to the agent.
    #[inline(always)]
    pub fn note<F: Frame>(
        &mut self,
        frame: &F,
        arrival: &Arrival,
        action: Action,
        into: &IntoPort,
    ) {
        // Read once more: what was made of the type before is not kept for this.
        if let Some(ethernet::IPV4 | ethernet::IPV6 | ethernet::VLAN) = frame.read(12) {
            *self = Self {
                network: arrival.key.network.get(),
                origin: arrival.origin,
                action,
                bytes_max: into.bytes_max,
            };
        }
    }
}

/// Sends the beginning up, if there was such a frame and its sender has some budget left; else
/// `result` stands. The frame is accounted for already.
///
/// # Errors
///
/// Those of `result`.
#[inline(always)]
pub fn tell<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    noted: &TooBig,
    result: Result<Outcome, Reason>,
) -> Result<Outcome, Reason> {
    match NetworkId::new(noted.network) {
        Some(network) => beginning_to_agent(frame, tables, noted, network).ok_or(Reason::TooBig),
        None => result,
    }
}

#[inline(always)]
fn beginning_to_agent<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    noted: &TooBig,
    network: NetworkId,
) -> Option<Outcome> {
    // A device takes a tag beyond its MTU, a link does not.
    let bytes_max = match noted.action.kind() {
        Kind::Deliver => noted.bytes_max.saturating_sub(ethernet::TAG_BYTES as u32),
        _ => {
            let (_, link) = deliver::carrier(tables, LinkId(noted.action.target()))?;
            link.frame_bytes_max
        }
    };
    if !may_be_told(tables, noted.origin) {
        return None;
    }
    if frame.length() > BEGINNING_BYTES {
        frame.truncate(BEGINNING_BYTES)?;
    }
    let mtu = bytes_max.saturating_sub(Ethernet::BYTES as u32);
    let header = Slow::too_big(mtu, network, noted.origin);
    let outcome = deliver::to_agent(frame, tables, &header).ok()?;
    Some(Outcome::new(Way::TooBig, outcome.device()))
}

/// Ports pay from their slow-path budget; each link has one for this alone, so that a guest of
/// another host does not drown those of this one.
#[inline(always)]
fn may_be_told<T: Tables>(tables: &T, origin: Origin) -> bool {
    match (origin.as_port(), origin.as_link()) {
        (Some(PortId(device)), _) => tables.port(device).is_some_and(|port| {
            tables.admit_to_slow_path(device, port.slow_path_cost_ns, port.slow_path_burst_ns)
        }),
        (_, Some(link)) => tables.may_tell(link),
        _ => false,
    }
}
