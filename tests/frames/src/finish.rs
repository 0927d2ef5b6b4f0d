//! What does a NIC have to do for a VM that leaves work to it?
//!
//! Input: finished frames, from which the work is taken ([`unfinished`]), or frames with work left:
//! a checksum to fill in ([`with_checksum`]), one frame to cut into many ([`cut`]). This is the
//! reference for what the kernel makes of them, so it uses nothing of the kernel's.

use anyhow::{Context, Result, ensure};

use crate::headers::{self, Headers, TCP, UDP, folded, sum};

/// A frame whose transport checksum is still to be summed: the field holds the sum over the
/// pseudo-header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The frame.
    pub bytes: Vec<u8>,
    /// Where the bytes to be summed begin.
    pub start: usize,
    /// Where the sum belongs, counted from there.
    pub offset: usize,
    /// Where the transport's header ends.
    pub headers: usize,
}

/// The frame as a VM leaves it to a NIC that sums.
///
/// # Errors
///
/// It is no whole TCP or UDP packet.
pub fn unfinished(frame: &[u8]) -> Result<Unfinished> {
    let found = transport(frame)?;
    let offset = found.checksum_offset().context("nothing to be summed")?;
    let pseudo = found.pseudo_sum(frame).context("cut short")?;
    let mut bytes = frame.to_vec();
    put(&mut bytes, found.transport + offset, folded(pseudo))?;
    Ok(Unfinished {
        bytes,
        start: found.transport,
        offset,
        headers: data_at(frame, &found)?,
    })
}

/// The frame with its checksum filled in as a NIC does: over everything from `start` on, whatever
/// the field holds included.
///
/// # Errors
///
/// There is no such place in the frame.
pub fn with_checksum(frame: &[u8], start: usize, offset: usize) -> Result<Vec<u8>> {
    let summed = frame
        .get(start..)
        .context("the sum begins behind the end")?;
    // Zero would mean that there is no checksum.
    let checksum = match !folded(sum(summed)) {
        0 => 0xffff,
        checksum => checksum,
    };
    let mut bytes = frame.to_vec();
    put(&mut bytes, start + offset, checksum)?;
    Ok(bytes)
}

/// The frames, each finished, that a frame with this much data for each stands for.
///
/// # Errors
///
/// It is no whole TCP or UDP packet.
pub fn cut(frame: &[u8], data_bytes: usize) -> Result<Vec<Vec<u8>>> {
    ensure!(data_bytes > 0, "frames without data");
    let found = transport(frame)?;
    let data_at = data_at(frame, &found)?;
    let data = frame.get(data_at..found.end).context("cut short")?;
    let count = data.chunks(data_bytes).count().max(1);
    let mut frames = Vec::new();
    for (number, part) in data.chunks(data_bytes).enumerate() {
        let bytes = [&frame[..data_at], part].concat();
        let place = Place {
            number,
            done: number * data_bytes,
            is_last: number + 1 == count,
        };
        frames.push(segment(bytes, &found, &place)?);
    }
    Ok(frames)
}

/// Which of the frames it is.
struct Place {
    number: usize,
    done: usize,
    is_last: bool,
}

