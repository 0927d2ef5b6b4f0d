//! Which links are dead, and which way do their frames take meanwhile?
//!
//! Keeps the task that watches links supplied with them and the tap, and writes what it finds into
//! the tables at once: one entry for all rules and flows that lead to a link. When the agent ends, the
//! entries stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};
use vnet_common::addr::LinkId;

use super::Agent;
use crate::act::reconcile::links::detours;
use crate::api::{LinkState, Problem, Severity};
use crate::model::Link;
use crate::sense::liveness::pulse::State;
use crate::sense::liveness::runtime::{
    self, Inputs, Life, Links, Lives, REPLIES_WAITING_MAX, Reply, Watched,
};
use crate::world::tap::Tap;

/// The task that watches, as the agent's task knows it.
#[derive(Debug)]
pub(super) struct Watch {
    links: watch::Sender<Links>,
    tap: watch::Sender<Option<Arc<Tap>>>,
    lives: watch::Receiver<Lives>,
    /// For answers, which come with all else by the tap.
    pub(super) replies: mpsc::Sender<Reply>,
    /// Probes sent.
    pub(super) probes: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to watch, once there are links and a tap.
    pub(super) fn start() -> Self {
        let links = watch::Sender::new(Links::default());
        let tap = watch::Sender::new(None);
        let (found, lives) = watch::channel(Lives::default());
        let (replies, answers) = mpsc::channel(REPLIES_WAITING_MAX);
        let inputs = Inputs {
            links: links.subscribe(),
            replies: answers,
            tap: tap.subscribe(),
        };
        let probes = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(runtime::run(inputs, found, Arc::clone(&probes)));
        Self {
            links,
            tap,
            lives,
            replies,
            probes,
            task,
        }
    }

    /// Says when a link turns.
    pub(super) fn lives(&self) -> watch::Receiver<Lives> {
        self.lives.clone()
    }

    /// Probes leave by this tap from now on.
    pub(super) fn send_by(&self, tap: Arc<Tap>) {
        self.tap.send_replace(Some(tap));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    /// Whether this link is watched: an endpoint that is not ours does not answer.
    fn is_watched(&self, link: &Link) -> bool {
        self.settings.watch_links && !link.is_plain() && !link.kind.is_carried()
    }

    fn life(&self, link: &Link) -> Option<Life> {
        let life = self.watch.lives.borrow().get(&link.name).copied();
        life.filter(|_| self.is_watched(link))
    }

    /// Whether the tables have the link's frames take another.
    fn was_turned(&self, link: &Link) -> bool {
        let id = self.desired.links.get(&link.name);
        let entry = id.and_then(|id| self.reconciler.now().links.get(&id.0));
        entry.is_some_and(|entry| entry.instead().is_some())
    }

    /// Whether the links answer of which that is known, as reconciliation wants it: those that are
    /// watched, and those that have a connection or none.
    pub(super) fn answering(&self) -> BTreeMap<String, Option<bool>> {
        let connected = self.carriers.connected();
        let links = self.configuration.links.iter();
        let answering = links.filter_map(|link| {
            let answers = match (link.kind.is_carried(), self.is_watched(link)) {
                (true, _) => Some(connected.contains(&link.name)),
                (false, true) => self.life(link).and_then(|life| match life.state {
                    State::Unknown => None,
                    State::Up => Some(true),
                    State::Down => Some(false),
                }),
                (false, false) => return None,
            };
            Some((link.name.clone(), answers))
        });
        answering.collect()
    }

    /// The links that others' frames take now.
    pub(super) fn detours(&self) -> BTreeMap<LinkId, LinkId> {
        let answering = self.answering();
        let now = self.reconciler.now();
        detours(&self.configuration, &self.desired.links, &answering, now)
    }

    /// Has the frames of links that turned take another way at once, before anything else is done.
    pub(super) fn turn_links(&mut self) {
        let detours = self.detours();
        for (name, id) in &self.desired.links {
            let instead = detours.get(id).copied();
            match self.reconciler.turn(*id, instead) {
                Ok(false) => {}
                Ok(true) if instead.is_some() => {
                    warn!(link = name, "nobody answers: its frames take another link");
                }
                Ok(true) => info!(link = name, "it answers: its frames take it again"),
                Err(error) => warn!(link = name, %error, "its frames cannot be turned"),
            }
        }
    }

    /// Tells the task which links there are now.
    pub(super) fn tell_watch(&self) {
        let links = self.configuration.links.iter().filter_map(|link| {
            let network = link.networks.first()?;
            let watched = Watched {
                id: *self.desired.links.get(&link.name)?,
                network: self.configuration.network(network)?.id,
                remote: link.remote,
                was_down: self.was_turned(link),
            };
            self.is_watched(link).then(|| (link.name.clone(), watched))
        });
        let links: BTreeMap<String, Watched> = links.collect();
        self.watch.links.send_if_modified(|known| {
            let is_new = **known != links;
            if is_new {
                *known = Arc::new(links);
            }
            is_new
        });
    }

    /// What a link with a way is, as far as its other end's answers tell, and why.
    pub(super) fn live_state(&self, link: &Link) -> (LinkState, Option<String>) {
        let Some((dead, since)) = self.dead(link) else {
            return (LinkState::Up, None);
        };
        let why = format!("{dead}, for {}", seconds(since));
        match self.detour(link) {
            Some(other) => {
                let note = format!("{why}; its frames take {other}");
                (LinkState::FallenBack, Some(note))
            }
            None if link.kind.is_carried() => (LinkState::Unconnected, None),
            None => (LinkState::Down, Some(why)),
        }
    }

    /// Why nothing gets over a link, and since when; nothing where it is not known to be dead.
    fn dead(&self, link: &Link) -> Option<(String, SystemTime)> {
        if link.kind.is_carried() {
            let (state, _) = self.carriers.state(&link.name)?;
            let why = format!("it has no connection ({})", state.why);
            return state.peer.is_none().then_some((why, state.since));
        }
        let life = self.life(link)?;
        let why = "its other end does not answer".to_owned();
        (life.state == State::Down).then_some((why, life.since))
    }

    /// The link that this one's frames take now.
    pub(super) fn detour(&self, link: &Link) -> Option<&str> {
        let id = self.desired.links.get(&link.name)?;
        let other = self.reconciler.now().links.get(&id.0)?.instead()?;
        let mut names = self.desired.links.iter();
        names.find_map(|(name, id)| (*id == other).then_some(name.as_str()))
    }

    /// When the link came into the state that its other end's answers tell.
    pub(super) fn live_since_unix_ms(&self, link: &Link) -> Option<u64> {
        let since = self.life(link)?.since.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    }

    /// Links whose other ends do not answer.
    pub(super) fn dead_link_problems(&self) -> Vec<Problem> {
        let watched = self.configuration.links.iter();
        let watched = watched.filter(|link| !link.kind.is_carried());
        let dead = watched.filter_map(|link| {
            let (_, note) = self.live_state(link);
            note.map(|message| Problem {
                severity: Severity::Warning,
                subject: format!("link {}", link.name),
                message,
                cure: Some(format!(
                    "see whether {} runs its data plane, and whether UDP passes on the way",
                    link.remote
                )),
            })
        });
        dead.collect()
    }
}

fn seconds(since: SystemTime) -> String {
    let elapsed = since.elapsed().unwrap_or_default();
    format!("{} s", elapsed.as_secs())
}
