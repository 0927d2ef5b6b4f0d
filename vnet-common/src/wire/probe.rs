//! The echo probe: a Geneve control packet (O bit) with the link option and this behind it.
//!
//! ```text
//! | kind | 0 3 | sequence 4 | sent, ns 8 | answered, ns 8 |
//! ```
//!
//! The underlay program of the other end answers it in place, so that a link is alive when its
//! data plane is, agent or no agent. Bytes behind a request make it as large as the asker wants to
//! know about; the answer comes without them.

use super::header;

header! {
    /// The probe.
    pub struct Probe[24] {
        /// [`Probe::REQUEST`] or [`Probe::REPLY`].
        pub kind: u8,
        /// Zero.
        pub _pad: [u8; 3],
        /// The asker's number for it.
        pub sequence: [u8; 4],
        /// The asker's clock when it asked, ns; sent back as it came.
        pub sent_ns: [u8; 8],
        /// The answerer's monotonic clock when it answered, ns; zero in a request.
        pub answered_ns: [u8; 8],
    }
}

impl Probe {
    /// Please answer.
    pub const REQUEST: u8 = 1;
    /// The answer.
    pub const REPLY: u8 = 2;

    /// A request with this number, sent at this time of the sender's clock.
    pub const fn request(sequence: u32, sent_ns: u64) -> Self {
        Self {
            kind: Self::REQUEST,
            _pad: [0; 3],
            sequence: sequence.to_be_bytes(),
            sent_ns: sent_ns.to_be_bytes(),
            answered_ns: [0; 8],
        }
    }
}
