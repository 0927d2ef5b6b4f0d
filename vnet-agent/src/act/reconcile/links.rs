//! The links that should be, and the ways that they take.
//!
//! Input: the wanted links, the underlay device and the next hops. Output: entries to send by and
//! to receive by, and the MTU that they leave to guests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vnet_common::addr::{Cookie, LinkId, Mac, NetworkId};
use vnet_common::table::admission::AdmissionEntry;
use vnet_common::table::link::LinkEntry;
use vnet_common::wire::ethernet::Ethernet;

use super::carried;
use super::desired::{Desired, Fault, Networks, PathMtu, Surroundings, UnderlayEnd, Way, no_room};
use super::header::{Endpoint, Path, link_entry, unresolved};
use super::image::Image;
use super::slots::{Slots, admission_key};
use crate::model::host::Host;
use crate::model::mtu::port_mtu;
use crate::model::next_hop::NoNextHop;
use crate::model::{Configuration, Link};

pub(super) fn links(
    wanted: &Configuration,
    given: &Surroundings<'_>,
    now: &Image,
    networks: &Networks<'_>,
    underlay: Option<&UnderlayEnd<'_>>,
    slots: &mut Slots<'_>,
    desired: &mut Desired,
) {
    for link in &wanted.links {
        let carried: Vec<(NetworkId, u32)> = link
            .networks
            .iter()
            .filter_map(|name| networks.get(name.as_str()).copied())
            .collect();
        let ids: Vec<NetworkId> = carried.iter().map(|(id, _)| *id).collect();
        let subject = format!("link {}", link.name);
        let place = match link.kind.is_carried() {
            true => slots.carried(link.remote, &ids),
            false => slots.link(link.remote, &ids),
        };
        let Some((id, ledger)) = place else {
            desired.faults.push(no_room(subject, "links"));
            continue;
        };
        desired.links.insert(link.name.clone(), id);
        if link.kind.is_carried() {
            let device = match given.carried.contains(&link.name) {
                true => given.slow_path_device,
                false => 0,
            };
            let entry = carried::entry(device, ledger, link.remote, &ids);
            desired.image.links.insert(id.0, entry);
            continue;
        }
        for (network, network_slot) in carried {
            let admission = AdmissionEntry {
                cookie: link.cookie.unwrap_or(Cookie::NONE),
                link: id,
                ledger,
                network_slot,
                _pad: 0,
            };
            desired
                .image
                .admissions
                .insert(admission_key(link.remote, network), admission);
        }
        let path = underlay
            .ok_or_else(|| NoPath::because("there is no underlay device".to_owned()))
            .and_then(|underlay| path(wanted, link, given.host, underlay));
        let path = path.or_else(|no_path| no_path.earlier(now.links.get(&id.0)));
        let entry = match path {
            Ok(path) => {
                let earlier = now
                    .links
                    .get(&id.0)
                    .and_then(|entry| earlier_mtu(link, entry));
                let known = given.path_mtus.get(&link.name);
                let mtu = arrives(path.mtu, known.map(|known| known.arrives), earlier);
                let way = Way {
                    local: path.local.address,
                    device_mtu: path.mtu,
                    mtu,
                    guest_path_mtu: settled(path.mtu, known, earlier),
                };
                desired.ways.insert(link.name.clone(), way);
                link_entry(&Path { mtu, ..path }, ledger).unwrap_or(unresolved(ledger))
            }
            Err(NoPath { why, pending }) => {
                let cure = format!(
                    "see `ip route get {0}` and `ip neighbour show {0}`; the agent goes on as \
                     soon as the way is there",
                    link.remote
                );
                let fault = Fault::new(subject, why, cure);
                // The kernel asks a few times, and then says that nobody answers.
                desired.faults.push(match pending {
                    Some(_) => fault.waiting(),
                    None => fault,
                });
                unresolved(ledger)
            }
        };
        desired.image.links.insert(id.0, entry);
    }
    for link in &wanted.links {
        let whole = link
            .rung_of
            .as_ref()
            .and_then(|name| desired.links.get(name));
        let id = desired.links.get(&link.name);
        if let Some(entry) = id.and_then(|id| desired.image.links.get_mut(&id.0)) {
            *entry = entry.with_rung_of(whole.copied());
        }
    }
    let detours = detours(wanted, &desired.links, given.answering, now);
    for (id, other) in detours {
        if let Some(entry) = desired.image.links.get_mut(&id.0) {
            *entry = entry.with_instead(Some(other));
        }
    }
}

