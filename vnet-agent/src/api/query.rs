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

/// Of `GET /v1/topology/route`: which frame.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteQuery {
    /// Who sends it: a VM of the overlay by name, or an address.
    pub source: String,
    /// Whom it is for: the same, or `broadcast`.
    pub destination: String,
    /// In which network, where the source's address is in several.
    pub network: Option<String>,
    /// How long it is, Ethernet header included; 60 where nothing is said.
    #[schemars(range(min = 14, max = 65_549))]
    pub bytes: Option<u32>,
    /// What it says is in it; 0x88b6 where nothing is said.
    pub ethertype: Option<u16>,
}

/// Of `GET /v1/drops`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropsQuery {
    /// With those that never happened.
    #[serde(default)]
    pub all: bool,
}
