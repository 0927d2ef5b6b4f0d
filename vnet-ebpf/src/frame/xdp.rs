//! A frame in the kernel, at the XDP door.
#![expect(
    unsafe_code,
    reason = "packet memory is pointers, which the verifier checks"
)]

use core::arch::asm;
use core::intrinsics::unaligned_volatile_store;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use vnet_common::wire::handover::Handover;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Frame;

/// A frame that an XDP program was called for.
pub struct XdpFrame {
    context: *mut xdp_md,
    start: usize,
    end: usize,
}

/// Reads a pointer field of the context. The kernel replaces these 32-bit loads by loads of whole
/// pointers, and the verifier then refuses the 32-bit spill that the compiler may make of one: so
/// the load is written as the instruction, whose result is a whole register.
macro_rules! pointer_field {
    ($context:expr, $offset:literal) => {{
        let value: usize;
        // SAFETY: the context outlives the program (see `XdpFrame::new`) and has this field.
        unsafe {
            asm!(
                concat!("{value} = *(u32 *)({context} + ", $offset, ")"),
                value = out(reg) value,
                context = in(reg) $context,
                options(readonly, nostack),
            );
        }
        value
    }};
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
            start: pointer_field!(context, "0"),
            end: pointer_field!(context, "4"),
        }
    }

    /// After the bytes have moved: every earlier pointer is void.
    #[inline(always)]
    fn moved(&mut self) {
        self.start = pointer_field!(self.context, "0");
        self.end = pointer_field!(self.context, "4");
    }

    /// What is written in front of the frame, if anything is: by a test run, or by a program on the
    /// other end of a veth. Drivers that know no metadata, taps of Linux 6.1 among them, say so by
    /// a metadata pointer *behind* the frame's start.
    #[inline(always)]
    pub fn handover(&self) -> Option<Handover> {
        let metadata = pointer_field!(self.context, "8");
        if metadata.wrapping_add(Handover::BYTES) > self.start {
            return None;
        }
        // SAFETY: all of it lies before the frame; every pattern of bytes is a `Handover`.
        Some(unsafe { (metadata as *const Handover).read_unaligned() })
    }

    /// A pointer to a `T` at this offset, all of it inside the frame.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start.wrapping_add(offset);
        if start.wrapping_add(size_of::<T>()) > self.end {
            return None;
        }
        Some(start as *mut T)
    }
}

/// A value whose words are where the verifier wants words of the stack.
#[repr(C, align(8))]
struct Aligned<T>(T);

/// Copies in the widest moves there are. The compiler's own copy of bytes that lie anywhere is one
/// move a byte, and it would turn a plain loop into that copy; volatile moves stay what they are.
///
/// # Safety
///
/// Both sides have these many bytes, all of `from` initialised.
#[inline(always)]
unsafe fn copy_in_words(to: *mut u8, from: *const u8, bytes: usize) {
    /// Moves one `T` at this offset if all of it belongs to the copy. Returns the next offset.
    ///
    /// # Safety
    ///
    /// As for `copy_in_words`.
    #[inline(always)]
    unsafe fn one<T>(to: *mut u8, from: *const u8, at: usize, bytes: usize) -> usize {
        let next = at.wrapping_add(size_of::<T>());
        if next > bytes {
            return at;
        }
        // SAFETY: `next` is not behind the end of either side; neither move needs alignment.
        unsafe {
            let word = from.add(at).cast::<T>().read_unaligned();
            unaligned_volatile_store(to.add(at).cast::<T>(), word);
        }
        next
    }
    let mut at = 0usize;
    // SAFETY: `one` stays inside; the caller vouches for the rest.
    unsafe {
        while at.wrapping_add(size_of::<u64>()) <= bytes {
            at = one::<u64>(to, from, at, bytes);
        }
        at = one::<u32>(to, from, at, bytes);
        at = one::<u16>(to, from, at, bytes);
        one::<u8>(to, from, at, bytes);
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: the context outlives the program (see `new`).
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.end.wrapping_sub(self.start) as u32
    }

    #[inline(always)]
    fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T> {
        let pointer = self.at::<T>(offset)?;
        // SAFETY: `at` checked the bounds; every pattern of bytes is a `T` (FromBytes).
        Some(unsafe { pointer.read_unaligned() })
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable + Copy>(&mut self, offset: usize, value: &T) -> Option<()> {
        let to = self.at::<T>(offset)?.cast::<u8>();
        let aligned = Aligned(*value);
        let from = (&raw const aligned.0).cast::<u8>();
        // SAFETY: `at` checked the bounds of `to`; a `T` has no uninitialised bytes (IntoBytes).
        unsafe { copy_in_words(to, from, size_of::<T>()) };
        Some(())
    }

    #[inline(always)]
    fn grow(&mut self, bytes: usize) -> Option<()> {
        let delta = (bytes as i32).wrapping_neg();
        // SAFETY: the helper checks the room and moves `data`; no pointer into the frame is kept.
        match unsafe { bpf_xdp_adjust_head(self.context, delta) } {
            0 => {
                self.moved();
                Some(())
            }
            _ => None,
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
}
