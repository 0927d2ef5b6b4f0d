//! Who asks from elsewhere: where are they heard, what are they shown, and what is in the way?
//!
//! The identity's file is looked at each second and read again when it has changed: a renewal is shown
//! to whoever comes next. One that cannot be read any more leaves what was read before.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use axum::Router;
use tokio::sync::watch;
use tracing::warn;

use super::Agent;
use super::overlay::now_unix_s;
use crate::act::reconcile::desired::Fault;
use crate::api::RemoteStatus;
use crate::api::remote::Remote;
use crate::api::remote::tls::HostTls;
use crate::identity::Certificate;
use crate::identity::revoked::Revoked;
use crate::settings::ControlSettings;
use crate::store::secret::{self, FileVersion};

/// The agent's listener for those who are elsewhere.
pub(super) struct Elsewhere {
    router: Router,
    identity: Option<PathBuf>,
    version: Option<FileVersion>,
    says: Option<Certificate>,
    /// Why the identity will not do.
    why: Option<String>,
    address: Option<SocketAddr>,
    revoked: watch::Receiver<Arc<Revoked>>,
    /// Nothing while nobody has ever been wanted.
    remote: Option<Remote>,
}

impl Elsewhere {
    const fn new(
        router: Router,
        identity: Option<PathBuf>,
        revoked: watch::Receiver<Arc<Revoked>>,
    ) -> Self {
        Self {
            router,
            identity,
            version: None,
            says: None,
            why: None,
            address: None,
            revoked,
            remote: None,
        }
    }

    /// From now on they are heard here, or nowhere.
    pub(super) fn listen(&mut self, address: Option<SocketAddr>) {
        self.address = address;
        if address.is_some() && self.remote.is_none() {
            match Remote::start(self.router.clone(), self.revoked.clone()) {
                Ok(remote) => self.remote = Some(remote),
                Err(error) => self.why = Some(format!("there is no thread for it: {error}")),
            }
        }
        if let Some(remote) = &self.remote {
            remote.listen(address);
        }
        self.look();
    }

    /// Looks after the identity.
    pub(super) fn look(&mut self) {
        let (Some(remote), Some(_), Some(path)) = (&self.remote, self.address, &self.identity)
        else {
            return;
        };
        let version = match secret::version(path) {
            Ok(version) => version,
            Err(error) => {
                self.version = None;
                self.why = Some(error.to_string());
                return;
            }
        };
        if self.version == Some(version) {
            return;
        }
        self.version = Some(version);
        match read(path) {
            Ok((tls, says)) => {
                remote.show(Some(tls));
                self.says = Some(says);
                self.why = None;
            }
            Err(error) => {
                warn!("who asks over TLS is shown what was read before: {error:#}");
                self.why = Some(format!("{error:#}"));
            }
        }
    }

    pub(super) fn status(&self) -> Option<RemoteStatus> {
        self.remote.as_ref()?.status()
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let Some(address) = self.address else {
            return Vec::new();
        };
        let fault = |message: String, cure: String| Fault {
            subject: "api".to_owned(),
            message,
            cure,
            is_waiting: false,
        };
        let unread = self.why.as_ref().map(|why| {
            let cure = "see identity under [agent] or [control]; `vnetctl ca issue` makes one";
            fault(
                format!("TLS has no use for the identity: {why}"),
                cure.to_owned(),
            )
        });
        let deaf = self.remote.as_ref().and_then(|remote| remote.door().deaf());
        let deaf = deaf.map(|why| {
            let cure = format!(
                "`ss -ltnp 'sport = {}'` says who has it; or set another api under [agent] and \
                 reload. It is tried again each second",
                address.port()
            );
            fault(why, cure)
        });
        let now = now_unix_s();
        let over = self.says.as_ref().filter(|says| says.life.is_over(now));
        let over = over.map(|says| {
            let message = "nobody believes this host over TLS: its certificate is over".to_owned();
            fault(
                message,
                format!("`vnetctl ca issue {}` where the authority is", says.name),
            )
        });
        [unread, deaf, over].into_iter().flatten().collect()
    }

    pub(super) async fn stop(self) {
        if let Some(remote) = self.remote {
            remote.stop().await;
        }
    }
}

fn read(path: &std::path::Path) -> Result<(HostTls, Certificate)> {
    let bundle = secret::read_bundle(path)?;
    let says = bundle.says().clone();
    ensure!(
        says.role.is_host(),
        "{} is a certificate for the role {}, and no host's",
        path.display(),
        says.role
    );
    Ok((HostTls::new(&bundle)?, says))
}

impl Agent {
    /// Listens for those who are elsewhere, where the settings say so.
    pub(super) fn hear_elsewhere(&mut self, router: Router, control: Option<&ControlSettings>) {
        let identity = self.settings.identity.clone();
        let identity = identity.or_else(|| control.map(|control| control.identity.clone()));
        let mut elsewhere = Elsewhere::new(router, identity, self.revocations.follow());
        elsewhere.listen(self.settings.api);
        self.elsewhere = Some(elsewhere);
    }
}
