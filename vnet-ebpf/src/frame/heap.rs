//! A frame on the host: a vector with room in front, for tests, simulation and explanations.

use std::vec::Vec;

use vnet_common::reason::Reason;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Door, Frame};

/// Bytes that XDP drivers leave free in front of a frame (`XDP_PACKET_HEADROOM`).
pub const HEADROOM: usize = 256;

/// A frame in a vector.
#[derive(Clone, Debug)]
pub struct HeapFrame {
    device: u32,
    room: Vec<u8>,
    start: usize,
}

impl HeapFrame {
    /// A frame that came in on this device.
    pub fn new(device: u32, bytes: &[u8]) -> Self {
        Self::with_headroom(device, bytes, HEADROOM)
    }

    /// The same, with this much room in front of it.
    pub fn with_headroom(device: u32, bytes: &[u8], headroom: usize) -> Self {
        let mut room = std::vec![0; headroom];
        room.extend_from_slice(bytes);
        Self {
            device,
            room,
            start: headroom,
        }
    }

    /// The frame as it stands.
    pub fn bytes(&self) -> &[u8] {
        self.room.get(self.start..).unwrap_or_default()
    }
}

impl Frame for HeapFrame {
    const DOOR: Door = Door::Xdp;

    fn device(&self) -> u32 {
        self.device
    }

    fn length(&self) -> u32 {
        u32::try_from(self.bytes().len()).unwrap_or(u32::MAX)
    }

    fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(size_of::<T>())?;
        T::read_from_bytes(self.bytes().get(offset..end)?).ok()
    }

    fn write<T: IntoBytes + Immutable + Copy>(&mut self, offset: usize, value: &T) -> Option<()> {
        let start = self.start.checked_add(offset)?;
        let end = start.checked_add(size_of::<T>())?;
        self.room
            .get_mut(start..end)?
            .copy_from_slice(value.as_bytes());
        Some(())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Reason> {
        self.start = self.start.checked_sub(bytes).ok_or(Reason::NoHeadroom)?;
        Ok(())
    }

    fn shrink(&mut self, bytes: usize) -> Option<()> {
        if self.bytes().len() < bytes.checked_add(14)? {
            return None;
        }
        self.start = self.start.checked_add(bytes)?;
        Some(())
    }

    fn truncate(&mut self, bytes: u32) -> Option<()> {
        let end = self.start.checked_add(usize::try_from(bytes).ok()?)?;
        if end > self.room.len() {
            return None;
        }
        self.room.truncate(end);
        Some(())
    }
}
