//! What is there to measure?
//!
//! Each part measures in rounds of its own and hands back figures.

pub mod costs;
pub mod frames;
pub mod memory;
pub mod overlay;
pub mod primitives;
pub mod rules;
pub mod streams;
