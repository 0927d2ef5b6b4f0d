//! Frames by name: what every test says when it talks of frames.
//!
//! Who is who ([`actor`]); a frame in words to bytes ([`build`]) and back ([`decode`], [`diff`]);
//! a test vector ([`vector`]), its tables ([`world`]), who runs it ([`runner`], [`heap`]) and
//! whether it did what it says ([`judge`], [`books`]). For tests of properties: what rules mean,
//! the slow way ([`linear`]), and rules and frames by chance ([`chance`]). For frames that a NIC has
//! still to finish: what is to be done about them ([`finish`]), what TCP segments carry however they
//! were cut ([`stream`]), and whether every length and checksum of a frame is right ([`sound`]).

pub mod actor;
pub mod books;
pub mod build;
pub mod chance;
pub mod decode;
pub mod diff;
pub mod finish;
pub mod flow_port;
mod headers;
pub mod heap;
pub mod judge;
pub mod linear;
mod observed;
mod ordinary;
pub mod runner;
pub mod sound;
pub mod stage;
pub mod stream;
mod tunnel;
pub mod vector;
mod words;
pub mod world;
