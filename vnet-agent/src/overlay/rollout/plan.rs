//! What is every host's part in each stage?
//!
//! Input: all parts before and after, where hosts are, and which stations are at their own ports.
//! Output: the stages that it takes, and a part, without a revision, for any host and stage.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use super::order::{AT_THE_END, Node, Sort, Sorts, rounds};
use super::table::{Decision, Table};
use crate::model::part::Part;
use crate::model::{Flooding, Link, Network, Rule, RuleOrigin, Target};

/// Every host's part, by its name.
pub type Parts = BTreeMap<String, Part>;

/// Where a host is, and what is there.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// The stations at its own ports: network, address, device.
    pub stations: Vec<(String, Mac, String)>,
}

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// As it was.
    Before,
    /// All links, old and new.
    Links,
    /// The rules of this round, from 1, and of those before.
    Round(u32),
    /// As it is to be.
    After,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before => f.write_str("as before"),
            Self::Links => f.write_str("new links"),
            Self::Round(number) => write!(f, "rules, round {number}"),
            Self::After => f.write_str("old links go"),
        }
    }
}

/// The way from one state of the overlay to another.
#[derive(Clone, Debug)]
pub struct Plan {
    hosts: BTreeMap<String, Host>,
    sorts: BTreeMap<String, Sorts>,
    stages: Vec<Stage>,
    /// Whose an address on the underlay is.
    at: BTreeMap<IpAddr, String>,
}

#[derive(Clone, Debug, Default)]
struct Host {
    before: Part,
    after: Part,
    /// By network: the stations at its own ports.
    own: BTreeMap<String, Vec<(Mac, String)>>,
    /// By network: when it switches what. Nothing about a sort of frames that fares as before.
    switches: BTreeMap<String, BTreeMap<Sort, u32>>,
}

impl Plan {
    /// Makes one.
    pub fn new(before: &Parts, after: &Parts, places: &BTreeMap<String, Place>) -> Self {
        let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
        for (name, part) in before {
            hosts.entry(name.clone()).or_default().before = part.clone();
        }
        for (name, part) in after {
            hosts.entry(name.clone()).or_default().after = part.clone();
        }
        for (name, place) in places {
            let Some(host) = hosts.get_mut(name) else {
                continue;
            };
            for (network, station, device) in &place.stations {
                let own = host.own.entry(network.clone()).or_default();
                own.push((*station, device.clone()));
            }
        }
        let sorts = sorts(&hosts);
        let switches = switches(&hosts, &sorts, places);
        let mut last = 0;
        for (host, switches) in hosts.values_mut().zip(switches) {
            let rounds = switches.values().flat_map(BTreeMap::values);
            let in_rounds = rounds.copied().filter(|&round| round < AT_THE_END);
            last = in_rounds.max().unwrap_or(0).max(last);
            host.switches = switches;
        }
        let mut stages = vec![Stage::Before, Stage::Links];
        stages.extend((1..=last).map(Stage::Round));
        stages.push(Stage::After);
        let at = places.iter().flat_map(|(name, place)| {
            let addresses = place.addresses.iter();
            addresses.map(|&address| (address, name.clone()))
        });
        let mut plan = Self {
            hosts,
            sorts,
            stages: vec![Stage::Before],
            at: at.collect(),
        };
        for stage in stages.into_iter().skip(1) {
            let before = plan.stages.last().copied().unwrap_or(Stage::Before);
            if stage == Stage::After || !plan.changed(before, stage).is_empty() {
                plan.stages.push(stage);
            }
        }
        plan
    }

    /// Where a link of this host leads that it does not have yet, and that frames are to take.
    pub fn new_link_to(&self, host: &str, link: &str) -> Option<&str> {
        let host = self.hosts.get(host)?;
        if named(&host.before, link).is_some() {
            return None;
        }
        let link = named(&host.after, link)?;
        let mut rules = host.after.rules.iter();
        let is_led_to = rules.any(|rule| rule.to == Target::Link(link.name.clone()));
        if !is_led_to && link.flood == Flooding::Never {
            return None;
        }
        self.at.get(&link.remote).map(String::as_str)
    }

