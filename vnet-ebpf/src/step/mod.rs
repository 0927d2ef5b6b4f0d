//! The steps of a journey, in frame order. Each takes the frame and values and returns a value or
//! the reason why the frame ends here. No step contains `unsafe`, and none keeps a pointer.

pub mod account;
pub mod admit;
pub mod decap;
pub mod deliver;
pub mod echo;
pub mod encap;
pub mod fit;
pub mod parse;
pub mod resolve;
pub mod rules;
pub mod show;
pub mod too_big;
