//! Who keeps the Ethernet addresses of next hops fresh?
//!
//! The kernel does, where it is told to: frames that the data plane sends past the stack are no
//! sign to it that a neighbour is in use, so an entry would go stale and be forgotten. Input: the
//! neighbours that are wanted. Output: orders to the kernel, and a mark on each entry
//! ([`decode::OUR_PROTOCOL`]) by which a later run, or `teardown`, knows it again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourExtFlags, NeighbourFlags};
use tokio::time::Instant;

use super::decode;
use super::request::{NetlinkError, Requests, neighbour_message};
use super::view::Event;
use super::watcher::Freshness;
use crate::model::next_hop::{Neighbour, NeighbourKey};

/// An entry is touched at most this often, whoever else may be undoing what we do.
const PAUSE: Duration = Duration::from_millis(200);
/// How often an entry is used where the kernel cannot be told to keep it fresh: well before it
/// would be stale (`base_reachable_time`, 30 s, is spread over 15 to 45 s).
const REFRESH: Duration = Duration::from_secs(10);

/// Which entries are ours to look after, and when.
#[derive(Debug)]
pub(super) struct Keeper {
    freshness: Freshness,
    touched: BTreeMap<NeighbourKey, Touch>,
    /// The entries that carry our mark, as far as we know.
    ours: BTreeSet<NeighbourKey>,
}

/// The last time that we did something about an entry.
#[derive(Clone, Copy, Debug)]
struct Touch {
    at: Instant,
    failed: bool,
}

impl Keeper {
    pub(super) fn new(freshness: Freshness) -> Self {
        Self {
            freshness,
            touched: BTreeMap::new(),
            ours: BTreeSet::new(),
        }
    }

    /// Sees to it that every wanted neighbour is asked for and kept fresh, and lets go of those
    /// that are not wanted any more; answers when to come back, if at all.
    pub(super) async fn keep(
        &mut self,
        requests: &Requests,
        wanted: &BTreeSet<NeighbourKey>,
        known: &BTreeMap<NeighbourKey, Neighbour>,
    ) -> Option<Instant> {
        let marked = known
            .iter()
            .filter(|(_, neighbour)| is_to_be_removed(neighbour));
        self.ours.extend(marked.map(|(key, _)| *key));
        self.touched.retain(|key, _| wanted.contains(key));
        let mut come_back = None;
        for key in wanted.iter().filter(|key| needs_us(known.get(key))) {
            let now = Instant::now();
            let is_known = known.contains_key(key);
            let last = self.touched.get(key).copied();
            if last.is_none_or(|last| last.at + self.pause(is_known) <= now) {
                let result = self.touch(requests, *key).await;
                if let Err(error) = &result
                    && !last.is_some_and(|last| last.failed)
                {
                    tracing::warn!(%error);
                }
                self.touched.insert(
                    *key,
                    Touch {
                        at: now,
                        failed: result.is_err(),
                    },
                );
            }
            let again = self
                .touched
                .get(key)
                .map(|last| last.at + self.pause(is_known));
            come_back = come_back.into_iter().chain(again).min();
        }
        self.let_go(requests, wanted, known).await;
        come_back
    }

    fn pause(&self, is_known: bool) -> Duration {
        match self.freshness {
            Freshness::Used if is_known => REFRESH,
            Freshness::Used | Freshness::Managed => PAUSE,
        }
    }

    /// Makes the entry, or marks the one that is there.
    async fn touch(&mut self, requests: &Requests, key: NeighbourKey) -> Result<(), NetlinkError> {
        // What we have heard may be out of date, and an order would turn an entry that an
        // administrator has made permanent meanwhile into an ordinary one.
        let flags = match requests.neighbour(key).await? {
            Some(neighbour) if neighbour.fixed || neighbour.managed => return Ok(()),
            Some(_) => NLM_F_CREATE,
            None => NLM_F_CREATE | NLM_F_EXCL,
        };
        let mut message = neighbour_message(key);
        // `NTF_USE` alone makes the kernel ask once: all that kernels before 5.16 can do.
        message.header.flags = NeighbourFlags::Use;
        message
            .attributes
            .push(NeighbourAttribute::Protocol(decode::OUR_PROTOCOL));
        if self.freshness == Freshness::Managed {
            message
                .attributes
                .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        }
        let what = format!("have neighbour {} on device {} kept fresh", key.1, key.0);
        match requests
            .order(RouteNetlinkMessage::NewNeighbour(message), flags, what)
            .await
        {
            // Somebody else made it in between; the next round looks at what it is.
            Err(error) if error.errno() == Some(libc::EEXIST) => return Ok(()),
            other => other?,
        }
        self.ours.insert(key);
        if self.freshness == Freshness::Managed {
            self.learn_what_the_kernel_can(requests, key).await?;
        }
        Ok(())
    }

    /// A kernel before 5.16 ignores the mark in silence.
    async fn learn_what_the_kernel_can(
        &mut self,
        requests: &Requests,
        key: NeighbourKey,
    ) -> Result<(), NetlinkError> {
        let made = requests.neighbour(key).await?;
        if made.is_some_and(|neighbour| !neighbour.managed && !neighbour.fixed) {
            tracing::info!(
                "this kernel (before 5.16) does not keep neighbours fresh by itself: they are used \
                 every {} s instead",
                REFRESH.as_secs()
            );
            self.freshness = Freshness::Used;
        }
        Ok(())
    }

    async fn let_go(
        &mut self,
        requests: &Requests,
        wanted: &BTreeSet<NeighbourKey>,
        known: &BTreeMap<NeighbourKey, Neighbour>,
    ) {
        let unwanted: Vec<_> = self.ours.difference(wanted).copied().collect();
        for key in unwanted {
            self.ours.remove(&key);
            if known.get(&key).is_some_and(is_to_be_removed)
                && let Err(error) = remove(requests, key).await
            {
                tracing::warn!(%error);
            }
        }
    }
}

/// Whether the entry would be forgotten if we did nothing.
fn needs_us(known: Option<&Neighbour>) -> bool {
    known.is_none_or(|neighbour| !neighbour.fixed && !neighbour.managed)
}

/// Whether the entry is there for us alone, as far as anybody can tell: it has our mark and is
/// kept fresh. Without the latter somebody has taken it over, or it will be forgotten by itself.
fn is_to_be_removed(neighbour: &Neighbour) -> bool {
    neighbour.ours && neighbour.managed && !neighbour.fixed
}

/// Removes an entry. If the host itself talks to that neighbour, the kernel asks for it again.
async fn remove(requests: &Requests, key: NeighbourKey) -> Result<(), NetlinkError> {
    let what = format!("remove neighbour {} on device {}", key.1, key.0);
    let message = RouteNetlinkMessage::DelNeighbour(neighbour_message(key));
    match requests.order(message, 0, what).await {
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Removes every entry that this or an earlier run has had kept fresh; answers how many.
///
/// Entries that an administrator made permanent, and those that others have kept fresh, stay.
///
/// # Errors
///
/// [`NetlinkError`]; some entries may be gone already then.
pub async fn release_neighbours(requests: &Requests) -> Result<usize, NetlinkError> {
    let mut released = 0;
    for event in requests.neighbours().await?.events {
        if let Event::Neighbour(key, neighbour) = event
            && is_to_be_removed(&neighbour)
        {
            remove(requests, key).await?;
            released += 1;
        }
    }
    Ok(released)
}
