//! What happens to a frame that matched?

use super::plain;
use crate::addr::{LinkId, PortId};
use crate::reason::Reason;

plain! {
    /// The last word of a rule, and what a flow has cached: a kind and what it leads to.
    ///
    /// Written by the agent into rules, copied by the programs into flows.
    pub struct Action[8] {
        kind: u32,
        target: u32,
    }
}

/// What an [`Action`] does; the programs look at kind and target apart, because an enum that
/// carries the target leaves it undefined where there is none (see `Outcome` in `vnet-ebpf`).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No action.
    None = 0,
    /// Into the port that is the target.
    Deliver = 1,
    /// Out over the link that is the target.
    Send = 2,
    /// Up to the agent, which copies it to everyone concerned.
    Flood = 3,
    /// Dropped; the target is the reason's number.
    Drop = 4,
}

/// An [`Action`] as the agent handles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Into a port of this host.
    Deliver(PortId),
    /// Out over a link.
    Send(LinkId),
    /// Up to the agent, which copies it to everyone concerned.
    Flood,
    /// Nowhere.
    Drop(Reason),
}

impl Action {
    /// No action: what an unused place in a table holds.
    pub const NONE: Self = Self::with(Kind::None, 0);
    /// Up to the agent.
    pub const FLOOD: Self = Self::with(Kind::Flood, 0);

    #[inline(always)]
    const fn with(kind: Kind, target: u32) -> Self {
        Self {
            kind: kind as u32,
            target,
        }
    }

    /// Into a port of this host.
    #[inline(always)]
    pub const fn deliver(port: PortId) -> Self {
        Self::with(Kind::Deliver, port.0)
    }

    /// Out over a link.
    #[inline(always)]
    pub const fn send(link: LinkId) -> Self {
        Self::with(Kind::Send, link.0)
    }

    /// Nowhere, for a reason that [`Action::reason`] knows.
    #[inline(always)]
    pub const fn drop(reason: Reason) -> Self {
        Self::with(Kind::Drop, reason.number() as u32)
    }

    /// What it does; a kind that is not known does nothing.
    #[inline(always)]
    pub const fn kind(self) -> Kind {
        match self.kind {
            1 => Kind::Deliver,
            2 => Kind::Send,
            3 => Kind::Flood,
            4 => Kind::Drop,
            _ => Kind::None,
        }
    }

    /// All of it, in one number.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        (self.kind as u64).wrapping_shl(32) | self.target as u64
    }

    /// What this number is.
    #[inline(always)]
    pub const fn of_bits(bits: u64) -> Self {
        Self {
            kind: bits.wrapping_shr(32) as u32,
            target: bits as u32,
        }
    }

    /// The port, link or reason that it leads to.
    #[inline(always)]
    pub const fn target(self) -> u32 {
        self.target
    }

    /// Why it drops; anything but the reasons that rules can have counts as a rule's wish.
    #[inline(always)]
    pub const fn reason(self) -> Reason {
        const PORT_ABSENT: u32 = Reason::PortAbsent.number() as u32;
        const LINK_ABSENT: u32 = Reason::LinkAbsent.number() as u32;
        const REFLECTION: u32 = Reason::Reflection.number() as u32;
        match self.target {
            PORT_ABSENT => Reason::PortAbsent,
            LINK_ABSENT => Reason::LinkAbsent,
            REFLECTION => Reason::Reflection,
            _ => Reason::Rule,
        }
    }

    /// The whole of it, or nothing for an unused place.
    pub const fn decision(self) -> Option<Decision> {
        match self.kind() {
            Kind::Deliver => Some(Decision::Deliver(PortId(self.target))),
            Kind::Send => Some(Decision::Send(LinkId(self.target))),
            Kind::Flood => Some(Decision::Flood),
            Kind::Drop => Some(Decision::Drop(self.reason())),
            Kind::None => None,
        }
    }
}
