//! How does the verifier look at a piece of a program once, instead of once for each way that leads
//! to it?
//!
//! As a function with a symbol of its own, which it verifies apart from its callers, for any
//! arguments ("global function", Linux 5.6). So that arguments are bounded again in there, and the
//! result is a number.

use vnet_common::reason::Reason;

/// A result, as such a function returns it.
#[inline(always)]
pub fn word(result: Result<(), Reason>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(reason) => (reason.number() as u32).wrapping_add(1),
    }
}

/// The result that such a function returned.
#[inline(always)]
pub fn result(word: u32) -> Result<(), Reason> {
    match word.checked_sub(1) {
        None => Ok(()),
        Some(number) => Err(Reason::from_number(number as u8).unwrap_or(Reason::NoHeadroom)),
    }
}
