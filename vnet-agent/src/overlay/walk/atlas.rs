//! What does the proxy know of the hosts that a frame may cross: who has which address, and which
//! link leads where?
//!
//! Links are told by the names that their hosts know them by. Both ends of one were dealt the same
//! cookie, and where two hosts share several, in the same order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vnet_common::addr::Mac;

use crate::model::Link;
use crate::model::suggest::suggestion;
use crate::model::topology::{Role, Topology};
use crate::overlay::message::IntroducedPort;

/// The hosts.
#[derive(Clone, Debug, Default)]
pub struct Atlas {
    /// By name.
    pub hosts: BTreeMap<String, Known>,
    /// Whose LAN those are on that nobody else has.
    pub proxy: String,
    /// The overlay as it should be; none for a host that stands alone.
    pub topology: Option<Topology>,
}

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its underlay addresses.
    pub underlay: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<IntroducedPort>,
    /// The links that it was dealt.
    pub links: Vec<Link>,
    /// The revision of its part that it goes by.
    pub revision: Option<u64>,
    /// The one that it should go by.
    pub dealt_revision: Option<u64>,
}

/// Where a frame begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// On this host.
    pub host: String,
    /// Out of this device.
    pub device: String,
    /// In this network.
    pub network: String,
}

/// Why there is nobody to begin with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum NoStart {
    #[error("{text:?} is no VM and no address{}", .meant.as_ref().map_or_else(String::new, |name| format!(": did you mean {name:?}?")))]
    Nobody { text: String, meant: Option<String> },
    #[error("{0} is no station's address: no frame comes from it")]
    NoSource(Mac),
    #[error("no host has a port with the address {mac}{}", .network.as_ref().map_or_else(String::new, |name| format!(" in network {name}")))]
    Unknown { mac: Mac, network: Option<String> },
    #[error("{mac} is in several networks: {}", .networks.join(", "))]
    Ambiguous { mac: Mac, networks: Vec<String> },
}

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OtherEnd {
    /// To this host, which calls it so.
    Host(String, String),
    /// To an endpoint without an agent.
    Foreign(String),
    /// Nobody can say, or at most whose address it is.
    Unknown(Option<String>),
}

impl Atlas {
    /// Who is meant by a VM's name, an address or "broadcast"; with the network that the VM is in.
    ///
    /// # Errors
    /// Nobody.
    pub fn station(&self, text: &str) -> Result<(Mac, Option<String>), NoStart> {
        if text == "broadcast" {
            return Ok((Mac::BROADCAST, None));
        }
        let vms = self.topology.iter().flat_map(|topology| &topology.vms);
        if let Some(vm) = vms.clone().find(|vm| vm.name == text) {
            return Ok((vm.mac, Some(vm.network.clone())));
        }
        text.parse().map(|mac| (mac, None)).map_err(|_| {
            let meant = suggestion(text, vms.map(|vm| vm.name.as_str()));
            NoStart::Nobody {
                text: text.to_owned(),
                meant: meant.map(str::to_owned),
            }
        })
    }

