//! Is what came what had to come?
//!
//! Input: what a guest received, with what was left for it to do. The judge does that, and compares
//! finished frames: byte for byte, save for how a stream was cut and the numbers of packets that
//! were cut out of one.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use frames::decode::decode;
use frames::finish::{cut, with_checksum};
use frames::sound::faults;
use frames::stream::stream;
use lab::{Cut, Offloads, TapGuest, VnetHeader};

use crate::rows::{Kind, Sample};

/// One frame as a guest has it.
pub type Received = (VnetHeader, Vec<u8>);

/// A receiver, and what it takes.
#[derive(Debug)]
pub struct Taker {
    /// Its tap.
    pub guest: TapGuest,
    /// What it said it takes.
    pub offloads: Offloads,
}

/// Receives until it is what had to come, or nothing more comes for so long. Returns how many
/// frames came.
///
/// # Errors
///
/// It is something else, or a guest got work that it does not take.
pub fn receive(
    taker: &Taker,
    kind: Kind,
    sample: &Sample,
    patience: Duration,
) -> Result<u64, (u64, anyhow::Error)> {
    let mut received = Vec::new();
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = taker.guest.receive_unfinished(left);
        let count = received.len() as u64;
        match next {
            Ok(Some(frame)) => received.push(frame),
            Ok(None) => {
                let verdict = judge(taker.offloads, kind, sample, &received);
                return verdict.map(|()| count).map_err(|error| (count, error));
            }
            Err(error) => return Err((count, error)),
        }
        if judge(taker.offloads, kind, sample, &received).is_ok() {
            return Ok(count + 1);
        }
    }
}

fn judge(offloads: Offloads, kind: Kind, sample: &Sample, received: &[Received]) -> Result<()> {
    let mut finished = Vec::new();
    for (header, frame) in received {
        finished.extend(finish(offloads, *header, frame)?);
    }
    for frame in &finished {
        let faults = faults(frame);
        ensure!(
            faults.is_empty(),
            "{} in {}",
            faults.join(", "),
            shown(frame)
        );
    }
    let largest = sample.expected.iter().map(Vec::len).max();
    let too_large = finished.iter().find(|frame| Some(frame.len()) > largest);
    if let Some(frame) = too_large {
        bail!("larger than may be: {}", shown(frame));
    }
    compare(kind, &sample.expected, &finished)
}

/// Does what is left to do about a frame.
fn finish(offloads: Offloads, header: VnetHeader, frame: &[u8]) -> Result<Vec<Vec<u8>>> {
    let is_left = header.unfinished.is_some() || header.is_checked;
    ensure!(
        offloads.checksum || !is_left,
        "{header:?} for a guest that takes finished frames: {}",
        shown(frame)
    );
    let Some(segments) = header.segments else {
        let whole = match header.unfinished {
            Some(left) => with_checksum(frame, left.start.into(), left.offset.into())?,
            None => frame.to_vec(),
        };
        return Ok(vec![whole]);
    };
    let is_taken = match segments.cut {
        Cut::TcpV4 | Cut::TcpV6 => offloads.tcp,
        Cut::Udp => offloads.udp,
    };
    ensure!(
        is_taken && header.unfinished.is_some(),
        "{header:?}, which its guest does not take: {}",
        shown(frame)
    );
    cut(frame, segments.data_bytes.into())
}

fn compare(kind: Kind, expected: &[Vec<u8>], finished: &[Vec<u8>]) -> Result<()> {
    if expected == finished {
        return Ok(());
    }
    if kind.is_many() {
        return compare_many(expected, finished);
    }
    let came: Vec<_> = finished.iter().map(|frame| shown(frame)).collect();
    match (expected, finished) {
        ([expected], [finished]) => bail!("{}", differences(expected, finished)),
        _ => bail!(
            "{} frames expected, {} came: {}",
            expected.len(),
            finished.len(),
            came.join("; ")
        ),
    }
}

fn compare_many(expected: &[Vec<u8>], finished: &[Vec<u8>]) -> Result<()> {
    let [wanted, came] =
        [expected, finished].map(|frames| stream(frames.iter().map(Vec::as_slice)));
    if let Ok(wanted) = wanted {
        let came = came?;
        ensure!(
            came.data.len() == wanted.data.len(),
            "{} bytes of the stream expected, {} came",
            wanted.data.len(),
            came.data.len()
        );
        ensure!(
            came.headers == wanted.headers,
            "headers {:02x?} expected, {:02x?} came",
            wanted.headers,
            came.headers
        );
        ensure!(came == wanted, "the stream is another one");
        return Ok(());
    }
    ensure!(
        expected.len() == finished.len(),
        "{} datagrams expected, {} came",
        expected.len(),
        finished.len()
    );
    for (number, (wanted, came)) in expected.iter().zip(finished).enumerate() {
        ensure!(
            without_number(wanted) == without_number(came),
            "datagram {number}: {}",
            differences(wanted, came)
        );
    }
    Ok(())
}

/// The frame without its IPv4 identification, and the checksum that depends on it.
fn without_number(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let is_ipv4 = frame.get(12..15).is_some_and(|b| b == [8, 0, 0x45]);
    if is_ipv4 && frame.len() >= 34 {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
    frame
}

fn shown(frame: &[u8]) -> String {
    format!("[{} bytes: {}]", frame.len(), decode(frame).join(" / "))
}

fn differences(expected: &[u8], came: &[u8]) -> String {
    let first = (0..expected.len().max(came.len())).find(|&at| expected.get(at) != came.get(at));
    format!(
        "{} expected, {} came; the first difference is at byte {}",
        shown(expected),
        shown(came),
        first.unwrap_or(0)
    )
}
