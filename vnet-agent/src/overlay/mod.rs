//! The overlay as a graph: who gets a frame that is for more than one.

pub mod flood;
pub mod runtime;
pub mod slow_path;
