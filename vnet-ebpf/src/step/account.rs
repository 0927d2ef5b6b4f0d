//! What became of the frame? One outcome for each that was received, in the ledger it came in by.

use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;

use crate::Outcome;

/// Writes the outcome of one received frame of this many bytes.
#[inline(always)]
pub fn account(ledger: &mut Ledger, bytes: u32, result: &Result<Outcome, Reason>) {
    ledger.received.add(bytes);
    let counter = match result {
        Ok(Outcome::Forwarded { .. }) => &mut ledger.forwarded,
        Ok(Outcome::Delivered { .. }) => &mut ledger.delivered,
        Ok(Outcome::SlowPath { .. }) => &mut ledger.slow_path,
        Ok(Outcome::Answered) => &mut ledger.answered,
        Ok(Outcome::Passed) => &mut ledger.passed,
        Err(reason) => return ledger.drop(*reason),
    };
    *counter = counter.wrapping_add(1);
}
