//! What is wanted of this host, all of it?

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Link, Network, Port, Rule};

/// Everything that reconciliation brings about on this host.
///
/// Rules are in order of age, oldest first: among rules of equal strength the later wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Where overlay packets enter and leave this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Underlay {
    /// The device, or the address whose device it is.
    pub on: UnderlayMatch,
    /// The UDP port of Geneve, the same on every host (RFC 8926: 6081).
    pub udp_port: u16,
}

/// How the settings name the underlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnderlayMatch {
    /// By the name of a device; its primary addresses are the local ends of links.
    Device(String),
    /// By an address of this host; the device that has it is used.
    Address(IpAddr),
}

/// How large the kernel's tables are. They are made once: a change of these needs a teardown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Default for Limits {
    fn default() -> Self {
        Self { ports: 256, links: 256, networks: 64, rules: 131_072, flows: 65_536 }
    }
}
