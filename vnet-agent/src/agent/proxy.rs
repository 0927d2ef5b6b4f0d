//! The proxy's affairs: who may come in, what each agent gets, and certificates for those who ask.
//!
//! Every turn that changed something makes all parts anew. The proxy's own comes first: its kernel
//! takes an agent's packets before the agent is told to send any. What must not be forgotten is on
//! disk before anybody hears of it.

mod admission;
mod atlas;
mod certificates;
mod report;
mod rollout;
mod topology;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use vnet_common::addr::Cookie;

use super::Agent;
use super::calls::{self, Rights};
use super::member::Identity;
use super::overlay::{Control, Happening, now_unix_ms};
use crate::api::{Agents, Invited, NewInvite, Refusal, RolloutStatus};
use crate::identity::revoked::Revoked;
use crate::identity::{Invites, Role};
use crate::model::part::Part;
use crate::model::topology::History;
use crate::overlay::message::Introduction;
use crate::overlay::roll::{Hub, Kept, Roll};
use crate::overlay::via::call::Outgoing;
use crate::overlay::via::control_tls::ProxyTls;
use crate::overlay::via::listen::{self, Door, QUESTIONS_MAX, Question};
use crate::store::{Found, StateStore, secret};

/// The file of what the proxy must not forget.
const OVERLAY: &str = "overlay.json";
/// Between two looks at certificates.
const LOOK: Duration = Duration::from_secs(1);

/// What is in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    overlay: Kept,
    invites: Invites,
    #[serde(default)]
    history: History,
}

/// The same, to be written.
#[derive(Serialize)]
struct ToStore<'a> {
    overlay: &'a Kept,
    invites: &'a Invites,
    history: &'a History,
}

/// What goes to an agent over its connection.
struct Session {
    /// The newest part.
    parts: watch::Sender<Option<Arc<Part>>>,
    /// What is asked of it.
    asked: mpsc::Sender<Outgoing>,
}

/// The agent as the overlay's proxy.
pub(super) struct Proxy {
    name: String,
    address: SocketAddr,
    identity: Identity,
    authority: Option<PathBuf>,
    roll: Roll,
    invites: Invites,
    history: History,
    introduction: Introduction,
    sessions: BTreeMap<u64, Session>,
    /// Since when agents that were here are not, in milliseconds since 1970.
    apart: BTreeMap<String, u64>,
    /// Whether the parts are to be made anew.
    is_stale: bool,
    trouble: Option<String>,
    /// What is being brought about, and what became of the last.
    change: Option<Box<rollout::Change>>,
    last_change: Option<RolloutStatus>,
    door: Arc<Door>,
    tls: watch::Sender<ProxyTls>,
    questions: mpsc::Receiver<Question>,
    look: tokio::time::Interval,
    task: JoinHandle<()>,
    answering: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.answering.abort();
    }
}

impl Proxy {
    /// Listens from now on.
    pub(super) async fn start(
        name: String,
        listen: SocketAddr,
        identity: &Path,
        authority: Option<PathBuf>,
        store: &StateStore,
        (own, rights): (Router, Rights),
        revoked: watch::Receiver<Arc<Revoked>>,
    ) -> Result<Self> {
        let (identity, bundle) = Identity::read(identity, &name, Role::Proxy)?;
        if let Some(directory) = &authority {
            let authority = secret::read_authority(directory)?;
            anyhow::ensure!(
                authority.fingerprint() == bundle.authority_fingerprint(),
                "the authority in {} is not the one of the identity",
                directory.display()
            );
        }
        let Stored {
            overlay,
            invites,
            history,
        } = match store.kept(OVERLAY)? {
            Found::Nothing => Stored::default(),
            Found::Value(stored) => stored,
            Found::SetAside { to, why } => {
                warn!(
                    "what the proxy knew of the overlay cannot be read ({why}); it is kept in {}",
                    to.display()
                );
                Stored::default()
            }
        };
        let (tls, shown) = watch::channel(ProxyTls::new(&bundle)?);
        let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listening on {listen}"))?;
        let address = listener.local_addr()?;
        let (calling, called) = mpsc::channel(QUESTIONS_MAX);
        let answering = tokio::spawn(calls::answer(called, own, rights));
        let door = Arc::new(Door::new(shown, asking, calling, revoked));
        let task = tokio::spawn(listen::run(listener, Arc::clone(&door)));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        info!(%address, "the overlay's proxy listens");
        Ok(Self {
            name,
            address,
            identity,
            authority,
            roll: Roll::new(overlay),
            invites,
            history,
            introduction: Introduction::default(),
            sessions: BTreeMap::new(),
            apart: BTreeMap::new(),
            is_stale: true,
            trouble: None,
            change: None,
            last_change: None,
            door,
            tls,
            questions,
            look,
            task,
            answering,
        })
    }

