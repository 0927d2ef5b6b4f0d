//! How do a link's frames get over a connection? The I/O of links of kind `tcp` and `tls`.
//!
//! Input: which links there are ([`plan`]), and the frames for them that the slow path takes from the
//! tap. Output: what comes over the connections, written to the tap as having arrived over the link.
//!
//! A link has an [`outbox`], which is like the queue of a network card: what finds it full is dropped
//! and counted. [`runtime`] keeps one [`connection`] for each, opened by either end, and hears who
//! wants to open one; [`tcp`] and [`tls`] are what it goes over.

pub mod connection;
pub mod gate;
pub mod outbox;
pub mod plan;
pub mod runtime;
pub mod state;
pub mod tcp;
pub mod tls;
