//! What is this host, as the kernel tells it: which devices, which addresses, which next hops?
//!
//! Input: what `world::netlink` hears, one [`Change`] at a time, or a full list after a
//! (re)synchronisation. Output: snapshots that the rest of the agent compares and reads. Two
//! snapshots of the same state are equal, whichever way they came about.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use vnet_common::addr::Mac;

use super::next_hop::{NextHop, NoNextHop};

/// A snapshot of the network namespace that the agent runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The devices, by the kernel's index of them.
    pub devices: BTreeMap<u32, Device>,
    /// The addresses of each device that has any, by its index: IPv4 before IPv6, and within a
    /// family in the kernel's own order, which is the order in which it prefers them.
    pub addresses: BTreeMap<u32, Vec<Address>>,
    /// The way to each destination that is followed, or why there is none (yet).
    pub next_hops: BTreeMap<IpAddr, Result<NextHop, NoNextHop>>,
}

/// A network device.
///
/// An index is never used by two devices at a time but is used again after one is gone, and a
/// name may move from one device to another: whoever keeps something about a device over time
/// compares index, name and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The kernel's index of it, 1 or more.
    pub index: u32,
    /// Its name, 1 to 15 bytes.
    pub name: String,
    /// Whether it is switched on (`IFF_UP`).
    pub up: bool,
    /// Whether it can carry frames: it is on and has a carrier (`IFF_LOWER_UP`). A tap has one
    /// while a process holds it open.
    pub running: bool,
    /// The largest payload of a frame, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// The largest MTU that its driver accepts; none where the driver does not say.
    pub mtu_max: Option<u32>,
    /// Its Ethernet address; none for devices that have no Ethernet header.
    pub mac: Option<Mac>,
    /// What sort of device it is.
    pub kind: DeviceKind,
    /// The bridge, bond or VRF that it belongs to, by index.
    pub master: Option<u32>,
    /// The XDP program on it when the kernel last spoke of the device. The kernel does not speak
    /// up when a program comes or goes: to know for certain, ask again.
    pub xdp: Option<Xdp>,
    /// What it can do with frames, and what its guest has asked for.
    pub abilities: Abilities,
}

/// What a device can do with frames. On a tap, what its guest has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// Frames to and from its process carry a `virtio_net_hdr`: the guest may leave checksums and
    /// segmentation to others (taps only).
    pub vnet_header: bool,
    /// It takes frames whose checksum is not finished.
    pub checksums: bool,
    /// It takes frames that are still to be cut into segments.
    pub segments: bool,
    /// What it receives and belongs together is joined by the kernel (GRO is on).
    pub joins: bool,
    /// Whether its driver runs XDP programs itself; unknown before Linux 6.3.
    pub native_xdp: Option<bool>,
    /// Whether it takes frames that XDP programs redirect into it; unknown likewise.
    pub takes_redirects: Option<bool>,
    /// A veth whose other end is in another network namespace.
    pub is_elsewhere: bool,
}

impl Abilities {
    /// Whether its guest has asked for anything that a plain frame does not have.
    pub const fn offloads(&self) -> bool {
        self.checksums || self.segments
    }

    /// Whether its guest is still the one that agreed on these.
    pub fn is_same_guest(&self, other: &Self) -> bool {
        let agreed = |of: &Self| (of.vnet_header, of.checksums, of.segments);
        agreed(self) == agreed(other)
    }
}

/// What sort of device it is, as far as the agent cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The loopback device.
    Loopback,
    /// A device with a driver of its own: a network card, real or virtio.
    Hardware,
    /// A tap: Ethernet frames to and from a process, mostly a virtual machine monitor.
    Tap,
    /// A tun: IP packets to and from a process.
    Tun,
    /// One end of a virtual cable.
    Veth,
    /// A bridge.
    Bridge,
    /// Anything else, by the kernel's name for it (`vlan`, `bond`, `vxlan`, ...).
    #[serde(untagged)]
    Other(String),
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Hardware => "hardware",
            Self::Tap => "tap",
            Self::Tun => "tun",
            Self::Veth => "veth",
            Self::Bridge => "bridge",
            Self::Other(name) => name,
        })
    }
}

/// An XDP program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Xdp {
    /// The kernel's id of the program.
    pub program: u32,
    /// Whether the driver runs it (the fast way), instead of the stack after it has built an skb.
    pub native: bool,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The address itself.
    pub address: IpAddr,
    /// How many of its leading bits name the subnet.
    pub prefix_length: u8,
    /// The other end, on a point-to-point address.
    pub peer: Option<IpAddr>,
    /// How far it reaches.
    pub scope: Scope,
    /// Whether another address of the same subnet comes before it (IPv4), or it is temporary
    /// (IPv6): not to be used unless asked for.
    pub secondary: bool,
    /// Whether duplicate address detection has not passed it: not yet, or never.
    pub tentative: bool,
    /// Whether it is on its way out: good for what uses it, not for anything new.
    pub deprecated: bool,
}

