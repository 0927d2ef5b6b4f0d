//! How does a guest that has an IP stack appear on its network?
//!
//! Filled in by a test, read where the guest is made ([`crate::NamespaceGuest`],
//! [`crate::VmGuest`]).

use vnet_common::addr::Mac;

/// A guest's port on the host, and its addresses.
#[derive(Clone, Debug)]
pub struct Station {
    /// The device in the host: what the agent calls a port.
    pub port: String,
    /// The guest's Ethernet address.
    pub mac: Mac,
    /// The guest's IP addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// The guest's largest IP packet, in bytes.
    pub mtu: u32,
    /// Whether it leaves work to its NIC: checksums, cutting, tags.
    pub offloads: bool,
}

impl Station {
    /// A guest without IP addresses, with an MTU of 1400 bytes: what fits any tunnel over 1500. It
    /// leaves no work to its NIC.
    #[must_use]
    pub fn new(port: &str, mac: Mac) -> Self {
        Self {
            port: port.to_owned(),
            mac,
            addresses: Vec::new(),
            mtu: 1400,
            offloads: false,
        }
    }

    /// With one more IP address, for example `10.9.0.1/24` or `fd09::1/64`.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// With another MTU, in bytes.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Leaves work to its NIC: for ports that can do it, or tell those that can.
    #[must_use]
    pub const fn offloading(mut self) -> Self {
        self.offloads = true;
        self
    }
}
