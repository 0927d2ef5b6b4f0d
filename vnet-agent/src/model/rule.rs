//! What is a rule?

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::rule::{Destination, Source};

/// One line of the forwarding table (thesis proposal, section 3.1 and figure 2).
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The network it belongs to, by name.
    pub network: String,
    /// Which senders it is about: `any`, an address, or `not` an address.
    pub source: Source,
    /// Which receivers: the same, or `none`, the default.
    pub destination: Destination,
    /// Where such frames go.
    pub to: Target,
    /// Who wants it.
    #[serde(default)]
    pub origin: RuleOrigin,
}

impl Rule {
    /// What makes a rule the same rule: a second one with this key takes the first one's place.
    pub fn key(&self) -> (&str, Source, Destination) {
        (&self.network, self.source, self.destination)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            network,
            source,
            destination,
            to,
            ..
        } = self;
        write!(f, "{network}: {source} -> {destination} = {to}")
    }
}

/// Which rule, of those that there are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleName {
    /// Its network.
    pub network: String,
    /// Its source.
    pub source: Source,
    /// Its destination.
    pub destination: Destination,
}

impl RuleName {
    /// As [`Rule::key`].
    pub fn key(&self) -> (&str, Source, Destination) {
        (&self.network, self.source, self.destination)
    }
}

/// Where a rule sends a frame.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Out over the link of this name (figure 5 calls it an edge rule).
    Link(String),
    /// Into the device of this name (an interface rule).
    Port(String),
    /// To every port of the network, and to the links that take it, save where it came from.
    Flood,
    /// Nowhere: dropped, and counted under its own reason.
    Drop,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "link {name}"),
            Self::Port(device) => write!(f, "port {device}"),
            Self::Flood => f.write_str("flood"),
            Self::Drop => f.write_str("drop"),
        }
    }
}

/// Who wants a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleOrigin {
    /// The settings file.
    File,
    /// A client of the API.
    #[default]
    Api,
    /// The proxy: it is in this host's part of the topology.
    Proxy,
    /// The agent, because the address belongs to a port of this host. Such rules are the oldest
    /// among equals: anyone else's takes their place.
    Port,
}
