//! What is the whole overlay: which hosts, networks, VMs, links and rules?
//!
//! Input: texts of the language, and the front that writes them. Output: each host's part of it,
//! differences, routes. Plain values; nothing here knows which host it is on.

mod change;
mod check;
mod history;
mod part;
mod problem;
mod reach;
mod route;
#[cfg(test)]
pub(crate) mod sample;

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Shape, Source};

pub use super::{Flooding, Network};
pub use change::{Change, apply, changes};
pub use history::{Applied, History, NothingToUndo};
pub use part::PartError;
pub use problem::{Item, Noun, Place, Problem, TopologyError};
pub use reach::CutOff;
pub use route::{Came, Decider, Fate, Hop, NoRoute, Router, Why};

/// The overlay, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// The virtual LANs.
    pub networks: Vec<Network>,
    /// The machines.
    pub hosts: Vec<Host>,
    /// Which VM is where.
    pub vms: Vec<Vm>,
    /// The edges.
    pub links: Vec<Link>,
    /// The forwarding tables; those of one host are in order of age, oldest first.
    pub rules: Vec<Rule>,
}

/// A machine of the overlay.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[schemars(rename = "OverlayHost")]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// What people call it; an IP address may be a name too.
    pub name: String,
    /// The account that its agent is managed from.
    pub user: String,
    /// The UDP port that it hears the overlay on.
    pub port: u16,
    /// The Ethernet interface whose frames belong to the overlay: of the VMs that name no other,
    /// and on the proxy of the user's LAN.
    pub interface: String,
    /// Where it is on the underlay; none where the proxy is to find out, or where the name says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
}

impl Host {
    /// Where it is on the underlay, as far as the topology says.
    pub fn underlay(&self) -> Option<IpAddr> {
        self.address.or_else(|| self.name.parse().ok())
    }
}

/// What a machine is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize,
)]
#[schemars(rename = "OverlayRole")]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It stands on the user's LAN, in the middle of the star.
    Proxy,
    /// It has VMs.
    #[default]
    Agent,
    /// It speaks Geneve and is not ours: no agent, no rules, plain links only.
    Foreign,
}

/// A virtual machine's card, and where it is (the mapping of VMs to hosts).
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// What people call it.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The network it is in.
    pub network: String,
    /// The host it is on.
    pub host: String,
    /// Its device there.
    pub device: String,
    /// Whether it has to stay there.
    #[serde(default)]
    pub fixed: bool,
}

/// An edge between two hosts.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[schemars(rename = "OverlayLink")]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What its frames travel in.
    pub kind: LinkKind,
    /// The end that opens it, where one has to.
    pub from: String,
    /// The other end.
    pub to: String,
    /// The networks whose frames may cross.
    pub networks: Vec<String>,
    /// Which frames for many cross it.
    #[serde(default)]
    pub flood: Flooding,
}

impl Link {
    /// The other end, seen from this one; nothing where this host is no end of it.
    pub fn other(&self, host: &str) -> Option<&str> {
        if self.from == host {
            Some(&self.to)
        } else if self.to == host {
            Some(&self.from)
        } else {
            None
        }
    }

    /// Both ends, in the order of their names.
    pub fn ends(&self) -> (&str, &str) {
        if self.from <= self.to {
            (&self.from, &self.to)
        } else {
            (&self.to, &self.from)
        }
    }

    /// Whether frames of this network may cross.
    pub fn carries(&self, network: &str) -> bool {
        self.networks.iter().any(|name| name == network)
    }
}

/// What frames travel in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// Geneve over UDP with a cookie, in the kernel.
    Udp,
    /// A TCP connection between the agents.
    Tcp,
    /// The same, encrypted.
    Tls,
    /// Bare Geneve over UDP, to an endpoint that is not ours.
    Plain,
}

impl LinkKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Udp, Self::Tcp, Self::Tls, Self::Plain];

    /// Whether one end has to open it, so that it matters which.
    pub const fn has_opener(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Plain => "plain",
        }
    }
}

