//! What does the proxy know of all hosts, and how can each be asked?

use std::collections::BTreeMap;

use super::super::route::Line;
use super::Proxy;
use crate::model::Network;
use crate::overlay::walk::{Atlas, Known};

impl Proxy {
    /// What it knows of all hosts, and how each can be asked.
    pub(in super::super) fn atlas(&self, networks: &[Network]) -> (Atlas, BTreeMap<String, Line>) {
        let kept = self.roll.kept();
        let present = self.roll.present();
        let own = (&self.name, &self.introduction);
        let all = [own].into_iter().chain(&kept.agents);
        let known = all.map(|(name, has)| {
            let part = self.roll.part(name);
            let dealt_revision = part.map(|part| part.revision);
            let known = Known {
                underlay: has.underlay.clone(),
                ports: has.ports.clone(),
                links: part.map_or_else(Vec::new, |part| part.links.clone()),
                revision: match *name == self.name {
                    true => dealt_revision,
                    false => present.get(name).and_then(|presence| presence.revision),
                },
                dealt_revision,
            };
            (name.clone(), known)
        });
        let lines = kept.agents.keys().map(|name| {
            let session = present.get(name).map(|presence| presence.session);
            let session = session.and_then(|session| self.sessions.get(&session));
            let line = match session {
                Some(session) => Line::There(session.asked.clone()),
                None => Line::Apart(self.apart.get(name).copied()),
            };
            (name.clone(), line)
        });
        let atlas = Atlas {
            hosts: known.collect(),
            proxy: self.name.clone(),
            topology: Some(self.topology(networks)),
        };
        (atlas, lines.collect())
    }
}
