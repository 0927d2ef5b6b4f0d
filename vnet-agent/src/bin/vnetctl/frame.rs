//! What does a frame look like that is made up, or that a capture holds?

pub use vnet_agent::model::frame::{
    BYTES_MAX, BYTES_MIN_ON_WIRE, ETHERTYPE_EXPERIMENTAL, HEADER_BYTES, made_up, padded,
};
use vnet_common::addr::Mac;
use vnet_common::wire::ethernet;

/// An ARP packet (RFC 826).
const ARP: [u8; 2] = [0x08, 0x06];

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
