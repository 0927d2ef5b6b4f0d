//! The tables of `host_one`, from actor words to entries.
//!
//! Input: what a vector says of ports, links, networks and rules. Output: [`Entries`], which every
//! runner can write. A link's prepared headers are built like any frame, by the independent
//! encoder.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use vnet_common::addr::{Cookie, Mac, NetworkId, PortId, Stations};
use vnet_common::reason::Reason;
use vnet_common::rule::{Destination, Shape, Source};
use vnet_common::table::action::Action;
use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::link::{HEADER_ROOM, LinkEntry};
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::PortEntry;
use vnet_common::table::rule::{Alternative, RuleEntry, RuleKey};
use vnet_common::table::underlay::UnderlayEntry;

use crate::actor::{self, AGENT, HOST_ONE, LinkActor, WIRE};
use crate::build::build;
use crate::headers::sum;
use crate::stage::{Stage, UNDERLAY_LEDGER};
use crate::vector::{Addresses, Link, Port, Vector};

/// The underlay's MTU.
pub const UNDERLAY_MTU: u32 = 1500;

/// Everything that the agent writes, whoever holds the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Ports by device; each gets an empty state too.
    pub ports: BTreeMap<u32, PortEntry>,
    /// Underlay devices.
    pub underlays: BTreeMap<u32, UnderlayEntry>,
    /// Networks by slot.
    pub networks: BTreeMap<u32, NetworkEntry>,
    /// Rules.
    pub rules: BTreeMap<RuleKey, RuleEntry>,
    /// Links by number.
    pub links: BTreeMap<u32, LinkEntry>,
    /// Admissions.
    pub admissions: BTreeMap<AdmissionKey, AdmissionEntry>,
    /// The agent's tap, or 0.
    pub slow_path_device: u32,
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its senders.
    pub source: Source,
    /// Its receivers.
    pub destination: Destination,
    /// What it does.
    pub action: Action,
}

/// The entries for a vector after `added` rules more.
///
/// # Errors
///
/// A word in it means nothing.
pub fn entries(vector: &Vector, added: &[String], stage: &Stage) -> Result<Entries> {
    let mut entries = Entries::default();
    if vector.agent.has_tap {
        entries.slow_path_device = stage.device(AGENT)?;
    }
    if vector.underlay.is_known {
        let underlay = UnderlayEntry {
            ipv4: HOST_ONE.ipv4.octets(),
            ipv6: HOST_ONE.ipv6.octets(),
            udp_port: vector.underlay.udp_port.to_be_bytes(),
            flags: 0,
            _pad: 0,
            ledger: UNDERLAY_LEDGER,
            device: stage.device(WIRE)?,
        };
        entries.underlays.insert(stage.device(WIRE)?, underlay);
    }
    add_networks(&mut entries, vector, added, stage)?;
    for (name, port) in &vector.port {
        let entry = port_entry(name, port, stage).with_context(|| format!("port {name}"))?;
        entries.ports.insert(stage.device(name)?, entry);
    }
    for (name, link) in &vector.link {
        add_link(&mut entries, actor::link(name)?, link, stage)
            .with_context(|| format!("link {name}"))?;
    }
    Ok(entries)
}

fn add_networks(
    entries: &mut Entries,
    vector: &Vector,
    added: &[String],
    stage: &Stage,
) -> Result<()> {
    let mut networks = vector.network.clone();
    let blue = networks.entry("blue".to_owned()).or_default();
    ensure!(
        blue.rules.is_empty(),
        "the rules of blue belong at the top of the vector"
    );
    blue.rules = [vector.rules.as_slice(), added].concat();
    for (name, network) in networks.iter().filter(|(_, network)| network.is_known) {
        let id = stage.network(name)?;
        let mut rules = Vec::new();
        for text in &network.rules {
            rules.push(rule(text, stage).with_context(|| format!("in the rule `{text}`"))?);
        }
        let generation = 1 + u32::try_from(added.len())?;
        let slot = Stage::network_slot(name)?;
        add_network(entries, slot, id, generation, &rules);
    }
    Ok(())
}

