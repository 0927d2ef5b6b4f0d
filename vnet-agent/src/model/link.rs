//! What is a link?

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Cookie;

/// This host's end of an overlay edge to another agent, over UDP and in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What people call it; unique on this host.
    pub name: String,
    /// The underlay address of the other end.
    pub remote: IpAddr,
    /// The networks whose frames may cross, by name.
    pub networks: Vec<String>,
    /// The secret both ends share; none makes the link `plain`: bare Geneve to an endpoint that
    /// is not ours, believed by its address alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// Whether frames for everyone cross it.
    pub flood: Flooding,
    /// The link that its frames take while nobody answers at its other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

impl Link {
    /// Whether it is bare Geneve, without a cookie.
    pub const fn is_plain(&self) -> bool {
        self.cookie.is_none()
    }

    /// Whether frames of this network may cross.
    pub fn carries(&self, network: &str) -> bool {
        self.networks.iter().any(|name| name == network)
    }
}

/// Without the cookie, so that it may go into logs.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            remote,
            networks,
            flood,
            fallback,
            ..
        } = self;
        let plain = if self.is_plain() { ", plain" } else { "" };
        write!(
            f,
            "{name} to {remote} for {}, flood {flood}{plain}",
            networks.join(", ")
        )?;
        match fallback {
            Some(other) => write!(f, ", falls back to {other}"),
            None => Ok(()),
        }
    }
}

/// Which frames for many (broadcast, multicast, unknown destinations under a `flood` rule) a link
/// takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flooding {
    /// Those of this host's own ports: right for a full mesh, where every agent hears it once.
    #[default]
    FromPorts,
    /// Those of other links too: right for a star or a tree, wrong wherever links form a ring.
    Always,
    /// None.
    Never,
}

impl fmt::Display for Flooding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromPorts => "from-ports",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}