fn segment(mut bytes: Vec<u8>, found: &Headers, place: &Place) -> Result<Vec<u8>> {
    let Headers { ip, transport, .. } = *found;
    let length = bytes.len();
    if found.is_ipv6 {
        put(&mut bytes, ip + 4, u16::try_from(length - ip - 40)?)?;
    } else {
        put(&mut bytes, ip + 2, u16::try_from(length - ip)?)?;
        let first = headers::word(&bytes, ip + 4).context("cut short")?;
        let id = first.wrapping_add(u16::try_from(place.number)?);
        put(&mut bytes, ip + 4, id)?;
        put(&mut bytes, ip + 10, 0)?;
        let checksum = !folded(sum(&bytes[ip..transport]));
        put(&mut bytes, ip + 10, checksum)?;
    }
    if found.protocol == UDP {
        put(
            &mut bytes,
            transport + 4,
            u16::try_from(length - transport)?,
        )?;
    } else {
        let at = transport + 4;
        let first: [u8; 4] = *bytes[at..].first_chunk().context("cut short")?;
        let sequence = u32::from_be_bytes(first).wrapping_add(u32::try_from(place.done)?);
        bytes[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
        if !place.is_last {
            // FIN and PSH speak of the end of the data.
            bytes[transport + 13] &= !0x09;
        }
    }
    let summed = unfinished(&bytes)?;
    with_checksum(&summed.bytes, summed.start, summed.offset)
}

fn transport(frame: &[u8]) -> Result<Headers> {
    let found = headers::find(frame).context("no IP packet")?;
    ensure!(
        matches!(found.protocol, TCP | UDP) && !found.is_fragment && found.end == frame.len(),
        "neither TCP nor UDP, or not the whole of it"
    );
    Ok(found)
}

fn data_at(frame: &[u8], found: &Headers) -> Result<usize> {
    let length = match found.protocol {
        UDP => 8,
        _ => 4 * usize::from(frame.get(found.transport + 12).context("cut short")? >> 4),
    };
    Ok(found.transport + length)
}

fn put(bytes: &mut [u8], at: usize, value: u16) -> Result<()> {
    let place = bytes.get_mut(at..at + 2).context("behind the end")?;
    place.copy_from_slice(&value.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{cut, unfinished, with_checksum};
    use crate::build::build;
    use crate::sound::faults;
    use crate::stage::Stage;

    fn frame(layers: &[&str]) -> Vec<u8> {
        build(layers, &Stage::default(), None).unwrap().bytes
    }

    #[test]
    fn what_is_left_undone_and_then_done_is_as_before() {
        for transport in ["udp 1 -> 2", "tcp 1 -> 2 sequence=9 acknowledges=4"] {
            for ip in ["ipv4 guest_one -> guest_two", "ipv6 guest_one -> guest_two"] {
                for payload in ["payload 77", "payload 80"] {
                    let layers = ["ethernet guest_one -> guest_two", "vlan 9", ip, transport];
                    let whole = frame(&[layers.as_slice(), &[payload]].concat());
                    let left = unfinished(&whole).unwrap();
                    assert_ne!(left.bytes, whole);
                    assert_eq!(
                        with_checksum(&left.bytes, left.start, left.offset).unwrap(),
                        whole
                    );
                }
            }
        }
    }

    #[test]
    fn a_frame_that_is_many_is_cut_into_those_that_the_builder_makes() {
        let tcp = |sequence: usize, push: &str, id: usize, bytes: usize, seed: usize| {
            frame(&[
                "ethernet guest_one -> guest_two",
                &format!("ipv4 guest_one -> guest_two df id={id}"),
                &format!("tcp 1 -> 2 sequence={sequence} acknowledges=7 {push}"),
                &format!("payload {bytes} seed={seed}"),
            ])
        };
        assert_eq!(
            cut(&tcp(100, "push", 8, 3000, 0), 1300).unwrap(),
            [
                tcp(100, "", 8, 1300, 0),
                tcp(1400, "", 9, 1300, 1300),
                tcp(2700, "push", 10, 400, 2600)
            ]
        );
        let udp = |bytes: usize, seed: usize| {
            frame(&[
                "ethernet guest_one -> guest_two",
                "service-vlan 5",
                "vlan 6",
                "ipv6 guest_one -> guest_two",
                "udp 1 -> 2",
                &format!("payload {bytes} seed={seed}"),
            ])
        };
        let frames = cut(&udp(2100, 0), 1000).unwrap();
        assert_eq!(frames, [udp(1000, 0), udp(1000, 1000), udp(100, 2000)]);
        assert!(frames.iter().all(|frame| faults(frame).is_empty()));
    }
}
