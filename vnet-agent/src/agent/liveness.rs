//! Which links are dead, and which way do their frames take meanwhile?
//!
//! Keeps the task that watches links supplied with them and the tap, and writes what it finds into
//! the tables at once: one entry for all rules and flows that lead to a link. When the agent ends, the
//! entries stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};
use vnet_common::addr::LinkId;

use super::Agent;
use crate::act::reconcile::links::detours;
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

    /// What is known of a link that is watched.
    pub(super) fn life(&self, link: &Link) -> Option<Life> {
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

    /// The links that others are rungs of.
    pub(super) fn wholes(&self) -> BTreeMap<LinkId, LinkId> {
        let links = self.configuration.links.iter();
        let rungs = links.filter_map(|link| {
            let whole = self.desired.links.get(link.rung_of.as_ref()?)?;
            Some((*self.desired.links.get(&link.name)?, *whole))
        });
        rungs.collect()
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
                has_way: self.desired.ways.contains_key(&link.name),
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

    /// Why a link cannot be counted on yet. One whose frames take another way can, once that is known.
    pub(super) fn unproven(&self, link: &Link) -> Option<&'static str> {
        let state = self.is_watched(link).then(|| self.life(link));
        match state?.map(|life| life.state) {
            Some(State::Up) => None,
            Some(State::Down) if self.detour(link).is_some() => None,
            Some(State::Down) => Some("its other end does not answer"),
            Some(State::Unknown) | None => Some("its other end has not answered yet"),
        }
    }
}
