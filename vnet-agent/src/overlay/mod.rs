//! The overlay as a graph: who gets a frame that is for more than one, and who hears of a frame that
//! is too big.

pub mod flood;
pub mod runtime;
pub mod slow_path;
pub mod too_big;