/// Adds a network with these rules, oldest first.
pub fn add_network(
    entries: &mut Entries,
    slot: u32,
    id: NetworkId,
    generation: u32,
    rules: &[Rule],
) {
    let mut shapes = 0;
    let mut by_key: BTreeMap<RuleKey, Vec<Alternative>> = BTreeMap::new();
    for rule in rules.iter().rev() {
        let shape = Shape::of(rule.source, rule.destination);
        let stations = Stations::new(rule.source.address(), rule.destination.address());
        let not = |is_not: bool, mac: Mac| if is_not { mac } else { Mac::ZERO };
        shapes |= shape.bit();
        let alternatives = by_key.entry(RuleKey::new(id, shape, stations));
        alternatives.or_default().push(Alternative {
            not_source: not(matches!(rule.source, Source::Not(_)), rule.source.address()),
            not_destination: not(
                matches!(rule.destination, Destination::Not(_)),
                rule.destination.address(),
            ),
            action: rule.action,
        });
    }
    for (key, newest_first) in by_key {
        let entry = RuleEntry::compile(&newest_first);
        entries.rules.extend(entry.map(|entry| (key, entry)));
    }
    let network = NetworkEntry {
        id: id.get(),
        generation,
        shapes,
        _pad: 0,
    };
    entries.networks.insert(slot, network);
}

/// `SOURCE -> DESTINATION: TARGET`, in actor words.
///
/// # Errors
///
/// A word means nothing.
pub fn rule(text: &str, stage: &Stage) -> Result<Rule> {
    let (who, target) = text.split_once(": ").context("no `: TARGET`")?;
    let (source, destination) = who.split_once(" -> ").context("no `->`")?;
    let source = match (source, source.strip_prefix("not ")) {
        ("any", _) => Source::Any,
        (_, Some(name)) => Source::Not(actor::mac(name)?),
        (name, None) => Source::Is(actor::mac(name)?),
    };
    let destination = match (destination, destination.strip_prefix("not ")) {
        ("any", _) => Destination::Any,
        ("none", _) => Destination::None,
        (_, Some(name)) => Destination::Not(actor::mac(name)?),
        (name, None) => Destination::Is(actor::mac(name)?),
    };
    let action = match target.split_once(' ').unwrap_or((target, "")) {
        ("port", name) => Action::deliver(PortId(stage.device(name)?)),
        ("link", name) => Action::send(stage.link(name)?),
        ("flood", "") => Action::FLOOD,
        ("drop", "") => Action::drop(Reason::Rule),
        ("drop", name) => Action::drop(Reason::from_name(name).context("an unknown reason")?),
        _ => bail!("a target is `port P`, `link L`, `flood` or `drop`"),
    };
    Ok(Rule {
        source,
        destination,
        action,
    })
}

fn port_entry(name: &str, port: &Port, stage: &Stage) -> Result<PortEntry> {
    let mut addresses = [Mac::ZERO; vnet_common::table::port::ADDRESSES_MAX];
    let mut flags = 0;
    let own = [name.to_owned()];
    let listed: &[String] = match &port.addresses {
        None => &own,
        Some(Addresses::List(list)) => list,
        Some(Addresses::Word(word)) => {
            flags = match word.as_str() {
                "any" => PortEntry::ANY_SOURCE,
                "learn" => PortEntry::LEARN,
                _ => bail!("addresses are `any`, `learn` or a list"),
            };
            &[]
        }
    };
    ensure!(listed.len() <= addresses.len(), "too many addresses");
    for (place, name) in addresses.iter_mut().zip(listed) {
        *place = actor::mac(name)?;
    }
    let (slow_path_cost_ns, slow_path_burst_ns) = budget(port.slow_path_frames);
    Ok(PortEntry {
        network: stage.network(&port.network)?,
        network_slot: Stage::network_slot(&port.network)?,
        ledger: Stage::port_ledger(name)?,
        flags,
        frame_bytes_max: port.carries,
        mtu_before: 0,
        slow_path_cost_ns,
        slow_path_burst_ns,
        addresses,
        _pad: [0; 8],
    })
}

