//! What may stand behind the question mark of a path?

use schemars::JsonSchema;
use serde::Deserialize;
use vnet_common::rule::{Destination, Source};

use super::FlowSort;

/// Nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// Of `DELETE /v1/links/{name}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteLinkQuery {
    /// Even where rules lead over it: they go with it.
    #[serde(default)]
    pub force: bool,
}

/// Of `GET /v1/rules`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesQuery {
    /// Those of one network only.
    pub network: Option<String>,
}

/// Of `DELETE /v1/rules`: which rule.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteRuleQuery {
    /// Its network.
    pub network: String,
    /// Its source.
    pub source: Source,
    /// Its destination.
    pub destination: Destination,
}

/// Of `GET /v1/flows`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowsQuery {
    /// Those of one network only.
    pub network: Option<String>,
    /// How many at most.
    #[schemars(range(max = 100_000))]
    pub limit: Option<usize>,
    /// What "largest" means.
    #[serde(default)]
    pub sort: FlowSort,
}

/// Of `GET /v1/drops`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropsQuery {
    /// With those that never happened.
    #[serde(default)]
    pub all: bool,
}
