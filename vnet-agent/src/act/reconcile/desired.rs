//! What should the kernel hold, given what is wanted and what the host is?
//!
//! Input: the configuration, the host's devices, addresses and next hops, and the image of what
//! the kernel holds now (for places in the tables only). Output: the image that should be, with
//! what cannot be brought about and why. Pure: the same input gives the same output.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vnet_common::addr::{Cookie, LinkId, Mac, NetworkId, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::action::Action;
use vnet_common::table::admission::AdmissionEntry;
use vnet_common::table::link::LinkEntry;
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::{ADDRESSES_MAX, PortEntry};
use vnet_common::table::setting::Setting;
use vnet_common::table::underlay::UnderlayEntry;

use super::header::{Endpoint, Path, link_entry, unresolved};
use super::image::Image;
use super::rules::{Compilable, compile_rules};
use super::slots::{Slots, admission_key};
use crate::model::attachment::{Attachment, Role};
use crate::model::configuration::UnderlayMatch;
use crate::model::host::{Device, Host};
use crate::model::mtu::port_mtu;
use crate::model::next_hop::NoNextHop;
use crate::model::{Addresses, Configuration, Link, Port, PortDevice, Rule, Target};

/// What is given.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The host, as the kernel tells it.
    pub host: &'a Host,
    /// The devices that port entries take in.
    pub devices: &'a [PortDevice],
    /// The agent's own tap; 0 while there is none.
    pub slow_path_device: u32,
    /// The inode of the agent's network namespace.
    pub namespace: u32,
    /// The number of ledgers.
    pub ledgers: u32,
}

/// What should be.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// The tables and programs.
    pub image: Image,
    /// The MTUs that devices should have, by index.
    pub mtus: BTreeMap<u32, u32>,
    /// The MTU that guests of a network must use, by the network's name.
    pub guest_mtus: BTreeMap<String, u32>,
    /// Which id a link has, by its name.
    pub links: BTreeMap<String, LinkId>,
    /// The underlay device.
    pub underlay: Option<u32>,
    /// What cannot be brought about now.
    pub faults: Vec<Fault>,
}

/// Something that is wanted and cannot be brought about now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is about: `link to-two`.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub cure: String,
    /// Nothing is wrong: what is named has not come yet.
    pub is_waiting: bool,
}

impl Fault {
    fn new(
        subject: impl Into<String>,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            message: message.into(),
            cure: cure.into(),
            is_waiting: false,
        }
    }

    fn waiting(self) -> Self {
        Self {
            is_waiting: true,
            ..self
        }
    }
}

/// The smallest MTU that IPv4 allows a link (RFC 791, section 3.2).
const MTU_MIN: u32 = 68;
/// An Ethernet header and one VLAN tag: what a device takes beyond its MTU.
const LINK_LAYER_BYTES_MAX: u32 = 18;

/// Where overlay packets enter and leave.
struct UnderlayEnd<'a> {
    device: &'a Device,
    mac: Mac,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
}

/// Works out what should be.
pub fn desired(wanted: &Configuration, given: &Surroundings<'_>, now: &Image) -> Desired {
    let mut slots = Slots::new(now, &wanted.limits, given.ledgers);
    let mut desired = Desired::default();
    desired.image.setting = Some(Setting {
        slow_path_device: given.slow_path_device,
        namespace: given.namespace,
    });
    if given.slow_path_device != 0 {
        desired
            .image
            .attachments
            .insert(Attachment::new(Role::Agent, given.slow_path_device));
    }
    let networks = networks(wanted, &mut slots, &mut desired);
    let underlay = underlay(wanted, given, now, &mut slots, &mut desired);
    links(
        wanted,
        given,
        now,
        &networks,
        underlay.as_ref(),
        &mut slots,
        &mut desired,
    );
    guest_mtus(wanted, underlay.as_ref(), given.host, &mut desired);
    ports(wanted, given, now, &networks, &mut slots, &mut desired);
    rules(wanted, given, &networks, &mut desired);
    desired
}

/// The id and slot of each network that has one.
type Networks<'a> = BTreeMap<&'a str, (NetworkId, u32)>;

fn networks<'a>(
    wanted: &'a Configuration,
    slots: &mut Slots<'_>,
    desired: &mut Desired,
) -> Networks<'a> {
    let mut networks = Networks::new();
    for network in &wanted.networks {
        match slots.network(network.id) {
            Some(slot) => {
                let entry = NetworkEntry {
                    id: network.id.get(),
                    generation: 0,
                    shapes: 0,
                    _pad: 0,
                };
                desired.image.networks.insert(slot, entry);
                networks.insert(&network.name, (network.id, slot));
            }
            None => desired
                .faults
                .push(no_room(format!("network {}", network.name), "networks")),
        }
    }
    networks
}

fn no_room(subject: String, limit: &str) -> Fault {
    Fault::new(
        subject,
        format!("there is no room: limits.{limit} are in use"),
        format!("raise limits.{limit}, run `vnet-agent teardown`, start the agent again"),
    )
}

