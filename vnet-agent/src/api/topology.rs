//! How does the whole overlay look to a client of the proxy, and how is it changed?

use std::collections::BTreeMap;

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
    /// Whether it is being brought about: `rollout` says how far that is.
    pub applied: bool,
    /// Which of the applied topologies counts then; none for the bare star.
    pub number: Option<u64>,
    /// What changes, in words: `+`, `-` or `~`, and what it is about.
    pub changes: Vec<String>,
    /// Who loses every way to the proxy.
    pub warnings: Vec<String>,
    /// The hosts that get another part.
    pub hosts: Vec<String>,
    /// Those of them that are not connected: they get it when they come back.
    #[serde(default)]
    pub absent: Vec<String>,
}

/// How far a change of the whole overlay is, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// How it stands.
    pub state: RolloutState,
    /// The stages so far, in order; the last is the one that hosts are at.
    pub stages: Vec<RolloutStage>,
    /// How many stages there are, if all goes well.
    pub of: u32,
    /// The hosts that have not said yet that theirs is in force.
    pub waiting: Vec<String>,
    /// The hosts that did not follow, and why: then all is undone.
    pub failed: BTreeMap<String, String>,
    /// Hosts that have not said that they are back: they are given the old state when they are there
    /// again.
    pub astray: Vec<String>,
}

/// How a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutState {
    /// Nothing has been changed since the proxy began.
    None,
    /// It goes on.
    Running,
    /// It goes back.
    Returning,
    /// Every host goes by it.
    Done,
    /// A host did not follow: all is as it was before.
    Undone,
}

/// A stage of a change.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct RolloutStage {
    /// What is done in it.
    pub name: String,
    /// Whether it is on the way back.
    pub is_back: bool,
    /// How long hosts took; nothing while they are at it.
    pub took_ms: Option<u64>,
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
