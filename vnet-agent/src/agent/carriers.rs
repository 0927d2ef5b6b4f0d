//! Which connections do links need, and who is this host to others?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::Agent;
use crate::act::reconcile::desired::Fault;
use crate::model::{Link, Transport};
use crate::overlay::via::carry::plan::{Plan, PlannedLink, Way};
use crate::overlay::via::carry::tls::Certificates;
use crate::store::secret::{self, FileVersion};

/// What this host proves who it is with, as it was read last.
#[derive(Debug, Default)]
pub(super) struct Proof {
    version: Option<FileVersion>,
    certificates: Option<Certificates>,
    /// Why there is none.
    why: String,
}

impl Proof {
    /// Reads the file again where it has changed. One that cannot be read any more leaves what was
    /// read before.
    fn look(&mut self, path: &Path) {
        let version = match secret::version(path) {
            Ok(version) => version,
            Err(error) => {
                self.version = None;
                self.why = error.to_string();
                return;
            }
        };
        if self.version == Some(version) {
            return;
        }
        self.version = Some(version);
        let read = secret::read_bundle(path).map_err(|error| error.to_string());
        match read.and_then(|bundle| Certificates::new(&bundle).map_err(|e| e.to_string())) {
            Ok(certificates) => {
                self.certificates = Some(certificates);
                self.why.clear();
            }
            Err(why) => self.why = why,
        }
    }
}

impl Agent {
    /// Has the connections that links need kept; answers what is in their way.
    pub(super) fn tell_carriers(&mut self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let needs_proof = self.carried_links().any(|link| link.kind == Transport::Tls);
        if needs_proof {
            faults.extend(self.look_at_proof());
        }
        let mut links = BTreeMap::new();
        let mut listen = Vec::new();
        for link in self.carried_links() {
            let Some((planned, address)) = self.planned(link) else {
                continue;
            };
            listen.extend(address);
            links.insert(link.name.clone(), planned);
            faults.extend(self.unconnected(link));
        }
        listen.sort_unstable();
        listen.dedup();
        self.carriers.follow(Plan {
            listen,
            links,
            certificates: self.proof.certificates.clone(),
        });
        faults.extend(self.carriers.deaf().into_iter().map(|(address, why)| {
            let cure = "see `ss -ltnp`; tcp_port under [underlay] is the same on every host";
            fault(
                "links".to_owned(),
                format!("nobody can be heard at {address}: {why}"),
                cure,
            )
        }));
        faults
    }

    fn carried_links(&self) -> impl Iterator<Item = &Link> {
        let links = self.configuration.links.iter();
        links.filter(|link| link.kind.is_carried())
    }

    fn look_at_proof(&mut self) -> Option<Fault> {
        let subject = "links".to_owned();
        // An overlay's member has one for the control channel.
        let member = self.control_settings.as_ref();
        let path = self.settings.identity.clone();
        let path = path.or_else(|| member.map(|control| control.identity.clone()));
        let Some(path) = path else {
            let cure = "make one (`vnetctl ca issue`), and name it: identity under [agent]";
            let message = "links of kind tls need a certificate, and this host has none".to_owned();
            return Some(fault(subject, message, cure));
        };
        self.proof.look(&path);
        let why = &self.proof.why;
        (!why.is_empty()).then(|| fault(subject, why.clone(), "see identity under [agent]"))
    }

    /// What a link's connection is, and where this end of it listens.
    fn planned(&self, link: &Link) -> Option<(PlannedLink, Option<SocketAddr>)> {
        let id = *self.desired.links.get(&link.name)?;
        let port = self.configuration.underlay.tcp_port;
        let local = self.local_address(link.remote);
        let slots = self.desired.image.networks.iter();
        let networks = slots.filter_map(|(&slot, entry)| {
            let networks = self.configuration.networks.iter();
            let mut networks = networks.filter(|network| link.carries(&network.name));
            let network = networks.find(|network| network.id.get() == entry.id)?;
            Some((network.id, slot))
        });
        let planned = PlannedLink {
            id,
            way: Way {
                kind: link.kind,
                local,
                remote: SocketAddr::new(link.remote, port),
                cookie: link.cookie?,
                listen_only: link.listen_only,
            },
            networks: networks.collect(),
        };
        Some((planned, local.map(|local| SocketAddr::new(local, port))))
    }

    /// That a link has no connection, and why.
    fn unconnected(&self, link: &Link) -> Option<Fault> {
        let (state, _) = self.carriers.state(&link.name)?;
        let cure = "the agents try again and again; see `vnetctl link list` at the other end too";
        state
            .peer
            .is_none()
            .then(|| fault(format!("link {}", link.name), state.why, cure))
    }
}

fn fault(subject: String, message: String, cure: &str) -> Fault {
    Fault {
        subject,
        message,
        cure: cure.to_owned(),
        is_waiting: false,
    }
}
