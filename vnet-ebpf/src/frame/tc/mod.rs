//! A frame in the kernel, at the TC door: a socket buffer, with what its sender left to devices
//! (checksum, segmentation, VLAN tag) beside the bytes.
//!
//! Here the bytes; [`tags`] has the VLAN tags, [`room`] makes room in front of the frame and takes
//! headers off. What must hold so that none of that is lost (Linux 6.18, `net/core/filter.c`):
//!
//! * Outer headers in front of IP are made room for by `bpf_skb_adjust_room`, which tells the
//!   kernel's segmentation of the tunnel; it puts the room behind the Ethernet header and takes IP
//!   only. Other frames, and those that are a tunnel's already, go by `bpf_skb_change_head`, which
//!   does not: so a frame that is to be segmented must not.
//! * A VLAN tag may lie beside the bytes. A device would put it into the *outer* header, so it goes
//!   into the frame first.
//! * Headers that came off are only passed over ([`TcFrame::pending`]) until it is known what
//!   becomes of the frame: for another link the new ones overwrite them, and the kernel's notes
//!   stay right.
#![expect(
    unsafe_code,
    reason = "packet memory is pointers, which the verifier checks"
)]

mod room;
mod tags;

use core::ffi::c_long;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_pull_data;
use vnet_common::addr::Cookie;
use vnet_common::reason::Reason;
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::handover::Handover;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::packet::{Bytes, pointer_field};
use super::{Door, Frame, apart};
use crate::step::admit;

/// A frame that a TC program was called for.
pub struct TcFrame {
    context: *mut __sk_buff,
    bytes: Bytes,
    /// Bytes at the front that were taken off and are still there.
    pending: usize,
}

/// Above any headers that are ever taken off: an IPv6 header and all of Geneve's options.
const PENDING_MASK: usize = 0x1ff;

impl TcFrame {
    /// The frame of this call. `headers_bytes` of it, or all there are, can then be read.
    ///
    /// # Safety
    ///
    /// `context` is the pointer that the kernel passed to the program, and the program lives as
    /// long as the frame.
    #[inline(always)]
    pub unsafe fn new(context: *mut __sk_buff, headers_bytes: u32) -> Self {
        let mut frame = Self {
            context,
            bytes: bytes(context),
            pending: 0,
        };
        frame.pull(headers_bytes);
        frame
    }

    /// A frame that has been looked at before.
    #[inline(always)]
    fn again(context: *mut __sk_buff, pending: usize) -> Self {
        Self {
            context,
            bytes: bytes(context),
            pending: pending & PENDING_MASK,
        }
    }

    /// After nothing is passed over any more.
    #[inline(always)]
    fn settled(&mut self) {
        self.pending = 0;
        self.moved();
    }

    /// Makes this many bytes readable, where there are as many.
    #[inline(always)]
    fn pull(&mut self, bytes: u32) {
        let linear = self.bytes.length();
        if linear < bytes && linear < self.raw_length() {
            let all = self.raw_length();
            let wanted = if bytes < all { bytes } else { all };
            // SAFETY: the helper checks the length; no pointer into the frame is kept. Where it
            // fails, the bytes are not there, which reading them tells.
            let _ = unsafe { bpf_skb_pull_data(self.context, wanted) };
            self.moved();
        }
    }

    /// After the bytes may have moved: every earlier pointer is void.
    #[inline(always)]
    fn moved(&mut self) {
        self.bytes = bytes(self.context);
    }

    /// After a helper that moves bytes: whether it did what it should.
    #[inline(always)]
    fn after(&mut self, refused: c_long) -> Result<(), Reason> {
        self.moved();
        if refused == 0 {
            Ok(())
        } else {
            Err(Reason::NoHeadroom)
        }
    }

    /// Bytes, without a tag beside them, with those passed over.
    #[inline(always)]
    fn raw_length(&self) -> u32 {
        // SAFETY: the context outlives the program (see `new`).
        unsafe { (*self.context).len }
    }

    /// Whether a VLAN tag lies beside the bytes.
    #[inline(always)]
    pub fn has_tag(&self) -> bool {
        // SAFETY: as in `raw_length`.
        unsafe { (*self.context).vlan_present != 0 }
    }

