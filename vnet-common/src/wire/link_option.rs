//! The option of our links.
//!
//! ```text
//! | class 0xff76 | type 1 | words 4 |
//! | cookie 8                                  |
//! | stream | sequence 3 | sent, ns mod 2^32, 4 |
//! ```
//!
//! The cookie proves the sender before anything else is believed. Stream and sequence count a
//! link's packets per sending CPU; the send time is 0 where the frame was not stamped.

use super::geneve::OptionHeader;
use super::header;
use crate::addr::Cookie;

header! {
    /// The whole option, header included.
    pub struct LinkOption[20] {
        /// [`LinkOption::HEADER`].
        pub header: OptionHeader,
        /// The link's cookie.
        pub cookie: [u8; 8],
        /// The sending CPU, modulo 256.
        pub stream: u8,
        /// The packet's number in its stream, modulo 2^24.
        pub sequence: [u8; 3],
        /// The sender's monotonic clock, nanoseconds modulo 2^32; 0 where not stamped.
        pub sent_ns: [u8; 4],
    }
}

impl LinkOption {
    /// From the range for experiments (RFC 8926, section 6.2), not critical: to others it is
    /// noise that they may skip.
    pub const HEADER: OptionHeader = OptionHeader {
        class: [0xff, 0x76],
        kind: 1,
        words: 4,
    };

    /// An option to be filled in for each frame.
    pub const fn new(cookie: Cookie) -> Self {
        Self {
            header: Self::HEADER,
            cookie: cookie.0.to_be_bytes(),
            stream: 0,
            sequence: [0; 3],
            sent_ns: [0; 4],
        }
    }

    /// The cookie as the tables hold it.
    #[inline(always)]
    pub const fn cookie(&self) -> Cookie {
        Cookie(u64::from_be_bytes(self.cookie))
    }
}
