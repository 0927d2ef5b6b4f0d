//! What does a guest write that wants to do harm? Headers that lie, frames of lengths that no wire
//! has, in a number that follows from a seed.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use lab::{Mac, TapGuest, VNET_HEADER_BYTES};

use crate::chance::Chance;
use crate::frame::{HEADER_BYTES, TYPE, header};

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TAG: [u8; 2] = [0x81, 0x00];

/// Lengths around which something changes: of headers, of what an underlay carries, of a page,
/// of what a length field holds.
const LENGTHS: [usize; 16] = [
    0, 1, 13, 14, 15, 33, 54, 60, 1000, 1436, 1437, 1514, 4000, 9014, 65_535, 65_550,
];
/// Numbers that lengths and places in a header should not be, and some that they may be.
const NUMBERS: [u16; 12] = [
    0, 1, 13, 14, 34, 54, 1000, 1400, 9000, 0x7fff, 0xfffe, 0xffff,
];

/// How much data each piece of a frame is to have that the kernel cuts: at least so much that one
/// frame becomes no flood.
pub const COARSE: &[u16] = &[0, 1000, 1400, 9000, 0x7fff, 0xfffe, 0xffff];
/// Pieces by the thousand.
pub const FINE: &[u16] = &[1, 8, 14, 54];

/// Places in `struct virtio_net_hdr_v1`.
const FLAGS: usize = 0;
const KIND: usize = 1;
const DATA_BYTES: usize = 4;

/// The other side of a tap, which takes any bytes.
#[derive(Debug)]
pub struct Liar<'a> {
    guest: &'a TapGuest,
    file: File,
    chance: Chance,
    /// What it says of the pieces.
    cuts: &'static [u16],
    /// How many frames the tap's driver took.
    pub taken: u64,
    /// How many it refused, and so never were frames.
    pub refused: u64,
    /// How many of those taken end within a VLAN tag: the kernel drops them before its TC door.
    pub torn: u64,
    /// How many of those taken it was told to finish, or to cut.
    pub unfinished: u64,
}

impl<'a> Liar<'a> {
    /// Behind this tap, which has headers.
    ///
    /// # Errors
    ///
    /// There are no descriptors left.
    pub fn behind(guest: &'a TapGuest, cuts: &'static [u16], seed: u64) -> Result<Self> {
        Ok(Self {
            guest,
            file: File::from(guest.as_fd().try_clone_to_owned()?),
            chance: Chance::seeded(seed),
            cuts,
            taken: 0,
            refused: 0,
            torn: 0,
            unfinished: 0,
        })
    }

    /// Writes a frame to one of these stations, with any header, of any length.
    ///
    /// # Errors
    ///
    /// The tap takes half of it.
    pub fn lie(&mut self, stations: &[Mac]) -> Result<()> {
        let front = self.header();
        let frame = self.frame(stations);
        let bytes = [&front[..], &frame].concat();
        match self.file.write(&bytes) {
            Ok(written) if written == bytes.len() => {
                self.taken += 1;
                self.torn += u64::from(is_torn(&frame));
                self.unfinished += u64::from(front != [0; VNET_HEADER_BYTES]);
            }
            Ok(written) => anyhow::bail!("the tap took {written} of {} bytes", bytes.len()),
            Err(error) => {
                error.raw_os_error().context("no error of the kernel's")?;
                self.refused += 1;
            }
        }
        Ok(())
    }

    /// `struct virtio_net_hdr_v1`: flags, kind, four numbers, and the count of buffers. Some are
    /// plain, some could be true, and the rest are nonsense, of which the driver takes little.
    fn header(&mut self) -> [u8; VNET_HEADER_BYTES] {
        let mut bytes = [0; VNET_HEADER_BYTES];
        let (flags, kinds, numbers) = match self.chance.below(3) {
            0 => return bytes,
            1 => (&[1][..], &[0, 1, 3, 4, 5, 0x81][..], &NUMBERS[2..7]),
            _ => (
                &[0, 1, 2, 3, 4, 0xff][..],
                &[0, 1, 3, 4, 5, 0x80, 0x81, 0xff][..],
                &NUMBERS[..],
            ),
        };
        bytes[FLAGS] = *self.chance.one_of(flags);
        bytes[KIND] = *self.chance.one_of(kinds);
        for place in (2..10).step_by(2) {
            let choices = if place == DATA_BYTES {
                self.cuts
            } else {
                numbers
            };
            let number = self.chance.one_of(choices).to_ne_bytes();
            bytes[place..place + 2].copy_from_slice(&number);
        }
        bytes
    }

    fn frame(&mut self, stations: &[Mac]) -> Vec<u8> {
        let length = *self.chance.one_of(&LENGTHS);
        let to = *self.chance.one_of(stations);
        let [ethertype, start] = *self.chance.one_of(&[
            [IPV4, [0x45, 0x00]],
            [IPV6, [0x60, 0x00]],
            [TAG, [0x00, 0x07]],
            [TYPE, [0x00, 0x00]],
        ]);
        let mut frame = header(self.guest.mac(), to, ethertype);
        frame.extend(start);
        let rest = self.chance.bytes(64);
        frame.extend_from_slice(&rest);
        // The protocol of either IP.
        let protocol = *self.chance.one_of(&[6, 17]);
        frame[HEADER_BYTES + if ethertype == IPV6 { 6 } else { 9 }] = protocol;
        frame.resize(length, 0x5a);
        frame
    }
}

/// A tag without its end, or without the type behind it.
fn is_torn(frame: &[u8]) -> bool {
    let ethertype = frame.get(HEADER_BYTES - 2..HEADER_BYTES);
    ethertype == Some(&TAG) && frame.len() < HEADER_BYTES + 6
}
