//! Which place in the tables does a network, a link, a ledger get?
//!
//! Input: what the kernel holds now. Output: the same place as before for whoever has one, so
//! that counters and flows survive a restart, and a free one for whoever has none.

use std::collections::BTreeSet;
use std::net::IpAddr;

use vnet_common::addr::{LinkId, NetworkId};
use vnet_common::table::admission::AdmissionKey;
use vnet_common::table::ledger::Ledger;

use super::carried;
use super::image::Image;
use crate::model::configuration::Limits;

/// The dealer of places, for one computation.
pub struct Slots<'a> {
    now: &'a Image,
    networks: BTreeSet<u32>,
    links: BTreeSet<u32>,
    /// Links that have been dealt already: one that becomes two keeps its place for the first.
    dealt: BTreeSet<u32>,
    ledgers: BTreeSet<u32>,
    limits: &'a Limits,
    ledgers_max: u32,
}

impl<'a> Slots<'a> {
    /// Deals places that do not clash with those in use now.
    pub fn new(now: &'a Image, limits: &'a Limits, ledgers_max: u32) -> Self {
        let in_use = now
            .ports
            .values()
            .map(|port| port.ledger)
            .chain(now.underlays.values().map(|underlay| underlay.ledger))
            .chain(now.links.values().map(|link| link.ledger))
            .chain([Ledger::AGENT]);
        Self {
            now,
            networks: now.networks.keys().copied().collect(),
            links: now.links.keys().copied().collect(),
            dealt: BTreeSet::new(),
            ledgers: in_use.collect(),
            limits,
            ledgers_max,
        }
    }

    /// The slot of a network; nothing where all are taken.
    pub fn network(&mut self, id: NetworkId) -> Option<u32> {
        let known = self
            .now
            .networks
            .iter()
            .find(|(_, entry)| entry.id == id.get());
        match known {
            Some((&slot, _)) => Some(slot),
            None => take(&mut self.networks, self.limits.networks),
        }
    }

    /// The id and ledger of the link to this address, which carries these networks; nothing where
    /// all are taken. An address leads to one link per network, so one that it has now shows
    /// which link it is.
    pub fn link(&mut self, remote: IpAddr, networks: &[NetworkId]) -> Option<(LinkId, u32)> {
        let admitted = networks
            .iter()
            .find_map(|&network| self.now.admissions.get(&admission_key(remote, network)))
            .map(|admission| (admission.link, admission.ledger));
        self.deal(admitted)
    }

    /// The same for a link that the agent carries, for which nothing is admitted: its own entry says
    /// whose it is.
    pub fn carried(&mut self, remote: IpAddr, networks: &[NetworkId]) -> Option<(LinkId, u32)> {
        let mut links = self.now.links.iter();
        let known = links
            .find(|(_, entry)| carried::is_of(entry, remote, networks))
            .map(|(&id, entry)| (LinkId(id), entry.ledger));
        self.deal(known)
    }

    fn deal(&mut self, known: Option<(LinkId, u32)>) -> Option<(LinkId, u32)> {
        let known = known
            .filter(|(id, _)| self.now.links.contains_key(&id.0))
            .filter(|(id, _)| !self.dealt.contains(&id.0));
        let (id, ledger) = match known {
            Some(known) => known,
            None => {
                let ledger = self.ledger(None)?;
                (LinkId(take(&mut self.links, self.limits.links)?), ledger)
            }
        };
        self.dealt.insert(id.0);
        Some((id, ledger))
    }

    /// A ledger: the one it has, or a free one; nothing where all are taken.
    pub fn ledger(&mut self, has: Option<u32>) -> Option<u32> {
        has.or_else(|| take(&mut self.ledgers, self.ledgers_max))
    }
}

/// The lowest number that is not taken, below `end`.
fn take(taken: &mut BTreeSet<u32>, end: u32) -> Option<u32> {
    let free = (0..end).find(|number| !taken.contains(number))?;
    taken.insert(free);
    Some(free)
}

/// How the admission table names a claim.
pub fn admission_key(remote: IpAddr, network: NetworkId) -> AdmissionKey {
    match remote {
        IpAddr::V4(address) => AdmissionKey::ipv4(address.octets(), network),
        IpAddr::V6(address) => AdmissionKey::ipv6(address.octets(), network),
    }
}
