//! A frame in the kernel, at the XDP door.
#![expect(
    unsafe_code,
    reason = "packet memory is pointers, which the verifier checks"
)]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail};
use vnet_common::addr::Cookie;
use vnet_common::reason::Reason;
use vnet_common::wire::handover::Handover;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::packet::{Bytes, pointer_field};
use super::{Door, Frame, apart};
use crate::step::admit;

/// A frame that an XDP program was called for.
pub struct XdpFrame {
    context: *mut xdp_md,
    bytes: Bytes,
}

impl XdpFrame {
    /// The frame of this call.
    ///
    /// # Safety
    ///
    /// `context` is the pointer that the kernel passed to the program, and the program lives as
    /// long as the frame.
    #[inline(always)]
    pub unsafe fn new(context: *mut xdp_md) -> Self {
        Self {
            context,
            bytes: bytes(context),
        }
    }

    /// After the bytes have moved: every earlier pointer is void.
    #[inline(always)]
    fn moved(&mut self) {
        self.bytes = bytes(self.context);
    }

    /// What is written in front of the frame, if anything is: by a test run, or by a program on the
    /// other end of a veth. Drivers that know no metadata, taps of Linux 6.1 among them, say so by
    /// a metadata pointer *behind* the frame's start.
    #[inline(always)]
    pub fn handover(&self) -> Option<Handover> {
        let metadata = pointer_field!(self.context, "8");
        // SAFETY: it is `data_meta`, and the bytes have not moved.
        unsafe { self.bytes.handover(metadata) }
    }

    /// Writes this in front of the frame, for the next program of its device; nothing where the
    /// driver carries no metadata.
    #[inline(always)]
    pub fn hand_over(&mut self, handover: &Handover) -> Option<()> {
        let delta = (Handover::BYTES as i32).wrapping_neg();
        // SAFETY: the helper checks the room; no pointer into the frame is kept.
        if unsafe { bpf_xdp_adjust_meta(self.context, delta) } != 0 {
            return None;
        }
        self.moved();
        let metadata = pointer_field!(self.context, "8");
        // SAFETY: it is `data_meta`, and the bytes have not moved since.
        unsafe { self.bytes.hand_over(metadata, handover) }
    }
}

/// The bytes as the kernel shows them now.
#[inline(always)]
fn bytes(context: *mut xdp_md) -> Bytes {
    let (start, end) = (pointer_field!(context, "0"), pointer_field!(context, "4"));
    // SAFETY: they are `data` and `data_end`.
    unsafe { Bytes::new(start, end) }
}

impl Frame for XdpFrame {
    const DOOR: Door = Door::Xdp;

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: the context outlives the program (see `new`).
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.bytes.length()
    }

    #[inline(always)]
    fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T> {
        self.bytes.read(offset)
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable + Copy>(&mut self, offset: usize, value: &T) -> Option<()> {
        self.bytes.write(offset, value)
    }

    #[inline(always)]
    fn grow(&mut self, bytes: usize) -> Result<(), Reason> {
        let delta = (bytes as i32).wrapping_neg();
        // SAFETY: the helper checks the room and moves `data`; no pointer into the frame is kept.
        match unsafe { bpf_xdp_adjust_head(self.context, delta) } {
            0 => {
                self.moved();
                Ok(())
            }
            _ => Err(Reason::NoHeadroom),
        }
    }

    #[inline(always)]
    fn shrink(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: as in `grow`; the helper refuses to leave less than an Ethernet header.
        match unsafe { bpf_xdp_adjust_head(self.context, bytes as i32) } {
            0 => {
                self.moved();
                Some(())
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn truncate(&mut self, bytes: u32) -> Option<()> {
        let excess = self.length().checked_sub(bytes)?;
        if excess == 0 {
            return Some(());
        }
        let delta = (excess as i32).wrapping_neg();
        // SAFETY: as in `grow`.
        match unsafe { bpf_xdp_adjust_tail(self.context, delta) } {
            0 => {
                self.moved();
                Some(())
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn walk_options(&self, at: usize, options: usize, expected: Cookie) -> Result<(), Reason> {
        apart::result(vnet_xdp_options(self.context, at, options, expected.0))
    }
}

/// As [`admit::walk_options`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_xdp_options(
    context: *mut xdp_md,
    at: usize,
    options: usize,
    expected: u64,
) -> u32 {
    let frame = XdpFrame {
        context,
        bytes: bytes(context),
    };
    let (at, options) = (at & 0xff, options & 0xfc);
    apart::word(admit::walk_options(&frame, at, options, Cookie(expected)))
}
