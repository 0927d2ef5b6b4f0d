//! What does each host get of the overlay?

use std::collections::BTreeSet;

use vnet_common::addr::Cookie;

use super::{Hub, OlderState, Roll};
use crate::model::part::{Part, Secrets};
use crate::overlay::star::Star;

impl Roll {
    /// Makes every host's part anew. Returns the hosts whose part is another one now.
    ///
    /// # Errors
    ///
    /// `deal` cannot make a cookie, the topology does not say enough, or the proxy itself goes by a
    /// revision that was never dealt here; nothing has changed then.
    pub fn deal<E: std::fmt::Display>(
        &mut self,
        hub: &Hub<'_>,
        now_unix_ms: u64,
        mut deal: impl FnMut() -> Result<Cookie, E>,
    ) -> Result<BTreeSet<String>, String> {
        // Counting on from an old copy would give out numbers that other parts have had.
        if self.kept.revision > 0 && self.own > self.kept.revision {
            return Err(OlderState {
                held: self.own,
                known: self.kept.revision,
            }
            .to_string());
        }
        let mut secrets = self.kept.secrets.clone();
        for (one, other) in self.pairs(hub) {
            if secrets.between(&one, &other).is_none() {
                secrets.deal(&one, &other, deal().map_err(|error| error.to_string())?);
            }
        }
        let parts = self.parts(hub, &secrets)?;
        self.kept.secrets = secrets;
        Ok(self.put(parts, now_unix_ms))
    }

    /// Has hosts go by these parts, each under a revision of its own where it is another one than
    /// before. Returns those hosts.
    pub fn put(
        &mut self,
        parts: impl IntoIterator<Item = (String, Part)>,
        now_unix_ms: u64,
    ) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for (name, mut part) in parts {
            let before = self.kept.parts.get(&name);
            if before.is_some_and(|before| is_same(before, &part)) {
                continue;
            }
            self.kept.revision =
                self.kept
                    .revision
                    .saturating_add(1)
                    .max(if self.kept.revision == 0 {
                        now_unix_ms.max(self.own.saturating_add(1))
                    } else {
                        0
                    });
            part.revision = self.kept.revision;
            self.kept.parts.insert(name.clone(), part);
            changed.insert(name);
        }
        changed
    }

    fn pairs(&self, hub: &Hub<'_>) -> BTreeSet<(String, String)> {
        let star = self
            .kept
            .agents
            .keys()
            .map(|agent| (agent.clone(), hub.name.to_owned()));
        let mut pairs: BTreeSet<_> = star.collect();
        if let Some(topology) = &self.kept.topology {
            let wanted = topology.pairs();
            pairs.extend(
                wanted
                    .iter()
                    .map(|(a, b)| ((*a).to_owned(), (*b).to_owned())),
            );
        }
        pairs
    }

    fn parts(&self, hub: &Hub<'_>, secrets: &Secrets) -> Result<Vec<(String, Part)>, String> {
        let star = Star {
            proxy: hub.name,
            hub: hub.introduction,
            agents: &self.kept.agents,
            networks: hub.networks,
            secrets,
        };
        let topology = self.kept.topology.as_ref().map(|topology| {
            let mut topology = topology.clone();
            for host in &mut topology.hosts {
                let found = match host.name == hub.name {
                    true => Some(hub.introduction),
                    false => self.kept.agents.get(&host.name),
                };
                if host.address.is_none() {
                    host.address = found.and_then(|found| found.underlay.first().copied());
                }
            }
            topology
        });
        let of = |name: &str, from_star: Part| match &topology {
            Some(topology) if topology.hosts.iter().any(|host| host.name == name) => topology
                .part(name, 0, secrets)
                .map_err(|error| error.to_string()),
            _ => Ok(from_star),
        };
        let mut parts = vec![(hub.name.to_owned(), of(hub.name, star.proxy())?)];
        for name in self.kept.agents.keys() {
            parts.push((name.clone(), of(name, star.agent(name))?));
        }
        Ok(parts)
    }
}

/// Whether two parts say the same, whatever their revision.
pub fn is_same(one: &Part, other: &Part) -> bool {
    (&one.networks, &one.links, &one.rules) == (&other.networks, &other.links, &other.rules)
}
