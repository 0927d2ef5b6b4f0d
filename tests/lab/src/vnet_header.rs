//! What does a VM leave to its NIC, and what may its NIC leave to it?
//!
//! A tap with headers puts a `struct virtio_net_hdr` (`linux/virtio_net.h`) before each frame, in
//! both directions: [`VnetHeader`]. What a VM sends may always lack its checksum or be too large
//! for the wire; what it receives only if the VM said so: [`Offloads`].

use anyhow::{Context, Result, bail};

/// Bytes of a header, with the count of buffers at its end that VMs since virtio 1.0 have.
pub const VNET_HEADER_BYTES: usize = 12;

// `VIRTIO_NET_HDR_F_*`
const NEEDS_CHECKSUM: u8 = 1;
const HAS_VALID_CHECKSUM: u8 = 2;

/// `VIRTIO_NET_HDR_GSO_*`; in the kind's byte, congestion notification is a bit besides.
const NO_SEGMENTS: u8 = 0;
const ECN: u8 = 0x80;

/// How a frame that is too large for the wire is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Into TCP segments over IPv4.
    TcpV4,
    /// Into TCP segments over IPv6.
    TcpV6,
    /// Into UDP datagrams, over either.
    Udp,
}

impl Cut {
    const fn number(self) -> u8 {
        match self {
            Self::TcpV4 => 1,
            Self::TcpV6 => 4,
            Self::Udp => 5,
        }
    }

    fn from_number(number: u8) -> Result<Self> {
        let all = [Self::TcpV4, Self::TcpV6, Self::Udp];
        let found = all.into_iter().find(|cut| cut.number() == number & !ECN);
        found.with_context(|| format!("nobody allowed frames to be cut in the way {number}"))
    }
}

/// A frame that is many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// What they are.
    pub cut: Cut,
    /// How much of the data goes into each; the last may have less.
    pub data_bytes: u16,
    /// Bytes before the data, which each gets. A receiver is told how much of the frame the kernel
    /// has in one piece, which may be more.
    pub header_bytes: u16,
}

/// A checksum that was left to be filled in; the field has the pseudo-header's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Where in the frame the bytes to be summed begin; they go on to its end.
    pub start: u16,
    /// Where the sum belongs, counted from there.
    pub offset: u16,
}

/// What is still to be done about a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// A checksum.
    pub unfinished: Option<Unfinished>,
    /// Cutting.
    pub segments: Option<Segments>,
    /// The checksum was looked at on the way, and is right.
    pub is_checked: bool,
}

impl VnetHeader {
    /// Nothing: the frame is finished.
    pub const NONE: Self = Self {
        unfinished: None,
        segments: None,
        is_checked: false,
    };

    /// As a VM writes it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; VNET_HEADER_BYTES] {
        let mut bytes = [0; VNET_HEADER_BYTES];
        if let Some(Segments {
            cut,
            data_bytes,
            header_bytes,
        }) = self.segments
        {
            bytes[1] = cut.number();
            bytes[2..4].copy_from_slice(&header_bytes.to_ne_bytes());
            bytes[4..6].copy_from_slice(&data_bytes.to_ne_bytes());
        }
        if self.is_checked {
            bytes[0] |= HAS_VALID_CHECKSUM;
        }
        if let Some(Unfinished { start, offset }) = self.unfinished {
            bytes[0] |= NEEDS_CHECKSUM;
            bytes[6..8].copy_from_slice(&start.to_ne_bytes());
            bytes[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        bytes
    }

    /// As a VM reads it.
    ///
    /// # Errors
    ///
    /// It says something that no tap may say.
    pub fn from_bytes(bytes: [u8; VNET_HEADER_BYTES]) -> Result<Self> {
        let [flags, kind, h0, h1, d0, d1, s0, s1, o0, o1, ..] = bytes;
        if flags & !(NEEDS_CHECKSUM | HAS_VALID_CHECKSUM) != 0 {
            bail!("a header with the flags {flags:#04x}");
        }
        let segments = match kind {
            NO_SEGMENTS => None,
            kind => Some(Segments {
                cut: Cut::from_number(kind)?,
                data_bytes: u16::from_ne_bytes([d0, d1]),
                header_bytes: u16::from_ne_bytes([h0, h1]),
            }),
        };
        let unfinished = Unfinished {
            start: u16::from_ne_bytes([s0, s1]),
            offset: u16::from_ne_bytes([o0, o1]),
        };
        Ok(Self {
            unfinished: (flags & NEEDS_CHECKSUM != 0).then_some(unfinished),
            segments,
            is_checked: flags & HAS_VALID_CHECKSUM != 0,
        })
    }
}

/// What a VM takes although it is not finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Frames with unfinished checksums; without it none of the others counts.
    pub checksum: bool,
    /// TCP frames that are many.
    pub tcp: bool,
    /// UDP frames that are many.
    pub udp: bool,
}

impl Offloads {
    /// Nothing: every frame is to be as on a wire.
    pub const NONE: Self = Self {
        checksum: false,
        tcp: false,
        udp: false,
    };
    /// Everything.
    pub const ALL: Self = Self {
        checksum: true,
        tcp: true,
        udp: true,
    };

    /// `TUN_F_*` of `linux/if_tun.h`: CSUM, TSO4 and TSO6 and TSO_ECN, USO4 and USO6.
    pub(crate) const fn to_kernel(self) -> libc::c_ulong {
        let checksum = if self.checksum { 0x01 } else { 0 };
        let tcp = if self.tcp { 0x0e } else { 0 };
        let udp = if self.udp { 0x60 } else { 0 };
        checksum | tcp | udp
    }
}

#[cfg(test)]
mod tests {
    use super::{Cut, Segments, Unfinished, VnetHeader};

    #[test]
    fn a_header_is_read_as_it_is_written() {
        let segments = |cut| Segments {
            cut,
            data_bytes: 1300,
            header_bytes: 54,
        };
        let unfinished = Unfinished {
            start: 34,
            offset: 16,
        };
        for cut in [None, Some(Cut::TcpV4), Some(Cut::TcpV6), Some(Cut::Udp)] {
            let header = VnetHeader {
                unfinished: cut.is_some().then_some(unfinished),
                segments: cut.map(segments),
                is_checked: cut.is_none(),
            };
            let read = VnetHeader::from_bytes(header.to_bytes());
            assert_eq!(read.ok(), Some(header));
        }
        // `struct virtio_net_hdr_v1`, by hand.
        let header = VnetHeader {
            unfinished: Some(unfinished),
            segments: Some(segments(Cut::TcpV4)),
            is_checked: false,
        };
        assert_eq!(
            header.to_bytes(),
            [1, 1, 54, 0, 0x14, 5, 34, 0, 16, 0, 0, 0]
        );
        assert!(VnetHeader::from_bytes([4; 12]).is_err());
    }
}
