//! Who belongs to the overlay, and what does each get of it? The proxy's memory.
//!
//! Input: what agents say when they come, go and change; what the proxy itself has. Output: whether
//! one may come in, and each host's part with a revision that rises only when the part changes.
//! [`Kept`] is what must outlive the proxy's process, so that it comes back to the links that its
//! kernel still has; who is connected is not.
//!
//! Revisions begin at the time, in milliseconds: a proxy that has lost all it knew is newer than it
//! was, and one that was given back an old copy of what it knew is older, and is told so.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vnet_common::addr::{Cookie, Mac};

use super::message::{Hello, Introduction};
use super::star::Star;
use crate::model::Network;
use crate::model::part::{Part, Secrets};
use crate::model::problem::check_underlay_address;
use crate::model::topology::Topology;

/// What the proxy must not forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The highest revision so far.
    pub revision: u64,
    /// The cookies of links.
    pub secrets: Secrets,
    /// What each agent last said that it has.
    pub agents: BTreeMap<String, Introduction>,
    /// What each host, the proxy included, has been given of the overlay.
    pub parts: BTreeMap<String, Part>,
    /// What an admin wants instead of the bare star.
    #[serde(default)]
    pub topology: Option<Topology>,
}

/// An agent that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// By which connection.
    pub session: u64,
    /// Which process of it.
    pub instance: u64,
    /// From where, for people.
    pub from: String,
    /// Since when.
    pub since_unix_ms: u64,
    /// Which version of the program it is.
    pub software: String,
    /// The number of its data plane's layouts.
    pub schema: u32,
    /// When its certificate is over.
    pub expires_unix_s: u64,
    /// The revision that it goes by.
    pub revision: Option<u64>,
    /// The part that it declined, and why.
    pub declined: Option<(u64, String)>,
}

/// Who belongs, and who is there.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    kept: Kept,
    present: BTreeMap<String, Presence>,
}

/// Who wants to come in.
#[derive(Clone, Debug)]
pub struct Guest<'a> {
    /// By which connection.
    pub session: u64,
    /// From where, for people.
    pub from: String,
    /// What it says.
    pub hello: &'a Hello,
    /// When its certificate is over.
    pub expires_unix_s: u64,
    /// Now.
    pub now_unix_ms: u64,
}

/// What the proxy itself brings.
#[derive(Clone, Copy, Debug)]
pub struct Hub<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it has.
    pub introduction: &'a Introduction,
    /// The networks that there are.
    pub networks: &'a [Network],
}

/// More agents than a proxy has places for links.
pub const AGENTS_MAX: usize = 4096;
/// More ports, or stations behind them, than an agent has places for.
const STATIONS_MAX: usize = 16_384;

/// Why an agent may not come in, or say what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each is, the fields are their parts"
)]
pub enum RollError {
    #[error("{0:?} is what the proxy itself is called: give the agent another name")]
    ProxysName(String),
    #[error(
        "an agent called {name:?} is connected from {from}: two cannot have one name. If that one \
         has just ended, this one is let in once its silence is noticed"
    )]
    NameTaken { name: String, from: String },
    #[error("its underlay address {address} is the one of {other}, which is connected")]
    AddressTaken {
        address: std::net::IpAddr,
        other: String,
    },
    #[error("its overlay packets go to UDP port {theirs}, and those of this overlay to {ours}")]
    OtherUdpPort { theirs: u16, ours: u16 },
    #[error("there are {AGENTS_MAX} agents already")]
    TooMany,
    #[error("it has more ports or stations than {STATIONS_MAX}")]
    TooManyStations,
    #[error("its underlay address {address} {why}")]
    BadAddress {
        address: std::net::IpAddr,
        why: crate::model::problem::BadUnderlayAddress,
    },
}

impl Roll {
    /// With what was kept. Nobody is there yet.
    pub const fn new(kept: Kept) -> Self {
        Self {
            kept,
            present: BTreeMap::new(),
        }
    }

    /// What must not be forgotten.
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Who is there, by name.
    pub const fn present(&self) -> &BTreeMap<String, Presence> {
        &self.present
    }

    /// What a host has been given of the overlay.
    pub fn part(&self, host: &str) -> Option<&Part> {
        self.kept.parts.get(host)
    }

