//! What is a network?

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::NetworkId;

/// One user's virtual LAN. Ethernet addresses are unique within it only.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What people call it; unique on this host.
    pub name: String,
    /// What the wire calls it; unique on this host, and the same on every host.
    pub id: NetworkId,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (id {})", self.name, self.id)
    }
}
