//! Geneve (RFC 8926, section 3.4).
//!
//! ```text
//! | version 2 bits, option words 6 bits | O C reserved 6 bits | protocol 2 |
//! | network 3 | reserved | options, 4 to 252 bytes |
//! ```

use super::header;
use crate::addr::NetworkId;

header! {
    /// The fixed part.
    pub struct Geneve[8] {
        /// Version in the high 2 bits, options' length in words in the low 6.
        pub version_and_words: u8,
        /// [`Geneve::CONTROL`] and [`Geneve::CRITICAL`].
        pub flags: u8,
        /// The ethertype of what follows.
        pub protocol: [u8; 2],
        /// The virtual network identifier.
        pub network: [u8; 3],
        /// Zero; ignored.
        pub reserved: u8,
    }
}

header! {
    /// The beginning of every option (section 3.5).
    pub struct OptionHeader[4] {
        /// Whose option it is.
        pub class: [u8; 2],
        /// Which of theirs; the high bit marks it as critical.
        pub kind: u8,
        /// Words of data in the low 5 bits.
        pub words: u8,
    }
}

/// The registered UDP port (section 3.3).
pub const UDP_PORT: u16 = 6081;
/// Trans-Ether bridging: an Ethernet frame follows.
pub const ETHERNET: [u8; 2] = [0x65, 0x58];
/// Options' bytes at the most: 63 words.
pub const OPTIONS_BYTES_MAX: usize = 252;

impl Geneve {
    /// Control packet: for the tunnel endpoint itself.
    pub const CONTROL: u8 = 0x80;
    /// Some option is critical.
    pub const CRITICAL: u8 = 0x40;

    /// Whether the version is 0, the only one there is.
    #[inline(always)]
    pub const fn is_version_0(&self) -> bool {
        self.version_and_words & 0xc0 == 0
    }

    /// Bytes of options: 0 to 252.
    #[inline(always)]
    pub const fn options_bytes(&self) -> usize {
        ((self.version_and_words & 0x3f) as usize).wrapping_mul(4)
    }

    /// The network, or nothing where the identifier is 0.
    #[inline(always)]
    pub const fn network(&self) -> Option<NetworkId> {
        let [a, b, c] = self.network;
        NetworkId::new(u32::from_be_bytes([0, a, b, c]))
    }
}

impl OptionHeader {
    /// Whether a receiver that does not know it must drop the packet.
    #[inline(always)]
    pub const fn is_critical(&self) -> bool {
        self.kind & 0x80 != 0
    }

    /// Bytes of the option, this header included: 4 to 128.
    #[inline(always)]
    pub const fn bytes(&self) -> usize {
        ((self.words & 0x1f) as usize)
            .wrapping_mul(4)
            .wrapping_add(4)
    }
}
