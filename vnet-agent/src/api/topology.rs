//! How does the whole overlay look to a client of the proxy, and how is it changed?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::topology::Topology;

/// The answer to `topology`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TopologyStatus {
    /// Which of the applied topologies counts; none where nobody has applied any: then it is the
    /// star, as the proxy made it.
    pub number: Option<u64>,
    /// The whole overlay.
    pub topology: Topology,
}

/// A topology that is to count.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTopology {
    /// The whole overlay.
    pub topology: Topology,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Even if somebody loses every way to the proxy.
    #[serde(default)]
    pub force: bool,
}

/// That the last topology is to count no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an apply or an undo does, or would do.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TopologyPlan {
    /// Whether it is in force now.
    pub applied: bool,
    /// Which of the applied topologies counts then; none for the bare star.
    pub number: Option<u64>,
    /// What changes, in words: `+`, `-` or `~`, and what it is about.
    pub changes: Vec<String>,
    /// Who loses every way to the proxy.
    pub warnings: Vec<String>,
    /// The hosts that get another part.
    pub hosts: Vec<String>,
}

/// A topology that was applied.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct AppliedTopology {
    /// Which one, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub applied_unix_ms: u64,
    /// How many changes it was.
    pub changes: u32,
    /// When it was undone, in milliseconds since 1970.
    pub undone_unix_ms: Option<u64>,
    /// Whether it is the one that counts.
    pub is_current: bool,
}
