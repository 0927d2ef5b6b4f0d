//! Does the other end of each link answer?

pub mod pulse;
pub mod runtime;
