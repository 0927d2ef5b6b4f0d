//! An agent's own affairs with the proxy: its identity, and the task that keeps the connection.
//!
//! The identity is one file. It is read again when somebody replaces it, and renewed over the
//! connection when two thirds of its life are over; either way the connection stays, and the next one
//! shows the new one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::Router;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::calls::{self, Rights};
use super::overlay::{Happening, check_identity, now_unix_s};
use crate::act::reconcile::desired::Fault;
use crate::api::OverlayStatus;
use crate::identity::{Bundle, Certificate, CertificateFingerprint, KeyAndRequest, Role};
use crate::model::part::Part;
use crate::overlay::message::{Hello, Introduction, Missing, VERSION};
use crate::overlay::via::call::{CALLS_MAX, Outgoing};
use crate::overlay::via::control_tls::AgentTls;
use crate::overlay::via::dial::{self, Command, Dialler, Renewed, Standing};
use crate::store::secret;

/// Between two looks at certificates.
const LOOK: Duration = Duration::from_secs(1);
/// For what a part needs to be there: next hops, connections, answers from other ends.
pub(super) const READY_MAX: Duration = Duration::from_millis(1500);
/// For an answer to a request for a certificate, and between two of them.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(30);

/// A host's identity, and the file that it is in.
pub(super) struct Identity {
    path: PathBuf,
    version: (Option<SystemTime>, u64),
    says: Certificate,
    authority: CertificateFingerprint,
}

impl Identity {
    /// Reads the file.
    pub(super) fn read(path: &Path, name: &str, role: Role) -> Result<(Self, Bundle)> {
        let version = secret::version(path)?;
        let bundle = secret::read_bundle(path)?;
        check_identity(bundle.says(), name, role).with_context(|| path.display().to_string())?;
        let identity = Self {
            path: path.to_owned(),
            version,
            says: bundle.says().clone(),
            authority: bundle.authority_fingerprint(),
        };
        Ok((identity, bundle))
    }

    /// What the file has now, if somebody has replaced it.
    pub(super) fn replaced(&mut self) -> Option<Bundle> {
        let version = secret::version(&self.path).ok()?;
        if version == self.version {
            return None;
        }
        self.version = version;
        match Self::read(&self.path, &self.says.name, self.says.role) {
            Ok((identity, bundle)) => {
                *self = identity;
                info!(path = %self.path.display(), "the identity is read again");
                Some(bundle)
            }
            Err(error) => {
                warn!("the identity stays as it was: {error:#}");
                None
            }
        }
    }

    /// Writes a renewed one into the file.
    pub(super) fn replace(&mut self, bundle: &Bundle) -> Result<()> {
        anyhow::ensure!(
            bundle.authority_fingerprint() == self.authority,
            "the new certificate is of another authority"
        );
        check_identity(bundle.says(), &self.says.name, self.says.role)?;
        secret::replace(&self.path, &bundle.to_text())?;
        self.version = secret::version(&self.path)?;
        self.says = bundle.says().clone();
        let expires_unix_s = self.says.life.to_unix_s;
        info!(expires_unix_s, "the certificate is renewed");
        Ok(())
    }

    pub(super) const fn says(&self) -> &Certificate {
        &self.says
    }

    /// That the certificate is nearly over, or over.
    pub(super) fn fault(&self) -> Option<Fault> {
        let life = self.says.life;
        let now = now_unix_s();
        let left = Duration::from_secs(life.to_unix_s.saturating_sub(now));
        (left < life.length() / 6).then(|| Fault {
            subject: "identity".to_owned(),
            message: match life.is_over(now) {
                true => "this host's certificate is over".to_owned(),
                false => format!("this host's certificate is over in {} s", left.as_secs()),
            },
            cure: format!(
                "`vnetctl ca issue {}` where the authority is, and put the file in the place of {}",
                self.says.name,
                self.path.display()
            ),
            is_waiting: !life.is_over(now),
        })
    }
}

/// An agent's place in the overlay.
pub(super) struct Member {
    address: String,
    identity: Identity,
    asked: Option<(KeyAndRequest, Instant)>,
    /// The part that is stored, and since when, of which the proxy has not been told yet.
    unanswered: Option<(u64, Instant)>,
    declined: Option<String>,
    look: tokio::time::Interval,
    tls: watch::Sender<AgentTls>,
    introductions: watch::Sender<Introduction>,
    commands: mpsc::Sender<Command>,
    offered: watch::Receiver<Option<Part>>,
    renewals: mpsc::Receiver<Renewed>,
    standing: watch::Receiver<Standing>,
    task: JoinHandle<()>,
    answering: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
        self.answering.abort();
    }
}