    /// The mark that the kernel carries with the frame.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: as in `raw_length`.
        unsafe { (*self.context).mark }
    }

    /// Whether the kernel's idea of what follows the Ethernet header is what stands there.
    #[inline(always)]
    pub fn knows_its_type(&self) -> bool {
        // SAFETY: as in `raw_length`.
        let protocol = unsafe { (*self.context).protocol } as u16;
        self.read::<[u8; 2]>(12) == Some(protocol.to_ne_bytes())
    }

    /// What a program before this one wrote in front of the frame, if anything.
    #[inline(always)]
    pub fn handover(&self) -> Option<Handover> {
        let metadata = pointer_field!(self.context, "140");
        // SAFETY: it is `data_meta`, and the bytes have not moved.
        unsafe { self.bytes.handover(metadata) }
    }
}

/// The bytes as the kernel shows them now.
#[inline(always)]
fn bytes(context: *mut __sk_buff) -> Bytes {
    let (start, end) = (pointer_field!(context, "76"), pointer_field!(context, "80"));
    // SAFETY: they are `data` and `data_end`.
    unsafe { Bytes::new(start, end) }
}

impl Frame for TcFrame {
    const DOOR: Door = Door::Tc;

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: as in `raw_length`.
        unsafe { (*self.context).ifindex }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // Without a branch: each would double the verifier's work behind it.
        // SAFETY: as in `raw_length`.
        let tag = unsafe { (*self.context).vlan_present } & 1;
        self.raw_length()
            .wrapping_add(tag.wrapping_mul(ethernet::TAG_BYTES as u32))
            .wrapping_sub(self.pending as u32)
    }

    #[inline(always)]
    fn segment_bytes(&self) -> u32 {
        // SAFETY: as in `raw_length`.
        unsafe { (*self.context).gso_size }
    }

    #[inline(always)]
    fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T> {
        self.bytes.read(self.pending.wrapping_add(offset))
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable + Copy>(&mut self, offset: usize, value: &T) -> Option<()> {
        self.bytes.write(self.pending.wrapping_add(offset), value)
    }

    #[inline(always)]
    fn grow(&mut self, bytes: usize) -> Result<(), Reason> {
        let result = room::grow(self.context, self.pending, bytes);
        self.settled();
        result
    }

    #[inline(always)]
    fn encapsulate(&mut self, bytes: usize, over_ipv6: bool) -> Result<(), Reason> {
        if self.pending == bytes {
            self.pending = 0;
            if (self.read::<[u8; 2]>(12) == Some(ethernet::IPV6)) == over_ipv6 {
                return Ok(());
            }
            self.pending = bytes;
        }
        let result = room::encapsulate(self.context, self.pending, bytes, over_ipv6);
        self.settled();
        result
    }

    #[inline(always)]
    fn settle(&mut self) -> Result<(), Reason> {
        if self.pending == 0 {
            return Ok(());
        }
        let result = room::settle(self.context, self.pending);
        self.settled();
        result
    }

    #[inline(always)]
    fn shrink(&mut self, bytes: usize) -> Option<()> {
        if self.length() as usize <= bytes {
            return None;
        }
        self.pending = self.pending.wrapping_add(bytes) & PENDING_MASK;
        // Headers with long options may end beyond what is readable.
        self.pull((self.pending as u32).wrapping_add(Ethernet::BYTES as u32));
        Some(())
    }

    #[inline(always)]
    fn truncate(&mut self, bytes: u32) -> Option<()> {
        let excess = self.length().checked_sub(bytes)?;
        if excess == 0 {
            return Some(());
        }
        let left = self.raw_length().checked_sub(excess)?;
        self.set_raw_length(left).ok()
    }

    #[inline(always)]
    fn walk_options(&self, at: usize, options: usize, expected: Cookie) -> Result<(), Reason> {
        apart::result(vnet_tc_options(self.context, at, options, expected.0))
    }
}

/// As [`admit::walk_options`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_tc_options(
    context: *mut __sk_buff,
    at: usize,
    options: usize,
    expected: u64,
) -> u32 {
    let frame = TcFrame::again(context, 0);
    let (at, options) = (at & 0xff, options & 0xfc);
    apart::word(admit::walk_options(&frame, at, options, Cookie(expected)))
}
