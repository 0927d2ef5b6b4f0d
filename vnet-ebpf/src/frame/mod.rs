//! A frame, whoever holds it.
//!
//! The one place where bytes of a frame are touched: every access is checked against the frame's
//! end, and nothing keeps a pointer, because growing and shrinking move the bytes.

use vnet_common::addr::Cookie;
use vnet_common::reason::Reason;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::step::admit;

#[cfg(target_arch = "bpf")]
mod apart;
#[cfg(not(target_arch = "bpf"))]
pub mod heap;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
pub mod tc;
#[cfg(target_arch = "bpf")]
pub mod xdp;

/// Where in the kernel a program meets a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// In the driver, before there is a socket buffer.
    Xdp,
    /// As a socket buffer, with what was left to devices.
    Tc,
}

/// A frame: bytes that can be read, written, and grown or shrunk at the front.
pub trait Frame {
    /// The door it came in by.
    const DOOR: Door;

    /// The device it came in on.
    fn device(&self) -> u32;

    /// Bytes in it.
    fn length(&self) -> u32;

    /// Payload bytes of each packet that it becomes on its way, where a device does segmentation;
    /// 0 where it is one packet.
    #[inline(always)]
    fn segment_bytes(&self) -> u32 {
        0
    }

    /// A copy of the header at this offset, or nothing where the frame is too short.
    fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T>;

    /// Overwrites the header at this offset; nothing, and nothing written, where it is too short.
    fn write<T: IntoBytes + Immutable + Copy>(&mut self, offset: usize, value: &T) -> Option<()>;

    /// Adds bytes of any content at the front.
    ///
    /// # Errors
    ///
    /// The holder has no room.
    fn grow(&mut self, bytes: usize) -> Result<(), Reason>;

    /// The same for outer headers that end in UDP, over this family of IP.
    ///
    /// # Errors
    ///
    /// As for `grow`.
    #[inline(always)]
    fn encapsulate(&mut self, bytes: usize, _over_ipv6: bool) -> Result<(), Reason> {
        self.grow(bytes)
    }

    /// Carries out what shrinking may have put off: now the holder's own idea of where the frame
    /// begins is right.
    ///
    /// # Errors
    ///
    /// The holder cannot.
    #[inline(always)]
    fn settle(&mut self) -> Result<(), Reason> {
        Ok(())
    }

    /// Takes bytes off the front; nothing where there are not that many, or too few would be left
    /// for an Ethernet header.
    fn shrink(&mut self, bytes: usize) -> Option<()>;

    /// Shortens the frame to this many bytes; nothing where it is not that long.
    fn truncate(&mut self, bytes: u32) -> Option<()>;

    /// What [`admit::walk_options`] says of this frame. In the kernel, apart from the program.
    ///
    /// # Errors
    ///
    /// Those of that.
    #[inline(always)]
    fn walk_options(&self, at: usize, options: usize, expected: Cookie) -> Result<(), Reason>
    where
        Self: Sized,
    {
        admit::walk_options(self, at, options, expected)
    }
}