    /// Has an admin's topology instead of the bare star, or the star again.
    pub fn set_topology(&mut self, topology: Option<Topology>) {
        self.kept.topology = topology;
    }

    /// Lets an agent in; returns the connection that it came by before, which is over.
    ///
    /// # Errors
    ///
    /// It may not come in.
    pub fn admit(&mut self, guest: &Guest<'_>, hub: &Hub<'_>) -> Result<Option<u64>, RollError> {
        let hello = guest.hello;
        let name = &hello.name;
        if name == hub.name {
            return Err(RollError::ProxysName(name.clone()));
        }
        let before = self.present.get(name);
        if let Some(other) = before.filter(|other| other.instance != hello.instance) {
            return Err(RollError::NameTaken {
                name: name.clone(),
                from: other.from.clone(),
            });
        }
        if !self.kept.agents.contains_key(name) && self.kept.agents.len() >= AGENTS_MAX {
            return Err(RollError::TooMany);
        }
        let before = before.map(|presence| presence.session);
        self.note(name, &hello.introduction, hub)?;
        self.present.insert(
            name.clone(),
            Presence {
                session: guest.session,
                instance: hello.instance,
                from: guest.from.clone(),
                since_unix_ms: guest.now_unix_ms,
                software: hello.software.clone(),
                schema: hello.schema,
                expires_unix_s: guest.expires_unix_s,
                revision: hello.held,
                declined: None,
            },
        );
        Ok(before)
    }

    /// What an agent has now.
    ///
    /// # Errors
    ///
    /// It cannot have that.
    pub fn introduced(
        &mut self,
        session: u64,
        introduction: &Introduction,
        hub: &Hub<'_>,
    ) -> Result<(), RollError> {
        match self.name_of(session) {
            Some(name) => self.note(&name, introduction, hub),
            None => Ok(()),
        }
    }

    fn note(
        &mut self,
        name: &str,
        introduction: &Introduction,
        hub: &Hub<'_>,
    ) -> Result<(), RollError> {
        let ours = hub.introduction.udp_port;
        if introduction.udp_port != ours {
            let theirs = introduction.udp_port;
            return Err(RollError::OtherUdpPort { theirs, ours });
        }
        let stations = introduction
            .ports
            .iter()
            .map(|port| port.stations.len() + 1);
        if stations.sum::<usize>() > STATIONS_MAX {
            return Err(RollError::TooManyStations);
        }
        for &address in &introduction.underlay {
            check_underlay_address(address)
                .map_err(|why| RollError::BadAddress { address, why })?;
            if hub.introduction.underlay.contains(&address) {
                let other = "the proxy".to_owned();
                return Err(RollError::AddressTaken { address, other });
            }
        }
        self.take_addresses(name, introduction)?;
        let mut introduction = introduction.clone();
        // An address that is just being renewed is no reason to take the links away.
        if introduction.underlay.is_empty()
            && let Some(before) = self.kept.agents.get(name)
        {
            introduction.underlay.clone_from(&before.underlay);
        }
        for port in &mut introduction.ports {
            port.stations
                .retain(|station| !station.is_group() && *station != Mac::ZERO);
        }
        self.kept.agents.insert(name.to_owned(), introduction);
        Ok(())
    }

    /// An address belongs to one agent: one that is not there any more loses it.
    fn take_addresses(&mut self, name: &str, new: &Introduction) -> Result<(), RollError> {
        for (other, theirs) in &mut self.kept.agents {
            if other == name {
                continue;
            }
            for address in &new.underlay {
                if !theirs.underlay.contains(address) {
                    continue;
                }
                if self.present.contains_key(other) {
                    return Err(RollError::AddressTaken {
                        address: *address,
                        other: other.clone(),
                    });
                }
                theirs.underlay.retain(|other| other != address);
            }
        }
        Ok(())
    }

    /// The agent of this connection goes by this revision.
    pub fn goes_by(&mut self, session: u64, revision: u64) {
        if let Some(presence) = self.presence(session) {
            presence.revision = presence.revision.max(Some(revision));
            presence.declined = None;
        }
    }