/// Cost and burst, in nanoseconds, with which exactly so many frames pass at once. Each costs the
/// more time the fewer they are: with one, a second one would have to come four seconds later.
fn budget(frames: Option<u32>) -> (u32, u32) {
    match frames {
        None => (0, 1),
        Some(0) => (u32::MAX, 0),
        Some(frames) => {
            let cost_ns = u32::MAX / frames;
            (cost_ns, cost_ns * (frames - 1) + 1)
        }
    }
}

fn add_link(entries: &mut Entries, actor: &LinkActor, link: &Link, stage: &Stage) -> Result<()> {
    let id = stage.link(actor.name)?;
    let mut entry = if link.is_carried {
        carried_entry(actor, stage)?
    } else {
        link_entry(actor, stage)?
    };
    entry.frame_bytes_max = link.carries.unwrap_or(entry.frame_bytes_max);
    if link.stamps {
        entry.flags |= LinkEntry::STAMP;
    }
    if !link.is_resolved {
        entry.device = 0;
    }
    if let Some(other) = &link.instead {
        entry = entry.with_instead(Some(stage.link(other)?));
    }
    if let Some(whole) = &link.rung_of {
        entry = entry.with_rung_of(Some(stage.link(whole)?));
    }
    if !link.is_up {
        entry.flags &= !LinkEntry::UP;
    }
    entries.links.insert(id.0, entry);
    if link.is_carried {
        // What comes in otherwise than by the agent is not of this link.
        return Ok(());
    }
    for network in &link.networks {
        let id_of_network = stage.network(network)?;
        let key = if actor.is_ipv6 {
            AdmissionKey::ipv6(actor.far.ipv6.octets(), id_of_network)
        } else {
            AdmissionKey::ipv4(actor.far.ipv4.octets(), id_of_network)
        };
        let admission = AdmissionEntry {
            cookie: actor.cookie,
            link: id,
            ledger: entry.ledger,
            network_slot: Stage::network_slot(network)?,
            _pad: 0,
        };
        entries.admissions.insert(key, admission);
    }
    Ok(())
}

/// The entry of a link that the agent carries: without headers, and as large as its tap takes.
fn carried_entry(actor: &LinkActor, stage: &Stage) -> Result<LinkEntry> {
    Ok(LinkEntry {
        device: stage.device(AGENT)?,
        ledger: Stage::link_ledger(actor.name)?,
        flags: LinkEntry::UP | LinkEntry::AGENT,
        frame_bytes_max: 65_503,
        ..LinkEntry::NONE
    })
}

/// The entry of a link that is up and resolved: its headers with all that differs from frame to
/// frame left zero.
///
/// # Errors
///
/// A number of this run is missing.
pub fn link_entry(actor: &LinkActor, stage: &Stage) -> Result<LinkEntry> {
    let is_plain = actor.cookie == Cookie::NONE;
    let mut flags = LinkEntry::UP;
    flags |= if is_plain { LinkEntry::PLAIN } else { 0 };
    let (from, to) = (HOST_ONE.name, actor.far.name);
    let ip = if actor.is_ipv6 {
        flags |= LinkEntry::IPV6;
        format!("ipv6 {from} -> {to} hops=0 payload-length=0")
    } else {
        format!("ipv4 {from} -> {to} df ttl=0 total-length=0 checksum=0")
    };
    let mut layers = vec![
        format!("ethernet {from} -> {to}"),
        ip,
        "udp 0 -> geneve length=0".to_owned(),
        // The network is zero, and the words are those of the option that follows.
        "geneve none".to_owned(),
    ];
    if !is_plain {
        layers.push(format!("option {}", actor.name));
    }
    let built = build(&layers, stage, None)?;
    let mut header = [0; HEADER_ROOM];
    let room = header.get_mut(..built.bytes.len());
    room.context("more headers than room")?
        .copy_from_slice(&built.bytes);
    let beyond_ethernet = u32::try_from(built.bytes.len())? - 14;
    Ok(LinkEntry {
        device: stage.device(WIRE)?,
        ledger: Stage::link_ledger(actor.name)?,
        flags,
        frame_bytes_max: UNDERLAY_MTU - beyond_ethernet,
        ipv4_sum: if actor.is_ipv6 {
            0
        } else {
            sum(&header[14..34])
        },
        header,
        instead: 0,
        _pad: [0; 2],
        rung_of: 0,
    })
}
