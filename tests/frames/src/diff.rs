//! How do two frames differ? Header by header for people, and as a capture file for Wireshark.

use std::fs;
use std::path::{Path, PathBuf};

use crate::decode::decode;

/// Shows where the actual frame is not the expected one (or only the frames, where none leaves),
/// and says which file has them all.
pub fn show(
    title: &str,
    runner: &str,
    input: &[u8],
    expected: Option<&[u8]>,
    actual: &[u8],
) -> String {
    let mut text = String::from("in:\n");
    for line in decode(input) {
        text.push_str(&format!("    {line}\n"));
    }
    if let Some(expected) = expected {
        text.push_str("out (- expected, + actual):\n");
        text.push_str(&headers(expected, actual));
    }
    let frames: Vec<&[u8]> = [Some(input), expected, Some(actual)]
        .into_iter()
        .flatten()
        .collect();
    let path = directory().join(format!("{}.{runner}.pcap", file_name(title)));
    match write_capture(&path, &frames) {
        Ok(()) => text.push_str(&format!(
            "frames (in, expected, actual): {}\n",
            path.display()
        )),
        Err(error) => text.push_str(&format!("no capture file {}: {error}\n", path.display())),
    }
    text
}

/// The headers of both, those that differ marked.
pub fn headers(expected: &[u8], actual: &[u8]) -> String {
    let (left, right) = (decode(expected), decode(actual));
    let mut text = String::new();
    for place in 0..left.len().max(right.len()) {
        match (left.get(place), right.get(place)) {
            (Some(a), Some(b)) if a == b => text.push_str(&format!("    {a}\n")),
            (a, b) => {
                for (mark, line) in [('-', a), ('+', b)] {
                    if let Some(line) = line {
                        text.push_str(&format!("  {mark} {line}\n"));
                    }
                }
            }
        }
    }
    let same = expected
        .iter()
        .zip(actual)
        .take_while(|(a, b)| a == b)
        .count();
    if expected != actual {
        text.push_str(&format!(
            "  first difference at byte {same}; {} bytes expected, {} seen\n",
            expected.len(),
            actual.len()
        ));
    }
    text
}

/// Where capture files go.
fn directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
            let workspace = crates.ancestors().nth(2).unwrap_or(crates);
            workspace.join("target")
        },
        PathBuf::from,
    );
    target.join("frames")
}

fn file_name(title: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    title.chars().map(plain).collect()
}

/// A capture file of these Ethernet frames (libpcap's classic format).
fn write_capture(path: &Path, frames: &[&[u8]]) -> std::io::Result<()> {
    const ETHERNET: u32 = 1;
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, ETHERNET] {
        bytes.extend(word.to_le_bytes());
    }
    for (second, frame) in (0u32..).zip(frames) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        for word in [second, 0, length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::headers;
    use crate::build::build;
    use crate::stage::Stage;

    #[test]
    fn a_difference_shows_in_the_header_where_it_is() {
        let stage = Stage::default();
        let frame = |ttl: &str| {
            let layers = [
                "ethernet host_two -> host_one".to_owned(),
                format!("ipv4 host_two -> host_one ttl={ttl}"),
                "udp 50000 -> geneve".to_owned(),
                "geneve blue".to_owned(),
                "hello guest_two -> guest_one".to_owned(),
            ];
            build(&layers, &stage, None).unwrap().bytes
        };
        let text = headers(&frame("64"), &frame("63"));
        assert!(text.contains("    ethernet host_two -> host_one"), "{text}");
        assert!(
            text.contains("  - ipv4 host_two -> host_one ttl=64"),
            "{text}"
        );
        assert!(
            text.contains("  + ipv4 host_two -> host_one ttl=63"),
            "{text}"
        );
        assert!(text.contains("first difference at byte 22"), "{text}");
    }
}
