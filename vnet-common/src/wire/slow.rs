//! The header between the programs and the agent, on the agent's tap.
//!
//! ```text
//! | destination 6 | source 6 | type | kind | hop limit |
//! | network 4 | port 4 | link 4 | origin | copy 3, or 0 and MTU 2 |
//! ```
//!
//! It begins like an Ethernet header, so that a capture on the tap shows it as what it is. To the
//! agent the type is 0x88b5. From the agent it is IPv4's, although none follows: a TC program may
//! take bytes off the front of IP packets only. Numbers are in host order, since it never leaves the host;
//! `copy` is as it is on the wire.

use super::ethernet::{IPV4, LOCAL};
use super::header;
use crate::addr::{LinkId, Mac, NetworkId, PortId};
use crate::table::flow::Origin;

header! {
    /// The header.
    pub struct Slow[32] {
        /// [`Slow::AGENT`].
        pub destination: Mac,
        /// [`Slow::AGENT`].
        pub source: Mac,
        /// [`super::ethernet::LOCAL`], or from the agent [`super::ethernet::IPV4`].
        pub ethertype: [u8; 2],
        /// [`Slow::FRAME`] and the others.
        pub kind: u8,
        /// Hops left: what the outer TTL of a copy will be.
        pub hop_limit: u8,
        network: [u8; 4],
        port: [u8; 4],
        link: [u8; 4],
        origin: u8,
        more: [u8; 3],
    }
}

impl Slow {
    /// Both addresses: locally administered, the letters of "vnet".
    pub const AGENT: Mac = Mac([0x02, 0x76, 0x6e, 0x65, 0x74, 0x00]);

    /// To the agent: a frame for many, or for an unknown station.
    pub const FRAME: u8 = 1;
    /// To the agent: the answer to a probe (a [`super::probe::Probe`] follows).
    pub const PROBE_REPLY: u8 = 2;
    /// From the agent: into this port.
    pub const DELIVER: u8 = 3;
    /// From the agent: out over this link.
    pub const SEND: u8 = 4;
    /// From the agent: a [`super::probe::Probe`] out over this link, with padding of any length.
    pub const PROBE: u8 = 5;

    /// To the agent: the beginning of a frame that was larger than its way carries.
    pub const TOO_BIG: u8 = 6;

    /// To the agent: a frame to be carried over the link that is named.
    pub const CARRY: u8 = 7;
    /// From the agent: a frame that was carried here over the link that is named.
    pub const ARRIVED: u8 = 8;

    /// The highest number of a frame for many.
    pub const COPY_MAX: u32 = 0x00ff_ffff;

    /// A header for a frame that came from `origin`.
    #[inline(always)]
    pub const fn to_agent(kind: u8, hop_limit: u8, network: NetworkId, origin: Origin) -> Self {
        let (port, link, code) = match (origin.as_port(), origin.as_link()) {
            (Some(PortId(port)), _) => (port, 0, 1),
            (_, Some(LinkId(link))) => (0, link, 2),
            _ => (0, 0, 3),
        };
        Self::with(LOCAL, kind, hop_limit, network, port, link, code)
    }

    /// A header for the beginning of a frame that came from `origin` and whose way carries this many
    /// bytes behind an Ethernet header.
    #[inline(always)]
    pub const fn too_big(mtu: u32, network: NetworkId, origin: Origin) -> Self {
        // No IP packet is larger than this says it may be.
        let mtu = if mtu > 0xffff { 0xffff } else { mtu as u16 };
        let mut header = Self::to_agent(Self::TOO_BIG, 0, network, origin);
        let [first, second] = mtu.to_ne_bytes();
        header.more = [0, first, second];
        header
    }

    /// A header for a frame that the agent puts into a port.
    pub const fn deliver(network: NetworkId, port: PortId) -> Self {
        Self::with(IPV4, Self::DELIVER, 0, network, port.0, 0, 3)
    }

    /// A header for a frame, or a probe, that the agent sends over a link.
    pub const fn send(kind: u8, hop_limit: u8, network: NetworkId, link: LinkId) -> Self {
        Self::with(IPV4, kind, hop_limit, network, 0, link.0, 3)
    }

    /// A header for a frame that the agent is to carry over a link.
    #[inline(always)]
    pub const fn carry(hop_limit: u8, network: NetworkId, link: LinkId) -> Self {
        Self::with(LOCAL, Self::CARRY, hop_limit, network, 0, link.0, 3)
    }

    /// A header for a frame that was carried here, with as many hops left as it came with. The
    /// network's place in `NETWORKS` stands where other frames have the port.
    pub const fn arrived(
        hop_limit: u8,
        network: NetworkId,
        network_slot: u32,
        link: LinkId,
    ) -> Self {
        let kind = Self::ARRIVED;
        Self::with(IPV4, kind, hop_limit, network, network_slot, link.0, 2)
    }

    #[inline(always)]
    const fn with(
        ethertype: [u8; 2],
        kind: u8,
        hop_limit: u8,
        network: NetworkId,
        port: u32,
        link: u32,
        origin: u8,
    ) -> Self {
        Self {
            destination: Self::AGENT,
            source: Self::AGENT,
            ethertype,
            kind,
            hop_limit,
            network: network.get().to_ne_bytes(),
            port: port.to_ne_bytes(),
            link: link.to_ne_bytes(),
            origin,
            more: [0; 3],
        }
    }

    /// The same for a copy of a frame for many that has this number, below 2^24.
    #[inline(always)]
    #[must_use]
    pub const fn numbered(mut self, copy: u32) -> Self {
        let [_, a, b, c] = copy.to_be_bytes();
        self.more = [a, b, c];
        self
    }

    /// The network, or nothing where the header is not ours.
    #[inline(always)]
    pub const fn network(&self) -> Option<NetworkId> {
        NetworkId::new(u32::from_ne_bytes(self.network))
    }

    /// Where the frame came from.
    #[inline(always)]
    pub const fn origin(&self) -> Origin {
        match self.origin {
            1 => Origin::port(self.port()),
            2 => Origin::link(self.link()),
            _ => Origin::AGENT,
        }
    }

    /// The port, of a frame from one or to one.
    #[inline(always)]
    pub const fn port(&self) -> PortId {
        PortId(u32::from_ne_bytes(self.port))
    }

    /// The link, likewise.
    #[inline(always)]
    pub const fn link(&self) -> LinkId {
        LinkId(u32::from_ne_bytes(self.link))
    }

    /// The network's place in `NETWORKS`, of a frame that was carried here.
    #[inline(always)]
    pub const fn network_slot(&self) -> u32 {
        self.port().0
    }

    /// How many bytes behind an Ethernet header would have fitted; of a frame that was too big.
    #[inline(always)]
    pub const fn mtu(&self) -> u16 {
        let [_, first, second] = self.more;
        u16::from_ne_bytes([first, second])
    }

    /// What all copies of a frame for many have in common, see [`super::link_option`]; 0 where nobody
    /// gave it a number. Not of a frame that was too big.
    #[inline(always)]
    pub const fn copy(&self) -> u32 {
        let [a, b, c] = self.more;
        u32::from_be_bytes([0, a, b, c])
    }

    /// Whether it begins as one to the agent must.
    #[inline(always)]
    pub fn is_to_agent(&self) -> bool {
        self.destination == Self::AGENT && self.ethertype == LOCAL
    }

    /// Whether it begins as one from the agent must.
    #[inline(always)]
    pub fn is_from_agent(&self) -> bool {
        self.destination == Self::AGENT && self.ethertype == IPV4
    }
}
