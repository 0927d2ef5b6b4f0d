//! The proxy's affairs: who may come in, what each agent gets, and certificates for those who ask.
//!
//! Every turn that changed something makes all parts anew. The proxy's own comes first: its kernel
//! takes an agent's packets before the agent is told to send any. What must not be forgotten is on
//! disk before anybody hears of it.

mod topology;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use vnet_common::addr::Cookie;

use super::Agent;
use super::member::Identity;
use super::overlay::{Control, Happening, now_unix_ms, now_unix_s};
use crate::act::reconcile::desired::Fault;
use crate::api::{AgentStatus, Agents, Connection, Invited, NewInvite, OverlayStatus, Refusal};
use crate::identity::life::HOST_LIFE;
use crate::identity::{Bundle, Certificate, Invites, Role, Token};
use crate::model::part::Part;
use crate::model::topology::History;
use crate::overlay::message::{Introduction, Join, JoinAnswer, VERSION};
use crate::overlay::roll::{Guest, Hub, Kept, Roll};
use crate::overlay::via::control_tls::ProxyTls;
use crate::overlay::via::listen::{self, Admission, Door, QUESTIONS_MAX, Question, Signed};
use crate::store::{Found, StateStore, secret};

/// The file of what the proxy must not forget.
const OVERLAY: &str = "overlay.json";
/// Between two looks at certificates.
const LOOK: Duration = Duration::from_secs(1);
/// The longest that a token may be good for.
const INVITE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

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
    sessions: BTreeMap<u64, watch::Sender<Option<Arc<Part>>>>,
    /// Whether the parts are to be made anew.
    is_stale: bool,
    trouble: Option<String>,
    door: Arc<Door>,
    tls: watch::Sender<ProxyTls>,
    questions: mpsc::Receiver<Question>,
    look: tokio::time::Interval,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
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
        let door = Arc::new(Door::new(shown, asking));
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
            is_stale: true,
            trouble: None,
            door,
            tls,
            questions,
            look,
            task,
        })
    }

    /// The next thing that happens. May be cancelled.
    pub(super) async fn next(&mut self) -> Happening {
        tokio::select! {
            Some(question) = self.questions.recv() => Happening::Asked(question),
            _ = self.look.tick() => Happening::Look,
        }
    }

    /// Looks after its own identity; with an authority it renews it itself.
    pub(super) fn look(&mut self) {
        if let Some(bundle) = self.identity.replaced() {
            self.show(&bundle);
        }
        let says = self.identity.says().clone();
        if self.authority.is_none() || !says.life.is_ageing(now_unix_s()) {
            return;
        }
        let renewed = self.authority().and_then(|authority| {
            let life = says.life.length();
            let bundle = authority.issue(&says.name, Role::Proxy, now_unix_s(), life)?;
            self.identity.replace(&bundle)?;
            Ok(bundle)
        });
        match renewed {
            Ok(bundle) => self.show(&bundle),
            Err(error) => warn!("the proxy's certificate is not renewed: {error:#}"),
        }
    }

    fn show(&self, bundle: &Bundle) {
        match ProxyTls::new(bundle) {
            Ok(tls) => {
                self.tls.send_replace(tls);
            }
            Err(error) => warn!("TLS cannot use the identity: {error}"),
        }
    }

    fn authority(&self) -> Result<crate::identity::Authority> {
        let directory = self.authority.as_ref().context(
            "this proxy has no authority's key: set authority under [control], or use `vnetctl ca \
             issue` where the key is",
        )?;
        Ok(secret::read_authority(directory)?)
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

    fn sign(&mut self, session: u64, asker: &Certificate, request: &[u8]) -> Result<Signed> {
        let authority = self.authority()?;
        let life = asker.life.length();
        let now = now_unix_s();
        let certificate = authority.sign(request, &asker.name, Role::Agent, now, life)?;
        let expires_unix_s = Certificate::read(&certificate)?.life.to_unix_s;
        self.roll.renewed(session, expires_unix_s);
        let good_for = Duration::from_secs(expires_unix_s.saturating_sub(now));
        Ok((certificate, authority.certificate().to_vec(), good_for))
    }

    fn redeem(&mut self, join: &Join, store: &StateStore) -> Result<JoinAnswer> {
        anyhow::ensure!(
            join.version == VERSION,
            "it speaks version {} of the control channel, this proxy version {VERSION}",
            join.version
        );
        let authority = self.authority()?;
        let before = self.invites.clone();
        let now = now_unix_s();
        let answer = self
            .invites
            .redeem(&join.secret, now)
            .map_err(anyhow::Error::from)
            .and_then(|invite| {
                let request = join.request.as_slice();
                let signed = authority.sign(request, &invite.host, invite.role, now, HOST_LIFE);
                let certificate = signed.inspect_err(|_| self.invites = before.clone())?;
                info!(host = invite.host, "a host has joined by its token");
                Ok(JoinAnswer::Joined {
                    certificate,
                    authority: authority.certificate().to_vec(),
                })
            });
        // Used means used, whatever happens to this process next.
        if self.invites != before {
            self.store(store).map_err(anyhow::Error::msg)?;
        }
        answer
    }

    /// Gives each connected agent the part that it should go by.
    fn deliver(&self) {
        for (name, presence) in self.roll.present() {
            let sender = self.sessions.get(&presence.session);
            let (Some(sender), Some(part)) = (sender, self.roll.part(name)) else {
                continue;
            };
            sender.send_if_modified(|before| {
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

    pub(super) fn status(&self) -> OverlayStatus {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        OverlayStatus::Proxy {
            address: self.address.to_string(),
            connected: number(self.roll.present().len()),
            agents: number(self.roll.kept().agents.len()),
            turned_away: self.door.counts().values().sum(),
            revision: self.roll.kept().revision,
            certificate_expires_unix_s: self.identity.says().life.to_unix_s,
        }
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let trouble = self.trouble.as_ref().map(|why| Fault {
            subject: "overlay".to_owned(),
            message: format!("the parts of the overlay stay as they were: {why}"),
            cure: "agents go by their last parts until this is put right".to_owned(),
            is_waiting: false,
        });
        let declined = self.roll.present().iter().filter_map(|(name, presence)| {
            let (_, why) = presence.declined.as_ref()?;
            Some(Fault {
                subject: format!("agent {name}"),
                message: format!("it does not go by its part: {why}"),
                cure: String::new(),
                is_waiting: false,
            })
        });
        declined
            .chain(trouble)
            .chain(self.identity.fault())
            .collect()
    }

    fn agents(&self) -> Agents {
        let agents = self.roll.kept().agents.iter().map(|(name, has)| {
            let connection = self.roll.present().get(name).map(|presence| Connection {
                from: presence.from.clone(),
                since_unix_ms: presence.since_unix_ms,
                software: presence.software.clone(),
                schema: presence.schema,
                revision: presence.revision,
                declined: presence.declined.as_ref().map(|(_, why)| why.clone()),
                certificate_expires_unix_s: presence.expires_unix_s,
            });
            AgentStatus {
                name: name.clone(),
                connection,
                underlay: has.underlay.clone(),
                ports: u32::try_from(has.ports.len()).unwrap_or(u32::MAX),
                processors: has.capacities.processors,
                memory_bytes: has.capacities.memory_bytes,
                dealt_revision: self.roll.part(name).map(|part| part.revision),
            }
        });
        let counts = self.door.counts();
        Agents {
            proxy: self.name.clone(),
            address: self.address.to_string(),
            agents: agents.collect(),
            turned_away: counts
                .into_iter()
                .map(|(why, count)| (why.to_string(), count))
                .collect(),
        }
    }

    fn invite(&mut self, wanted: &NewInvite, store: &StateStore) -> Result<Invited, Refusal> {
        let invalid = |error: &dyn std::fmt::Display| Refusal::invalid(error.to_string());
        let life = Duration::from_secs(wanted.expires_s);
        if life.is_zero() || life > INVITE_MAX {
            return Err(invalid(&"a token is good for 1 s to 30 days"));
        }
        let authority = self
            .authority()
            .map_err(|error| Refusal::conflict(format!("{error:#}")))?;
        let proxy = match &wanted.address {
            Some(address) => address.clone(),
            None => self.own_address().ok_or_else(|| {
                Refusal::invalid("this proxy does not know where hosts find it")
                    .cure("say it: --address 10.0.0.1:6082")
            })?,
        };
        if proxy.len() > 255 {
            return Err(invalid(&"the address is longer than 255 characters"));
        }
        let now = now_unix_s();
        let expires_unix_s = now.saturating_add(wanted.expires_s);
        let before = self.invites.clone();
        let added = self
            .invites
            .add(&wanted.host, Role::Agent, expires_unix_s, now);
        let secret = added.map_err(|error| invalid(&error))?;
        if let Err(why) = self.store(store) {
            self.invites = before;
            return Err(Refusal::unavailable(why));
        }
        let token = Token {
            secret,
            authority: authority.fingerprint(),
            proxy: proxy.clone(),
            host: wanted.host.clone(),
            expires_unix_s,
        };
        info!(host = wanted.host, "a token is made");
        Ok(Invited {
            host: wanted.host.clone(),
            token: token.to_text(),
            proxy,
            expires_unix_s,
        })
    }

    /// Where hosts find it, as far as it knows: the address that it listens on, or its underlay's.
    fn own_address(&self) -> Option<String> {
        let ip = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => *self.introduction.underlay.first()?,
        };
        Some(SocketAddr::from((ip, self.address.port())).to_string())
    }
}

impl Agent {
    /// Answers an agent, or a host that joins.
    pub(super) fn asked(&mut self, question: Question) {
        let networks = self.own.networks.clone();
        let Control::Proxy(proxy) = &mut self.control else {
            return;
        };
        let introduction = proxy.introduction.clone();
        let name = proxy.name.clone();
        let hub = Hub {
            name: &name,
            introduction: &introduction,
            networks: &networks,
        };
        match question {
            Question::Hello {
                session,
                from,
                certificate,
                hello,
                answer,
            } => {
                let guest = Guest {
                    session,
                    from: from.to_string(),
                    hello: &hello,
                    expires_unix_s: certificate.life.to_unix_s,
                    now_unix_ms: now_unix_ms(),
                };
                let admitted = proxy.roll.admit(&guest, &hub).map(|before| {
                    before.and_then(|before| proxy.sessions.remove(&before));
                    let (sender, parts) = watch::channel(None);
                    proxy.sessions.insert(session, sender);
                    proxy.is_stale = true;
                    info!(agent = hello.name, %from, "an agent is here");
                    Admission {
                        proxy: name.clone(),
                        parts,
                    }
                });
                // Who has gone meanwhile is told by its session.
                let _ = answer.send(admitted.map_err(|error| error.to_string()));
            }
            Question::Introduction(session, introduction) => {
                match proxy.roll.introduced(session, &introduction, &hub) {
                    Ok(()) => proxy.is_stale = true,
                    Err(error) => {
                        warn!("what an agent says of itself does not count: {error}");
                        proxy.roll.declined(session, 0, error.to_string());
                    }
                }
            }
            Question::Kept(session, revision) => proxy.roll.goes_by(session, revision),
            Question::Declined(session, revision, why) => {
                warn!(revision, "an agent declines its part: {why}");
                proxy.roll.declined(session, revision, why);
            }
            Question::Sign {
                session,
                certificate,
                request,
                answer,
            } => {
                let signed = proxy.sign(session, &certificate, &request);
                let _ = answer.send(signed.map_err(|error| format!("{error:#}")));
            }
            Question::Gone(session) => {
                proxy.sessions.remove(&session);
                if let Some(agent) = proxy.roll.gone(session) {
                    info!(agent, "an agent is gone; its links stay");
                }
            }
            Question::Join(join, answer) => {
                let joined =
                    proxy
                        .redeem(&join, &self.store)
                        .unwrap_or_else(|error| JoinAnswer::Refused {
                            why: format!("{error:#}"),
                        });
                let _ = answer.send(joined);
            }
        }
    }

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
        // Without an address of its own the proxy would take everybody's links away.
        if proxy.introduction.underlay.is_empty() || !std::mem::take(&mut proxy.is_stale) {
            return;
        }
        let name = proxy.name.clone();
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
