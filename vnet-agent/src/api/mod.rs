//! What can be asked of the agent, and what does it answer?
//!
//! Plain values, used by both ends: [`http`] turns requests on the agent's socket into [`Ask`]s,
//! and [`remote`] those that come over TLS from elsewhere,
//! and sends them to the one task that owns all state; `vnetctl` reads the answers. Nothing here
//! knows how an answer comes about.
//!
//! In JSON, names are in snake case, units come last, what is not known is `null`, addresses are
//! text (`52:54:00:12:34:56`), counters are numbers. Fields may be added under the same `/v1`;
//! none is renamed or removed there.

use serde::Serialize;
use tokio::sync::oneshot;
use vnet_common::rule::{Destination, Source};

use crate::model::{self, Configuration};

pub mod change;
pub mod count;
pub mod heard;
pub mod http;
pub mod inventory;
pub mod metrics;
pub mod openapi;
pub mod overlay;
pub mod pass;
pub mod query;
pub mod refusal;
pub mod remote;
pub mod route;
pub mod socket;
pub mod status;
pub mod stream;
pub mod topology;
mod trace;

pub use crate::model::place::Place;
pub use crate::overlay::walk::{Forwarding, LiveFate, LiveHop, LiveRoute, LiveRule, Stop, Unasked};
pub use change::{Change, ChangeOutcome, ManyRules, NewLink, NewRule};
pub use count::{AgentStats, Drop, Flow, FlowSort, Flows, LedgerValues, SideStats, Stats};
pub use inventory::{
    Interface, InterfaceState, LinkConnection, LinkMtu, LinkRung, LinkState, LinkStatus, MtuSource,
    RuleStatus,
};
pub use overlay::{AgentStatus, Agents, Connection, Invited, NewInvite, OverlayStatus};
pub use query::RouteQuery;
pub use refusal::{Refusal, RefusalKind};
pub use remote::RemoteStatus;
pub use status::{
    DoorStatus, EntriesStatus, LinksSummary, NetworkStatus, Problem, Severity, Status, TableFill,
    UnderlayStatus,
};
pub use topology::{
    AppliedTopology, NewTopology, RolloutStage, RolloutState, RolloutStatus, TopologyPlan,
    TopologyStatus, Undo,
};
pub use trace::{
    FrameBytes, HostRun, KernelRun, TraceLink, TraceReport, TraceRequest, TraceStep, Verdict,
};

/// How many asks may wait for the agent's task; further ones are refused as unavailable.
pub const ASKS_WAITING_MAX: usize = 64;

/// How many flows are listed where the asker does not say.
pub const FLOWS_LIMIT_DEFAULT: usize = 100;

/// How many flows may be listed at once.
pub const FLOWS_LIMIT_MAX: usize = 100_000;

/// The longest body of a request.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// The longest body of a request that has the whole overlay in it, in bytes.
pub const TOPOLOGY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest body of a request that has many rules in it, in bytes.
pub const RULES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the agent listens, where the settings say nothing.
pub const SOCKET_DEFAULT: &str = "/run/vnet/agent.sock";

