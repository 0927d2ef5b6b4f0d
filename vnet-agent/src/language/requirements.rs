//! What does somebody want who says `ring of a, b, c`?
//!
//! Input: one line, and the overlay that it is about, which may be empty. Output: a topology with
//! the links of that shape, the shortest way from every host to every VM as rules, and one tree of
//! links for frames to everybody. What the overlay has besides (the star around its proxy, links to
//! foreign machines, rules that drop or deliver) stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use vnet_common::addr::NetworkId;
use vnet_common::rule::{Destination, Source};

mod wish;

use wish::{EXAMPLES, Shape, Wish, wish};

use super::fault::{Faults, Finding, Text};
use crate::model::configuration::UDP_PORT_DEFAULT;
use crate::model::suggest::suggestion;
use crate::model::topology::{
    Flooding, Host, Link, LinkKind, Network, Role, Rule, Target, Topology,
};

/// The topology that a line asks for.
///
/// # Errors
/// What is wrong with the line.
pub fn plan(line: &str, base: &Topology) -> Result<Topology, Faults> {
    let text = Text::new(line);
    let refuse = |finding| Faults::new("requirement", &text, vec![finding]);
    let wish = wish(line).map_err(refuse)?;
    let mut topology = base.clone();
    let hosts = hosts(&wish, &mut topology).map_err(refuse)?;
    if topology.networks.is_empty() {
        topology
            .networks
            .extend(NetworkId::new(1).map(|id| Network {
                name: "default".to_owned(),
                id,
            }));
    }
    if wish.shape == Shape::Star && topology.proxy().is_none() {
        let middle = topology
            .hosts
            .iter_mut()
            .find(|host| Some(&host.name) == hosts.first());
        if let Some(middle) = middle {
            middle.role = Role::Proxy;
        }
    }
    let openers = openers(&wish, &topology).map_err(refuse)?;
    lay(&mut topology, &edges(wish.shape, &hosts), &openers);
    spread(&mut topology);
    forward(&mut topology);
    Ok(topology.normal())
}

