//! What did the sender of a frame leave to devices?
//!
//! A tap tells it in front of each frame (`struct virtio_net_hdr`, `linux/virtio_net.h`), and wants to
//! be told. Over a link that the agent carries it goes along, so that nobody on the way has to cut or
//! to sum.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The header, in the host's order. The kernel checks what it is told against the frame.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Offload {
    flags: u8,
    segmentation: u8,
    header_bytes: u16,
    segment_bytes: u16,
    sum_from: u16,
    sum_at: u16,
}

/// Its numbers, counted from the frame's own beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Whether a checksum is to be filled in.
    pub sums: bool,
    /// Which protocol is to be cut: one of [`Work::CUTS`], or 0 for none.
    pub cuts: u8,
    /// Bytes of all headers of what is to be cut.
    pub header_bytes: u16,
    /// Payload bytes of each packet that it becomes; 0 where it is one.
    pub segment_bytes: u16,
    /// Where the bytes to be summed begin.
    pub sum_from: u16,
    /// Where the sum belongs, counted from there.
    pub sum_at: u16,
}

impl Work {
    /// TCP over IPv4 and IPv6, without and with congestion notification.
    pub const CUTS: [u8; 4] = [1, 4, 0x81, 0x84];

    /// Whether it can be about a frame of this many bytes.
    pub fn fits(&self, frame_bytes: usize) -> bool {
        let sum_end = usize::from(self.sum_from) + usize::from(self.sum_at) + 2;
        let sum_fits = match self.sums {
            true => sum_end <= frame_bytes,
            false => self.sum_from == 0 && self.sum_at == 0,
        };
        let cut_fits = match self.cuts {
            0 => self.segment_bytes == 0,
            // What is cut is summed.
            cuts => Self::CUTS.contains(&cuts) && self.segment_bytes > 0 && self.sums,
        };
        sum_fits && cut_fits && usize::from(self.header_bytes) <= frame_bytes
    }
}

const NEEDS_SUM: u8 = 1;
/// More than Ethernet, tags, IP and TCP with options together.
const HEADERS_BYTES_MAX: u16 = 192;

impl Offload {
    /// Bytes of it.
    pub const BYTES: usize = size_of::<Self>();
    /// Nothing was left.
    pub const NONE: Self = Self {
        flags: 0,
        segmentation: 0,
        header_bytes: 0,
        segment_bytes: 0,
        sum_from: 0,
        sum_at: 0,
    };

    /// Whether the frame is to be cut into several.
    pub const fn is_to_be_cut(&self) -> bool {
        self.segmentation != 0
    }

    /// The work on the frame behind `headers` bytes that the header counts from; nothing where it is
    /// not about that frame.
    pub fn behind(&self, headers: u16) -> Option<Work> {
        let sums = self.flags & NEEDS_SUM != 0;
        let is_cut = self.segmentation != 0;
        Some(Work {
            sums,
            cuts: self.segmentation,
            header_bytes: match is_cut {
                // The kernel tells how much lies in one piece, and needs the headers alone so.
                true => self
                    .header_bytes
                    .checked_sub(headers)?
                    .min(HEADERS_BYTES_MAX),
                false => 0,
            },
            segment_bytes: if is_cut { self.segment_bytes } else { 0 },
            sum_from: match sums {
                true => self.sum_from.checked_sub(headers)?,
                false => 0,
            },
            sum_at: if sums { self.sum_at } else { 0 },
        })
    }

    /// The header for work on a frame behind `headers` bytes; nothing where its numbers are too
    /// large.
    pub fn in_front(work: &Work, headers: u16) -> Option<Self> {
        Some(Self {
            flags: if work.sums { NEEDS_SUM } else { 0 },
            segmentation: work.cuts,
            header_bytes: match work.cuts {
                0 => 0,
                _ => work.header_bytes.checked_add(headers)?,
            },
            segment_bytes: work.segment_bytes,
            sum_from: match work.sums {
                true => work.sum_from.checked_add(headers)?,
                false => 0,
            },
            sum_at: work.sum_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Work = Work {
        sums: true,
        cuts: 1,
        header_bytes: 54,
        segment_bytes: 1448,
        sum_from: 34,
        sum_at: 16,
    };
    const SUM: Work = Work {
        cuts: 0,
        segment_bytes: 0,
        header_bytes: 0,
        ..TCP
    };

    #[test]
    fn work_is_the_same_behind_other_headers() {
        for work in [TCP, SUM, Work::default()] {
            let offload = Offload::in_front(&work, 32).unwrap();
            assert_eq!(offload.behind(32), Some(work));
        }
        assert_eq!(Offload::in_front(&Work::default(), 32), Some(Offload::NONE));
        let within = Offload::in_front(&SUM, 0).unwrap();
        assert_eq!(within.behind(35), None, "it is about the headers");
        let beyond = Work {
            sum_from: 65_520,
            ..TCP
        };
        assert_eq!(Offload::in_front(&beyond, 32), None);
    }

    #[test]
    fn work_that_is_about_no_such_frame_is_told() {
        assert!(TCP.fits(1000) && SUM.fits(52) && Work::default().fits(14));
        let wrong = [
            Work {
                sum_at: 1000,
                ..TCP
            },
            Work { cuts: 3, ..TCP },
            Work { sums: false, ..TCP },
            Work {
                segment_bytes: 0,
                ..TCP
            },
            Work {
                segment_bytes: 9,
                ..SUM
            },
            Work {
                header_bytes: 1001,
                ..TCP
            },
            Work {
                sum_from: 65_535,
                sum_at: 65_535,
                ..TCP
            },
        ];
        for work in wrong {
            assert!(!work.fits(1000), "{work:?}");
        }
    }
}
