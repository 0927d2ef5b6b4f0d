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

use super::fault::{Faults, Finding, Text};
use crate::model::configuration::UDP_PORT_DEFAULT;
use crate::model::suggest::suggestion;
use crate::model::topology::{
    Flooding, Host, Link, LinkKind, Network, Role, Rule, Target, Topology,
};

/// Which links a set of machines has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Star,
    Ring,
    Mesh,
    Tree { fanout: usize },
    Bus,
}

/// A word of the line, and where it stands.
type Word<'l> = (&'l str, Range<usize>);

/// The shape and the names, as they are written.
struct Wish<'l> {
    shape: Shape,
    names: Vec<Word<'l>>,
    whole: Range<usize>,
}

/// How many machines one line may name.
const NAMES_MAX: usize = 1000;

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
    lay(&mut topology, &edges(wish.shape, &hosts));
    spread(&mut topology);
    forward(&mut topology);
    Ok(topology.normal())
}

const SHAPES: [&str; 6] = ["star", "ring", "mesh", "all-to-all", "tree", "bus"];
const EXAMPLES: &str = "write such as: star around proxy of a, b; ring of a, b, c; full mesh over a, b, c; \
     tree of a, b, c fanout 2; bus of a, b, c";

fn wish(line: &str) -> Result<Wish<'_>, Finding> {
    let words = words(line);
    let mut waiting = words.into_iter().peekable();
    waiting.next_if(|(word, _)| *word == "full");
    let Some((word, span)) = waiting.next() else {
        return Err(Finding::new(0..0, "nothing is wanted", EXAMPLES));
    };
    let mut shape = match word {
        "star" => Shape::Star,
        "ring" => Shape::Ring,
        "mesh" | "all-to-all" => Shape::Mesh,
        "tree" => Shape::Tree { fanout: 2 },
        "bus" => Shape::Bus,
        other => {
            let meant = suggestion(other, SHAPES).map(|meant| format!("did you mean {meant}?"));
            let message = format!("{other:?} is no shape");
            return Err(Finding::new(
                span,
                message,
                meant.unwrap_or(EXAMPLES.to_owned()),
            ));
        }
    };
    let mut names: Vec<Word<'_>> = Vec::new();
    while let Some((word, span)) = waiting.next() {
        match word {
            "of" | "over" | "around" | "and" => {}
            "fanout" => {
                let number = waiting.next();
                let many = number.as_ref().and_then(|(number, _)| number.parse().ok());
                match (many, shape) {
                    (Some(fanout @ 1..), Shape::Tree { .. }) => shape = Shape::Tree { fanout },
                    (_, Shape::Tree { .. }) => {
                        let at = number.map_or(span, |(_, span)| span);
                        let cure = "write how many branches each machine has: fanout 2";
                        return Err(Finding::new(at, "this is no fanout", cure));
                    }
                    _ => {
                        let message = format!("a {} has no fanout", shape.word());
                        return Err(Finding::new(span, message, "take it out"));
                    }
                }
            }
            name => names.push((name, span)),
        }
    }
    let whole = 0..line.len();
    enough(shape, &names, &whole)?;
    Ok(Wish {
        shape,
        names,
        whole,
    })
}

fn words(line: &str) -> Vec<Word<'_>> {
    let is_between = |c: char| c.is_whitespace() || c == ',';
    let mut words = Vec::new();
    let mut start = 0_usize;
    for word in line.split(is_between) {
        if !word.is_empty() {
            words.push((word, start..start.saturating_add(word.len())));
        }
        // What separates words is one character, which may have several bytes.
        let end = start.saturating_add(word.len());
        let rest = line.get(end..).unwrap_or_default();
        start = end.saturating_add(rest.chars().next().map_or(0, char::len_utf8));
    }
    words
}

fn enough(shape: Shape, names: &[Word<'_>], whole: &Range<usize>) -> Result<(), Finding> {
    let least = match shape {
        Shape::Star => 1,
        Shape::Ring => 3,
        Shape::Mesh | Shape::Tree { .. } | Shape::Bus => 2,
    };
    if names.len() < least {
        let message = format!("a {} takes at least {least} names", shape.word());
        return Err(Finding::new(whole.clone(), message, EXAMPLES));
    }
    if names.len() > NAMES_MAX {
        let message = format!("{} names are too many", names.len());
        let cure = format!("name at most {NAMES_MAX}");
        return Err(Finding::new(whole.clone(), message, cure));
    }
    let mut seen = BTreeSet::new();
    for (name, span) in names {
        if !seen.insert(name) {
            let message = format!("{name} is named twice");
            return Err(Finding::new(span.clone(), message, "name it once"));
        }
    }
    Ok(())
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
        let vm = topology.vms.iter().find(|vm| vm.name == *name);
        let host = match topology.host(name) {
            Some(host) => host.name.clone(),
            None => vm
                .map(|vm| vm.host.clone())
                .ok_or_else(|| unknown(name, span, topology))?,
        };
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

impl Shape {
    const fn word(self) -> &'static str {
        match self {
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Mesh => "mesh",
            Self::Tree { .. } => "tree",
            Self::Bus => "bus",
        }
    }
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
/// stay.
fn lay(topology: &mut Topology, edges: &[(&str, &str)]) {
    let special: BTreeSet<String> = topology
        .hosts
        .iter()
        .filter(|host| host.role != Role::Agent)
        .map(|host| host.name.clone())
        .collect();
    let is_special = |link: &Link| special.contains(&link.from) || special.contains(&link.to);
    topology.links.retain(is_special);
    let networks: Vec<String> = topology.networks.iter().map(|n| n.name.clone()).collect();
    for (from, to) in edges {
        if topology
            .links
            .iter()
            .any(|link| link.other(from) == Some(to))
        {
            continue;
        }
        topology.links.push(Link {
            kind: LinkKind::Udp,
            from: (*from).to_owned(),
            to: (*to).to_owned(),
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

/// Rules for the shortest way from every host to every VM, and for frames to everybody.
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