impl Address {
    /// Whether both are about the same entry of the kernel's list, in whatever state.
    fn is_same_entry(&self, other: &Self) -> bool {
        self.address == other.address
            && self.prefix_length == other.prefix_length
            && self.peer == other.peer
    }
}

/// How far an address reaches, widest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everywhere.
    Global,
    /// Numbers 1 to 252, of which only 200 (`site`) has a common meaning.
    Narrower(u8),
    /// The subnet.
    Link,
    /// This host.
    Host,
    /// Nowhere.
    Nowhere,
}

/// One thing that the kernel said about devices and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is such a device, or it is now like this.
    Device(Device),
    /// The device of this index is gone.
    DeviceGone(u32),
    /// The device of this index has this address, or it is now like this.
    Address(u32, Address),
    /// The device of this index has this address no more.
    AddressGone(u32, Address),
}

impl Host {
    /// Takes in what the kernel said; answers whether anything is different now.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Device(device) => {
                self.devices.insert(device.index, device.clone()) != Some(device)
            }
            Change::DeviceGone(index) => {
                let had_addresses = self.addresses.remove(&index).is_some();
                self.devices.remove(&index).is_some() || had_addresses
            }
            Change::Address(index, address) => {
                let list = self.addresses.entry(index).or_default();
                place(list, address)
            }
            Change::AddressGone(index, address) => {
                let Some(list) = self.addresses.get_mut(&index) else {
                    return false;
                };
                let before = list.len();
                list.retain(|entry| !entry.is_same_entry(&address));
                let changed = list.len() != before;
                if list.is_empty() {
                    self.addresses.remove(&index);
                }
                changed
            }
        }
    }

    /// The device of this name.
    pub fn device_named(&self, name: &str) -> Option<&Device> {
        self.devices.values().find(|device| device.name == name)
    }

    /// The device that has this address, if any.
    pub fn device_with(&self, address: IpAddr) -> Option<&Device> {
        let (index, _) = self
            .addresses
            .iter()
            .find(|(_, list)| list.iter().any(|entry| entry.address == address))?;
        self.devices.get(index)
    }

    /// The addresses of a device, in the kernel's order of preference, IPv4 before IPv6.
    pub fn addresses_of(&self, index: u32) -> &[Address] {
        self.addresses.get(&index).map_or(&[], Vec::as_slice)
    }

    /// The address of a device that the kernel would itself choose for new packets to far away:
    /// the first one that reaches everywhere, is not secondary, tentative or on its way out.
    pub fn first_address(&self, index: u32, ipv6: bool) -> Option<IpAddr> {
        self.addresses_of(index)
            .iter()
            .filter(|entry| entry.address.is_ipv6() == ipv6 && entry.scope == Scope::Global)
            .find(|entry| !entry.secondary && !entry.tentative && !entry.deprecated)
            .map(|entry| entry.address)
    }
}

