//! Which frame comes next on a connection?
//!
//! Input: bytes as they came, in pieces of any size. Output: frames with what belongs to them, or why
//! nothing on this connection can be believed any more.
//!
//! ```text
//! | length 4 | network 4 | kind | hops | cuts | sums | headers 2 | segment 2 | from 2 | at 2 | copy 4 | frame |
//! ```
//!
//! Numbers are big-endian; `length` is the frame's. From `cuts` to `at` is what its sender left to devices
//! ([`Work`]); all copies of a frame for many have one number, see `vnet_common::wire::link_option`.

use vnet_common::addr::NetworkId;
use vnet_common::wire::slow::Slow;

use crate::model::offload::Work;

/// Bytes before each frame.
pub const HEADER_BYTES: usize = 24;
/// The largest frame: a whole IP packet that is still to be cut, Ethernet's header and two tags.
pub const FRAME_BYTES_MAX: usize = 65_535 + 14 + 8;
/// Less is no frame.
const FRAME_BYTES_MIN: usize = 14;

const FRAME: u8 = 1;
const ALIVE: u8 = 2;

/// What comes over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A frame.
    Frame(Carried<'a>),
    /// The other end is there.
    Alive,
}

/// A frame with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Its network.
    pub network: NetworkId,
    /// How many hops it has left.
    pub hop_limit: u8,
    /// What is left to do to it.
    pub work: Work,
    /// The number of a frame for many, below 2^24; 0 for all others.
    pub copy: u32,
    /// The frame.
    pub bytes: &'a [u8],
}

/// Why nothing more is read from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A kind that nobody knows.
    #[error("a message of kind {0}, which is none")]
    Kind(u8),
    /// Longer than any frame, or shorter.
    #[error("a message of {0} bytes, which no frame has")]
    Length(u32),
    /// No network has this number.
    #[error("a frame of network {0}, which is none")]
    Network(u32),
    /// No frame for many has this number.
    #[error("a frame for many with the number {0}, which none has")]
    Copy(u32),
    /// What is left to do is not about this frame.
    #[error("a frame whose checksum or segments lie outside of it")]
    Work,
}

/// The first message in `bytes`, and how many of them it is; nothing where more have to come.
///
/// # Errors
///
/// It is no message.
pub fn first(bytes: &[u8]) -> Result<Option<(Message<'_>, usize)>, BadMessage> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let &[l0, l1, l2, l3, n0, n1, n2, n3, kind, hop_limit, ..] = header;
    let &[.., cuts, sums, h0, h1, s0, s1, f0, f1, a0, a1, _, _, _, _] = header;
    let &[.., c0, c1, c2, c3] = header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    // Before anything waits for that many.
    let frame_bytes = usize::try_from(length).unwrap_or(usize::MAX);
    match kind {
        ALIVE if length == 0 => return Ok(Some((Message::Alive, HEADER_BYTES))),
        FRAME if (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&frame_bytes) => {}
        FRAME | ALIVE => return Err(BadMessage::Length(length)),
        kind => return Err(BadMessage::Kind(kind)),
    }
    let number = u32::from_be_bytes([n0, n1, n2, n3]);
    let network = NetworkId::new(number).ok_or(BadMessage::Network(number))?;
    let copy = u32::from_be_bytes([c0, c1, c2, c3]);
    if copy > Slow::COPY_MAX {
        return Err(BadMessage::Copy(copy));
    }
    let work = Work {
        sums: sums == 1,
        cuts,
        header_bytes: u16::from_be_bytes([h0, h1]),
        segment_bytes: u16::from_be_bytes([s0, s1]),
        sum_from: u16::from_be_bytes([f0, f1]),
        sum_at: u16::from_be_bytes([a0, a1]),
    };
    if sums > 1 || !work.fits(frame_bytes) {
        return Err(BadMessage::Work);
    }
    let Some(bytes) = rest.get(..frame_bytes) else {
        return Ok(None);
    };
    let carried = Carried {
        network,
        hop_limit,
        work,
        copy,
        bytes,
    };
    Ok(Some((Message::Frame(carried), HEADER_BYTES + frame_bytes)))
}

/// Writes a frame behind what is in `to`; nothing, and nothing written, where it is none that can be
/// carried.
pub fn write(to: &mut Vec<u8>, frame: &Carried<'_>) -> Option<()> {
    let Carried {
        network,
        hop_limit,
        work,
        copy,
        bytes,
    } = frame;
    let length = u32::try_from(bytes.len()).ok()?;
    let is_frame = (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&bytes.len());
    if !is_frame || !work.fits(bytes.len()) {
        return None;
    }
    to.reserve(HEADER_BYTES + bytes.len());
    to.extend(length.to_be_bytes());
    to.extend(network.get().to_be_bytes());
    to.extend([FRAME, *hop_limit, work.cuts, u8::from(work.sums)]);
    for number in [
        work.header_bytes,
        work.segment_bytes,
        work.sum_from,
        work.sum_at,
    ] {
        to.extend(number.to_be_bytes());
    }
    to.extend(copy.to_be_bytes());
    to.extend_from_slice(bytes);
    Some(())
}