/// The hosts that are meant, in order: by their own names or by those of VMs on them. Where there
/// are no hosts at all, they are made.
fn hosts(wish: &Wish<'_>, topology: &mut Topology) -> Result<Vec<String>, Finding> {
    let is_new = topology.hosts.is_empty();
    let mut hosts: Vec<String> = Vec::new();
    for (name, span) in &wish.names {
        if is_new {
            made(name, span, topology)?;
        }
        let host = meant(name, span, topology)?;
        if topology
            .host(&host)
            .is_some_and(|h| h.role == Role::Foreign)
        {
            let message = format!("{host:?} is foreign: it has no agent");
            return Err(Finding::new(span.clone(), message, "leave it out"));
        }
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if hosts.len() == 1 && wish.shape == Shape::Star {
        let others = topology
            .hosts
            .iter()
            .filter(|host| host.role != Role::Foreign && Some(&host.name) != hosts.first());
        let others: Vec<String> = others.map(|host| host.name.clone()).collect();
        hosts.extend(others);
    }
    if hosts.len() < 2 {
        let message = "this names one machine, and a link has two";
        return Err(Finding::new(wish.whole.clone(), message, EXAMPLES));
    }
    Ok(hosts)
}

/// The host of this name, or the one that a VM of this name is on.
fn meant(name: &str, span: &Range<usize>, topology: &Topology) -> Result<String, Finding> {
    let vm = || topology.vms.iter().find(|vm| vm.name == name);
    let host = topology.host(name).map(|host| host.name.clone());
    host.or_else(|| vm().map(|vm| vm.host.clone()))
        .ok_or_else(|| unknown(name, span, topology))
}

/// Who opens connections of which kind; the first that is named where both ends could.
fn openers(wish: &Wish<'_>, topology: &Topology) -> Result<Vec<(LinkKind, String)>, Finding> {
    let openers = wish.openers.iter();
    let opener = openers.map(|(kind, (name, span))| Ok((*kind, meant(name, span, topology)?)));
    opener.collect()
}

fn made(name: &str, span: &Range<usize>, topology: &mut Topology) -> Result<(), Finding> {
    let host = Host {
        name: name.to_owned(),
        user: "root".to_owned(),
        port: UDP_PORT_DEFAULT,
        interface: "eth0".to_owned(),
        address: None,
        role: Role::Agent,
    };
    let alone = Topology {
        hosts: vec![host.clone()],
        ..Topology::default()
    };
    if let Some(problem) = alone.problems().first() {
        let (message, cure) = (problem.error.to_string(), problem.error.cure());
        return Err(Finding::new(span.clone(), message, cure));
    }
    topology.hosts.push(host);
    Ok(())
}

fn unknown(name: &str, span: &Range<usize>, topology: &Topology) -> Finding {
    let hosts = topology.hosts.iter().map(|host| host.name.as_str());
    let vms = topology.vms.iter().map(|vm| vm.name.as_str());
    let cure = match suggestion(name, hosts.chain(vms)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "name machines or VMs of the overlay".to_owned(),
    };
    let message = format!("there is no host or VM {name:?}");
    Finding::new(span.clone(), message, cure)
}

/// The links of a shape, as pairs of hosts.
fn edges(shape: Shape, hosts: &[String]) -> Vec<(&str, &str)> {
    let pair = |(one, other): (&'_ usize, &'_ usize)| {
        Some((hosts.get(*one)?.as_str(), hosts.get(*other)?.as_str()))
    };
    let count = hosts.len();
    let mut places: Vec<(usize, usize)> = Vec::new();
    for later in 1..count {
        match shape {
            Shape::Star => places.push((0, later)),
            Shape::Ring | Shape::Bus => places.push((later.saturating_sub(1), later)),
            Shape::Mesh => places.extend((0..later).map(|earlier| (earlier, later))),
            Shape::Tree { fanout } => {
                let parent = later.saturating_sub(1).checked_div(fanout);
                places.push((parent.unwrap_or(0), later));
            }
        }
    }
    if shape == Shape::Ring && count > 2 {
        places.push((count.saturating_sub(1), 0));
    }
    places.iter().filter_map(|(a, b)| pair((a, b))).collect()
}

/// Puts the links in place of the old ones. The star around a proxy and links to foreign machines
/// stay; what joins two machines already stays of its kind, unless it is said who opens it.
fn lay(topology: &mut Topology, edges: &[(&str, &str)], openers: &[(LinkKind, String)]) {
    let special: BTreeSet<String> = topology
        .hosts
        .iter()
        .filter(|host| host.role != Role::Agent)
        .map(|host| host.name.clone())
        .collect();
    let is_special = |link: &Link| special.contains(&link.from) || special.contains(&link.to);
    let links = std::mem::take(&mut topology.links).into_iter();
    let (stay, old): (Vec<_>, Vec<_>) = links.partition(is_special);
    topology.links = stay;
    let networks: Vec<String> = topology.networks.iter().map(|n| n.name.clone()).collect();
    let joins = |link: &&Link, from: &str, to: &str| link.other(from) == Some(to);
    for &(from, to) in edges {
        if topology.links.iter().any(|link| joins(&link, from, to)) {
            continue;
        }
        let opener = openers
            .iter()
            .find(|(_, name)| [from, to].contains(&name.as_str()));
        let (kind, from, to) = match (opener, old.iter().find(|link| joins(link, from, to))) {
            (Some((kind, name)), _) if name == to => (*kind, to, from),
            (Some((kind, _)), _) => (*kind, from, to),
            (None, Some(old)) => (old.kind, old.from.as_str(), old.to.as_str()),
            (None, None) => (LinkKind::Udp, from, to),
        };
        topology.links.push(Link {
            kind,
            from: from.to_owned(),
            to: to.to_owned(),
            networks: networks.clone(),
            flood: Flooding::Never,
        });
    }
}

/// The hosts of our own with their neighbours, by links of our own.
fn neighbours(topology: &Topology) -> BTreeMap<&str, Vec<&str>> {
    let mut neighbours: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for link in topology.links.iter().filter(|l| l.kind != LinkKind::Plain) {
        neighbours.entry(&link.from).or_default().push(&link.to);
        neighbours.entry(&link.to).or_default().push(&link.from);
    }
    neighbours
}

/// For each host that can be reached from one, the host before it on a shortest way from there,
/// which is the next on a shortest way back.
fn ways<'t>(from: &'t str, graph: &BTreeMap<&'t str, Vec<&'t str>>) -> BTreeMap<&'t str, &'t str> {
    let mut before = BTreeMap::new();
    let mut waiting = VecDeque::from([from]);
    while let Some(host) = waiting.pop_front() {
        for &next in graph.get(host).into_iter().flatten() {
            if next != from && !before.contains_key(next) {
                before.insert(next, host);
                waiting.push_back(next);
            }
        }
    }
    before
}

