//! Which frames do guests send, and are they what arrives?
//!
//! Numbered frames of the local experimental type (IEEE 802, 0x88b5): addresses, type, number,
//! and bytes that follow from the number, so that one look says whether a frame is whole.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{LIMIT, Mac, TapGuest};

/// Everybody.
pub const BROADCAST: Mac = Mac([0xff; 6]);
/// A group of stations: the multicast address of 224.0.0.251.
pub const GROUP: Mac = Mac([0x01, 0, 0x5e, 0, 0, 0xfb]);
/// The Ethernet type of numbered frames.
pub const TYPE: [u8; 2] = [0x88, 0xb5];

/// Ethernet header bytes.
pub const HEADER_BYTES: usize = 14;
/// The shortest numbered frame.
pub const NUMBERED_BYTES_MIN: usize = HEADER_BYTES + 8;

/// Long enough for what is on its way to arrive, or to show that nothing is.
const QUIET: Duration = Duration::from_millis(150);

/// The guest with this number.
pub const fn guest(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number])
}

/// A frame with this number, this many bytes long in all.
///
/// # Panics
///
/// Below [`NUMBERED_BYTES_MIN`].
pub fn numbered(from: Mac, to: Mac, number: u64, bytes: usize) -> Vec<u8> {
    let mut frame = header(from, to, TYPE);
    frame.extend_from_slice(&number.to_be_bytes());
    let seed = number
        .to_le_bytes()
        .into_iter()
        .fold(0, |seed, byte| seed ^ byte);
    frame.extend((frame.len()..bytes).map(|at| at.to_le_bytes()[0].wrapping_mul(31) ^ seed));
    assert_eq!(
        frame.len(),
        bytes,
        "a numbered frame has at least {NUMBERED_BYTES_MIN} bytes"
    );
    frame
}

/// An Ethernet header.
pub fn header(from: Mac, to: Mac, ethertype: [u8; 2]) -> Vec<u8> {
    [to.0.as_slice(), &from.0, &ethertype].concat()
}

/// The number of a numbered frame; nothing for any other frame.
pub fn number_of(frame: &[u8]) -> Option<u64> {
    if frame.get(12..14)? != TYPE {
        return None;
    }
    frame
        .get(14..)?
        .first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

/// Whether the frame is the numbered one, to the last byte.
pub fn is_whole(frame: &[u8], from: Mac, to: Mac) -> bool {
    number_of(frame).is_some_and(|number| frame == numbered(from, to, number, frame.len()))
}

/// Receives exactly these frames, in this order, and nothing more.
///
/// # Errors
///
/// Others came, or fewer.
pub fn expect(guest: &TapGuest, expected: &[Vec<u8>]) -> Result<()> {
    let mut received = Vec::new();
    while received.len() < expected.len() {
        match guest.receive(LIMIT)? {
            Some(frame) => received.push(frame),
            None => break,
        }
    }
    received.extend(guest.receive_all_until_quiet(QUIET)?);
    ensure!(
        received == expected,
        "{} on {} was to receive {} frames and got {}; the first difference: {}",
        guest.port(),
        guest.host().name(),
        expected.len(),
        received.len(),
        first_difference(&received, expected),
    );
    Ok(())
}

/// Receives nothing.
///
/// # Errors
///
/// Something came.
pub fn expect_nothing(guest: &TapGuest) -> Result<()> {
    expect(guest, &[])
}

fn first_difference(received: &[Vec<u8>], expected: &[Vec<u8>]) -> String {
    let longer = received.len().max(expected.len());
    let at = (0..longer).find(|&at| received.get(at) != expected.get(at));
    let shown = |frames: &[Vec<u8>], at| {
        frames.get(at).map_or_else(
            || "nothing".to_owned(),
            |frame: &Vec<u8>| {
                let start: String = frame
                    .iter()
                    .take(32)
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                format!("{start} ({} bytes)", frame.len())
            },
        )
    };
    at.map_or_else(
        || "none".to_owned(),
        |at| {
            format!(
                "frame {at}: {} instead of {}",
                shown(received, at),
                shown(expected, at)
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{guest, is_whole, number_of, numbered};

    #[test]
    fn a_numbered_frame_is_known_by_every_byte() {
        let frame = numbered(guest(1), guest(2), 77, 100);
        assert_eq!((frame.len(), number_of(&frame)), (100, Some(77)));
        assert!(is_whole(&frame, guest(1), guest(2)));
        for at in 0..frame.len() {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert!(!is_whole(&other, guest(1), guest(2)), "byte {at}");
        }
        assert!(!is_whole(&frame[..99].to_vec()[..20], guest(1), guest(2)));
    }
}
