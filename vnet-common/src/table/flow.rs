//! Which flows are there, what was decided for them, how much did they carry? Map `FLOWS`: least
//! recently used out first, values per CPU so that no two CPUs share a counter.
//!
//! Written by the programs; read by the agent, which adds up the CPUs.

use super::action::Action;
use super::plain;
use crate::addr::{LinkId, Mac, NetworkId, PortId, Stations};

plain! {
    /// One direction of talk between two stations of a network.
    pub struct FlowKey[16] {
        /// The network's id.
        pub network: NetworkId,
        /// Who sends, and who receives.
        pub stations: Stations,
    }
}

impl FlowKey {
    /// The flow from `source` to `destination`.
    pub const fn new(network: NetworkId, source: Mac, destination: Mac) -> Self {
        Self {
            network,
            stations: Stations::new(source, destination),
        }
    }
}

plain! {
    /// What one CPU knows of a flow.
    pub struct FlowEntry[48] {
        /// Where the decision holds: the flow's frames of another origin are decided anew.
        pub origin: Origin,
        /// What happens to its frames.
        pub action: Action,
        /// The generation of the network's rules that the decision comes from.
        pub generation: u32,
        /// Into a port: the port's place in `LEDGERS`, so that it need not be looked up.
        pub target_ledger: u32,
        /// Frames.
        pub packets: u64,
        /// Their bytes, inner Ethernet header included.
        pub bytes: u64,
        /// Into a port: the largest frame it takes.
        pub target_bytes_max: u32,
        /// Into a port: its [`flags`](super::port::PortEntry::flags).
        pub target_flags: u32,
    }
}

plain! {
    /// Where a frame came in: a port, a link, or the agent.
    pub struct Origin[8] {
        kind: u32,
        number: u32,
    }
}

impl Origin {
    /// From the agent itself.
    pub const AGENT: Self = Self { kind: 3, number: 0 };

    /// From a port of this host.
    #[inline(always)]
    pub const fn port(port: PortId) -> Self {
        Self {
            kind: 1,
            number: port.0,
        }
    }

    /// From a link.
    #[inline(always)]
    pub const fn link(link: LinkId) -> Self {
        Self {
            kind: 2,
            number: link.0,
        }
    }

    /// The port, if it is one.
    #[inline(always)]
    pub const fn as_port(self) -> Option<PortId> {
        if self.kind == 1 {
            Some(PortId(self.number))
        } else {
            None
        }
    }

    /// The link, if it is one.
    #[inline(always)]
    pub const fn as_link(self) -> Option<LinkId> {
        if self.kind == 2 {
            Some(LinkId(self.number))
        } else {
            None
        }
    }
}