    /// The next thing that happens. May be cancelled.
    pub(super) async fn next(&mut self) -> Happening {
        tokio::select! {
            Some(question) = self.questions.recv() => Happening::Asked(question),
            _ = self.look.tick() => Happening::Look,
            () = rollout::due(self.change.as_deref()) => Happening::Due,
        }
    }

    fn store(&self, store: &StateStore) -> Result<(), String> {
        let stored = ToStore {
            overlay: self.roll.kept(),
            invites: &self.invites,
            history: &self.history,
        };
        store
            .keep(OVERLAY, &stored)
            .map_err(|error| error.to_string())
    }

    /// Gives each connected agent the part that it should go by.
    fn deliver(&self) {
        for (name, presence) in self.roll.present() {
            let session = self.sessions.get(&presence.session);
            let (Some(session), Some(part)) = (session, self.roll.part(name)) else {
                continue;
            };
            session.parts.send_if_modified(|before| {
                let is_new = before
                    .as_ref()
                    .is_none_or(|before| before.revision != part.revision);
                if is_new {
                    *before = Some(Arc::new(part.clone()));
                }
                is_new
            });
        }
    }
}

impl Agent {
    /// Makes all parts anew where something has changed, and brings them about: the proxy's own
    /// first.
    pub(super) async fn deal(&mut self, introduction: Introduction) {
        let networks = self.own.networks.clone();
        let Control::Proxy(proxy) = &mut self.control else {
            return;
        };
        if proxy.introduction != introduction {
            proxy.introduction = introduction;
            proxy.is_stale = true;
        }
        if self.turn_rollout().await {
            return;
        }
        let Control::Proxy(proxy) = &mut self.control else {
            return;
        };
        // Without an address of its own the proxy would take everybody's links away.
        if proxy.introduction.underlay.is_empty() || !std::mem::take(&mut proxy.is_stale) {
            return;
        }
        let name = proxy.name.clone();
        if let Some(part) = &self.part {
            proxy.roll.goes_by_itself(part.revision);
        }
        let introduction = proxy.introduction.clone();
        let hub = Hub {
            name: &name,
            introduction: &introduction,
            networks: &networks,
        };
        let dealt = proxy.roll.deal(&hub, now_unix_ms(), || {
            super::secret()
                .map(Cookie)
                .map_err(|error| format!("{error:#}"))
        });
        let stored = dealt.and_then(|_| proxy.store(&self.store));
        let own = proxy.roll.part(&name).cloned();
        let taken = match (stored, own) {
            (Ok(()), Some(own)) => self.take_part(own).await,
            (Ok(()), None) => Ok(()),
            (Err(why), _) => Err(why),
        };
        let Control::Proxy(proxy) = &mut self.control else {
            return;
        };
        match &taken {
            Ok(()) => proxy.deliver(),
            Err(why) => {
                if proxy.trouble.as_ref() != Some(why) {
                    warn!("the parts of the overlay stay as they were: {why}");
                }
                proxy.is_stale = true;
            }
        }
        proxy.trouble = taken.err();
    }

    pub(super) fn agents(&self) -> Result<Agents, Refusal> {
        match &self.control {
            Control::Proxy(proxy) => Ok(proxy.agents()),
            _ => Err(no_proxy()),
        }
    }

    pub(super) fn invite(&mut self, wanted: &NewInvite) -> Result<Invited, Refusal> {
        match &mut self.control {
            Control::Proxy(proxy) => proxy.invite(wanted, &self.store),
            _ => Err(no_proxy()),
        }
    }

    /// Forgets an agent, with its links; one that is connected comes back.
    pub(super) fn forget_agent(&mut self, name: &str) -> Result<(), Refusal> {
        let Control::Proxy(proxy) = &mut self.control else {
            return Err(no_proxy());
        };
        if let Some(presence) = proxy.roll.present().get(name) {
            let from = &presence.from;
            let message = format!("agent {name} is connected from {from}");
            return Err(Refusal::conflict(message).cure("stop it first"));
        }
        match proxy.roll.forget(name) {
            true => {
                proxy.apart.remove(name);
                proxy.is_stale = true;
                Ok(())
            }
            false => Err(Refusal::not_found(format!("there is no agent {name:?}"))),
        }
    }
}

fn no_proxy() -> Refusal {
    Refusal::conflict("this agent is not the overlay's proxy")
        .cure("ask on the proxy's host: `vnetctl status` says where it is")
}
