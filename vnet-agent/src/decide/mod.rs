//! What to do, given what was measured? Pure: facts in, decisions with their reasons out.

pub mod door;
