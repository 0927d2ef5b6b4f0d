//! The frame path in this machine's kernel, for tests: a machine of its own ([`machine`]), the
//! loaded programs as a runner of vectors ([`kernel`]), and maps that are not ours ([`foreign`]).


pub mod kernel;
pub mod machine;
