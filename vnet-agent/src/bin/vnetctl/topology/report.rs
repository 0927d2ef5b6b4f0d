//! How do answers about texts read?

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use vnet_agent::model::Part;
use vnet_agent::model::topology::{Change, CutOff, Fate, Hop, Role, Router, Topology};
use vnet_common::addr::Mac;

use crate::table::{Side, Table};

/// What a text amounts to.
#[derive(Serialize)]
pub struct Summary {
    networks: usize,
    hosts: usize,
    vms: usize,
    links: usize,
    rules: usize,
    warnings: Vec<String>,
}

/// Beyond so many VMs, not every pair of them is looked at.
const PAIRS_VMS_MAX: usize = 64;
/// How many pairs are named.
const PAIRS_SHOWN: usize = 8;

impl Summary {
    /// The numbers, and what makes sense and is still to be wondered at.
    pub fn of(topology: &Topology) -> Self {
        let mut warnings: Vec<String> = topology.cut_off().iter().map(CutOff::to_string).collect();
        if topology.vms.len() <= PAIRS_VMS_MAX {
            warnings.extend(unheard(topology));
        }
        let nowhere = topology
            .hosts
            .iter()
            .filter(|host| host.role == Role::Foreign && host.underlay().is_none());
        warnings.extend(nowhere.map(|host| {
            let name = &host.name;
            format!("nothing says where {name} is, and the proxy cannot ask it: add ADDRESS")
        }));
        Self {
            networks: topology.networks.len(),
            hosts: topology.hosts.len(),
            vms: topology.vms.len(),
            links: topology.links.len(),
            rules: topology.rules.len(),
            warnings,
        }
    }

    /// For people.
    pub fn render(&self, _columns: Option<usize>) -> String {
        let count = |number: usize, noun: &str| {
            let plural = if number == 1 { "" } else { "s" };
            format!("{number} {noun}{plural}")
        };
        let mut text = [
            count(self.networks, "network"),
            count(self.hosts, "host"),
            count(self.vms, "VM"),
            count(self.links, "link"),
            count(self.rules, "rule"),
        ]
        .join(", ");
        text.push('\n');
        for warning in &self.warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        text
    }
}

/// Which VMs of one network do not get the frames of which, or get them more than once.
fn unheard(topology: &Topology) -> Vec<String> {
    let router = Router::new(topology);
    let mut silent = Vec::new();
    let mut deaf = Vec::new();
    let mut twice = Vec::new();
    for from in &topology.vms {
        let broadcast = deliveries(&router.from_vm(from, Mac::BROADCAST));
        let others = topology.vms.iter().filter(|to| to.name != from.name);
        for to in others.filter(|to| to.network == from.network) {
            let pair = format!("{} to {}", from.name, to.name);
            let frames = deliveries(&router.from_vm(from, to.mac));
            if !frames.contains_key(&to.name) {
                silent.push(pair.clone());
            }
            match broadcast.get(&to.name) {
                None => deaf.push(pair),
                Some(1) => {}
                Some(_) => twice.push(pair),
            }
        }
    }
    let mut warnings = Vec::new();
    warnings.extend(named("no frame gets from", &silent));
    warnings.extend(named("no broadcast gets from", &deaf));
    warnings.extend(named("a broadcast gets more than once from", &twice));
    warnings
}

/// How often each VM gets a frame.
fn deliveries(hops: &[Hop]) -> BTreeMap<String, usize> {
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    for fate in hops.iter().flat_map(|hop| &hop.fates) {
        if let Fate::Interface { vms, .. } = fate {
            for vm in vms {
                let count = heard.entry(vm.clone()).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
    heard
}

fn named(what: &str, pairs: &[String]) -> Option<String> {
    let shown = pairs.iter().take(PAIRS_SHOWN).cloned();
    let shown = shown.collect::<Vec<_>>().join(", ");
    let rest = match pairs.len().saturating_sub(PAIRS_SHOWN) {
        0 => String::new(),
        more => format!(" and for {more} more pairs"),
    };
    let see = "see vnetctl topology route";
    (!pairs.is_empty()).then(|| format!("{what} {shown}{rest}; {see}"))
}

/// Changes, a line each.
pub fn changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "No difference.\n".into();
    }
    changes.iter().map(|change| format!("{change}\n")).collect()
}

/// The hops of a frame.
pub fn hops(hops: &[Hop], columns: Option<usize>) -> String {
    let mut table = Table::new([
        ("HOP", Side::Right),
        ("HOST", Side::Left),
        ("FROM", Side::Left),
        ("RULE", Side::Left),
        ("STRENGTH", Side::Right),
        ("WHAT HAPPENS", Side::Left),
    ]);
    for (hop, number) in hops.iter().zip(1..) {
        let lines = hop.deciders.len().max(hop.fates.len());
        for line in 0..lines {
            let first = |text: String| if line == 0 { text } else { String::new() };
            let decider = hop.deciders.get(line);
            let fate = hop.fates.get(line);
            table.row([
                first(format!("{number}")),
                first(hop.host.clone()),
                first(hop.came.to_string()),
                decider.map(ToString::to_string).unwrap_or_default(),
                decider.map(|d| d.strength.to_string()).unwrap_or_default(),
                fate.map(ToString::to_string).unwrap_or_default(),
            ]);
        }
    }
    table.render(columns)
}

/// A part as JSON; cookies that nobody has dealt are no secrets, and no cookies.
pub fn without_cookies(part: &Part) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(part)?;
    let links = value.get_mut("links").and_then(Value::as_array_mut);
    for link in links.into_iter().flatten() {
        if let Some(cookie) = link.get_mut("cookie") {
            *cookie = Value::String("dealt by the proxy".to_owned());
        }
    }
    Ok(value)
}

/// A part, for people.
pub fn part(part: &Part, columns: Option<usize>) -> String {
    let mut table = Table::new([("WHAT", Side::Left), ("", Side::Left)]);
    for network in &part.networks {
        table.row(["network".to_owned(), network.to_string()]);
    }
    for link in &part.links {
        table.row(["link".to_owned(), link.to_string()]);
    }
    for rule in &part.rules {
        table.row(["rule".to_owned(), rule.to_string()]);
    }
    table.render(columns)
}