    /// The agent of this connection does not go by this revision.
    pub fn declined(&mut self, session: u64, revision: u64, why: String) {
        if let Some(presence) = self.presence(session) {
            presence.declined = Some((revision, why));
        }
    }

    /// The agent of this connection has a new certificate.
    pub fn renewed(&mut self, session: u64, expires_unix_s: u64) {
        if let Some(presence) = self.presence(session) {
            presence.expires_unix_s = expires_unix_s;
        }
    }

    /// This connection is over. What its agent was given stays.
    pub fn gone(&mut self, session: u64) -> Option<String> {
        let name = self.name_of(session)?;
        self.present.remove(&name);
        Some(name)
    }

    /// Forgets an agent; answers whether it was known.
    pub fn forget(&mut self, name: &str) -> bool {
        self.present.remove(name);
        self.kept.parts.remove(name);
        self.kept.agents.remove(name).is_some()
    }

    fn presence(&mut self, session: u64) -> Option<&mut Presence> {
        self.present
            .values_mut()
            .find(|presence| presence.session == session)
    }

    fn name_of(&self, session: u64) -> Option<String> {
        let mut present = self.present.iter();
        present
            .find(|(_, presence)| presence.session == session)
            .map(|(name, _)| name.clone())
    }

    /// Makes every host's part anew. Returns the hosts whose part is another one now.
    ///
    /// # Errors
    ///
    /// `deal` cannot make a cookie, or the topology does not say enough; nothing has changed then.
    pub fn deal<E: std::fmt::Display>(
        &mut self,
        hub: &Hub<'_>,
        now_unix_ms: u64,
        mut deal: impl FnMut() -> Result<Cookie, E>,
    ) -> Result<BTreeSet<String>, String> {
        let mut secrets = self.kept.secrets.clone();
        for (one, other) in self.pairs(hub) {
            if secrets.between(&one, &other).is_none() {
                secrets.deal(&one, &other, deal().map_err(|error| error.to_string())?);
            }
        }
        let parts = self.parts(hub, &secrets)?;
        self.kept.secrets = secrets;
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
                        now_unix_ms
                    } else {
                        0
                    });
            part.revision = self.kept.revision;
            self.kept.parts.insert(name.clone(), part);
            changed.insert(name);
        }
        Ok(changed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::{GUEST_ONE, GUEST_TWO, network};
    use crate::overlay::message::{IntroducedPort, VERSION};

    const NOW_MS: u64 = 1_790_000_000_000;

    fn has(address: &str, station: Mac) -> Introduction {
        Introduction {
            underlay: vec![address.parse().unwrap()],
            udp_port: 6081,
            ports: vec![IntroducedPort {
                device: "tap0".into(),
                network: "blue".into(),
                stations: vec![station],
                is_open: false,
            }],
            ..Introduction::default()
        }
    }

    fn hello(name: &str, instance: u64, introduction: Introduction) -> Hello {
        Hello {
            version: VERSION,
            name: name.into(),
            software: "0.1.0".into(),
            schema: 2,
            instance,
            held: None,
            introduction,
        }
    }

    struct Proxy {
        roll: Roll,
        introduction: Introduction,
        networks: Vec<Network>,
        cookies: u64,
        sessions: u64,
    }

    impl Proxy {
        fn new(kept: Kept) -> Self {
            Self {
                roll: Roll::new(kept),
                introduction: has("10.0.0.9", Mac([2, 0, 0, 0, 0, 9])),
                networks: vec![network("blue", 7)],
                cookies: 0,
                sessions: 0,
            }
        }

        fn admit(&mut self, hello: &Hello) -> Result<Option<u64>, String> {
            self.sessions += 1;
            let guest = Guest {
                session: self.sessions,
                from: "10.0.0.1:999".into(),
                hello,
                expires_unix_s: 0,
                now_unix_ms: NOW_MS,
            };
            let hub = Hub {
                name: "proxy",
                introduction: &self.introduction,
                networks: &self.networks,
            };
            let admitted = self.roll.admit(&guest, &hub);
            admitted.map_err(|error| error.to_string())
        }

        fn deal(&mut self) -> Vec<String> {
            let hub = Hub {
                name: "proxy",
                introduction: &self.introduction,
                networks: &self.networks,
            };
            let cookies = &mut self.cookies;
            let dealt = self.roll.deal(&hub, NOW_MS, || {
                *cookies += 1;
                Ok::<_, String>(Cookie(*cookies))
            });
            dealt.unwrap().into_iter().collect()
        }
    }

    #[test]
    fn revisions_rise_for_those_only_whose_part_changes() {
        let mut proxy = Proxy::new(Kept::default());
        assert_eq!(proxy.deal(), ["proxy"]);
        proxy
            .admit(&hello("one", 1, has("10.0.0.1", GUEST_ONE)))
            .unwrap();
        assert_eq!(proxy.deal(), ["one", "proxy"]);
        let first = proxy.roll.part("one").unwrap().clone();
        assert!(first.revision > NOW_MS && first.revision < NOW_MS + 10);
        proxy
            .admit(&hello("two", 2, has("10.0.0.2", GUEST_TWO)))
            .unwrap();
        assert_eq!(proxy.deal(), ["proxy", "two"]);
        assert_eq!(proxy.roll.part("one"), Some(&first));
        assert!(proxy.deal().is_empty());
        let again = Proxy::new(proxy.roll.kept().clone());
        let (cookies, mut again) = (proxy.cookies, again);
        assert!(again.deal().is_empty(), "what was kept is what it was");
        assert_eq!(cookies, 2);
    }

    #[test]
    fn one_name_belongs_to_one_process_at_a_time() {
        let mut proxy = Proxy::new(Kept::default());
        let first = hello("one", 1, has("10.0.0.1", GUEST_ONE));
        assert_eq!(proxy.admit(&first), Ok(None));
        let second = hello("one", 2, has("10.0.0.5", GUEST_TWO));
        let why = proxy.admit(&second).unwrap_err();
        assert!(why.contains("two cannot have one name"), "{why}");
        // The same process by another way: the old connection is over.
        assert_eq!(proxy.admit(&first), Ok(Some(1)));
        assert_eq!(proxy.roll.gone(1), None);
        assert_eq!(proxy.roll.gone(3), Some("one".into()));
        assert_eq!(proxy.admit(&second), Ok(None));
        let as_proxy = hello("proxy", 3, has("10.0.0.3", GUEST_ONE));
        assert!(proxy.admit(&as_proxy).is_err());
    }

    #[test]
    fn an_address_moves_to_who_is_there() {
        let mut proxy = Proxy::new(Kept::default());
        proxy
            .admit(&hello("old", 1, has("10.0.0.1", GUEST_ONE)))
            .unwrap();
        let new = hello("new", 2, has("10.0.0.1", GUEST_TWO));
        let why = proxy.admit(&new).unwrap_err();
        assert_eq!(
            why,
            "its underlay address 10.0.0.1 is the one of old, which is connected"
        );
        proxy.roll.gone(1);
        proxy.admit(&new).unwrap();
        proxy.deal();
        assert!(proxy.roll.part("old").unwrap().links.is_empty());
        let links = &proxy.roll.part("proxy").unwrap().links;
        assert_eq!(links.len(), 1);
    }

    #[test]
    fn what_no_agent_can_have_is_refused() {
        let mut proxy = Proxy::new(Kept::default());
        let other_port = Introduction {
            udp_port: 4789,
            ..has("10.0.0.1", GUEST_ONE)
        };
        let mut crowd = has("10.0.0.1", GUEST_ONE);
        crowd.ports[0].stations = vec![GUEST_ONE; STATIONS_MAX];
        for (has, word) in [
            (other_port, "UDP port 4789"),
            (crowd, "more ports or stations"),
            (has("127.0.0.1", GUEST_ONE), "loopback"),
            (has("10.0.0.9", GUEST_ONE), "is the one of the proxy"),
        ] {
            let why = proxy.admit(&hello("one", 1, has)).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(proxy.roll.present().is_empty() && proxy.roll.kept().agents.is_empty());
        let group = has("10.0.0.1", Mac::BROADCAST);
        proxy.admit(&hello("one", 1, group)).unwrap();
        assert!(proxy.roll.kept().agents["one"].ports[0].stations.is_empty());
    }
}