/// One line of a host's forwarding table.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[schemars(rename = "OverlayRule")]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Whose table.
    pub host: String,
    /// Frames of which network.
    pub network: String,
    /// Frames from whom.
    pub source: Source,
    /// Frames for whom.
    pub destination: Destination,
    /// Where they go.
    pub to: Target,
}

impl Rule {
    /// What makes a rule the same rule: two with one key contradict each other.
    pub fn key(&self) -> RuleKey {
        (
            self.host.clone(),
            self.network.clone(),
            self.source,
            self.destination,
        )
    }

    /// What the normal form sorts by: the strongest first, and where age cannot matter by address.
    ///
    /// Age decides between rules of equal strength that are about one frame. Without `not` there
    /// are none: two of a shape name different addresses.
    fn rank(&self) -> (&str, &str, Reverse<Shape>, Mac, Mac) {
        let shape = Shape::of(self.source, self.destination);
        (
            &self.host,
            &self.network,
            Reverse(shape),
            self.destination.exact().unwrap_or(Mac::ZERO),
            self.source.exact().unwrap_or(Mac::ZERO),
        )
    }
}

/// Host, network, senders, receivers.
pub type RuleKey = (String, String, Source, Destination);

/// Where a rule sends a frame.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[schemars(rename = "OverlayTarget")]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Over the link to this host.
    Edge(String),
    /// Into this device.
    Interface(String),
    /// To every port of the network and over the links that take such frames.
    Flood,
    /// Nowhere.
    Drop,
}

impl Topology {
    /// The host of this name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The network of this name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// The host in the middle of the star, if there is one.
    pub fn proxy(&self) -> Option<&Host> {
        self.hosts.iter().find(|host| host.role == Role::Proxy)
    }

    /// The link between two hosts that frames of this network may cross.
    pub fn link_between(&self, one: &str, other: &str, network: &str) -> Option<&Link> {
        self.links
            .iter()
            .find(|link| link.other(one) == Some(other) && link.carries(network))
    }

    /// The normal form, which two topologies share that mean the same: everything in the order of
    /// its name, rules by host and strength, and among those where age matters by age.
    #[must_use]
    pub fn normal(mut self) -> Self {
        self.networks.sort_by(|a, b| a.name.cmp(&b.name));
        self.hosts
            .sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        self.vms.sort_by(|a, b| a.name.cmp(&b.name));
        for link in &mut self.links {
            link.networks.sort();
            if !link.kind.has_opener() && link.from > link.to {
                std::mem::swap(&mut link.from, &mut link.to);
            }
        }
        self.links
            .sort_by(|a, b| (a.ends(), &a.networks).cmp(&(b.ends(), &b.networks)));
        self.rules.sort_by(|a, b| a.rank().cmp(&b.rank()));
        self
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy => "proxy",
            Self::Agent => "agent",
            Self::Foreign => "foreign",
        })
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            user,
            port,
            interface,
            address,
            role,
        } = self;
        write!(f, "{name} ({role}, {user}, port {port}, {interface}")?;
        match address {
            Some(address) => write!(f, ", {address})"),
            None => f.write_str(")"),
        }
    }
}

impl fmt::Display for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            mac,
            network,
            host,
            device,
            fixed,
        } = self;
        let fixed = if *fixed { ", fixed" } else { "" };
        write!(f, "{name} ({mac}) in {network} on {host}, {device}{fixed}")
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            from,
            to,
            networks,
            flood,
        } = self;
        let networks = networks.join(", ");
        write!(f, "{kind} {from} to {to} for {networks}, flood {flood}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge(host) => write!(f, "edge to {host}"),
            Self::Interface(device) => write!(f, "interface {device}"),
            Self::Flood => f.write_str("flood"),
            Self::Drop => f.write_str("drop"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            network,
            source,
            destination,
            to,
        } = self;
        write!(f, "on {host}, {network}: {source} -> {destination} = {to}")
    }
}
