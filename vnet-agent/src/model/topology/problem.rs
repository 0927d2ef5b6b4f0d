//! What can be wrong with a topology, where, and what is the cure?
//!
//! Made by `check`; the language shows it with line and column.

use std::fmt;
use std::net::IpAddr;

use vnet_common::addr::{Mac, NetworkId};
use vnet_common::rule::{Destination, Source};

use super::super::port::BadDeviceName;
use super::super::problem::{BadName, BadUnderlayAddress};
use super::{LinkKind, Target};

/// Something wrong at one place of a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it shows.
    pub at: Place,
    /// The other place that it conflicts with, where there is one.
    pub earlier: Option<Place>,
    /// What it is.
    pub error: TopologyError,
}

/// A value in a topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// In which entry.
    pub item: Item,
    /// Which of its values; empty for the entry as a whole.
    pub key: &'static str,
}

/// An entry of a topology; the numbers are places in its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the entry of its name")]
pub enum Item {
    Network(usize),
    Host(usize),
    Vm(usize),
    Link(usize),
    Rule(usize),
}

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the noun of its name")]
pub enum Noun {
    Network,
    Host,
    Vm,
    Link,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Host => "host",
            Self::Vm => "VM",
            Self::Link => "link",
        })
    }
}

/// Why a topology is refused. The text says what is wrong; [`TopologyError::cure`] what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each is, the fields are their parts"
)]
pub enum TopologyError {
    #[error("the {noun} name {name:?} {why}")]
    BadName {
        noun: Noun,
        name: String,
        why: BadName,
    },
    #[error("a second {noun} is called {name:?}")]
    DuplicateName { noun: Noun, name: String },
    #[error("there is no {noun} {name:?}")]
    Unknown {
        noun: Noun,
        name: String,
        meant: Option<String>,
    },
    #[error("network id {id} is the id of network {other:?} already")]
    DuplicateNetworkId { id: NetworkId, other: String },
    #[error("{user:?} is no user's name")]
    BadUser { user: String },
    #[error("the device name {name:?} {why}")]
    BadDevice { name: String, why: BadDeviceName },
    #[error("{address} {why}")]
    BadAddress {
        address: IpAddr,
        why: BadUnderlayAddress,
    },
    #[error("{address} is the address of host {other:?} already")]
    SharedAddress { address: IpAddr, other: String },
    #[error("no agent hears on port 0")]
    PortZero,
    #[error("{other:?} is the proxy already")]
    SecondProxy { other: String },
    #[error("{mac} is a group's address, which no VM has")]
    GroupAddress { mac: Mac },
    #[error("{mac} is no station's address")]
    ZeroAddress { mac: Mac },
    #[error("{mac} is the address of VM {other:?} in network {network:?} already")]
    DuplicateMac {
        mac: Mac,
        network: String,
        other: String,
    },
    #[error("device {device} of {host} is in network {network:?} already, with VM {other:?}")]
    DeviceInOtherNetwork {
        device: String,
        host: String,
        network: String,
        other: String,
    },
    #[error("{host:?} is foreign: it has no agent that would do this")]
    Foreign { host: String },
    #[error("a link from {host:?} to itself")]
    LinkToOneself { host: String },
    #[error("a second link between {one:?} and {other:?} carries network {network:?}")]
    SecondLink {
        one: String,
        other: String,
        network: String,
    },
    #[error("a link without networks carries nothing")]
    NoNetworks,
    #[error("network {network:?} is listed twice")]
    RepeatedNetwork { network: String },
    #[error("{one:?} hears on port {one_port}, {other:?} on {other_port}")]
    OtherPort {
        one: String,
        one_port: u16,
        other: String,
        other_port: u16,
    },
    #[error("{one} and {other} are addresses of different families")]
    OtherFamily { one: IpAddr, other: IpAddr },
    #[error("a {kind} link needs an agent at both ends, and {host:?} is foreign")]
    ForeignEnd { kind: LinkKind, host: String },
    #[error("there is no link from {host:?} to {other:?} that carries network {network:?}")]
    NoEdge {
        host: String,
        other: String,
        network: String,
    },
    #[error("the edge from {from:?} to {to:?} does not begin at {host:?}")]
    EdgeElsewhere {
        host: String,
        from: String,
        to: String,
    },
    #[error(
        "two rules of {host:?} about {from} -> {destination} in network {network:?} contradict each other: {first}, {second}"
    )]
    Contradiction {
        host: String,
        network: String,
        from: Source,
        destination: Destination,
        first: Target,
        second: Target,
    },
    #[error("the same rule stands there already")]
    RepeatedRule,
}

impl TopologyError {
    /// What to do about it, as an instruction.
    pub fn cure(&self) -> String {
        match self {
            Self::DuplicateName { noun, .. } => format!("give each {noun} a name of its own"),
            Self::Unknown {
                meant: Some(meant), ..
            } => format!("did you mean {meant:?}?"),
            Self::Unknown { noun, .. } => format!("declare the {noun} before END, or correct it"),
            Self::NoEdge { host, other, .. } => {
                format!("add the link first: LINK UDP {host} {other}")
            }
            Self::OtherPort { one_port, .. } => {
                format!("write the same port for both, such as {one_port}: Geneve has one")
            }
            _ => self.fixed_cure().to_owned(),
        }
    }

    const fn fixed_cure(&self) -> &'static str {
        match self {
            Self::BadName { .. } => {
                "a name has 1 to 63 letters, digits, '-', '_' and '.', and begins with a letter or digit"
            }
            Self::DuplicateNetworkId { .. } => "give each network an id of its own",
            Self::BadUser { .. } => "a user's name has 1 to 32 characters and no blanks",
            Self::BadDevice { .. } => "a device name has 1 to 15 letters, digits, '-', '_' and '.'",
            Self::BadAddress { .. } | Self::SharedAddress { .. } => {
                "write the address that this host has on the underlay"
            }
            Self::PortZero => "write the agent's UDP port, which is 6081 unless you changed it",
            Self::SecondProxy { .. } => "a star has one middle: keep one PROXY",
            Self::GroupAddress { .. } | Self::ZeroAddress { .. } => {
                "write the address of the VM's card, such as 52:54:00:12:34:56"
            }
            Self::DuplicateMac { .. } => "addresses are unique within a network: change one",
            Self::DeviceInOtherNetwork { .. } => {
                "a device belongs to one network: give each VM a device of its own"
            }
            Self::Foreign { .. } => "put it on a host with an agent",
            Self::LinkToOneself { .. } => "name two hosts",
            Self::SecondLink { .. } => {
                "one link between two hosts is enough for a network: take it out of one of them"
            }
            Self::NoNetworks => "list the networks after CARRIES",
            Self::RepeatedNetwork { .. } | Self::RepeatedRule => "remove one of them",
            Self::OtherFamily { .. } => "give both hosts an address of the same family",
            Self::ForeignEnd { .. } => "write LINK PLAIN",
            Self::EdgeElsewhere { .. } => "a rule sends over the links of its own host only",
            Self::Contradiction { .. } => {
                "keep one: strength and age say which of two rules wins, and these have both in common"
            }
            _ => "",
        }
    }
}
