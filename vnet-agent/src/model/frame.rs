//! What does a frame look like that is made up?

use vnet_common::addr::Mac;

/// The shortest Ethernet frame, without its check sequence.
pub const BYTES_MIN_ON_WIRE: u32 = 60;
/// The Ethernet header.
pub const HEADER_BYTES: u32 = 14;
/// The longest frame that a trace takes: the longest IP packet and its Ethernet header.
pub const BYTES_MAX: u32 = 65_549;
/// IEEE's "local experimental ethertype 2" (802-2014, section 9.2.4): no station takes such a
/// frame for anything, and the agent uses only the first.
pub const ETHERTYPE_EXPERIMENTAL: u16 = 0x88b6;

/// A frame of zeros with this header; at least the header long.
pub fn made_up(source: Mac, destination: Mac, ethertype: u16, bytes: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(destination.0);
    frame.extend(source.0);
    frame.extend(ethertype.to_be_bytes());
    padded(frame, bytes)
}

/// The frame with zeros at the end, up to this length.
pub fn padded(mut frame: Vec<u8>, bytes: u32) -> Vec<u8> {
    let bytes = usize::try_from(bytes.min(BYTES_MAX)).unwrap_or(usize::MAX);
    frame.resize(bytes.max(frame.len()), 0);
    frame
}
