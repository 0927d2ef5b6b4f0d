//! What comes before a frame on a link: the outer headers, prepared whole.
//!
//! Input: the link's two ends and its cookie. Output: the entry that the programs copy from, with
//! everything filled in that does not differ from frame to frame.

use std::net::IpAddr;

use vnet_common::addr::{Cookie, Mac};
use vnet_common::checksum;
use vnet_common::table::link::{HEADER_ROOM, LinkEntry};
use vnet_common::wire::ethernet::{self, Ethernet};
use vnet_common::wire::geneve::{self, Geneve};
use vnet_common::wire::ipv4::{self, Ipv4};
use vnet_common::wire::ipv6::Ipv6;
use vnet_common::wire::link_option::LinkOption;
use vnet_common::wire::udp::Udp;
use zerocopy::IntoBytes;

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Its Ethernet address on the first hop.
    pub mac: Mac,
    /// Its underlay address.
    pub address: IpAddr,
}

/// A link whose next hop is known.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// This end.
    pub local: Endpoint,
    /// The other end, or rather the next hop's Ethernet address and the other end's address.
    pub remote: Endpoint,
    /// The device that it leaves by.
    pub device: u32,
    /// The underlay's MTU on the way, bytes.
    pub mtu: u32,
    /// Geneve's UDP port.
    pub udp_port: u16,
    /// The cookie, or [`Cookie::NONE`].
    pub cookie: Cookie,
}

/// The entry of a link, or nothing where its two ends are of different families.
pub fn link_entry(path: &Path, ledger: u32) -> Option<LinkEntry> {
    let mut flags = LinkEntry::UP;
    if path.cookie == Cookie::NONE {
        flags |= LinkEntry::PLAIN;
    }
    let mut bytes = Vec::with_capacity(HEADER_ROOM);
    let mut ipv4_sum = 0;
    let ethertype = match path.remote.address {
        IpAddr::V4(_) => ethernet::IPV4,
        IpAddr::V6(_) => ethernet::IPV6,
    };
    let link_layer = Ethernet {
        destination: path.remote.mac,
        source: path.local.mac,
        ethertype,
    };
    bytes.extend_from_slice(link_layer.as_bytes());
    match (path.local.address, path.remote.address) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4 {
                version_and_words: Ipv4::PLAIN,
                service: 0,
                total_length: [0; 2],
                identification: [0; 2],
                flags_and_offset: ipv4::DONT_FRAGMENT,
                ttl: 0,
                protocol: ipv4::UDP,
                checksum: [0; 2],
                source: source.octets(),
                destination: destination.octets(),
            };
            ipv4_sum = checksum::sum(header.as_bytes());
            bytes.extend_from_slice(header.as_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            flags |= LinkEntry::IPV6;
            let header = Ipv6 {
                version_and_flow: [0x60, 0, 0, 0],
                payload_length: [0; 2],
                next_header: ipv4::UDP,
                hop_limit: 0,
                source: source.octets(),
                destination: destination.octets(),
            };
            bytes.extend_from_slice(header.as_bytes());
        }
        _ => return None,
    }
    bytes.extend_from_slice(&tunnel(path));
    let outer = u32::try_from(bytes.len() - Ethernet::BYTES).ok()?;
    let mut header = [0; HEADER_ROOM];
    header.get_mut(..bytes.len())?.copy_from_slice(&bytes);
    Some(LinkEntry {
        device: path.device,
        ledger,
        flags,
        frame_bytes_max: path.mtu.saturating_sub(outer),
        ipv4_sum,
        header,
        ..LinkEntry::NONE
    })
}

/// The entry of a link whose next hop is not known: frames for it are dropped under that reason.
pub fn unresolved(ledger: u32) -> LinkEntry {
    LinkEntry {
        flags: LinkEntry::UP,
        ledger,
        ..LinkEntry::NONE
    }
}

/// UDP, Geneve and the option.
fn tunnel(path: &Path) -> Vec<u8> {
    let udp = Udp {
        source: [0; 2],
        destination: path.udp_port.to_be_bytes(),
        length: [0; 2],
        checksum: [0; 2],
    };
    let has_option = path.cookie != Cookie::NONE;
    let option_words = if has_option { LinkOption::BYTES / 4 } else { 0 };
    let geneve = Geneve {
        version_and_words: option_words as u8,
        flags: 0,
        protocol: geneve::ETHERNET,
        network: [0; 3],
        reserved: 0,
    };
    let mut bytes = [udp.as_bytes(), geneve.as_bytes()].concat();
    if has_option {
        bytes.extend_from_slice(LinkOption::new(path.cookie).as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use vnet_common::addr::{Cookie, Mac};
    use vnet_common::table::link::LinkEntry;

    use super::{Endpoint, Path, link_entry};

    fn path(local: &str, remote: &str, cookie: u64) -> Path {
        let end = |number, address: &str| Endpoint {
            mac: Mac([2, 0, 0, 0, 0, number]),
            address: address.parse::<IpAddr>().unwrap(),
        };
        Path {
            local: end(1, local),
            remote: end(2, remote),
            device: 3,
            mtu: 1500,
            udp_port: 6081,
            cookie: Cookie(cookie),
        }
    }

    #[test]
    fn what_a_link_leaves_to_a_frame_follows_from_its_headers() {
        for (local, remote, cookie, frame_bytes_max) in [
            ("10.0.0.1", "10.0.0.2", 9, 1422 + 14),
            ("10.0.0.1", "10.0.0.2", 0, 1450 + 14),
            ("fd00::1", "fd00::2", 9, 1402 + 14),
            ("fd00::1", "fd00::2", 0, 1430 + 14),
        ] {
            let entry = link_entry(&path(local, remote, cookie), 5).unwrap();
            assert_eq!(entry.frame_bytes_max, frame_bytes_max);
            let bytes = LinkEntry::header_bytes(entry.flags);
            assert_eq!(1500 + 14, frame_bytes_max as usize + bytes);
            assert!(entry.header[bytes..].iter().all(|&byte| byte == 0));
        }
        assert!(link_entry(&path("10.0.0.1", "fd00::2", 9), 5).is_none());
    }
}