/// Which links' frames take another link: the first on the chain of fall-backs that answers. Where
/// none does, they stay. Of a link that nobody has asked yet, what the tables say holds.
pub fn detours(
    wanted: &Configuration,
    ids: &BTreeMap<String, LinkId>,
    answering: &BTreeMap<String, Option<bool>>,
    now: &Image,
) -> BTreeMap<LinkId, LinkId> {
    let was_turned = |name| {
        let entry = ids.get(name).and_then(|id: &LinkId| now.links.get(&id.0));
        entry.is_some_and(|entry| entry.instead().is_some())
    };
    let dead = answering.iter().filter(|(name, answers)| match answers {
        Some(answers) => !answers,
        None => was_turned(name.as_str()),
    });
    let dead: BTreeSet<&str> = dead.map(|(name, _)| name.as_str()).collect();
    let fallback = |name: &str| wanted.link(name)?.fallback.as_deref();
    let detour = |name: &&str| {
        // A chain is no longer than there are links, unless it is a ring.
        let chain = std::iter::successors(fallback(name), |name| fallback(name));
        let mut chain = chain.take(wanted.links.len());
        let other = chain.find(|other| !dead.contains(other) && ids.contains_key(*other))?;
        Some((*ids.get(*name)?, *ids.get(other)?))
    };
    dead.iter().filter_map(detour).collect()
}

/// Why a link has no way to the other end.
struct NoPath {
    why: String,
    /// All of it but the next hop's Ethernet address, which is being asked for.
    pending: Option<Path>,
}

impl NoPath {
    fn because(why: String) -> Self {
        Self { why, pending: None }
    }

    /// While the kernel asks who the next hop is, whoever it was before mostly still is: so an
    /// agent that starts does not interrupt what an earlier one left running.
    fn earlier(self, entry: Option<&LinkEntry>) -> Result<Path, Self> {
        let earlier = entry.and_then(|entry| {
            let path = self.pending.filter(|path| path.device == entry.device)?;
            let mac = Mac(*entry.header.first_chunk()?);
            Some(Path {
                remote: Endpoint { mac, ..path.remote },
                ..path
            })
        });
        earlier.ok_or(self)
    }
}

/// The way that a link takes.
fn path(
    wanted: &Configuration,
    link: &Link,
    host: &Host,
    underlay: &UnderlayEnd<'_>,
) -> Result<Path, NoPath> {
    let local = match link.remote {
        IpAddr::V4(_) => underlay.ipv4,
        IpAddr::V6(_) => underlay.ipv6,
    };
    let device = underlay.device;
    let address = local.ok_or_else(|| {
        let family = if link.remote.is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        };
        NoPath::because(format!(
            "{} has no {family} address to reach {} from",
            device.name, link.remote
        ))
    })?;
    let path = |mac, mtu: u32| Path {
        local: Endpoint {
            mac: underlay.mac,
            address,
        },
        remote: Endpoint {
            mac,
            address: link.remote,
        },
        device: device.index,
        mtu: device.mtu.min(mtu),
        udp_port: wanted.underlay.udp_port,
        cookie: link.cookie.unwrap_or(Cookie::NONE),
    };
    let hop = match host.next_hops.get(&link.remote) {
        Some(Ok(hop)) => hop,
        Some(Err(why)) => {
            let pending = (*why == NoNextHop::Resolving).then(|| path(Mac::ZERO, device.mtu));
            return Err(NoPath {
                why: format!("{}: {why}", link.remote),
                pending,
            });
        }
        None => {
            let why = format!("{}: the way is being looked up", link.remote);
            return Err(NoPath {
                why,
                pending: Some(path(Mac::ZERO, device.mtu)),
            });
        }
    };
    if hop.ifindex != device.index {
        let other = host
            .devices
            .get(&hop.ifindex)
            .map_or("another device", |d| d.name.as_str());
        return Err(NoPath::because(format!(
            "{} is reached by {other}, not by the underlay device {}",
            link.remote, device.name
        )));
    }
    Ok(path(hop.mac, hop.mtu))
}

/// What of the bytes that the device takes may be sent. While that is being found out, what was
/// known before holds: an agent that starts does not send into a hole that an earlier one knew.
fn arrives(device_mtu: u32, known: Option<Option<u32>>, earlier: Option<u32>) -> u32 {
    let known = match known {
        None => None,
        Some(known) => known.or(earlier),
    };
    known.map_or(device_mtu, |known| device_mtu.min(known))
}

/// What guests are told of it.
fn settled(device_mtu: u32, known: Option<&PathMtu>, earlier: Option<u32>) -> u32 {
    let known = known.map(|known| known.settled.or(known.arrives));
    arrives(device_mtu, known, earlier)
}

/// What an entry says of its link's path.
fn earlier_mtu(link: &Link, entry: &LinkEntry) -> Option<u32> {
    let inner = entry.frame_bytes_max.checked_sub(Ethernet::BYTES as u32)?;
    Some(inner + u32::from(link.overhead())).filter(|_| entry.device != 0)
}

pub(super) fn guest_mtus(
    wanted: &Configuration,
    underlay: Option<&UnderlayEnd<'_>>,
    given: &Surroundings<'_>,
    desired: &mut Desired,
) {
    let Some(underlay) = underlay else { return };
    let on_the_way = |link: &Link| match desired.ways.get(&link.name) {
        Some(way) => way.guest_path_mtu,
        None => settled(underlay.device.mtu, given.path_mtus.get(&link.name), None),
    };
    let mut guest_mtus = BTreeMap::new();
    for network in &wanted.networks {
        if let Some(mtu) = port_mtu(&network.name, &wanted.links, on_the_way) {
            guest_mtus.insert(network.name.clone(), mtu);
        }
    }
    desired.guest_mtus = guest_mtus;
}
