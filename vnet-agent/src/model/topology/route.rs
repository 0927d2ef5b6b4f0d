//! Which way does a frame take over all hosts, and which rule decides each hop?
//!
//! Input: a topology, and where a frame begins. Output: every hop with the rules that decided there
//! and what became of the frame. The order among rules is the one that the kernel's tables are made
//! in (`vnet_common::rule`), and a frame for many goes where the agent's slow path would send it.
//! That a VM's card has its address at its host's port, as the host's own file says, is assumed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::Serialize;
use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use super::super::ranking::{self, Ranking};
use super::{Flooding, Link, LinkKind, Role, Rule, Target, Topology, Vm};

/// The rules of all hosts, arranged so that a frame meets those only that may be about it.
pub struct Router<'a> {
    topology: &'a Topology,
    tables: BTreeMap<(&'a str, &'a str), Table<'a>>,
}

/// What one host knows of one network.
#[derive(Default)]
struct Table<'a> {
    ports: BTreeSet<&'a str>,
    links: Vec<&'a Link>,
    /// Of age 0 is what follows from a VM's place.
    rules: Ranking<DeciderRef<'a>>,
}

type Ranked<'a> = ranking::Ranked<DeciderRef<'a>>;

enum DeciderRef<'a> {
    Rule(&'a Rule),
    Vm(&'a Vm),
}

/// Where a frame comes from, seen from a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Came {
    /// Out of this device, a VM's.
    Interface(String),
    /// Over the link from this host.
    Edge(String),
}

/// A rule that had a say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decider {
    /// Frames from whom.
    pub source: Source,
    /// Frames for whom.
    pub destination: Destination,
    /// Where they go.
    pub to: Target,
    /// 0 (weakest) to 11.
    pub strength: u8,
    /// Whether it follows from where the VM is, and stands in no text.
    pub implied: bool,
}

/// What became of a frame at a host; one for many may have several fates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Into this device.
    Interface {
        /// The device.
        device: String,
        /// Whose it is, as far as the topology says.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        vms: Vec<String>,
    },
    /// Over a link.
    Edge {
        /// To this host.
        host: String,
        /// In this.
        kind: LinkKind,
    },
    /// Over a plain link, to where nobody can say what becomes of it.
    Leaves {
        /// The foreign host.
        host: String,
    },
    /// Nowhere.
    Dropped(Why),
}

/// Why a frame goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// No rule matches.
    NoRule,
    /// A rule says so.
    Rule,
    /// It would go back where it came from.
    Back,
    /// It is to go to everybody, and nobody else is there.
    Nobody,
    /// It has been here before, from the same side. One for many is known there and dropped; any other
    /// goes round until its hop limit.
    Loop,
}

/// One host on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The host.
    pub host: String,
    /// Where the frame came from.
    pub came: Came,
    /// The rules that decided, strongest first; one, unless the frame is for many.
    pub deciders: Vec<Decider>,
    /// What became of it.
    pub fates: Vec<Fate>,
}

/// Why there is no way to speak of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum NoRoute {
    #[error("no VM has the address {0}, so no frame comes from it")]
    UnknownSource(Mac),
    #[error("VMs in several networks have the address {mac} ({}): say which is meant", .networks.join(", "))]
    Ambiguous { mac: Mac, networks: Vec<String> },
}

impl<'a> Router<'a> {
    /// The tables of a topology.
    pub fn new(topology: &'a Topology) -> Self {
        let mut router = Self {
            topology,
            tables: BTreeMap::new(),
        };
        for vm in &topology.vms {
            let table = router.tables.entry((&vm.host, &vm.network)).or_default();
            table.ports.insert(&vm.device);
            table.add(0, DeciderRef::Vm(vm));
        }
        for link in &topology.links {
            for network in &link.networks {
                for end in [&link.from, &link.to] {
                    let table = router.tables.entry((end, network)).or_default();
                    table.links.push(link);
                }
            }
        }
        for (rule, age) in topology.rules.iter().zip(1..) {
            let table = router
                .tables
                .entry((&rule.host, &rule.network))
                .or_default();
            if let Target::Interface(device) = &rule.to {
                table.ports.insert(device);
            }
            table.add(age, DeciderRef::Rule(rule));
        }
        router
    }

