//! A frame, whoever holds it.
//!
//! The one place where bytes of a frame are touched: every access is checked against the frame's
//! end, and nothing keeps a pointer, because growing and shrinking move the bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes};

#[cfg(not(target_arch = "bpf"))]
pub mod heap;
#[cfg(target_arch = "bpf")]
pub mod xdp;

/// A frame: bytes that can be read, written, and grown or shrunk at the front.
pub trait Frame {
    /// The device it came in on.
    fn device(&self) -> u32;

    /// Bytes in it.
    fn length(&self) -> u32;

    /// A copy of the header at this offset, or nothing where the frame is too short.
    fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T>;

    /// Overwrites the header at this offset; nothing, and nothing written, where it is too short.
    fn write<T: IntoBytes + Immutable + Copy>(&mut self, offset: usize, value: &T) -> Option<()>;

    /// Adds bytes of any content at the front; nothing where the holder has no room.
    fn grow(&mut self, bytes: usize) -> Option<()>;

    /// Takes bytes off the front; nothing where there are not that many, or too few would be left
    /// for an Ethernet header.
    fn shrink(&mut self, bytes: usize) -> Option<()>;

    /// Shortens the frame to this many bytes; nothing where it is not that long.
    fn truncate(&mut self, bytes: u32) -> Option<()>;
}
