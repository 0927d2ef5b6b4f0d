//! What do the links' paths carry, as far as it is known?
//!
//! Keeps the task that asks supplied with links and the tap, and turns what it finds into what
//! reconciliation and clients want to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::UNIX_EPOCH;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Agent;
use crate::act::reconcile::desired::PathMtu;
use crate::api::{LinkMtu, MtuSource, Problem, Severity};
use crate::model::Link;
use crate::sense::path_mtu::runtime::{
    self, Asked, Inputs, Links, Paths, REPLIES_WAITING_MAX, Reply,
};
use crate::sense::path_mtu::search::State;
use crate::world::tap::Tap;

/// The task that asks, as the agent's task knows it.
#[derive(Debug)]
pub(super) struct Probing {
    links: watch::Sender<Links>,
    tap: watch::Sender<Option<Arc<Tap>>>,
    paths: watch::Receiver<Paths>,
    /// For answers, which come with all else by the tap.
    pub(super) replies: mpsc::Sender<Reply>,
    /// Probes sent.
    pub(super) probes: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Probing {
    /// Begins to ask, once there are links and a tap.
    pub(super) fn start() -> Self {
        let links = watch::Sender::new(Links::default());
        let tap = watch::Sender::new(None);
        let (found, paths) = watch::channel(Paths::default());
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
            paths,
            replies,
            probes,
            task,
        }
    }

    /// Says when something new is found out.
    pub(super) fn paths(&self) -> watch::Receiver<Paths> {
        self.paths.clone()
    }

    /// Probes leave by this tap from now on.
    pub(super) fn send_by(&self, tap: Arc<Tap>) {
        self.tap.send_replace(Some(tap));
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    /// Whether this link's path is asked about: an endpoint that is not ours does not answer.
    fn is_probed(&self, link: &Link) -> bool {
        self.settings.probe_mtu && !link.is_plain() && !link.kind.is_carried()
    }

    /// The largest packets that are known to arrive, as reconciliation wants them. Where nobody
    /// answers, nothing is known and nothing will be: the device decides.
    pub(super) fn path_mtus(&self) -> BTreeMap<String, PathMtu> {
        let paths = self.probing.paths.borrow();
        let probed = self.configuration.links.iter();
        let known = probed
            .filter(|link| self.is_probed(link))
            .filter_map(|link| {
                let found = paths.get(&link.name);
                let known = found.map_or(PathMtu::default(), |found| PathMtu {
                    arrives: found.size.map(u32::from),
                    settled: found.settled.map(u32::from),
                });
                let is_silent = found.is_some_and(|found| found.state == State::Silent);
                (known.arrives.is_some() || !is_silent).then(|| (link.name.clone(), known))
            });
        known.collect()
    }

    /// Tells the task which links there are now.
    pub(super) fn tell_probing(&self) {
        let links = self.configuration.links.iter().filter_map(|link| {
            let way = self.desired.ways.get(&link.name)?;
            let network = link.networks.first()?;
            let hint = Some(way.mtu).filter(|&mtu| mtu < way.device_mtu);
            let asked = Asked {
                id: *self.desired.links.get(&link.name)?,
                network: self.configuration.network(network)?.id,
                remote: link.remote,
                local: way.local,
                top: u16::try_from(way.device_mtu).unwrap_or(u16::MAX),
                outer_bytes: usize::from(link.overhead()) - INNER_ETHERNET_BYTES,
                hint: hint.and_then(|mtu| u16::try_from(mtu).ok()),
            };
            self.is_probed(link).then(|| (link.name.clone(), asked))
        });
        let links: BTreeMap<String, Asked> = links.collect();
        self.probing.links.send_if_modified(|known| {
            let is_new = **known != links;
            if is_new {
                *known = Arc::new(links);
            }
            is_new
        });
    }

    /// How large packets may be on a link, and who says so.
    pub(super) fn link_mtu(&self, link: &Link) -> Option<LinkMtu> {
        let way = self.desired.ways.get(&link.name)?;
        let paths = self.probing.paths.borrow();
        let found = paths.get(&link.name).filter(|_| self.is_probed(link));
        let source = match found.map(|found| found.state) {
            None => MtuSource::Device,
            Some(State::Searching) => MtuSource::Searching,
            Some(State::Settled) => MtuSource::Probed,
            Some(State::Silent) => MtuSource::Silent,
        };
        let since = found.and_then(|found| found.since.duration_since(UNIX_EPOCH).ok());
        Some(LinkMtu {
            bytes: way.mtu,
            device_bytes: way.device_mtu,
            source,
            since_unix_ms: since.and_then(|since| u64::try_from(since.as_millis()).ok()),
        })
    }

    /// Links over which less arrives than this host's device sends.
    pub(super) fn path_mtu_problems(&self) -> Vec<Problem> {
        let narrow = self.configuration.links.iter().filter_map(|link| {
            let mtu = self.link_mtu(link)?;
            (mtu.bytes < mtu.device_bytes).then(|| Problem {
                severity: Severity::Warning,
                subject: format!("link {}", link.name),
                message: format!(
                    "packets of more than {} bytes do not arrive, and this host could send {}",
                    mtu.bytes, mtu.device_bytes
                ),
                cure: Some(
                    "raise the MTU on the way, or let it be: guests are told what fits".to_owned(),
                ),
            })
        });
        narrow.collect()
    }
}

/// The part of a link's overhead that a probe does not have: a probe is no Ethernet frame.
const INNER_ETHERNET_BYTES: usize = 14;
