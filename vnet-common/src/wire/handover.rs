//! What one program of a device tells the next one about a frame, in the metadata in front of it.
//!
//! ```text
//! | secret 8 | kind 4 | port 4 |
//! ```
//!
//! Numbers are in host order: it never leaves the host. A frame whose metadata does not begin with the
//! secret has none: a veth passes on what an XDP program on its other end put there.

use super::header;
use crate::addr::PortId;

header! {
    /// The metadata.
    pub struct Handover[16] {
        secret: [u8; 8],
        kind: [u8; 4],
        port: [u8; 4],
    }
}

impl Handover {
    /// A question, not a frame: what would become of it? Answered truly, and leaves no trace.
    pub const QUESTION: u32 = 1;
    /// Into this port: decided and counted already. The kernel's GRO joins only frames with equal
    /// metadata, so segments of one flow find each other and nothing else.
    pub const DELIVER: u32 = 2;

    /// The metadata of a question.
    #[inline(always)]
    pub const fn question(secret: u64) -> Self {
        Self::with(secret, Self::QUESTION, 0)
    }

    /// The metadata of a frame for a port.
    #[inline(always)]
    pub const fn deliver(secret: u64, port: PortId) -> Self {
        Self::with(secret, Self::DELIVER, port.0)
    }

    #[inline(always)]
    const fn with(secret: u64, kind: u32, port: u32) -> Self {
        Self {
            secret: secret.to_ne_bytes(),
            kind: kind.to_ne_bytes(),
            port: port.to_ne_bytes(),
        }
    }

    /// Its kind, where it is from one of us; a secret that is not set yet (0) is nobody's.
    #[inline(always)]
    pub const fn kind(&self, secret: u64) -> Option<u32> {
        if secret != 0 && u64::from_ne_bytes(self.secret) == secret {
            Some(u32::from_ne_bytes(self.kind))
        } else {
            None
        }
    }

    /// The port.
    #[inline(always)]
    pub const fn port(&self) -> PortId {
        PortId(u32::from_ne_bytes(self.port))
    }
}