    /// The port that has the address: one that lists it or has learned it, or the one that the model
    /// puts it behind, or else one that may have any, the proxy's first.
    ///
    /// # Errors
    /// There is none, or there are some in several networks.
    pub fn start(&self, network: Option<&str>, source: Mac) -> Result<Start, NoStart> {
        if source.is_group() || source == Mac::ZERO {
            return Err(NoStart::NoSource(source));
        }
        let is_in = |name: &str| network.is_none_or(|network| network == name);
        let ports = self.hosts.iter().flat_map(|(host, known)| {
            let ports = known.ports.iter().filter(|port| is_in(&port.network));
            ports.map(move |port| (host, port))
        });
        let start = |(host, port): (&String, &IntroducedPort)| Start {
            host: host.clone(),
            device: port.device.clone(),
            network: port.network.clone(),
        };
        let has_it = |(_, port): &(&String, &IntroducedPort)| port.stations.contains(&source);
        let said: Vec<Start> = ports.clone().filter(has_it).map(start).collect();
        let vms = self.topology.iter().flat_map(|topology| &topology.vms);
        let vms = vms.filter(|vm| vm.mac == source && is_in(&vm.network));
        let modelled = vms.map(|vm| Start {
            host: vm.host.clone(),
            device: vm.device.clone(),
            network: vm.network.clone(),
        });
        let modelled: Vec<Start> = modelled.collect();
        let is_open = |(_, port): &(&String, &IntroducedPort)| port.is_open;
        let open = ports.clone().filter(is_open).map(start);
        let (own, others): (Vec<Start>, Vec<Start>) =
            open.partition(|start| start.host == self.proxy);
        let found = [said, modelled.clone(), own, others];
        let found = found.into_iter().find(|found| !found.is_empty());
        let found = found.ok_or_else(|| NoStart::Unknown {
            mac: source,
            network: network.map(str::to_owned),
        })?;
        let mut networks: Vec<String> = found.iter().map(|start| start.network.clone()).collect();
        networks.sort();
        networks.dedup();
        if networks.len() > 1 {
            return Err(NoStart::Ambiguous {
                mac: source,
                networks,
            });
        }
        // Two hosts that say they have one address: the one counts that should have it.
        let right = found.iter().find(|start| modelled.contains(start));
        let start = right.or(found.first()).cloned();
        start.ok_or(NoStart::NoSource(source))
    }

    /// Where a host's link leads, whose frames arrive at this underlay address.
    pub(super) fn other_end(&self, host: &str, link: &str, remote: Option<IpAddr>) -> OtherEnd {
        let Some(known) = self.hosts.get(host) else {
            return OtherEnd::Unknown(None);
        };
        let Some(link) = known.links.iter().find(|own| own.name == link) else {
            return OtherEnd::Unknown(remote.and_then(|remote| self.at(remote)));
        };
        if link.is_plain() {
            return self.plain_end(known, link);
        }
        let same = |other: &&Link| {
            (other.cookie, other.kind, other.rung_of.is_some())
                == (link.cookie, link.kind, link.rung_of.is_some())
        };
        let own = known.links.iter().filter(same);
        let place = own.take_while(|own| own.name != link.name).count();
        let others = self.hosts.iter().filter(|(name, _)| *name != host);
        let mut ends = others.filter_map(|(name, known)| {
            let end = known.links.iter().filter(same).nth(place)?;
            Some(OtherEnd::Host(name.clone(), end.name.clone()))
        });
        let unknown = || OtherEnd::Unknown(self.at(link.remote));
        ends.next().unwrap_or_else(unknown)
    }

    fn plain_end(&self, known: &Known, link: &Link) -> OtherEnd {
        let hosts = self.topology.iter().flat_map(|topology| &topology.hosts);
        let mut foreign =
            hosts.filter(|host| host.role == Role::Foreign && host.underlay() == Some(link.remote));
        if let Some(host) = foreign.next() {
            return OtherEnd::Foreign(host.name.clone());
        }
        let leads_back = |other: &&Link| other.is_plain() && known.underlay.contains(&other.remote);
        let other = self.at(link.remote).and_then(|name| {
            let other = self.hosts.get(&name)?.links.iter().find(leads_back)?;
            Some(OtherEnd::Host(name, other.name.clone()))
        });
        other.unwrap_or_else(|| OtherEnd::Unknown(self.at(link.remote)))
    }

    /// Whose underlay address it is.
    fn at(&self, address: IpAddr) -> Option<String> {
        let mut hosts = self.hosts.iter();
        let found = hosts.find(|(_, known)| known.underlay.contains(&address));
        found.map(|(name, _)| name.clone())
    }

    /// A host's link to another, for frames of this network.
    pub(super) fn link_to(&self, host: &str, other: &str, network: &str) -> Option<&Link> {
        let links = self.hosts.get(host)?.links.iter();
        let mut links = links.filter(|link| link.rung_of.is_none() && link.carries(network));
        links.find(|link| match self.other_end(host, &link.name, None) {
            OtherEnd::Host(name, _) | OtherEnd::Foreign(name) => name == other,
            OtherEnd::Unknown(_) => false,
        })
    }
}
