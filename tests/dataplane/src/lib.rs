//! The frame path in this machine's kernel, for tests: a machine of its own ([`machine`]), the
//! loaded programs as a runner of vectors, by test run ([`kernel`]) and between devices
//! ([`live`]) or in bursts ([`burst`]), maps that are not ours ([`foreign`]), and what the verifier may be asked
//! ([`budget`], [`stack`]).

pub mod budget;
pub mod burst;
pub mod foreign;
pub mod kernel;
pub mod live;
pub mod machine;
pub mod stack;