    /// The stages, from what was to what is to be.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// A host's part in a stage, without a revision.
    pub fn part(&self, stage: Stage, host: &str) -> Part {
        let Some(host) = self.hosts.get(host) else {
            return Part::default();
        };
        let revision = 0;
        match stage {
            Stage::Before => Part {
                revision,
                ..host.before.clone()
            },
            Stage::After => Part {
                revision,
                ..host.after.clone()
            },
            Stage::Links | Stage::Round(_) => Part {
                revision,
                networks: host.networks(),
                links: host.links(),
                rules: self.rules(stage, host),
            },
        }
    }

    /// Every host's part in a stage.
    pub fn parts(&self, stage: Stage) -> Parts {
        let hosts = self.hosts.keys();
        hosts
            .map(|name| (name.clone(), self.part(stage, name)))
            .collect()
    }

    /// The hosts that have another part in one stage than in the other.
    pub fn changed(&self, one: Stage, other: Stage) -> BTreeSet<String> {
        let differs = |name: &&String| self.part(one, name) != self.part(other, name);
        self.hosts.keys().filter(differs).cloned().collect()
    }

    fn rules(&self, stage: Stage, host: &Host) -> Vec<Rule> {
        let round = match stage {
            Stage::Before | Stage::Links => 0,
            Stage::Round(round) => round,
            Stage::After => AT_THE_END - 1,
        };
        let is_done = |switches: &BTreeMap<Sort, u32>| switches.values().all(|&at| at <= round);
        let is_begun = |switches: &BTreeMap<Sort, u32>| switches.values().any(|&at| at <= round);
        if !host.switches.values().any(is_begun) {
            return host.before.rules.clone();
        }
        let mut rules = Vec::new();
        let all = host.before.rules.iter().chain(&host.after.rules);
        let networks: BTreeSet<&str> = all.map(|rule| rule.network.as_str()).collect();
        for network in networks {
            let of = |rules: &[Rule]| -> Vec<Rule> {
                let own = rules.iter().filter(|rule| rule.network == network);
                own.cloned().collect()
            };
            match (host.switches.get(network), self.sorts.get(network)) {
                (Some(switches), _) if is_done(switches) => rules.extend(of(&host.after.rules)),
                (Some(switches), Some(sorts)) if is_begun(switches) => {
                    rules.extend(host.mixed(network, switches, sorts, round));
                }
                _ => rules.extend(of(&host.before.rules)),
            }
        }
        rules
    }
}