/// What says that this end is there, where it has no frame to send.
pub const ALIVE_MESSAGE: [u8; HEADER_BYTES] = {
    let mut bytes = [0; HEADER_BYTES];
    bytes[8] = ALIVE;
    bytes
};

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn work() -> impl Strategy<Value = Work> {
        let sum = (0..4000u16, 0..40u16);
        (any::<bool>(), 0..5usize, 0..192u16, 1..9000u16, sum).prop_map(
            |(sums, cuts, header_bytes, segment_bytes, (sum_from, sum_at))| {
                let cuts = match sums {
                    true => Work::CUTS.get(cuts).copied().unwrap_or(0),
                    false => 0,
                };
                Work {
                    sums,
                    cuts,
                    header_bytes: if cuts == 0 { 0 } else { header_bytes },
                    segment_bytes: if cuts == 0 { 0 } else { segment_bytes },
                    sum_from: if sums { sum_from } else { 0 },
                    sum_at: if sums { sum_at } else { 0 },
                }
            },
        )
    }

    type Sent = (u32, u8, Work, u32, Vec<u8>);

    fn frames() -> impl Strategy<Value = Vec<Sent>> {
        let frame = vec(any::<u8>(), FRAME_BYTES_MIN..5000);
        let number = 0..0x0100_0000u32;
        vec(
            (1..0x00ff_ffffu32, any::<u8>(), work(), number, frame),
            0..8,
        )
    }

    fn written(frames: &[Sent]) -> (Vec<u8>, Vec<&Sent>) {
        let mut bytes = Vec::new();
        let mut taken = Vec::new();
        for sent in frames {
            bytes.extend(ALIVE_MESSAGE);
            let (network, hop_limit, work, copy, frame) = sent;
            let frame = Carried {
                network: NetworkId::new(*network).unwrap(),
                hop_limit: *hop_limit,
                work: *work,
                copy: *copy,
                bytes: frame,
            };
            let before = bytes.len();
            match write(&mut bytes, &frame) {
                Some(()) => taken.push(sent),
                None => assert_eq!(bytes.len(), before),
            }
        }
        (bytes, taken)
    }

    proptest! {
        #[test]
        fn frames_arrive_as_they_were_sent_however_they_are_cut(
            frames in frames(),
            pieces in vec(1..3000usize, 1..40),
        ) {
            let (bytes, taken) = written(&frames);
            let (mut waiting, mut seen, mut alive) = (Vec::new(), Vec::new(), 0);
            let mut rest = bytes.as_slice();
            for piece in pieces.into_iter().cycle() {
                let (now, later) = rest.split_at(piece.min(rest.len()));
                waiting.extend_from_slice(now);
                rest = later;
                while let Some((message, used)) = first(&waiting).unwrap() {
                    match message {
                        Message::Alive => alive += 1,
                        Message::Frame(Carried { network, hop_limit, work, copy, bytes }) => {
                            seen.push((network.get(), hop_limit, work, copy, bytes.to_vec()));
                        }
                    }
                    waiting.drain(..used);
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(waiting.is_empty());
            prop_assert_eq!(alive, frames.len());
            prop_assert_eq!(seen.iter().collect::<Vec<_>>(), taken);
        }

        #[test]
        fn any_bytes_are_a_message_or_none_and_never_more_than_there_are(
            bytes in vec(any::<u8>(), 0..200),
            kind in 0..4u8,
            length in 0..80u32,
        ) {
            let mut near = bytes.clone();
            if near.len() > 8 {
                near[..4].copy_from_slice(&length.to_be_bytes());
                near[8] = kind;
            }
            for bytes in [bytes, near] {
                if let Ok(Some((message, used))) = first(&bytes) {
                    prop_assert!(used <= bytes.len());
                    if let Message::Frame(frame) = message {
                        prop_assert!(frame.work.fits(frame.bytes.len()));
                        let mut again = Vec::new();
                        prop_assert!(write(&mut again, &frame).is_some());
                        prop_assert_eq!(&again[..], &bytes[..used]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_giant_is_refused_before_anybody_waits_for_it() {
        let mut header = ALIVE_MESSAGE;
        header[8] = FRAME;
        header[7] = 7;
        for length in [0, 13, 65_558, 1 << 20, u32::MAX] {
            header[..4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(first(&header), Err(BadMessage::Length(length)));
        }
        header[..4].copy_from_slice(&65_557u32.to_be_bytes());
        assert_eq!(first(&header), Ok(None));
        header[4] = 1;
        assert_eq!(first(&header), Err(BadMessage::Network(0x0100_0007)));
        header[8] = 9;
        assert_eq!(first(&header), Err(BadMessage::Kind(9)));
    }
}
