//! Which connections should there be? What the agent's task tells the runtime.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use vnet_common::addr::{Cookie, LinkId, NetworkId};

use super::tls::Certificates;
use crate::model::Transport;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Where others may open connections to.
    pub listen: Vec<SocketAddr>,
    /// The links, by name.
    pub links: BTreeMap<String, PlannedLink>,
    /// Who this host is to others; nothing where it has not been told.
    pub certificates: Option<Certificates>,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLink {
    /// Its number in the tables.
    pub id: LinkId,
    /// How it is reached.
    pub way: Way,
    /// The networks that may cross, with their places in the tables.
    pub networks: BTreeMap<NetworkId, u32>,
}

/// How the other end of a link is reached: what a connection is good for as long as it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// `tcp` or `tls`.
    pub kind: Transport,
    /// The address that this end has for it, if it has one.
    pub local: Option<IpAddr>,
    /// Where the other end listens.
    pub remote: SocketAddr,
    /// What proves which link it is.
    pub cookie: Cookie,
    /// Whether this end leaves it to the other to open the connection.
    pub listen_only: bool,
}

impl Way {
    /// Whether this end opens the connection, unless the other has to: the one with the smaller
    /// address, so that mostly one of them tries.
    pub fn opens_first(&self) -> bool {
        self.local.is_none_or(|local| local < self.remote.ip())
    }
}
