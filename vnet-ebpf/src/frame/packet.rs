//! What both kernel doors need to touch the bytes of a packet.
#![expect(
    unsafe_code,
    reason = "packet memory is pointers, which the verifier checks"
)]

use core::intrinsics::unaligned_volatile_store;

use zerocopy::{Immutable, IntoBytes};

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

/// A value whose words are where the verifier wants words of the stack.
#[repr(C, align(8))]
struct Aligned<T>(T);

/// Writes a value's bytes.
///
/// # Safety
///
/// All of `to` belongs to the packet.
#[inline(always)]
pub(super) unsafe fn put<T: IntoBytes + Immutable + Copy>(to: *mut T, value: &T) {
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
