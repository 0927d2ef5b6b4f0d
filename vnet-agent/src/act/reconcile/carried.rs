//! What does the kernel know of a link that the agent carries?
//!
//! Input: who is at the other end, which networks cross, and whether there is a connection. Output:
//! the entry to send by. It has no outer headers: their room says whose entry it is, so that an
//! agent that starts finds the link's books again.

use std::net::IpAddr;

use vnet_common::addr::NetworkId;
use vnet_common::table::link::{CARRIED_BYTES_MAX, HEADER_ROOM, LinkEntry};

/// Bytes of an address, IPv4 in IPv6 clothes.
const REMOTE_BYTES: usize = 16;
/// As many networks as have room behind the address tell the link.
const NETWORKS_MAX: usize = (HEADER_ROOM - REMOTE_BYTES) / 4;

/// The entry of a link whose frames go up by this device; 0 while there is no connection.
pub fn entry(device: u32, ledger: u32, remote: IpAddr, networks: &[NetworkId]) -> LinkEntry {
    let mut header = [0; HEADER_ROOM];
    let address = bytes_of(remote);
    let numbers = networks.iter().take(NETWORKS_MAX);
    let numbers = numbers.flat_map(|network| network.get().to_be_bytes());
    let mark = address.into_iter().chain(numbers);
    for (place, byte) in header.iter_mut().zip(mark) {
        *place = byte;
    }
    LinkEntry {
        device,
        ledger,
        flags: LinkEntry::UP | LinkEntry::AGENT,
        frame_bytes_max: CARRIED_BYTES_MAX,
        header,
        ..LinkEntry::NONE
    }
}

/// Whether it is the entry of the link to this address that carries one of these networks.
pub fn is_of(entry: &LinkEntry, remote: IpAddr, networks: &[NetworkId]) -> bool {
    let Some((address, numbers)) = entry.header.split_first_chunk() else {
        return false;
    };
    let mut numbers = numbers.chunks_exact(4);
    entry.flags & LinkEntry::AGENT != 0
        && *address == bytes_of(remote)
        && numbers.any(|number| {
            let mut networks = networks.iter();
            networks.any(|network| network.get().to_be_bytes() == number)
        })
}

fn bytes_of(address: IpAddr) -> [u8; REMOTE_BYTES] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_whose_it_is() {
        let network = |number| NetworkId::new(number).unwrap();
        let remote: IpAddr = "10.0.0.2".parse().unwrap();
        let ours = entry(9, 4, remote, &[network(7), network(8)]);
        assert!(is_of(&ours, remote, &[network(8)]));
        assert!(is_of(
            &ours,
            "::ffff:10.0.0.2".parse().unwrap(),
            &[network(7)]
        ));
        assert!(!is_of(&ours, remote, &[network(9)]));
        assert!(!is_of(&ours, "10.0.0.3".parse().unwrap(), &[network(8)]));
        let in_the_kernel = LinkEntry {
            flags: LinkEntry::UP,
            ..ours
        };
        assert!(!is_of(&in_the_kernel, remote, &[network(8)]));
        // More networks than there is room for.
        let many: Vec<_> = (1..=40).map(network).collect();
        assert!(is_of(&entry(0, 4, remote, &many), remote, &many));
    }
}