fn underlay<'a>(
    wanted: &Configuration,
    given: &Surroundings<'a>,
    now: &Image,
    slots: &mut Slots<'_>,
    desired: &mut Desired,
) -> Option<UnderlayEnd<'a>> {
    let host = given.host;
    let subject = "underlay";
    let (device, only) = match &wanted.underlay.on {
        UnderlayMatch::Device(name) => (host.device_named(name), None),
        UnderlayMatch::Address(address) => (host.device_with(*address), Some(*address)),
    };
    let Some(device) = device else {
        let on = &wanted.underlay.on;
        desired.faults.push(Fault::new(
            subject,
            format!("there is no {on} on this host"),
            "see `ip address`; the agent goes on as soon as it appears",
        ));
        return None;
    };
    let Some(mac) = device.mac else {
        desired.faults.push(Fault::new(
            subject,
            format!("{} has no Ethernet addresses", device.name),
            "name an Ethernet device under [underlay]",
        ));
        return None;
    };
    let of_family = |ipv6: bool| match only {
        Some(address) => Some(address).filter(|address| address.is_ipv6() == ipv6),
        None => host.first_address(device.index, ipv6),
    };
    let end = UnderlayEnd {
        device,
        mac,
        ipv4: of_family(false),
        ipv6: of_family(true),
    };
    let has = now.underlays.get(&device.index).map(|entry| entry.ledger);
    let Some(ledger) = slots.ledger(has) else {
        desired.faults.push(no_room(subject.to_owned(), "ports"));
        return None;
    };
    let entry = UnderlayEntry {
        ipv4: match end.ipv4 {
            Some(IpAddr::V4(address)) => address.octets(),
            _ => [0; 4],
        },
        ipv6: match end.ipv6 {
            Some(IpAddr::V6(address)) => address.octets(),
            _ => [0; 16],
        },
        udp_port: wanted.underlay.udp_port.to_be_bytes(),
        _pad: [0; 2],
        ledger,
        device: device.index,
    };
    desired.underlay = Some(device.index);
    desired.image.underlays.insert(device.index, entry);
    desired
        .image
        .attachments
        .insert(Attachment::new(Role::Underlay, device.index));
    if !device.up {
        desired.faults.push(Fault::new(
            subject,
            format!("{} is down", device.name),
            format!("ip link set {} up", device.name),
        ));
    }
    Some(end)
}

fn links(
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
        let Some((id, ledger)) = slots.link(link.remote, &ids) else {
            desired.faults.push(no_room(subject, "links"));
            continue;
        };
        desired.links.insert(link.name.clone(), id);
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
            Ok(path) => link_entry(&path, ledger).unwrap_or(unresolved(ledger)),
            Err(NoPath { why, .. }) => {
                let cure = format!(
                    "see `ip route get {0}` and `ip neighbour show {0}`; the agent goes on as \
                     soon as the way is there",
                    link.remote
                );
                desired.faults.push(Fault::new(subject, why, cure));
                unresolved(ledger)
            }
        };
        desired.image.links.insert(id.0, entry);
    }
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

fn guest_mtus(
    wanted: &Configuration,
    underlay: Option<&UnderlayEnd<'_>>,
    host: &Host,
    desired: &mut Desired,
) {
    let Some(underlay) = underlay else { return };
    let on_the_way = |link: &Link| match host.next_hops.get(&link.remote) {
        Some(Ok(hop)) => underlay.device.mtu.min(hop.mtu),
        _ => underlay.device.mtu,
    };
    for network in &wanted.networks {
        if let Some(mtu) = port_mtu(&network.name, &wanted.links, on_the_way) {
            desired.guest_mtus.insert(network.name.clone(), mtu);
        }
    }
}

fn ports(
    wanted: &Configuration,
    given: &Surroundings<'_>,
    now: &Image,
    networks: &Networks<'_>,
    slots: &mut Slots<'_>,
    desired: &mut Desired,
) {
    for taken in given.devices {
        let (Some(port), Some(device)) = (
            wanted.ports.get(taken.port),
            given.host.device_named(&taken.name),
        ) else {
            continue;
        };
        let Some(&(network, network_slot)) = networks.get(port.network.as_str()) else {
            continue;
        };
        let before = now.ports.get(&device.index);
        let subject = format!("port {}", device.name);
        let room = desired.image.ports.len() < usize::try_from(wanted.limits.ports).unwrap_or(0);
        let ledger = slots
            .ledger(before.map(|entry| entry.ledger))
            .filter(|_| room);
        let Some(ledger) = ledger else {
            desired.faults.push(no_room(subject, "ports"));
            continue;
        };
        let mtu_before = mtu(port, device, before, desired);
        let entry = PortEntry {
            network,
            network_slot,
            ledger,
            flags: source_flags(&port.addresses),
            frame_bytes_max: device.mtu.saturating_add(LINK_LAYER_BYTES_MAX),
            mtu_before,
            slow_path_cost_ns: 1_000_000_000 / port.slow_path_rate.max(1),
            slow_path_burst_ns: burst_ns(port),
            addresses: listed(&port.addresses),
            _pad: [0; 8],
        };
        desired.image.ports.insert(device.index, entry);
        desired
            .image
            .attachments
            .insert(Attachment::new(Role::Port, device.index));
    }
    for port in &wanted.ports {
        if let crate::model::DeviceMatch::Name(name) = &port.device
            && given.host.device_named(name).is_none()
        {
            let absent = Fault::new(
                format!("port {name}"),
                "there is no such device",
                "start its VM; the agent takes it in as soon as it appears",
            );
            desired.faults.push(absent.waiting());
        }
    }
}

