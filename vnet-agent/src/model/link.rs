//! What is a link?

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Cookie;

/// What a link's frames travel in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, JsonSchema, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Geneve over UDP, in the kernel.
    #[default]
    Udp,
    /// A TCP connection between the agents, which anybody on its way can read and change.
    Tcp,
    /// The same, encrypted, and with a certificate at either end.
    Tls,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// Whether the agent carries the frames.
    pub const fn is_carried(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// For serde: what goes without saying.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    const fn is_udp(&self) -> bool {
        matches!(self, Self::Udp)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// This host's end of an overlay edge to another agent.
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
    /// What they travel in.
    #[serde(default, skip_serializing_if = "Transport::is_udp")]
    pub kind: Transport,
    /// Whether this end never opens the connection of a link that has one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub listen_only: bool,
    /// The link whose frames it carries while the path of that one is dead: another way to the same
    /// end. Rules never lead to it, and what comes by it came over that link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung_of: Option<String>,
}

impl Link {
    /// Whether it is bare Geneve, without a cookie.
    pub const fn is_plain(&self) -> bool {
        self.cookie.is_none()
    }

    /// Another way to the same end, for where UDP does not pass: encrypted, opened by one end.
    ///
    /// It goes with this link, which has to fall back to it.
    #[must_use]
    pub fn tls_rung(&self, listen_only: bool) -> Self {
        Self {
            name: self.tls_rung_name(),
            kind: Transport::Tls,
            listen_only,
            flood: Flooding::Never,
            fallback: None,
            rung_of: Some(self.name.clone()),
            ..self.clone()
        }
    }

    /// What [`Link::tls_rung`] is called.
    pub fn tls_rung_name(&self) -> String {
        format!("tls-{}", self.name)
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
            kind,
            rung_of,
            ..
        } = self;
        let plain = match (self.is_plain(), kind) {
            (true, _) => ", plain",
            (false, Transport::Udp) => "",
            (false, Transport::Tcp) => ", tcp",
            (false, Transport::Tls) => ", tls",
        };
        write!(
            f,
            "{name} to {remote} for {}, flood {flood}{plain}",
            networks.join(", ")
        )?;
        if let Some(whole) = rung_of {
            write!(f, ", a rung of {whole}")?;
        }
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
