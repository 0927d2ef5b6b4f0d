//! Do many hosts together do what the topology says?
//!
//! Each host ([`host`]) is what an agent makes of its part of a topology: the same reconciliation,
//! the same journeys over tables on the heap, the same copier of frames for many. Between them is
//! a network ([`world`]) with virtual time, delay, loss and cuts, all from one seed. Topologies by
//! chance are in [`topology`]; what is asserted of them is in `tests/`. No root, no clock.
//!
//! Where a proxy deals the parts ([`overlay`]), both ends of the control channel are the agent's own
//! too, with a network between them that breaks, and processes that end ([`plan`]).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod host;
pub mod overlay;
pub mod plan;
pub mod topology;
pub mod watch;
pub mod world;
