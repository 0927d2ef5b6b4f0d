//! Who belongs to the overlay, and what does each get of it? The proxy's memory.
//!
//! Input: what agents say when they come, go and change; what the proxy itself has. Output: whether
//! one may come in, and each host's part with a revision that rises only when the part changes.
//! [`Kept`] is what must outlive the proxy's process, so that it comes back to the links that its
//! kernel still has; who is connected is not.
//!
//! Revisions begin at the time, in milliseconds: a proxy that has lost all it knew is newer than it
//! was, and one that was given back an old copy of what it knew is older, and is told so.

mod deal;
mod error;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vnet_common::addr::Mac;

pub use self::deal::is_same;
use self::error::STATIONS_MAX;
pub use self::error::{AGENTS_MAX, OlderState, RollError};
use super::message::{Hello, Introduction, Missing};
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
    /// The part that it goes by though something is missing, and what.
    pub lacks: Option<(u64, Vec<Missing>)>,
}

/// Who belongs, and who is there.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    kept: Kept,
    present: BTreeMap<String, Presence>,
    /// The revision that the proxy itself goes by, as its own disk has it. What agents say of theirs
    /// proves nothing: one of them could keep all others from ever getting another part.
    own: u64,
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

impl Roll {
    /// With what was kept. Nobody is there yet.
    pub const fn new(kept: Kept) -> Self {
        Self {
            kept,
            present: BTreeMap::new(),
            own: 0,
        }
    }

    /// The proxy itself goes by this revision: if it was never dealt here, then what is known here
    /// is an old copy.
    pub fn goes_by_itself(&mut self, revision: u64) {
        self.own = self.own.max(revision);
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
                lacks: None,
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

    /// The agent of this connection goes by this revision, and something is missing.
    pub fn lacks(&mut self, session: u64, revision: u64, missing: Vec<Missing>) {
        if let Some(presence) = self.presence(session) {
            presence.lacks = Some((revision, missing));
        }
    }

    /// Remembers the cookies that another has dealt.
    pub fn take_secrets(&mut self, other: &Self) {
        self.kept.secrets = other.kept.secrets.clone();
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
}

#[cfg(test)]
mod tests;
