//! From whom is a packet accepted? Map `ADMISSIONS`: by outer source address and network.

use super::plain;
use crate::addr::{Cookie, LinkId, NetworkId};

plain! {
    /// What a packet claims: where it comes from and which network it belongs to.
    pub struct AdmissionKey[20] {
        /// The outer source address; IPv4 as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
        pub source: [u8; 16],
        /// The network's id.
        pub network: NetworkId,
    }
}

impl AdmissionKey {
    /// The key for an IPv4 source.
    #[inline(always)]
    pub const fn ipv4(source: [u8; 4], network: NetworkId) -> Self {
        let [a, b, c, d] = source;
        Self {
            source: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            network,
        }
    }

    /// The key for an IPv6 source.
    #[inline(always)]
    pub const fn ipv6(source: [u8; 16], network: NetworkId) -> Self {
        Self { source, network }
    }
}

plain! {
    /// The link that such a packet belongs to, and its proof. Written by the agent, read by the
    /// underlay program before it believes anything else.
    pub struct AdmissionEntry[24] {
        /// What the option must say; [`Cookie::NONE`] on a plain link.
        pub cookie: Cookie,
        /// The link.
        pub link: LinkId,
        /// The link's place in `LEDGERS`.
        pub ledger: u32,
        /// The network's place in `NETWORKS`.
        pub network_slot: u32,
        /// Zero.
        pub _pad: u32,
    }
}