    /// The way of a frame from a VM's address to any, in one network or, where only one has the
    /// address, in that.
    ///
    /// # Errors
    /// No VM has the source address, or VMs of several networks have.
    pub fn route(
        &self,
        network: Option<&str>,
        source: Mac,
        destination: Mac,
    ) -> Result<Vec<Hop>, NoRoute> {
        let is_it = |vm: &&Vm| vm.mac == source && network.is_none_or(|n| n == vm.network);
        let found: Vec<&Vm> = self.topology.vms.iter().filter(is_it).collect();
        match found.as_slice() {
            [] => Err(NoRoute::UnknownSource(source)),
            [vm] => Ok(self.from_vm(vm, destination)),
            several => Err(NoRoute::Ambiguous {
                mac: source,
                networks: several.iter().map(|vm| vm.network.clone()).collect(),
            }),
        }
    }

    /// The way of a frame from a VM to any address of its network.
    pub fn from_vm(&self, vm: &Vm, destination: Mac) -> Vec<Hop> {
        let start = (vm.host.clone(), Came::Interface(vm.device.clone()));
        self.from_place(&vm.network, start, vm.mac, destination)
    }

    /// The way of any frame from where it comes in.
    pub fn from_place(
        &self,
        network: &str,
        start: (String, Came),
        source: Mac,
        destination: Mac,
    ) -> Vec<Hop> {
        let mut seen = BTreeSet::from([start.clone()]);
        let mut waiting = VecDeque::from([start]);
        let mut hops = Vec::new();
        while let Some((host, came)) = waiting.pop_front() {
            let mut hop = self.hop(network, host, came, source, destination);
            for fate in &mut hop.fates {
                let Fate::Edge { host: next, .. } = fate else {
                    continue;
                };
                let next = (next.clone(), Came::Edge(hop.host.clone()));
                if seen.insert(next.clone()) {
                    waiting.push_back(next);
                } else {
                    *fate = Fate::Dropped(Why::Loop);
                }
            }
            hops.push(hop);
        }
        hops
    }

    /// What one host does with a frame.
    pub fn hop(
        &self,
        network: &str,
        host: String,
        came: Came,
        source: Mac,
        destination: Mac,
    ) -> Hop {
        let empty = Table::default();
        let table = self.tables.get(&(host.as_str(), network)).unwrap_or(&empty);
        let mut matching = table.matching(source, destination);
        if destination.is_group() {
            let is_drop = |ranked: &&Ranked<'_>| ranked.rule.to() == Target::Drop;
            let end = matching.iter().position(is_drop);
            matching.truncate(end.map_or(matching.len(), |end| end.saturating_add(1)));
        } else {
            matching.truncate(1);
        }
        let fates = self.fates(&host, table, &matching, &came);
        let deciders = matching.iter().map(|ranked| shown(ranked)).collect();
        Hop {
            host,
            came,
            deciders,
            fates,
        }
    }

