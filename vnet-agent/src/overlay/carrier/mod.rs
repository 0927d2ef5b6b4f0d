//! How do two agents carry a link's frames over one connection?
//!
//! First each proves that it knows the link's cookie ([`preface`]); then frames follow each other, each
//! behind a header ([`message`]); [`life`] says when a connection is dead, when to try again, and
//! which of two stays. Pure: `via` does the I/O.
//!
//! The cookie itself is never sent. Over plain TCP the proofs keep out who does not know it, and
//! nothing more: whoever can change packets on the way can change frames too. That is what TLS is for.

pub mod life;
pub mod message;
pub mod preface;
