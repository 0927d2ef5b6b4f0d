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

/// An [`Action`] as code handles it.
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

const DELIVER: u32 = 1;
const SEND: u32 = 2;
const FLOOD: u32 = 3;
const DROP: u32 = 4;

impl Action {
    /// No action: what an unused place in a table holds.
    pub const NONE: Self = Self { kind: 0, target: 0 };

    /// The decision as bytes for a table.
    #[inline(always)]
    pub const fn new(decision: Decision) -> Self {
        match decision {
            Decision::Deliver(PortId(target)) => Self { kind: DELIVER, target },
            Decision::Send(LinkId(target)) => Self { kind: SEND, target },
            Decision::Flood => Self { kind: FLOOD, target: 0 },
            Decision::Drop(reason) => Self { kind: DROP, target: reason.number() as u32 },
        }
    }

    /// The decision, or nothing for an unused place. A drop with an unknown reason counts as one
    /// that a rule asked for.
    #[inline(always)]
    pub const fn decision(self) -> Option<Decision> {
        match self.kind {
            DELIVER => Some(Decision::Deliver(PortId(self.target))),
            SEND => Some(Decision::Send(LinkId(self.target))),
            FLOOD => Some(Decision::Flood),
            DROP => Some(Decision::Drop(match self.target {
                target if target == Reason::PortAbsent.number() as u32 => Reason::PortAbsent,
                target if target == Reason::LinkAbsent.number() as u32 => Reason::LinkAbsent,
                target if target == Reason::Reflection.number() as u32 => Reason::Reflection,
                _ => Reason::Rule,
            })),
            _ => None,
        }
    }
}