    fn fates(
        &self,
        host: &str,
        table: &Table<'_>,
        matching: &[&Ranked<'_>],
        came: &Came,
    ) -> Vec<Fate> {
        let mut fates = BTreeSet::new();
        let mut none = Why::NoRule;
        for ranked in matching {
            match ranked.rule.to() {
                Target::Drop => none = Why::Rule,
                Target::Edge(to) if *came == Came::Edge(to.clone()) => none = Why::Back,
                Target::Interface(device) if *came == Came::Interface(device.clone()) => {
                    none = Why::Back;
                }
                Target::Edge(to) => {
                    let link = table.links.iter().find(|l| l.other(host) == Some(&to));
                    fates.extend(link.map(|link| self.over(link, &to)));
                }
                Target::Interface(device) => {
                    fates.insert(self.into(host, &device));
                }
                Target::Flood => {
                    none = Why::Nobody;
                    let others = table.ports.iter().filter(
                        |&&port| !matches!(came, Came::Interface(device) if device == port),
                    );
                    fates.extend(others.map(|device| self.into(host, device)));
                    let takers = table.takers(host, came);
                    fates.extend(takers.map(|(link, to)| self.over(link, to)));
                }
            }
        }
        if fates.is_empty() {
            vec![Fate::Dropped(none)]
        } else {
            fates.into_iter().collect()
        }
    }

    fn into(&self, host: &str, device: &str) -> Fate {
        let there = |vm: &&Vm| vm.host == host && vm.device == device;
        let vms = self.topology.vms.iter().filter(there);
        Fate::Interface {
            device: device.to_owned(),
            vms: vms.map(|vm| vm.name.clone()).collect(),
        }
    }

    fn over(&self, link: &Link, to: &str) -> Fate {
        let is_foreign = |role| role == Role::Foreign;
        let host = to.to_owned();
        match self.topology.host(to).map(|host| host.role) {
            Some(role) if is_foreign(role) => Fate::Leaves { host },
            _ => Fate::Edge {
                host,
                kind: link.kind,
            },
        }
    }
}

impl<'a> Table<'a> {
    fn add(&mut self, age: usize, decider: DeciderRef<'a>) {
        let (source, destination) = decider.sides();
        self.rules.add(age, source, destination, decider);
    }

    /// The rules that are about a frame with these addresses, strongest first. What follows from a
    /// VM's place gives way to a rule with the same sides.
    fn matching(&self, source: Mac, destination: Mac) -> Vec<&Ranked<'a>> {
        let mut found = self.rules.matching(source, destination);
        let sides = |ranked: &Ranked<'_>| (ranked.source, ranked.destination);
        found.dedup_by(|older, newer| older.age == 0 && sides(older) == sides(newer));
        found
    }

    /// The links that take a frame for everybody, and the hosts that they lead to.
    fn takers<'t>(
        &'t self,
        host: &'t str,
        came: &'t Came,
    ) -> impl Iterator<Item = (&'t Link, &'t str)> {
        let takes = |flooding: Flooding| match flooding {
            Flooding::Always => true,
            Flooding::FromPorts => matches!(came, Came::Interface(_)),
            Flooding::Never => false,
        };
        let links = self.links.iter().filter(move |link| takes(link.flood));
        links
            .filter_map(move |link| Some((*link, link.other(host)?)))
            .filter(move |(_, to)| !matches!(came, Came::Edge(from) if from == to))
    }
}

fn shown(ranked: &Ranked<'_>) -> Decider {
    Decider {
        source: ranked.source,
        destination: ranked.destination,
        to: ranked.rule.to(),
        strength: ranked.strength.strength(),
        implied: ranked.age == 0,
    }
}

impl DeciderRef<'_> {
    const fn sides(&self) -> (Source, Destination) {
        match self {
            Self::Rule(rule) => (rule.source, rule.destination),
            Self::Vm(vm) => (Source::Any, Destination::Is(vm.mac)),
        }
    }

    fn to(&self) -> Target {
        match self {
            Self::Rule(rule) => rule.to.clone(),
            Self::Vm(vm) => Target::Interface(vm.device.clone()),
        }
    }
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(device) => write!(f, "interface {device}"),
            Self::Edge(host) => write!(f, "edge from {host}"),
        }
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} = {}", self.source, self.destination, self.to)?;
        f.write_str(if self.implied {
            " (the VM is here)"
        } else {
            ""
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRule => "no rule matches",
            Self::Rule => "a rule says so",
            Self::Back => "it would go back where it came from",
            Self::Nobody => "nobody else is there",
            Self::Loop => "it has been there before: one for many ends there, any other goes round until its hop limit",
        })
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface { device, vms } if vms.is_empty() => {
                write!(f, "delivered into {device}")
            }
            Self::Interface { device, vms } => {
                write!(f, "delivered to {} ({device})", vms.join(", "))
            }
            Self::Edge { host, kind } => write!(f, "over {kind} to {host}"),
            Self::Leaves { host } => write!(f, "leaves for {host}, which is foreign"),
            Self::Dropped(why) => write!(f, "dropped: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