impl Host {
    fn table<'a>(&'a self, part: &'a Part, network: &'a str) -> Table<'a> {
        let rules = part.rules.iter().filter(|rule| rule.network == network);
        let own = self.own.get(network).into_iter().flatten();
        Table::new(rules, own.map(|(mac, device)| (*mac, device.as_str())))
    }

    /// The rules of a network while some sorts of frames have been switched and some have not: those
    /// that name no receiver as one of the two states has them, and for each station what is said for
    /// it now.
    fn mixed(
        &self,
        network: &str,
        switches: &BTreeMap<Sort, u32>,
        sorts: &Sorts,
        round: u32,
    ) -> Vec<Rule> {
        let is_switched = |sort: Sort| switches.get(&sort).is_some_and(|&at| at <= round);
        let rest = match is_switched(Sort::Rest) {
            true => &self.after,
            false => &self.before,
        };
        let names_nobody = |rule: &&Rule| match rule.destination {
            Destination::Is(mac) => mac.is_group(),
            Destination::None | Destination::Any | Destination::Not(_) => true,
        };
        let rest = rest.rules.iter().filter(|rule| rule.network == network);
        let mut rules: Vec<Rule> = rest.filter(names_nobody).cloned().collect();
        let before = self.table(&self.before, network);
        let after = self.table(&self.after, network);
        for (&station, senders) in &sorts.stations {
            let decide = |sender: Option<Mac>| {
                let frame = sender.unwrap_or(sorts.nobody);
                match is_switched(Sort::For(station, sender)) {
                    true => after.decide(frame, station),
                    false => before.decide(frame, station),
                }
            };
            let rule = |source, to| Rule {
                network: network.to_owned(),
                source,
                destination: Destination::Is(station),
                to,
                origin: RuleOrigin::Proxy,
            };
            let from_anybody = decide(None);
            rules.extend(from_anybody.target().map(|to| rule(Source::Any, to)));
            for &sender in senders {
                let decision = decide(Some(sender));
                let to = match decision {
                    Decision::Own(device) => Some(Target::Port(device.to_owned())),
                    _ => decision.target(),
                };
                if !decision.is_like(from_anybody) {
                    rules.extend(to.map(|to| rule(Source::Is(sender), to)));
                }
            }
        }
        rules
    }

    /// All networks; one that changes its id is the old one until the end.
    fn networks(&self) -> Vec<Network> {
        let mut networks = self.before.networks.clone();
        let is_new = |network: &&Network| {
            let mut known = self.before.networks.iter();
            !known.any(|before| before.name == network.name || before.id == network.id)
        };
        networks.extend(self.after.networks.iter().filter(is_new).cloned());
        networks
    }

    /// All links, each with the frames for many that it takes before or after. One that becomes another
    /// under the same name is the old one until the end, and so is one that leads where an old one does.
    fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for before in &self.before.links {
            let mut link = before.clone();
            let after = named(&self.after, &before.name);
            if let Some(after) = after.filter(|after| is_one_way(before, after)) {
                let more = after.networks.iter().filter(|name| !before.carries(name));
                let free = more.filter(|name| !self.is_taken(before, name));
                link.networks.extend(free.cloned());
                link.flood = stronger(before.flood, after.flood);
            }
            links.push(link);
        }
        for after in &self.after.links {
            if named(&self.before, &after.name).is_some() {
                continue;
            }
            let free = after.networks.iter();
            let free = free.filter(|name| !self.is_taken(after, name));
            let link = Link {
                networks: free.cloned().collect(),
                ..after.clone()
            };
            if !link.networks.is_empty() {
                links.push(link);
            }
        }
        settle_fallbacks(&mut links);
        links
    }

    /// Whether an old link by another name leads to the same end with this network.
    fn is_taken(&self, link: &Link, network: &str) -> bool {
        let mut others = self.before.links.iter();
        others.any(|other| {
            other.name != link.name && leads_there_too(other, link) && other.carries(network)
        })
    }
}

/// What a link falls back to carries all that it carries itself, as in any part. Where it must not,
/// since yet another link leads there with that network, there is no falling back until the end.
fn settle_fallbacks(links: &mut [Link]) {
    // A direct link falls back to the star's, and that one to its rung.
    let mut is_settled = false;
    while !is_settled {
        is_settled = true;
        for place in 0..links.len() {
            let Some((name, networks)) = links.get(place).and_then(|link| {
                let name = link.fallback.clone()?;
                Some((name, link.networks.clone()))
            }) else {
                continue;
            };
            for network in networks {
                if lets_in(links, &name, &network)
                    && let Some(link) = links.iter_mut().find(|link| link.name == name)
                {
                    link.networks.push(network);
                    is_settled = false;
                }
            }
        }
    }
    let carried: BTreeMap<String, Vec<String>> = links
        .iter()
        .map(|link| (link.name.clone(), link.networks.clone()))
        .collect();
    for link in links {
        let to = link.fallback.as_ref().and_then(|name| carried.get(name));
        let fits = to.is_some_and(|to| link.networks.iter().all(|name| to.contains(name)));
        link.fallback.take_if(|_| !fits);
    }
}

/// Whether the link of this name is there, lacks this network, and may carry it.
fn lets_in(links: &[Link], name: &str, network: &str) -> bool {
    let Some(link) = links.iter().find(|link| link.name == name) else {
        return false;
    };
    let mut others = links.iter().filter(|other| other.name != name);
    let is_taken = others.any(|other| leads_there_too(other, link) && other.carries(network));
    !link.carries(network) && !is_taken
}

/// Whether two links lead to one end in one way: no network may be on both.
fn leads_there_too(one: &Link, other: &Link) -> bool {
    one.remote == other.remote && one.kind.is_carried() == other.kind.is_carried()
}

