//! The steps of a journey, in frame order. Each takes the frame and values and returns a value or
//! the reason why the frame ends here. No step contains `unsafe`, and none keeps a pointer.

pub mod parse;
pub mod admit;
pub mod echo;
pub mod decap;
pub mod resolve;
pub mod rules;
pub mod encap;
pub mod deliver;
pub mod account;
