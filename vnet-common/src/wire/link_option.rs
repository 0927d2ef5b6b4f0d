//! The option of our links.
//!
//! ```text
//! | class 0xff76 | type 1 | words 6 |
//! | cookie 8                                  |
//! | 0x6558 | stream | sequence 3 | sent, ns mod 2^32, 4 | zero | copy 3 | 0x6558 |
//! ```
//!
//! The cookie proves the sender before anything else is believed. Stream and sequence count a
//! link's packets per sending CPU; the send time is 0 where the frame was not stamped. All copies of a
//! frame for many have one number, by which a host knows one that it has had already; 0 is none.
//!
//! It is as long as two Ethernet headers, and where those have their ethertype it says that an
//! Ethernet header follows. That is for the receiving kernel: it joins the segments in the packets
//! of a tunnel that it has a socket for, before any program of ours sees them. Linux has VXLAN
//! everywhere, and VXLAN's header is as long as Geneve's, with Ethernet behind it: so a VXLAN socket
//! at our port finds its way to the guest's frame (`vxlan_gro_receive` and `eth_gro_receive` compare
//! the bytes that they pass over, and interpret nothing but the ethertypes). The segments that were
//! cut from one frame agree in all of it.

use super::geneve::{self, OptionHeader};
use super::header;
use crate::addr::Cookie;

header! {
    /// The whole option, header included.
    pub struct LinkOption[28] {
        /// [`LinkOption::HEADER`].
        pub header: OptionHeader,
        /// The link's cookie.
        pub cookie: [u8; 8],
        /// [`geneve::ETHERNET`], for the kernel that joins.
        pub first_ethertype: [u8; 2],
        /// The sending CPU, modulo 256.
        pub stream: u8,
        /// The packet's number in its stream, modulo 2^24.
        pub sequence: [u8; 3],
        /// The sender's monotonic clock, nanoseconds modulo 2^32; 0 where not stamped.
        pub sent_ns: [u8; 4],
        /// Zero; ignored.
        pub reserved: u8,
        /// What all copies of a frame for many have in common; 0 where it is none.
        pub copy: [u8; 3],
        /// [`geneve::ETHERNET`], for the kernel that joins.
        pub second_ethertype: [u8; 2],
    }
}

impl LinkOption {
    /// From the range for experiments (RFC 8926, section 6.2), not critical: to others it is
    /// noise that they may skip.
    pub const HEADER: OptionHeader = OptionHeader {
        class: [0xff, 0x76],
        kind: 1,
        words: 6,
    };

    /// Where the stream is, and behind it the sequence.
    pub const STREAM_AT: usize = core::mem::offset_of!(Self, stream);

    /// Where the number of a frame for many is.
    pub const COPY_AT: usize = core::mem::offset_of!(Self, copy);

    /// An option to be filled in for each frame.
    pub const fn new(cookie: Cookie) -> Self {
        Self {
            header: Self::HEADER,
            cookie: cookie.0.to_be_bytes(),
            first_ethertype: geneve::ETHERNET,
            stream: 0,
            sequence: [0; 3],
            sent_ns: [0; 4],
            reserved: 0,
            copy: [0; 3],
            second_ethertype: geneve::ETHERNET,
        }
    }

    /// The cookie as the tables hold it.
    #[inline(always)]
    pub const fn cookie(&self) -> Cookie {
        Cookie(u64::from_be_bytes(self.cookie))
    }

    /// The number of a frame for many; below 2^24.
    #[inline(always)]
    pub const fn copy(&self) -> u32 {
        let [a, b, c] = self.copy;
        u32::from_be_bytes([0, a, b, c])
    }
}

const _: () = {
    use super::ethernet::Ethernet;
    assert!(LinkOption::BYTES == 2 * Ethernet::BYTES);
    let ethertype_at = core::mem::offset_of!(Ethernet, ethertype);
    assert!(core::mem::offset_of!(LinkOption, first_ethertype) == ethertype_at);
    assert!(core::mem::offset_of!(LinkOption, second_ethertype) == Ethernet::BYTES + ethertype_at);
};
