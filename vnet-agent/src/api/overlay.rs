//! How does this host stand in the overlay, and on the proxy: who belongs to it?

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A host's place in the overlay.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum OverlayStatus {
    /// It dials the proxy.
    Agent {
        /// Where it dials it.
        address: String,
        /// The proxy's name; nothing while they are apart.
        proxy: Option<String>,
        /// Since when they are together, or apart, in milliseconds since 1970.
        since_unix_ms: u64,
        /// Why they are apart.
        why: Option<String>,
        /// The revision of the part that it goes by; nothing before the first.
        revision: Option<u64>,
        /// When its certificate is over, in seconds since 1970.
        certificate_expires_unix_s: u64,
    },
    /// It is dialled.
    Proxy {
        /// Where it listens.
        address: String,
        /// Agents that are connected.
        connected: u32,
        /// Agents that are known.
        agents: u32,
        /// Connections that came to nothing.
        turned_away: u64,
        /// The latest revision of any part.
        revision: u64,
        /// When its certificate is over, in seconds since 1970.
        certificate_expires_unix_s: u64,
    },
}

/// The answer to `agents`, of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Agents {
    /// The proxy's name.
    pub proxy: String,
    /// Where it listens.
    pub address: String,
    /// The agents that it knows, by name.
    pub agents: Vec<AgentStatus>,
    /// How many connections came to nothing, by reason.
    pub turned_away: BTreeMap<String, u64>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its name.
    pub name: String,
    /// Its connection; nothing while there is none.
    pub connection: Option<Connection>,
    /// Its underlay addresses, as it last said.
    pub underlay: Vec<IpAddr>,
    /// How many ports it last said that it has.
    pub ports: u32,
    /// Processors that it has.
    pub processors: u32,
    /// Memory that it has.
    pub memory_bytes: u64,
    /// The revision of the part that it should go by.
    pub dealt_revision: Option<u64>,
}

/// An agent's connection.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Connection {
    /// From where.
    pub from: String,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// The agent's version.
    pub software: String,
    /// The number of its data plane's layouts.
    pub schema: u32,
    /// The revision of the part that it goes by.
    pub revision: Option<u64>,
    /// Why it does not go by a later one.
    pub declined: Option<String>,
    /// When its certificate is over, in seconds since 1970.
    pub certificate_expires_unix_s: u64,
}

/// A token that is wanted for a host.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewInvite {
    /// What the host will be called.
    pub host: String,
    /// For how long the token is good.
    pub expires_s: u64,
    /// Where the host will find the proxy; where nothing is said, where the proxy itself thinks it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// A token.
#[derive(Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Invited {
    /// What the host will be called.
    pub host: String,
    /// One line, secret: for `vnetctl join` on the host.
    pub token: String,
    /// Where the host will find the proxy.
    pub proxy: String,
    /// When the token is over, in seconds since 1970.
    pub expires_unix_s: u64,
}

/// Without the token.
impl std::fmt::Debug for Invited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invited({} at {})", self.host, self.proxy)
    }
}
