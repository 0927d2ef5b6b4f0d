//! What is found out about a frame's way over all hosts? Plain values, which clients of the API read.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Mac;
use vnet_common::reason::Reason;
use vnet_common::rule::{Destination, Source};

use crate::model::door::Door;
use crate::model::place::Place;
use crate::model::{RuleOrigin, Target, Transport};

/// The way of a frame over all hosts, as these answer now.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LiveRoute {
    /// Who sends it.
    pub source: Mac,
    /// Whom it is for.
    pub destination: Mac,
    /// Its network.
    pub network: String,
    /// How long it is, Ethernet header included.
    pub bytes: u32,
    /// The hosts on its way, in the order in which it comes to them; number one is the first.
    pub hops: Vec<LiveHop>,
    /// Whether the overlay's model is known here: not on a host that stands alone.
    pub has_model: bool,
    /// Where its way is another one than by the model, in one line; nothing where it is the same.
    pub differs: Option<String>,
}

/// One host on the way.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LiveHop {
    /// From 1.
    pub number: u32,
    /// The hop before it; nothing for the first.
    pub after: Option<u32>,
    /// The host.
    pub host: String,
    /// Where the frame comes in: a port, or the host's end of a link.
    pub from: Place,
    /// The host that it comes from, where it comes over a link.
    pub from_host: Option<String>,
    /// Why the host was not asked, or did not say: then `fates` are what the model says it does.
    pub unasked: Option<Unasked>,
    /// The rule that decides; nothing where none does, or where a frame is for many.
    pub rule: Option<LiveRule>,
    /// The same, as the model has it, where the host was not asked.
    pub model_rule: Option<String>,
    /// Whether the flow table knows the flow already.
    pub flow_cached: bool,
    /// The door at which it meets our program.
    pub door: Option<Door>,
    /// What the loaded program answered; nothing where it was not run.
    pub kernel: Option<String>,
    /// Whether the same steps on the host came to the same.
    pub agree: Option<bool>,
    /// The revision of its part that the host goes by.
    pub revision: Option<u64>,
    /// The revision that it should go by.
    pub dealt_revision: Option<u64>,
    /// What becomes of the frame there; of one for many there are several.
    pub fates: Vec<LiveFate>,
}

/// Why a host did not say what it does.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Unasked {
    /// It is not connected to the proxy.
    Apart {
        /// Since when, in milliseconds since 1970; nothing where it has not been there since the
        /// proxy began.
        since_unix_ms: Option<u64>,
    },
    /// It has not answered.
    Silent {
        /// Within so long.
        waited_ms: u64,
    },
    /// Others took all the time that there is for one frame.
    NoTime,
    /// It says that it cannot tell.
    Refused {
        /// Its words.
        message: String,
    },
    /// What it says is no answer.
    Nonsense {
        /// What is wrong with it.
        message: String,
    },
}

/// A rule that decides.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LiveRule {
    /// Its network; with the two sides it is what tells it from all others.
    pub network: String,
    /// Frames from whom.
    pub source: Source,
    /// Frames for whom.
    pub destination: Destination,
    /// Where they go.
    pub to: Target,
    /// 0 (weakest) to 11.
    pub strength: u8,
    /// Who wants it.
    pub origin: RuleOrigin,
    /// Why it cannot do what it says now.
    pub note: Option<String>,
}

impl fmt::Display for LiveRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} = {}", self.source, self.destination, self.to)
    }
}

/// What becomes of a frame on a host.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum LiveFate {
    /// Into a device.
    Delivered {
        /// The device.
        device: String,
        /// Whose it is, as far as the model says.
        vms: Vec<String>,
    },
    /// Out over a link.
    Forwarded(Forwarding),
    /// Nowhere.
    Dropped {
        /// Why, by name.
        reason: Option<Reason>,
        /// Why, in words.
        message: String,
    },
    /// Nothing of the overlay's: left to the host's own stack, say.
    Otherwise {
        /// What.
        message: String,
    },
}

/// A frame's way to the next host.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Forwarding {
    /// The link that was decided on.
    pub link: String,
    /// The other link that its frames take meanwhile.
    pub over: Option<String>,
    /// The host that it leads to; nothing where nobody can say.
    pub to: Option<String>,
    /// The underlay address that it leads to.
    pub remote: Option<IpAddr>,
    /// What its frames travel in now; by the model, what they should.
    pub kind: Transport,
    /// Why.
    pub why: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: Option<u64>,
    /// The MTU that it leaves to guests.
    pub guest_mtu_bytes: Option<u32>,
    /// The hop that it comes to.
    pub hop: Option<u32>,
    /// Why the way is not followed any further.
    pub stop: Option<Stop>,
}

/// Why a way is not followed any further.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It has been there before: it goes round until its hop limit.
    Loop,
    /// Another copy comes there the same way: the host knows it, and drops the later one.
    Twice,
    /// It has no hops left.
    HopLimit,
    /// It comes to more hosts than are asked for one frame.
    TooMany,
    /// There is no agent at the other end.
    Foreign,
    /// Nobody knows what is at the other end.
    Unknown,
}

impl Stop {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Loop => {
                "it has been there before: one for many ends there, any other goes round until its hop limit"
            }
            Self::Twice => "another copy comes there the same way: the later one is dropped there",
            Self::HopLimit => "it has no hops left",
            Self::TooMany => "it comes to more hosts than are asked for one frame",
            Self::Foreign => "there is no agent that could be asked",
            Self::Unknown => "the link is not of the overlay, and nobody there can be asked",
        }
    }
}