impl Member {
    /// Dials from now on. Returns also where questions to the proxy go.
    pub(super) fn start(
        name: &str,
        proxy: String,
        identity: &Path,
        held: Option<u64>,
        introduction: Introduction,
        own: Router,
    ) -> Result<(Self, mpsc::Sender<Outgoing>)> {
        let (identity, bundle) = Identity::read(identity, name, Role::Agent)?;
        let (tls, shown) = watch::channel(AgentTls::new(&bundle)?);
        let (introductions, introduced) = watch::channel(introduction.clone());
        let (commands, commanded) = mpsc::channel(64);
        let (offering, offered) = watch::channel(None);
        let (renewed, renewals) = mpsc::channel(1);
        let (stand, standing) = watch::channel(Standing {
            proxy: None,
            since: SystemTime::now(),
            why: None,
        });
        let hello = Hello {
            version: VERSION,
            name: name.to_owned(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            schema: vnet_common::SCHEMA,
            instance: super::secret()?,
            held,
            introduction,
        };
        let (to_proxy, asked) = mpsc::channel(CALLS_MAX);
        let (asking, questions) = mpsc::channel(CALLS_MAX);
        let answering = tokio::spawn(calls::answer(questions, own, Rights::Proxy));
        let task = tokio::spawn(dial::run(Dialler {
            proxy: proxy.clone(),
            hello,
            tls: shown,
            introductions: introduced,
            commands: commanded,
            asked,
            asking,
            offered: offering,
            renewed,
            standing: stand,
        }));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let member = Self {
            address: proxy,
            identity,
            asked: None,
            unanswered: None,
            declined: None,
            look,
            tls,
            introductions,
            commands,
            offered,
            renewals,
            standing,
            task,
            answering,
        };
        Ok((member, to_proxy))
    }

    /// The next thing that happens. May be cancelled.
    pub(super) async fn next(&mut self) -> Happening {
        loop {
            tokio::select! {
                Ok(()) = self.offered.changed() => {
                    if let Some(part) = self.offered.borrow_and_update().clone() {
                        return Happening::Offered(part);
                    }
                }
                Some(answer) = self.renewals.recv() => return Happening::Renewed(answer),
                _ = self.look.tick() => return Happening::Look,
            }
        }
    }

    pub(super) fn introduce(&self, introduction: Introduction) {
        self.introductions.send_if_modified(|before| {
            let differs = *before != introduction;
            *before = introduction;
            differs
        });
    }

    /// Tells the proxy what became of a part: at once where it is declined, else once it is in
    /// force.
    pub(super) fn answer(&mut self, revision: u64, taken: Result<(), String>) {
        self.declined = taken.clone().err();
        match taken {
            Ok(()) => self.unanswered = Some((revision, Instant::now())),
            Err(why) => self.command(Command::Declined(revision, why)),
        }
    }

    /// Whether the proxy waits to hear that a part is in force.
    pub(super) const fn owes_an_answer(&self) -> bool {
        self.unanswered.is_some()
    }

    /// Tells the proxy that a part is in force, as soon as nothing is missing; what is missing still
    /// after a while is told with it.
    pub(super) fn ready(&mut self, missing: Vec<Missing>) {
        let Some((revision, since)) = self.unanswered else {
            return;
        };
        if !missing.is_empty() && since.elapsed() < READY_MAX {
            return;
        }
        self.unanswered = None;
        if !missing.is_empty() {
            self.command(Command::Lacks(revision, missing));
        }
        self.command(Command::Kept(revision));
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            // It is told again with the next hello.
            warn!("the task that talks to the proxy is stuck");
        }
    }

    /// Looks after the identity.
    pub(super) fn look(&mut self) {
        if let Some(bundle) = self.identity.replaced() {
            self.show(&bundle);
        }
        let is_waiting = self
            .asked
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() < RENEWAL_PATIENCE);
        let is_together = self.standing.borrow().proxy.is_some();
        let is_ageing = self.identity.says.life.is_ageing(now_unix_s());
        if !is_ageing || !is_together || is_waiting {
            return;
        }
        match KeyAndRequest::new(&self.identity.says.name) {
            Ok(asked) => {
                self.command(Command::Renew(asked.request().to_vec()));
                self.asked = Some((asked, Instant::now()));
            }
            Err(error) => warn!("no new certificate can be asked for: {error}"),
        }
    }

    /// Takes the proxy's answer to a request for a certificate.
    pub(super) fn renewed(&mut self, answer: Renewed) {
        let renewed = match (answer, self.asked.take()) {
            (Ok((certificate, authority)), Some((asked, _))) => asked
                .with(certificate, authority)
                .map_err(anyhow::Error::from)
                .and_then(|bundle| self.identity.replace(&bundle).map(|()| bundle)),
            (Ok(_), None) => return,
            (Err(why), asked) => {
                // Not again at once.
                self.asked = asked;
                Err(anyhow::anyhow!(why))
            }
        };
        match renewed {
            Ok(bundle) => self.show(&bundle),
            Err(error) => warn!("the certificate is not renewed: {error:#}"),
        }
    }

    fn show(&self, bundle: &Bundle) {
        match AgentTls::new(bundle) {
            Ok(tls) => {
                self.tls.send_replace(tls);
            }
            Err(error) => warn!("TLS cannot use the identity: {error}"),
        }
    }

    pub(super) fn status(&self, revision: Option<u64>) -> OverlayStatus {
        let standing = self.standing.borrow();
        let since = standing.since.duration_since(UNIX_EPOCH);
        OverlayStatus::Agent {
            address: self.address.clone(),
            proxy: standing.proxy.clone(),
            since_unix_ms: since.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }),
            why: standing.why.clone(),
            revision,
            certificate_expires_unix_s: self.identity.says.life.to_unix_s,
        }
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let standing = self.standing.borrow();
        let apart = standing.proxy.is_none().then(|| Fault {
            subject: "proxy".to_owned(),
            message: match &standing.why {
                Some(why) => format!("this host is apart from the proxy: {why}"),
                None => "this host is apart from the proxy".to_owned(),
            },
            cure: format!(
                "it dials {} again and again, and goes by what it has; `vnetctl agents` on the \
                 proxy says who was turned away",
                self.address
            ),
            is_waiting: true,
        });
        let declined = self.declined.as_ref().map(|why| Fault {
            subject: "proxy".to_owned(),
            message: format!("this host does not go by what the proxy deals: {why}"),
            cure: "see `vnetctl agents` on the proxy".to_owned(),
            is_waiting: false,
        });
        [apart, declined, self.identity.fault()]
            .into_iter()
            .flatten()
            .collect()
    }
}