/// Says which MTU the device should get, if the agent is to set it, and returns the one to put
/// back later (0 where the agent sets none).
fn mtu(port: &Port, device: &Device, before: Option<&PortEntry>, desired: &mut Desired) -> u32 {
    let Some(&wanted) = desired.guest_mtus.get(&port.network) else {
        return kept(before);
    };
    let subject = format!("port {}", device.name);
    if wanted < MTU_MIN {
        desired.faults.push(Fault::new(
            subject,
            format!("the underlay's MTU leaves {wanted} bytes to guests, too few for IP"),
            "raise the underlay's MTU",
        ));
        return kept(before);
    }
    if !port.set_mtu {
        return kept(before);
    }
    let mtu_before = match kept(before) {
        0 => device.mtu,
        earlier => earlier,
    };
    if device.mtu != wanted {
        desired.mtus.insert(device.index, wanted);
    }
    mtu_before
}

fn kept(before: Option<&PortEntry>) -> u32 {
    before.map_or(0, |entry| entry.mtu_before)
}

fn source_flags(addresses: &Addresses) -> u32 {
    match addresses {
        Addresses::Only(_) => 0,
        Addresses::Learn => PortEntry::LEARN,
        Addresses::Any => PortEntry::ANY_SOURCE,
    }
}

fn listed(addresses: &Addresses) -> [Mac; ADDRESSES_MAX] {
    let mut listed = [Mac::ZERO; ADDRESSES_MAX];
    if let Addresses::Only(addresses) = addresses {
        for (place, address) in listed.iter_mut().zip(addresses) {
            *place = *address;
        }
    }
    listed
}

fn burst_ns(port: &Port) -> u32 {
    let burst = u64::from(port.slow_path_burst.max(1)) * 1_000_000_000
        / u64::from(port.slow_path_rate.max(1));
    u32::try_from(burst).unwrap_or(u32::MAX)
}

fn rules(
    wanted: &Configuration,
    given: &Surroundings<'_>,
    networks: &Networks<'_>,
    desired: &mut Desired,
) {
    let effective = wanted.effective_rules(given.devices);
    let targets = TargetFinder::new(wanted, given);
    let compilable = effective.iter().filter_map(|rule| {
        let &(network, _) = networks.get(rule.network.as_str())?;
        let action = targets.action(rule, desired);
        Some(Compilable {
            network,
            source: rule.source,
            destination: rule.destination,
            action,
        })
    });
    let compiled = compile_rules(compilable.collect::<Vec<_>>());
    let limit = usize::try_from(wanted.limits.rules).unwrap_or(usize::MAX);
    if compiled.rules.len() > limit {
        desired.faults.push(no_room("rules".to_owned(), "rules"));
    }
    desired.image.rules = compiled.rules.into_iter().take(limit).collect();
    for network in desired.image.networks.values_mut() {
        let shapes = NetworkId::new(network.id).and_then(|id| compiled.shapes.get(&id));
        network.shapes = shapes.copied().unwrap_or(0);
    }
}

/// What the targets of rules are in the tables.
struct TargetFinder<'a> {
    /// Index of a device and the name of its network, by the device's name.
    ports: BTreeMap<&'a str, (u32, &'a str)>,
    links: BTreeMap<&'a str, &'a Link>,
}

impl<'a> TargetFinder<'a> {
    fn new(wanted: &'a Configuration, given: &Surroundings<'a>) -> Self {
        let ports = given.devices.iter().filter_map(|taken| {
            let device = given.host.device_named(&taken.name)?;
            let port = wanted.ports.get(taken.port)?;
            Some((device.name.as_str(), (device.index, port.network.as_str())))
        });
        let links = wanted.links.iter().map(|link| (link.name.as_str(), link));
        Self {
            ports: ports.collect(),
            links: links.collect(),
        }
    }

    fn action(&self, rule: &Rule, desired: &Desired) -> Action {
        match &rule.to {
            Target::Flood => Action::FLOOD,
            Target::Drop => Action::drop(Reason::Rule),
            Target::Port(name) => match self.ports.get(name.as_str()) {
                Some(&(index, network))
                    if network == rule.network && desired.image.ports.contains_key(&index) =>
                {
                    Action::deliver(PortId(index))
                }
                _ => Action::drop(Reason::PortAbsent),
            },
            Target::Link(name) => match (self.links.get(name.as_str()), desired.links.get(name)) {
                (Some(link), Some(&id)) if link.carries(&rule.network) => Action::send(id),
                _ => Action::drop(Reason::LinkAbsent),
            },
        }
    }
}