/// Says which links take frames for everybody: where each host has one to each other, every link
/// those of the own VMs; else the links of one tree all, and the others none.
fn spread(topology: &mut Topology) {
    let graph = neighbours(topology);
    let others = graph.len().saturating_sub(1);
    let is_complete = graph.values().all(|next| next.len() == others);
    let mut tree: BTreeSet<(String, String)> = BTreeSet::new();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let middle = topology.proxy().map(|host| host.name.as_str());
    for root in middle.into_iter().chain(graph.keys().copied()) {
        if reached.insert(root) {
            for (host, before) in ways(root, &graph) {
                reached.insert(host);
                tree.insert((host.to_owned(), before.to_owned()));
                tree.insert((before.to_owned(), host.to_owned()));
            }
        }
    }
    let is_mesh = is_complete && others > 1 && middle.is_none();
    for link in &mut topology.links {
        link.flood = match link.kind {
            LinkKind::Plain => continue,
            _ if is_mesh => Flooding::FromPorts,
            _ if tree.contains(&(link.from.clone(), link.to.clone())) => Flooding::Always,
            _ => Flooding::Never,
        };
    }
}

/// Rules for the shortest way from every host to every VM, for machines of the user's LAN, and for
/// frames to everybody.
fn forward(topology: &mut Topology) {
    let stays = |rule: &Rule| match &rule.to {
        Target::Interface(_) | Target::Drop => true,
        Target::Edge(other) => {
            let other = topology.host(other);
            other.is_some_and(|host| host.role == Role::Foreign)
        }
        Target::Flood => false,
    };
    let mut rules: Vec<Rule> = topology
        .rules
        .iter()
        .filter(|r| stays(r))
        .cloned()
        .collect();
    let taken: BTreeSet<_> = rules.iter().map(Rule::key).collect();
    let graph = neighbours(topology);
    let mut made = Vec::new();
    for vm in &topology.vms {
        for (host, next) in ways(&vm.host, &graph) {
            made.push(Rule {
                host: host.to_owned(),
                network: vm.network.clone(),
                source: Source::Any,
                destination: Destination::Is(vm.mac),
                to: Target::Edge(next.to_owned()),
            });
        }
    }
    // Who is known to nobody may be on the user's LAN, which the proxy is on: sent there it is not
    // copied to everybody.
    let proxy = topology.proxy().map(|host| host.name.as_str());
    let to_proxy = proxy.map(|proxy| ways(proxy, &graph)).unwrap_or_default();
    for (host, next) in to_proxy {
        let mut links = topology.links.iter();
        let link = links.find(|link| link.other(host) == Some(next));
        for network in link.into_iter().flat_map(|link| &link.networks) {
            made.push(Rule {
                host: host.to_owned(),
                network: network.clone(),
                source: Source::Any,
                destination: Destination::Any,
                to: Target::Edge(next.to_owned()),
            });
        }
    }
    for host in graph.keys() {
        for network in &topology.networks {
            made.push(Rule {
                host: (*host).to_owned(),
                network: network.name.clone(),
                source: Source::Any,
                destination: Destination::None,
                to: Target::Flood,
            });
        }
    }
    rules.extend(made.into_iter().filter(|rule| !taken.contains(&rule.key())));
    topology.rules = rules;
}

#[cfg(test)]
mod tests;
