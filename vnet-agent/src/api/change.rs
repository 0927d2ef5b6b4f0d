//! How is the configuration changed, and what did a change do?

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Cookie;
use vnet_common::rule::{Destination, Source};

use super::Refusal;
use crate::model::{Flooding, Link, Rule, RuleName, RuleOrigin, Target, Transport};

/// A link to be added: the keys of the settings file, so that bare Geneve is never an oversight.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLink {
    /// Its name.
    pub name: String,
    /// The underlay address of the other end.
    pub remote: IpAddr,
    /// The networks that may cross, by name.
    pub networks: Vec<String>,
    /// The secret both ends share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// Bare Geneve, without a cookie.
    #[serde(default)]
    pub plain: bool,
    /// Which frames for many it takes.
    #[serde(default)]
    pub flood: Flooding,
    /// The link that its frames take while nobody answers at its other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What its frames travel in.
    #[serde(default)]
    pub kind: Transport,
    /// Whether this end never opens the connection of a link that has one.
    #[serde(default)]
    pub listen_only: bool,
}

impl TryFrom<NewLink> for Link {
    type Error = Refusal;

    fn try_from(new: NewLink) -> Result<Self, Refusal> {
        let NewLink {
            name,
            remote,
            networks,
            cookie,
            plain,
            flood,
            fallback,
            kind,
            listen_only,
        } = new;
        let cure = "give exactly one of `cookie` (16 hexadecimal digits, the same at both ends) \
                    and `plain: true` (for an endpoint that is not ours)";
        match (cookie, plain) {
            (None, false) => Err(Refusal::invalid(format!("link {name} has no cookie")).cure(cure)),
            (Some(_), true) => {
                Err(Refusal::invalid(format!("link {name} is plain and has a cookie")).cure(cure))
            }
            _ => Ok(Self {
                name,
                remote,
                networks,
                cookie,
                flood,
                fallback,
                kind,
                listen_only,
                rung_of: None,
            }),
        }
    }
}

/// A rule to be added; its origin is the API.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRule {
    /// Its network, by name.
    pub network: String,
    /// Which senders it is about.
    #[serde(default = "any_source")]
    pub source: Source,
    /// Which receivers it is about.
    pub destination: Destination,
    /// Where such frames go: `{"link": "to-two"}`, `{"port": "tap0"}`, `"flood"` or `"drop"`.
    pub to: Target,
}

const fn any_source() -> Source {
    Source::Any
}

impl From<NewRule> for Rule {
    fn from(new: NewRule) -> Self {
        let NewRule {
            network,
            source,
            destination,
            to,
        } = new;
        Self {
            network,
            source,
            destination,
            to,
            origin: RuleOrigin::Api,
        }
    }
}

/// Many rules to be changed at once, all of them or none: first some are deleted, then others added.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManyRules {
    /// Those that are to go.
    #[serde(default)]
    pub delete: Vec<RuleName>,
    /// Those that are to come, or to take the place of those with the same network, source and
    /// destination; the newest from then on, in this order.
    #[serde(default)]
    pub add: Vec<NewRule>,
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Change {
    /// What happened to the configuration.
    pub outcome: ChangeOutcome,
    /// What was changed, in words without secrets (`link to-two to 10.0.0.2 for blue`).
    pub subject: String,
    /// What the asker should know besides: a next hop not known yet, rules left without a link.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What happened to the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOutcome {
    /// It is there now and was not before.
    Added,
    /// It took the place of another.
    Replaced,
    /// It was there already, exactly so.
    Unchanged,
    /// It is gone.
    Deleted,
}

impl fmt::Display for ChangeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        })
    }
}
