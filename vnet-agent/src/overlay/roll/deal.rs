//! What does each host get of the overlay?

use std::collections::BTreeSet;

use vnet_common::addr::Cookie;
use vnet_common::rule::Destination;

use super::{Hub, OlderState, Roll};
use crate::model::part::{Part, Secrets};
use crate::model::topology::Topology;
use crate::model::{Link, Rule, Target};
use crate::overlay::star::{Star, link_to};

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
        // Nothing where the topology does not name the host.
        let of = |name: &str| {
            let names = |topology: &&Topology| topology.hosts.iter().any(|h| h.name == name);
            let dealt = topology.as_ref().filter(names).map(|topology| {
                let part = topology.part(name, 0, secrets);
                part.map(|part| (part, topology))
            });
            dealt.transpose().map_err(|error| error.to_string())
        };
        let own = match of(hub.name)? {
            Some((part, topology)) => with_the_unnamed(part, star.proxy(), hub.name, topology),
            None => star.proxy(),
        };
        let mut parts = vec![(hub.name.to_owned(), own)];
        for name in self.kept.agents.keys() {
            let part = of(name)?.map_or_else(|| star.agent(name), |(part, _)| part);
            parts.push((name.clone(), part));
        }
        Ok(parts)
    }
}

/// The proxy's part of a topology, and what the star has for those that the topology does not name:
/// hosts that joined since, and stations that nobody had then. What it names is as it says.
fn with_the_unnamed(mut part: Part, star: Part, proxy: &str, topology: &Topology) -> Part {
    let named: BTreeSet<String> = topology.hosts.iter().map(|h| link_to(&h.name)).collect();
    let is_named = |link: &Link| named.contains(link.rung_of.as_ref().unwrap_or(&link.name));
    let unnamed = star.links.into_iter().filter(|link| !is_named(link));
    part.links.extend(unnamed);
    let carries = |to: &Target, network: &str| match to {
        Target::Link(name) => part
            .links
            .iter()
            .any(|link| link.name == *name && link.carries(network)),
        Target::Port(_) | Target::Flood | Target::Drop => true,
    };
    let is_known = |network: &str| topology.networks.iter().any(|known| known.name == network);
    let says = |network: &str, station| {
        let vms = topology.vms.iter();
        let mut vms = vms.filter(|vm| vm.network == network);
        let rules = topology.rules.iter().filter(|rule| rule.host == proxy);
        let mut rules = rules.filter(|rule| rule.network == network);
        let to = Destination::Is(station);
        vms.any(|vm| vm.mac == station) || rules.any(|rule| rule.destination == to)
    };
    // Older than all that the topology says.
    let more = star.rules.into_iter().filter(|rule| {
        let is_unsaid = match rule.destination {
            Destination::Is(station) => !says(&rule.network, station),
            _ => !is_known(&rule.network),
        };
        is_unsaid && carries(&rule.to, &rule.network)
    });
    let more: Vec<Rule> = more.collect();
    part.rules.splice(..0, more);
    part
}

/// Whether two parts say the same, whatever their revision.
pub fn is_same(one: &Part, other: &Part) -> bool {
    (&one.networks, &one.links, &one.rules) == (&other.networks, &other.links, &other.rules)
}
