//! Which packets on an underlay device are meant for us? Map `UNDERLAYS`, by device index.

use super::plain;

plain! {
    /// Written by the agent, read by the underlay program.
    pub struct UnderlayEntry[32] {
        /// This host's IPv4 address there, in the order of the wire; zero where it has none.
        pub ipv4: [u8; 4],
        /// This host's IPv6 address there; zero likewise.
        pub ipv6: [u8; 16],
        /// The UDP port of Geneve, in the order of the wire.
        pub udp_port: [u8; 2],
        /// Zero.
        pub _pad: [u8; 2],
        /// The device's place in `LEDGERS`: packets that claim to be ours, and those of them that
        /// no link admits.
        pub ledger: u32,
        /// The underlay's MTU.
        pub mtu: u32,
    }
}
