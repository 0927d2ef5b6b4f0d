//! The two atomic operations that programs need on values which CPUs share.
//!
//! Rust's atomics lack them for this target, because its oldest instruction set does; the third
//! one (Linux 5.12) has both, so they are written as that instruction.
#![expect(
    unsafe_code,
    reason = "one instruction each, which the compiler does not offer"
)]

use core::arch::asm;

/// Puts `new` where `expected` is. Returns what was there.
///
/// # Safety
///
/// `value` points to a live map value and is aligned to eight bytes.
#[inline(always)]
pub unsafe fn compare_exchange(value: *mut u64, expected: u64, new: u64) -> u64 {
    let found: u64;
    // SAFETY: the caller's promise; the instruction touches r0 and these eight bytes only.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({value} + 0, r0, {new})",
            value = in(reg) value,
            new = in(reg) new,
            inout("r0") expected => found,
            options(nostack),
        );
    }
    found
}

/// Adds to a value.
///
/// # Safety
///
/// As for [`compare_exchange`].
#[inline(always)]
pub unsafe fn add(value: *mut u64, summand: u64) {
    // SAFETY: the caller's promise; the instruction touches these eight bytes only.
    unsafe {
        asm!(
            "lock *(u64 *)({value} + 0) += {summand}",
            value = in(reg) value,
            summand = in(reg) summand,
            options(nostack),
        );
    }
}
