//! What became of the frame? One outcome for each that was received, in the ledger it came in by.

use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;

use crate::{Outcome, Way};

/// Writes the outcome of one received frame of this many bytes.
#[inline(always)]
pub fn account(ledger: &mut Ledger, bytes: u32, result: &Result<Outcome, Reason>) {
    ledger.received.add(bytes);
    let outcome = match result {
        Ok(outcome) => *outcome,
        Err(reason) => return ledger.drop(*reason),
    };
    let counter = match outcome.way() {
        Way::Forwarded => &mut ledger.forwarded,
        Way::Delivered | Way::Joined | Way::Direct => &mut ledger.delivered,
        Way::SlowPath => &mut ledger.slow_path,
        Way::Answered => &mut ledger.answered,
        Way::Passed => &mut ledger.passed,
        // What went up is not the frame any more.
        Way::TooBig => return ledger.drop(Reason::TooBig),
    };
    *counter = counter.wrapping_add(1);
}
