//! Which of a host's links answer, and which way do frames of the others take?
//!
//! Input: the clock, and answers to probes. Output: probes, and the tables' entries of links that turned.

use std::collections::BTreeMap;

use vnet_agent::act::reconcile::links::detours;

use super::{Sent, SimHost};
use crate::watch::Watched;

impl SimHost {
    /// Asks its links from now on, each time that [`Self::ask`] is called.
    pub fn watch(&mut self) {
        self.is_watching = true;
        self.follow();
    }

    pub(super) fn follow(&mut self) {
        if !self.is_watching {
            return;
        }
        let links = self.configuration.links.iter().filter_map(|link| {
            if link.is_plain() || link.kind.is_carried() {
                return None;
            }
            let id = *self.links.get(&link.name)?;
            let network = self.configuration.network(link.networks.first()?)?.id;
            let entry = self.image.links.get(&id.0);
            let watched = Watched {
                id,
                network,
                remote: link.remote,
                was_down: entry.is_some_and(|entry| entry.instead().is_some()),
            };
            Some((link.name.clone(), watched))
        });
        self.watch.follow(links.collect(), self.now_ms());
    }

    /// Which links answer. Those that agents would carry have no connection here.
    pub(super) fn answering(&self) -> BTreeMap<String, Option<bool>> {
        let links = self.configuration.links.iter();
        let carried = links.filter(|link| link.kind.is_carried());
        let mut answering = self.watch.answering();
        answering.extend(carried.map(|link| (link.name.clone(), Some(false))));
        answering
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.tables.now_ns.get() / 1_000_000
    }

    /// Sends the probes whose time has come, and has frames of links that turned take another way.
    pub fn ask(&mut self) -> Vec<Sent> {
        if !self.is_running {
            return Vec::new();
        }
        let probes = self.watch.probes(self.now_ms());
        self.turn_links();
        let sent = probes.into_iter().flat_map(|probe| self.write(&probe));
        sent.collect()
    }

    /// The links whose frames take another one now.
    pub fn turned(&self) -> usize {
        let links = self.image.links.values();
        links.filter(|entry| entry.instead().is_some()).count()
    }

    pub(super) fn turn_links(&mut self) {
        let answering = self.answering();
        let detours = detours(&self.configuration, &self.links, &answering, &self.image);
        for id in self.links.values() {
            let Some(entry) = self.image.links.get_mut(&id.0) else {
                continue;
            };
            *entry = entry.with_instead(detours.get(id).copied());
            self.tables.links.insert(id.0, *entry);
        }
        self.receivers.detours = detours;
        // What was to be done was worked out before this.
        if !self.pending.is_empty() {
            self.reconcile();
        }
    }
}