fn named<'a>(part: &'a Part, name: &str) -> Option<&'a Link> {
    part.links.iter().find(|link| link.name == name)
}

/// Whether two links of one name are one link, but for what they take.
fn is_one_way(one: &Link, other: &Link) -> bool {
    (one.remote, one.cookie, one.kind, one.listen_only)
        == (other.remote, other.cookie, other.kind, other.listen_only)
}

const fn stronger(one: Flooding, other: Flooding) -> Flooding {
    match (one, other) {
        (Flooding::Always, _) | (_, Flooding::Always) => Flooding::Always,
        (Flooding::FromPorts, _) | (_, Flooding::FromPorts) => Flooding::FromPorts,
        (Flooding::Never, Flooding::Never) => Flooding::Never,
    }
}

/// The sorts of frames that any rule of any host tells apart, by network.
fn sorts(hosts: &BTreeMap<String, Host>) -> BTreeMap<String, Sorts> {
    let rules = |host: &'_ Host| -> Vec<Rule> {
        let all = host.before.rules.iter().chain(&host.after.rules);
        all.cloned().collect()
    };
    let mut by_network: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for rule in hosts.values().flat_map(rules) {
        by_network
            .entry(rule.network.clone())
            .or_default()
            .push(rule);
    }
    by_network
        .into_iter()
        .map(|(network, rules)| (network, Sorts::new(rules.iter())))
        .collect()
}

/// When each host switches what, in the order of their names.
fn switches(
    hosts: &BTreeMap<String, Host>,
    sorts: &BTreeMap<String, Sorts>,
    places: &BTreeMap<String, Place>,
) -> Vec<BTreeMap<String, BTreeMap<Sort, u32>>> {
    let numbers: BTreeMap<&str, usize> = hosts.keys().map(String::as_str).zip(0..).collect();
    let at: BTreeMap<IpAddr, usize> = places
        .iter()
        .filter_map(|(name, place)| Some((place, *numbers.get(name.as_str())?)))
        .flat_map(|(place, number)| place.addresses.iter().map(move |&ip| (ip, number)))
        .collect();
    let mut switches = vec![BTreeMap::new(); hosts.len()];
    for (network, sorts) in sorts {
        let tables: Vec<_> = hosts
            .values()
            .map(|host| {
                let before = host.table(&host.before, network);
                (host, before, host.table(&host.after, network))
            })
            .collect();
        for (sort, frames) in sorts.all() {
            let mut nodes: BTreeMap<usize, Node> = BTreeMap::new();
            for (number, (host, before, after)) in tables.iter().enumerate() {
                let mut node = Node::default();
                for &(sender, receiver) in &frames {
                    let new = after.decide(sender, receiver);
                    node.changes |= !new.is_like(before.decide(sender, receiver));
                    node.leads_on |= !new.is_like(Decision::Nothing);
                    let next = match new {
                        Decision::Rule(Target::Link(name)) => named(&host.after, name),
                        _ => None,
                    };
                    node.next.extend(next.and_then(|link| at.get(&link.remote)));
                }
                node.changes |= sort == Sort::Rest && host.treats_many_otherwise(network);
                nodes.insert(number, node);
            }
            for (number, round) in rounds(&nodes) {
                if let Some(switches) = switches.get_mut(number) {
                    let of: &mut BTreeMap<String, BTreeMap<Sort, u32>> = switches;
                    of.entry(network.clone()).or_default().insert(sort, round);
                }
            }
        }
    }
    switches
}

impl Host {
    /// Whether the rules differ that name no receiver: frames for many go by all of them.
    fn treats_many_otherwise(&self, network: &str) -> bool {
        let of = |part: &Part| -> Vec<(Source, Destination, Target)> {
            let rules = part.rules.iter().filter(|rule| rule.network == network);
            rules
                .filter(|rule| rule.destination.exact().is_none_or(Mac::is_group))
                .map(|rule| (rule.source, rule.destination, rule.to.clone()))
                .collect()
        };
        of(&self.before) != of(&self.after)
    }
}
