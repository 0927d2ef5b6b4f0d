//! How does the whole overlay get from one state to another without a frame lost or doubled?
//!
//! Input: what each host goes by now, and what it is to go by. Output: stages, each a part for every
//! host, and who goes on when. Nothing here does I/O: the proxy deals what it is told to
//! (`agent/proxy/rollout.rs`), and tells what the hosts answer.
//!
//! ```text
//!   Before    what each host has
//!   Links     all links, old and new; the rules as before. No rule leads over a new link, so it does
//!             not matter whose end is there first. Frames for many take the links of both trees: who
//!             gets one twice knows it ([`once`](super::once))
//!   Round 1   the rules of those that send a frame to its last host, or whose next host has nothing
//!             to change
//!   Round n   of those whose next host changed in an earlier round
//!   After     the new links alone. Only now a host loses rules that it gets no others for: until
//!             then somebody may still send to it
//! ```
//!
//! A stage begins when every host has said that the one before is in force. Whatever subset of the
//! hosts has heard of a round, a frame that meets a host with new rules meets only such hosts from
//! there on, and before that it is on its old way: it arrives, once ([`order`](self::order)). The way
//! back is the same stages in reverse. Between stages that take something away there is a pause, in
//! which what is under way arrives: as long as the slowest host took to answer.

mod order;
mod plan;
mod run;
mod table;

#[cfg(test)]
mod tests;

pub use plan::{Parts, Place, Plan, Stage};
pub use run::{Deed, Outcome, Progress, Rollout};