/// One question or command, and where its answer goes.
///
/// The asker may have gone away when the answer is ready: sending it then fails, and that is fine.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// Takes the answer, once.
    pub reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// What can be asked. Names are those of the settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Is all well? Answered by [`Answer::Status`].
    Status,
    /// Which devices are ports, or could be? Answered by [`Answer::Interfaces`].
    Interfaces,
    /// Which links are there? Answered by [`Answer::Links`].
    Links,
    /// Add a link. Answered by [`Answer::Change`]; a conflict where the name is taken by another
    /// link, no change where exactly this one is there.
    AddLink(model::Link),
    /// Delete a link. Answered by [`Answer::Change`]; not found where there is none.
    DeleteLink {
        /// Its name.
        name: String,
        /// Even where rules lead over it: they go with it. Otherwise such a link is a conflict.
        force: bool,
    },
    /// Which rules are there, strongest first? Answered by [`Answer::Rules`].
    Rules {
        /// Those of one network only; not found where there is no such network.
        network: Option<String>,
    },
    /// Add a rule, or replace the one with the same network, source and destination. Answered by
    /// [`Answer::Change`].
    AddRule(model::Rule),
    /// Delete a rule. Answered by [`Answer::Change`]; not found where there is none.
    DeleteRule {
        /// Its network.
        network: String,
        /// Its source.
        source: Source,
        /// Its destination.
        destination: Destination,
    },
    /// Change many rules at once, all of them or none. Answered by [`Answer::Change`]; not found where
    /// one that is to be deleted is not there.
    ChangeRules {
        /// Deleted first.
        delete: Vec<model::RuleName>,
        /// Added then, or put in the place of those with the same network, source and destination.
        add: Vec<model::Rule>,
    },
    /// What became of all frames? Answered by [`Answer::Stats`].
    Stats,
    /// Which flows are there, largest first? Answered by [`Answer::Flows`].
    Flows {
        /// Those of one network only; not found where there is no such network.
        network: Option<String>,
        /// How many at most.
        limit: usize,
        /// What "largest" means.
        sort: FlowSort,
    },
    /// What was dropped, where and why? Answered by [`Answer::Drops`] ([`Stats::drops`] makes it).
    Drops {
        /// With those that never happened.
        all: bool,
    },
    /// Which way would this frame go? Answered by [`Answer::Trace`].
    Trace(TraceRequest),
    /// What is wanted of this host? Answered by [`Answer::Configuration`].
    Configuration,
    /// Who belongs to the overlay? Answered by [`Answer::Agents`]; a conflict where this is not the
    /// proxy.
    Agents,
    /// Forget an agent of the overlay. Answered by [`Answer::Change`]; a conflict where it is
    /// connected.
    ForgetAgent {
        /// Its name.
        name: String,
    },
    /// Make a token for a host. Answered by [`Answer::Invited`].
    Invite(NewInvite),
    /// What is the whole overlay? Answered by [`Answer::Topology`]; a conflict where this is not the
    /// proxy, as for all that follow.
    Topology,
    /// Have another topology count. Answered by [`Answer::TopologyPlan`]; a conflict where somebody
    /// would be cut off.
    ApplyTopology(Box<NewTopology>),
    /// Have the last topology count no more. Answered by [`Answer::TopologyPlan`].
    UndoTopology(Undo),
    /// Which topologies were applied? Answered by [`Answer::TopologyHistory`].
    TopologyHistory,
    /// How far is the last change of the topology? Answered by [`Answer::Rollout`].
    Rollout,
    /// Which way does a frame take over all hosts just now? Answered by [`Answer::Route`], once they
    /// have been asked.
    Route(RouteQuery),
}

/// What the agent answers; each belongs to one or more [`Ask`]s. In JSON only the value inside.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`Ask::Status`].
    Status(Box<Status>),
    /// To [`Ask::Interfaces`].
    Interfaces(Vec<Interface>),
    /// To [`Ask::Links`].
    Links(Vec<LinkStatus>),
    /// To [`Ask::Rules`].
    Rules(Vec<RuleStatus>),
    /// To everything that changes the configuration.
    Change(Change),
    /// To [`Ask::Stats`].
    Stats(Box<Stats>),
    /// To [`Ask::Flows`].
    Flows(Flows),
    /// To [`Ask::Drops`].
    Drops(Vec<Drop>),
    /// To [`Ask::Trace`].
    Trace(Box<TraceReport>),
    /// To [`Ask::Configuration`]; the links' cookies are not shown over HTTP.
    Configuration(Box<Configuration>),
    /// To [`Ask::Agents`].
    Agents(Agents),
    /// To [`Ask::Invite`].
    Invited(Invited),
    /// To [`Ask::Topology`].
    Topology(Box<TopologyStatus>),
    /// To [`Ask::ApplyTopology`] and [`Ask::UndoTopology`].
    TopologyPlan(TopologyPlan),
    /// To [`Ask::TopologyHistory`].
    TopologyHistory(Vec<AppliedTopology>),
    /// To [`Ask::Rollout`].
    Rollout(RolloutStatus),
    /// To [`Ask::Route`].
    Route(Box<LiveRoute>),
}
