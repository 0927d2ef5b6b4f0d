//! What both kernel doors need to touch the bytes of a packet.
#![expect(
    unsafe_code,
    reason = "packet memory is pointers, which the verifier checks"
)]

use core::intrinsics::unaligned_volatile_store;

use vnet_common::wire::handover::Handover;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Reads a pointer field of the context. The kernel replaces these 32-bit loads by loads of whole
/// pointers, and the verifier then refuses the 32-bit spill that the compiler may make of one: so
/// the load is written as the instruction, whose result is a whole register.
macro_rules! pointer_field {
    ($context:expr, $offset:literal) => {{
        let value: usize;
        // SAFETY: the context outlives the program (see `new`) and has this field.
        unsafe {
            core::arch::asm!(
                concat!("{value} = *(u32 *)({context} + ", $offset, ")"),
                value = out(reg) value,
                context = in(reg) $context,
                options(readonly, nostack),
            );
        }
        value
    }};
}
pub(super) use pointer_field;

/// The bytes of a packet, as the kernel last showed them: when it moves them, they are asked for anew.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    start: usize,
    end: usize,
}

impl Bytes {
    /// The bytes between two pointers of the context.
    ///
    /// # Safety
    ///
    /// They are the context's `data` and `data_end`, loaded after the kernel last moved the bytes.
    #[inline(always)]
    pub(super) const unsafe fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// How many there are.
    #[inline(always)]
    pub(super) const fn length(&self) -> u32 {
        self.end.wrapping_sub(self.start) as u32
    }

    /// A pointer to a `T` at this offset, all of it inside the packet.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start.wrapping_add(offset);
        if start.wrapping_add(size_of::<T>()) > self.end {
            return None;
        }
        Some(start as *mut T)
    }

    /// A copy of the header at this offset.
    #[inline(always)]
    pub(super) fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T> {
        let pointer = self.at::<T>(offset)?;
        // SAFETY: `at` checked the bounds; every pattern of bytes is a `T` (FromBytes).
        Some(unsafe { pointer.read_unaligned() })
    }

    /// Overwrites the header at this offset.
    #[inline(always)]
    pub(super) fn write<T>(&mut self, offset: usize, value: &T) -> Option<()>
    where
        T: IntoBytes + Immutable + Copy,
    {
        let to = self.at::<T>(offset)?;
        // SAFETY: `at` checked the bounds.
        unsafe { put(to, value) };
        Some(())
    }

    /// A place for what programs tell each other, all of it before the packet.
    #[inline(always)]
    fn before(&self, metadata: usize) -> Option<*mut Handover> {
        if metadata.wrapping_add(Handover::BYTES) > self.start {
            return None;
        }
        Some(metadata as *mut Handover)
    }

    /// What is written in front of the packet, at the context's `data_meta`.
    ///
    /// # Safety
    ///
    /// `metadata` is the context's `data_meta`, loaded when these bytes were.
    #[inline(always)]
    pub(super) unsafe fn handover(&self, metadata: usize) -> Option<Handover> {
        let pointer = self.before(metadata)?;
        // SAFETY: all of it lies before the packet; every pattern of bytes is a `Handover`.
        Some(unsafe { pointer.read_unaligned() })
    }

    /// Writes in front of the packet.
    ///
    /// # Safety
    ///
    /// As for `handover`.
    #[inline(always)]
    pub(super) unsafe fn hand_over(&mut self, metadata: usize, handover: &Handover) -> Option<()> {
        let pointer = self.before(metadata)?;
        // SAFETY: all of it lies before the packet.
        unsafe { put(pointer, handover) };
        Some(())
    }
}

/// A value whose words are where the verifier wants words of the stack.
#[repr(C, align(8))]
struct Aligned<T>(T);

/// Writes a value's bytes.
///
/// # Safety
///
/// All of `to` belongs to the packet.
#[inline(always)]
unsafe fn put<T: IntoBytes + Immutable + Copy>(to: *mut T, value: &T) {
    let aligned = Aligned(*value);
    let from = (&raw const aligned.0).cast::<u8>();
    // SAFETY: the caller vouches for `to`; a `T` has no uninitialised bytes (IntoBytes).
    unsafe { copy_in_words(to.cast::<u8>(), from, size_of::<T>()) };
}

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