/// Puts an address where the kernel has it in its own list; answers whether the list changed.
///
/// The order is the one of `__inet_insert_ifa` (net/ipv4/devinet.c) and `ipv6_link_dev_addr`
/// (net/ipv6/addrconf.c): IPv4 primaries are kept narrow scope first and otherwise in the order
/// of their coming, secondaries after them; IPv6 is kept wide scope first and newest first.
fn place(list: &mut Vec<Address>, new: Address) -> bool {
    if let Some(position) = list.iter().position(|entry| entry.is_same_entry(&new)) {
        if list[position] == new {
            return false;
        }
        let promoted = list[position].secondary && !new.secondary && new.address.is_ipv4();
        if !promoted {
            list[position] = new;
            return true;
        }
        list.remove(position);
    }
    let first_v6 = list
        .iter()
        .position(|entry| entry.address.is_ipv6())
        .unwrap_or(list.len());
    let position = if new.address.is_ipv6() {
        let later = list[first_v6..]
            .iter()
            .position(|entry| entry.scope >= new.scope);
        later.map_or(list.len(), |offset| first_v6 + offset)
    } else if new.secondary {
        first_v6
    } else {
        let earlier = |entry: &Address| !entry.secondary && entry.scope >= new.scope;
        list[..first_v6]
            .iter()
            .rposition(earlier)
            .map_or(0, |last| last + 1)
    };
    list.insert(position, new);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, name: &str) -> Device {
        Device {
            index,
            name: name.to_owned(),
            up: true,
            running: true,
            mtu: 1500,
            mtu_max: None,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            kind: DeviceKind::Tap,
            master: None,
            xdp: None,
            abilities: Abilities::default(),
        }
    }

    fn address(text: &str) -> Address {
        let (address, prefix_length) = text.split_once('/').unwrap();
        Address {
            address: address.parse().unwrap(),
            prefix_length: prefix_length.parse().unwrap(),
            peer: None,
            scope: Scope::Global,
            secondary: false,
            tentative: false,
            deprecated: false,
        }
    }

    fn order(host: &Host, index: u32) -> Vec<String> {
        host.addresses_of(index)
            .iter()
            .map(|entry| entry.address.to_string())
            .collect()
    }

    #[test]
    fn a_device_comes_changes_and_goes_with_its_addresses() {
        let mut host = Host::default();
        assert!(host.apply(Change::Device(device(3, "tap0"))));
        assert!(
            !host.apply(Change::Device(device(3, "tap0"))),
            "heard twice, changed once"
        );
        assert!(host.apply(Change::Device(device(3, "tap1"))));
        assert!(host.device_named("tap0").is_none());
        assert_eq!(
            host.device_named("tap1").map(|device| device.index),
            Some(3)
        );
        assert!(host.apply(Change::Address(3, address("10.0.0.1/24"))));
        assert_eq!(
            host.device_with("10.0.0.1".parse().unwrap())
                .map(|d| d.index),
            Some(3)
        );
        assert!(host.apply(Change::DeviceGone(3)));
        assert_eq!(host, Host::default());
        assert!(!host.apply(Change::DeviceGone(3)));
    }

    #[test]
    fn addresses_stand_in_the_order_of_the_kernel() {
        let mut host = Host::default();
        for text in [
            "10.0.0.1/24",
            "2001:db8::1/64",
            "10.0.1.1/24",
            "2001:db8::2/64",
        ] {
            host.apply(Change::Address(1, address(text)));
        }
        let near = Address {
            scope: Scope::Link,
            ..address("169.254.0.1/16")
        };
        host.apply(Change::Address(1, near));
        let second = Address {
            secondary: true,
            ..address("10.0.0.2/24")
        };
        host.apply(Change::Address(1, second));
        host.apply(Change::Address(1, address("10.0.2.1/24")));
        let near = Address {
            scope: Scope::Link,
            ..address("fe80::1/64")
        };
        host.apply(Change::Address(1, near));
        assert_eq!(
            order(&host, 1),
            [
                "169.254.0.1",
                "10.0.0.1",
                "10.0.1.1",
                "10.0.2.1",
                "10.0.0.2",
                "2001:db8::2",
                "2001:db8::1",
                "fe80::1"
            ]
        );
        assert_eq!(
            host.first_address(1, false),
            Some("10.0.0.1".parse().unwrap())
        );
        assert_eq!(
            host.first_address(1, true),
            Some("2001:db8::2".parse().unwrap())
        );
    }

    #[test]
    fn a_secondary_that_is_promoted_joins_the_primaries() {
        let mut host = Host::default();
        host.apply(Change::Address(1, address("10.0.0.1/24")));
        host.apply(Change::Address(1, address("10.0.1.1/24")));
        for text in ["10.0.0.2/24", "10.0.0.3/24"] {
            host.apply(Change::Address(
                1,
                Address {
                    secondary: true,
                    ..address(text)
                },
            ));
        }
        host.apply(Change::AddressGone(1, address("10.0.0.1/24")));
        assert!(host.apply(Change::Address(1, address("10.0.0.2/24"))));
        assert_eq!(order(&host, 1), ["10.0.1.1", "10.0.0.2", "10.0.0.3"]);
    }

    #[test]
    fn an_address_that_is_not_ready_is_not_chosen() {
        let mut host = Host::default();
        let tentative = Address {
            tentative: true,
            ..address("2001:db8::1/64")
        };
        host.apply(Change::Address(1, tentative));
        assert_eq!(host.first_address(1, true), None);
        assert!(host.apply(Change::Address(1, address("2001:db8::1/64"))));
        assert_eq!(
            host.first_address(1, true),
            Some("2001:db8::1".parse().unwrap())
        );
    }

    #[test]
    fn the_last_address_leaves_no_empty_list_behind() {
        let mut host = Host::default();
        host.apply(Change::Address(1, address("10.0.0.1/24")));
        assert!(
            !host.apply(Change::AddressGone(1, address("10.0.0.1/16"))),
            "another prefix"
        );
        assert!(host.apply(Change::AddressGone(1, address("10.0.0.1/24"))));
        assert_eq!(host, Host::default());
    }
}
