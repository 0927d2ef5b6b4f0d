//! Whose certificates does this host believe no more?
//!
//! The list is a file, looked at each second. One that cannot be read any more leaves what was read
//! before: a mistake lets nobody in again.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::act::reconcile::desired::Fault;
use crate::identity::revoked::Revoked;
use crate::settings::{AgentSettings, ControlRole, ControlSettings};
use crate::store::secret::{self, FileVersion};

/// The list, and where it comes from.
pub(super) struct Revocations {
    path: Option<PathBuf>,
    /// Whether the settings name it: then it has to be there.
    is_named: bool,
    version: Option<FileVersion>,
    why: Option<String>,
    list: watch::Sender<Arc<Revoked>>,
}

impl Revocations {
    /// The file that the settings name, or that of the authority whose directory they name.
    pub(super) fn new(agent: &AgentSettings, control: Option<&ControlSettings>) -> Self {
        let own = control.and_then(|control| match &control.role {
            ControlRole::Proxy { authority, .. } => authority.as_ref(),
            ControlRole::Agent { .. } => None,
        });
        let own = own.map(|directory| directory.join(secret::REVOKED));
        let mut revocations = Self {
            is_named: agent.revoked.is_some(),
            path: agent.revoked.clone().or(own),
            version: None,
            why: None,
            list: watch::Sender::default(),
        };
        revocations.look();
        revocations
    }

    pub(super) fn follow(&self) -> watch::Receiver<Arc<Revoked>> {
        self.list.subscribe()
    }

    /// Reads the file again where it has changed.
    pub(super) fn look(&mut self) {
        let Some(path) = &self.path else {
            return;
        };
        let version = match secret::version(path) {
            Ok(version) => version,
            Err(error) => {
                // The authority of a proxy has none until somebody is revoked.
                let is_missed = self.is_named || self.version.is_some();
                self.why = is_missed.then(|| error.to_string());
                return;
            }
        };
        if self.version == Some(version) {
            return;
        }
        self.version = Some(version);
        match secret::read_revoked(path) {
            Ok(list) => {
                info!(path = %path.display(), "the list of the revoked is read");
                self.why = None;
                self.list.send_replace(Arc::new(list));
            }
            Err(error) => {
                warn!("the list of the revoked stays as it was: {error}");
                self.why = Some(error.to_string());
            }
        }
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.why.as_ref().map(|why| Fault {
            subject: "revoked".to_owned(),
            message: format!("who is revoked since is not known here: {why}"),
            cure: "`vnetctl ca revoke` writes the list where the authority is: copy it, or see \
                   revoked under [agent]"
                .to_owned(),
            is_waiting: false,
        })
    }
}
