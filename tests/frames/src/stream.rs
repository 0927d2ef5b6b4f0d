//! Which data do these TCP segments carry, however it was cut?
//!
//! Input: finished frames of one connection, in the order of arrival. Output: the headers that all
//! of them share, and the data in one piece. Where the data was cut is nobody's promise, since
//! segments are joined and cut on the way; that none is lost, doubled or moved is.

use anyhow::{Context, Result, ensure};

use crate::headers::{self, TCP};

/// One direction of a connection, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The headers of all segments, without lengths, numbers and checksums.
    pub headers: Vec<u8>,
    /// The first segment's sequence number.
    pub sequence: u32,
    /// Everything that was sent.
    pub data: Vec<u8>,
    /// FIN and PSH of the last segment.
    pub end: u8,
}

/// The stream of which these are the segments.
///
/// # Errors
///
/// They are not of one connection, or do not follow each other.
pub fn stream<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Result<Stream> {
    let mut whole: Option<Stream> = None;
    for (number, frame) in frames.into_iter().enumerate() {
        let part = segment(frame).with_context(|| format!("segment {number}"))?;
        let Some(before) = &mut whole else {
            whole = Some(part);
            continue;
        };
        ensure!(
            before.headers == part.headers,
            "segment {number} has other headers: {:02x?} instead of {:02x?}",
            part.headers,
            before.headers
        );
        let next = before
            .sequence
            .wrapping_add(u32::try_from(before.data.len())?);
        ensure!(
            part.sequence == next,
            "segment {number} begins at {} instead of {next}",
            part.sequence
        );
        ensure!(before.end == 0, "segment {number} comes after the end");
        before.data.extend(part.data);
        before.end = part.end;
    }
    whole.context("no segments")
}

fn segment(frame: &[u8]) -> Result<Stream> {
    let found = headers::find(frame).context("no IP packet")?;
    ensure!(found.protocol == TCP && !found.is_fragment, "no TCP");
    let words = frame.get(found.transport + 12).context("cut short")? >> 4;
    let data_at = found.transport + 4 * usize::from(words);
    let mut headers = frame.get(..data_at).context("cut short")?.to_vec();
    let data = frame.get(data_at..found.end).context("cut short")?.to_vec();
    let sequence = headers[found.transport + 4..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let end = headers[found.transport + 13] & 0x09;
    headers[found.transport + 13] &= !0x09;
    let changing = if found.is_ipv6 {
        [4..6, 4..6]
    } else {
        // Length and number, checksum.
        [2..6, 10..12]
    };
    for range in changing {
        headers[found.ip + range.start..found.ip + range.end].fill(0);
    }
    // Sequence number, checksum.
    for range in [4..8, 16..18] {
        headers[found.transport + range.start..found.transport + range.end].fill(0);
    }
    Ok(Stream {
        headers,
        sequence,
        data,
        end,
    })
}

#[cfg(test)]
mod tests {
    use super::stream;
    use crate::build::build;
    use crate::finish::cut;
    use crate::stage::Stage;

    #[test]
    fn a_stream_is_the_same_however_it_is_cut_and_no_other() {
        let layers = [
            "ethernet guest_one -> guest_two",
            "vlan 5",
            "ipv4 guest_one -> guest_two id=77",
            "tcp 1 -> 2 sequence=4294967000 push",
            "payload 5000",
        ];
        let whole = build(&layers, &Stage::default(), None).unwrap().bytes;
        let joined = |frames: &[Vec<u8>]| stream(frames.iter().map(Vec::as_slice));
        let expected = joined(std::slice::from_ref(&whole)).unwrap();
        assert_eq!(expected.data.len(), 5000);
        for data_bytes in [1000, 1300, 4999, 5000] {
            let frames = cut(&whole, data_bytes).unwrap();
            assert_eq!(joined(&frames).unwrap(), expected);
        }
        let frames = cut(&whole, 1300).unwrap();
        assert!(joined(&[frames[0].clone(), frames[2].clone()]).is_err());
        assert!(joined(&[frames[1].clone(), frames[0].clone()]).is_err());
        assert_ne!(joined(&frames[..3]).unwrap(), expected);
        assert_ne!(joined(&frames[1..]).unwrap(), expected);
    }
}
