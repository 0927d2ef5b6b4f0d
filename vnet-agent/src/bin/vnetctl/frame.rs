//! What does a frame look like that is made up, or that a capture holds?

use vnet_common::addr::Mac;
use vnet_common::wire::ethernet;

/// The shortest Ethernet frame, without its check sequence.
pub const BYTES_MIN_ON_WIRE: u32 = 60;
/// The Ethernet header.
pub const HEADER_BYTES: u32 = 14;
/// The longest frame that a trace takes: the longest IP packet and its Ethernet header.
pub const BYTES_MAX: u32 = 65_549;
/// IEEE's "local experimental ethertype 2" (802-2014, section 9.2.4): no station takes such a
/// frame for anything, and the agent uses only the first.
pub const ETHERTYPE_EXPERIMENTAL: u16 = 0x88b6;
/// An ARP packet (RFC 826).
const ARP: [u8; 2] = [0x08, 0x06];

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

/// Who sends a frame.
pub fn source(frame: &[u8]) -> Option<Mac> {
    frame.get(6..)?.first_chunk().copied().map(Mac)
}

/// Whom it is for.
pub fn destination(frame: &[u8]) -> Option<Mac> {
    frame.first_chunk().copied().map(Mac)
}

/// What is in it, in a word or as a number.
pub fn content(frame: &[u8]) -> Option<String> {
    let ethertype = *frame.get(12..)?.first_chunk::<2>()?;
    Some(match ethertype {
        ethernet::IPV4 => "IPv4".into(),
        ethernet::IPV6 => "IPv6".into(),
        ethernet::VLAN | ethernet::SERVICE_VLAN => "VLAN".into(),
        ARP => "ARP".into(),
        other => match u16::from_be_bytes(other) {
            length @ 0..0x0600 => format!("802.3 length {length}"),
            number => format!("type {number:#06x}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_made_up_frame_reads_back() {
        let frame = made_up(A, B, 0x0800, 60);
        assert_eq!(frame.len(), 60);
        assert_eq!((source(&frame), destination(&frame)), (Some(A), Some(B)));
        assert_eq!(content(&frame).as_deref(), Some("IPv4"));
        assert_eq!(made_up(A, B, 0x88b6, 0).len(), 14);
        assert_eq!(
            content(&made_up(A, B, 0x88b6, 0)).as_deref(),
            Some("type 0x88b6")
        );
        assert_eq!(
            content(&made_up(A, B, 60, 0)).as_deref(),
            Some("802.3 length 60")
        );
    }

    #[test]
    fn a_runt_has_no_addresses() {
        assert_eq!(source(&[0; 11]), None);
        assert_eq!(destination(&[0; 5]), None);
        assert_eq!(content(&[0; 13]), None);
    }
}
