//! What should the kernel hold, given what is wanted and what the host is?
//!
//! Input: the configuration, the host's devices, addresses and next hops, and the image of what
//! the kernel holds now (for places in the tables only). Output: the image that should be, with
//! what cannot be brought about and why. Pure: the same input gives the same output.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vnet_common::addr::{LinkId, Mac, NetworkId, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::action::Action;
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::setting::Setting;
use vnet_common::table::underlay::UnderlayEntry;

use super::image::Image;
use super::links::{guest_mtus, links};
use super::ports::ports;
use super::rules::{Compilable, compile_rules};
use super::slots::Slots;
use crate::model::attachment::{Attachment, Role};
use crate::model::configuration::UnderlayMatch;
use crate::model::door::{Door, Picks};
use crate::model::host::{Device, Host};
use crate::model::{Configuration, Link, PortDevice, Rule, Target};

/// What is given.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The host, as the kernel tells it.
    pub host: &'a Host,
    /// The devices that port entries take in.
    pub devices: &'a [PortDevice],
    /// The programs of devices that become ports as soon as their networks are there.
    pub early: &'a BTreeSet<Attachment>,
    /// The agent's own tap; 0 while there is none.
    pub slow_path_device: u32,
    /// The inode of the agent's network namespace.
    pub namespace: u32,
    /// A number that nobody can guess, for a data plane that has none yet; not zero.
    pub secret: u64,
    /// The number of ledgers.
    pub ledgers: u32,
    /// The largest packets that are known to arrive, by link. Links whose paths nobody asks about are
    /// not here.
    pub path_mtus: &'a BTreeMap<String, PathMtu>,
    /// Whether the links that are watched answer; nothing where nobody knows yet. The frames of one
    /// that does not take the link that it falls back to.
    pub answering: &'a BTreeMap<String, Option<bool>>,
    /// The doors of all devices.
    pub picks: &'a Picks,
    /// The links that the agent carries and that have a connection now, by name.
    pub carried: &'a BTreeSet<String>,
}

/// What should be.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// The tables and programs.
    pub image: Image,
    /// The MTUs that devices should have, by index.
    pub mtus: BTreeMap<u32, u32>,
    /// The MTUs that devices had before they became ports, which they are no more: to be set
    /// before the tables forget them.
    pub mtus_before: BTreeMap<u32, u32>,
    /// The MTU that guests of a network must use, by the network's name.
    pub guest_mtus: BTreeMap<String, u32>,
    /// Which id a link has, by its name.
    pub links: BTreeMap<String, LinkId>,
    /// The ways of the links that have one, by their names.
    pub ways: BTreeMap<String, Way>,
    /// The underlay device.
    pub underlay: Option<u32>,
    /// What cannot be brought about now.
    pub faults: Vec<Fault>,
}

/// What is known of the largest packet that arrives; nothing while it is being found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathMtu {
    /// Of this size they are known to arrive now.
    pub arrives: Option<u32>,
    /// Of this size when the last search was over: what guests are told does not follow a search step
    /// by step. Below 1280 bytes a device would even lose its IPv6 settings.
    pub settled: Option<u32>,
}

/// The way that a link takes, and how large packets may be on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// This end's address.
    pub local: IpAddr,
    /// Bytes that the device and the route take.
    pub device_mtu: u32,
    /// Bytes of the packets that are sent: fewer where it is known that fewer arrive.
    pub mtu: u32,
    /// The same as guests are told.
    pub guest_path_mtu: u32,
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
    pub(super) fn new(
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

    pub(super) fn waiting(self) -> Self {
        Self {
            is_waiting: true,
            ..self
        }
    }
}

/// Where overlay packets enter and leave.
pub(super) struct UnderlayEnd<'a> {
    pub(super) device: &'a Device,
    pub(super) mac: Mac,
    pub(super) ipv4: Option<IpAddr>,
    pub(super) ipv6: Option<IpAddr>,
}

/// Works out what should be.
pub fn desired(wanted: &Configuration, given: &Surroundings<'_>, now: &Image) -> Desired {
    let mut slots = Slots::new(now, &wanted.limits, given.ledgers);
    let mut desired = Desired::default();
    desired.image.setting = Some(Setting {
        slow_path_device: given.slow_path_device,
        namespace: given.namespace,
        secret: now.setting.map_or(given.secret, |setting| setting.secret),
    });
    if given.slow_path_device != 0 {
        let door = given.picks.agent.unwrap_or(Door::Tc);
        desired.image.attachments.insert(Attachment::new(
            Role::Agent,
            given.slow_path_device,
            door,
        ));
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
    guest_mtus(wanted, underlay.as_ref(), given, &mut desired);
    ports(wanted, given, now, &networks, &mut slots, &mut desired);
    rules(wanted, given, &networks, &mut desired);
    desired
}

/// The id and slot of each network that has one.
pub(super) type Networks<'a> = BTreeMap<&'a str, (NetworkId, u32)>;

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

pub(super) fn no_room(subject: String, limit: &str) -> Fault {
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
    let only = match wanted.underlay.on {
        UnderlayMatch::Device(_) => None,
        UnderlayMatch::Address(address) => Some(address),
    };
    let Some(device) = wanted.underlay.on.device(host) else {
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
    let before = now.underlays.get(&device.index);
    let of_family = |ipv6: bool| match only {
        Some(address) => Some(address).filter(|address| address.is_ipv6() == ipv6),
        None => kept_address(host, before, ipv6).or_else(|| host.first_address(device.index, ipv6)),
    };
    let end = UnderlayEnd {
        device,
        mac,
        ipv4: of_family(false),
        ipv6: of_family(true),
    };
    let Some(ledger) = slots.ledger(before.map(|entry| entry.ledger)) else {
        desired.faults.push(no_room(subject.to_owned(), "ports"));
        return None;
    };
    let doors = underlay_doors(given.picks);
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
        flags: if doors.len() > 1 {
            UnderlayEntry::JOINS
        } else {
            0
        },
        _pad: 0,
        ledger,
        device: device.index,
    };
    desired.underlay = Some(device.index);
    desired.image.underlays.insert(device.index, entry);
    let programs = doors
        .iter()
        .map(|&door| Attachment::new(Role::Underlay, device.index, door));
    desired.image.attachments.extend(programs);
    if !device.up {
        desired.faults.push(Fault::new(
            subject,
            format!("{} is down", device.name),
            format!("ip link set {} up", device.name),
        ));
    }
    Some(end)
}

/// Where the underlay's programs sit: one, or the TC program behind the XDP program.
fn underlay_doors(picks: &Picks) -> &'static [Door] {
    match &picks.underlay {
        Some(pick) if pick.door == Door::Xdp && pick.joins => &Door::ALL,
        Some(pick) if pick.door == Door::Xdp => &[Door::Xdp],
        _ => &[Door::Tc],
    }
}

/// The address that links use now, as long as it is there: their other ends know this host by it,
/// and an address that is added beside it must not change that.
fn kept_address(host: &Host, before: Option<&UnderlayEntry>, ipv6: bool) -> Option<IpAddr> {
    let before = before?;
    let address = match ipv6 {
        false => IpAddr::from(before.ipv4),
        true => IpAddr::from(before.ipv6),
    };
    let mut addresses = host.addresses_of(before.device).iter();
    addresses
        .find(|entry| entry.address == address && !entry.tentative)
        .map(|_| address)
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
    // The strongest stay: they are the last, and a `drop` among them must not give way to a default.
    desired.image.rules = compiled.rules.into_iter().rev().take(limit).collect();
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
