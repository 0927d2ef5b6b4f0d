//! What is wanted of this host, all of it?

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::door::DoorChoice;
use super::host::{Device, Host};
use super::{DeviceMatch, Link, Network, Port, Rule};

/// Everything that reconciliation brings about on this host.
///
/// Rules are in order of age, oldest first: among rules of equal strength the later wins.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The network under the overlay.
    pub underlay: Underlay,
    /// The virtual LANs.
    pub networks: Vec<Network>,
    /// The devices of VMs.
    pub ports: Vec<Port>,
    /// The edges to other agents.
    pub links: Vec<Link>,
    /// Which frames go where.
    pub rules: Vec<Rule>,
    /// How large the tables are.
    pub limits: Limits,
}

impl Configuration {
    /// The network of this name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// The link of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The entry that takes in the device of this name, and its place in `ports`: exact names win
    /// over patterns, earlier patterns over later.
    pub fn port_for(&self, device: &str) -> Option<(usize, &Port)> {
        let is_name = |port: &Port| matches!(port.device, DeviceMatch::Name(_));
        let meant = |port: &Port| port.device.matches(device);
        let mut ports = self.ports.iter().enumerate();
        ports
            .clone()
            .find(|(_, port)| is_name(port) && meant(port))
            .or_else(|| ports.find(|(_, port)| !is_name(port) && meant(port)))
    }
}

/// Where overlay packets enter and leave this host.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Underlay {
    /// The device, or the address whose device it is.
    pub on: UnderlayMatch,
    /// The UDP port of Geneve, the same on every host (RFC 8926: 6081).
    pub udp_port: u16,
    /// The TCP port that links of kind `tcp` and `tls` are opened to, the same on every host.
    #[serde(default = "tcp_port_default")]
    pub tcp_port: u16,
    /// By which door its packets come in.
    #[serde(default)]
    pub door: DoorChoice,
}

/// The UDP port of Geneve (RFC 8926, section 3.3).
pub const UDP_PORT_DEFAULT: u16 = 6081;

/// The TCP port of links that the agent carries: the number of the UDP port.
pub const TCP_PORT_DEFAULT: u16 = 6081;

const fn tcp_port_default() -> u16 {
    TCP_PORT_DEFAULT
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, UDP port {}", self.on, self.udp_port)?;
        if self.tcp_port != TCP_PORT_DEFAULT {
            write!(f, ", TCP port {}", self.tcp_port)?;
        }
        match self.door {
            DoorChoice::Auto => Ok(()),
            forced => write!(f, ", door {forced}"),
        }
    }
}

/// How the settings name the underlay.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnderlayMatch {
    /// By the name of a device; its primary addresses are the local ends of links.
    Device(String),
    /// By an address of this host; the device that has it is used.
    Address(IpAddr),
}

impl UnderlayMatch {
    /// The device of this host that is meant, if it is there.
    pub fn device<'a>(&self, host: &'a Host) -> Option<&'a Device> {
        match self {
            Self::Device(name) => host.device_named(name),
            Self::Address(address) => host.device_with(*address),
        }
    }
}

impl fmt::Display for UnderlayMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(name) => write!(f, "device {name}"),
            Self::Address(address) => write!(f, "address {address}"),
        }
    }
}

/// How large the kernel's tables are. They are made once: a change of these needs a teardown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Ports at one time.
    pub ports: u32,
    /// Links at one time.
    pub links: u32,
    /// Networks at one time.
    pub networks: u32,
    /// Entries of the rule table: a rule takes one, rules with `not` share.
    pub rules: u32,
    /// Flows that have counters at one time; beyond, the least recently used go.
    pub flows: u32,
}

impl Limits {
    /// The most that `ports`, `links` and `networks` may each be: one ledger of counters apiece.
    pub const ITEMS_MAX: u32 = 4096;
    /// The most that `rules` may be: about 120 MB of kernel memory.
    pub const RULES_MAX: u32 = 1 << 20;
    /// The most that `flows` may be.
    pub const FLOWS_MAX: u32 = 1 << 22;
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ports,
            links,
            networks,
            rules,
            flows,
        } = self;
        write!(
            f,
            "{ports} ports, {links} links, {networks} networks, {rules} rules, {flows} flows"
        )
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ports: 256,
            links: 256,
            networks: 64,
            rules: 131_072,
            flows: 65_536,
        }
    }
}
