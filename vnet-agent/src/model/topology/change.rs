//! What must change to get from one topology to another?
//!
//! Input: two topologies. Output: changes as values, which a plan prints and the proxy carries out.
//! They are about normal forms, so that two ways to write the same differ in nothing.

use std::fmt;

use serde::Serialize;

use super::super::diff::{self, Edit, Entry, edits};
use super::{Host, Link, Network, Rule, RuleKey, Topology, Vm};

/// One difference between two topologies. Its text says it in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is a change of the part of its name")]
pub enum Change {
    Network(Edit<Network>),
    Host(Edit<Host>),
    Vm(Edit<Vm>),
    Link(Edit<Link>),
    Rule(Edit<Rule>),
}

impl Entry for Network {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Entry for Host {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Entry for Vm {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// Two links between the same hosts carry different networks: the first says which it is.
impl Entry for Link {
    type Key = (String, String, Option<String>);

    fn key(&self) -> Self::Key {
        let (one, other) = self.ends();
        let first = self.networks.iter().min().cloned();
        (one.to_owned(), other.to_owned(), first)
    }
}

impl Entry for Rule {
    type Key = RuleKey;

    fn key(&self) -> RuleKey {
        Self::key(self)
    }
}

/// The changes that make `from` into `to`, nothing where they mean the same. What goes comes
/// first among its kind.
pub fn changes(from: &Topology, to: &Topology) -> Vec<Change> {
    let (from, to) = (from.clone().normal(), to.clone().normal());
    let mut changes = Vec::new();
    let networks = edits(&from.networks, &to.networks);
    changes.extend(networks.into_iter().map(Change::Network));
    let hosts = edits(&from.hosts, &to.hosts);
    changes.extend(hosts.into_iter().map(Change::Host));
    changes.extend(edits(&from.vms, &to.vms).into_iter().map(Change::Vm));
    changes.extend(edits(&from.links, &to.links).into_iter().map(Change::Link));
    changes.extend(edits(&from.rules, &to.rules).into_iter().map(Change::Rule));
    changes
}

/// Carries out changes, in their order. A change of something that is not there changes nothing.
pub fn apply(topology: &mut Topology, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Network(edit) => diff::apply(&mut topology.networks, edit),
            Change::Host(edit) => diff::apply(&mut topology.hosts, edit),
            Change::Vm(edit) => diff::apply(&mut topology.vms, edit),
            Change::Link(edit) => diff::apply(&mut topology.links, edit),
            Change::Rule(edit) => diff::apply(&mut topology.rules, edit),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(edit) => diff::line(f, "network", edit),
            Self::Host(edit) => diff::line(f, "host", edit),
            Self::Vm(Edit::Change { from, to }) if from.host != to.host => {
                let (name, device) = (&to.name, &to.device);
                write!(f, "~ VM {name} moves from {} to {}", from.host, to.host)?;
                if *device == from.device {
                    Ok(())
                } else {
                    write!(f, ", from {} to {device}", from.device)
                }
            }
            Self::Vm(edit) => diff::line(f, "VM", edit),
            Self::Link(edit) => diff::line(f, "link", edit),
            Self::Rule(Edit::Change { from, to }) => write!(f, "~ rule {from} becomes {}", to.to),
            Self::Rule(Edit::Move { from, to, .. }) if from == to => {
                write!(f, "~ rule {to} (another age)")
            }
            Self::Rule(edit) => diff::line(f, "rule", edit),
        }
    }
}

/// For programs: what sort of change of what, and the words.
impl Serialize for Change {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Said<'a> {
            change: &'a str,
            of: &'a str,
            text: &'a str,
        }
        const fn sort<E: Entry>(edit: &Edit<E>) -> &'static str {
            match edit {
                Edit::Remove(_) => "remove",
                Edit::Add { .. } => "add",
                Edit::Change { .. } => "change",
                Edit::Move { .. } => "move",
            }
        }
        let (change, of) = match self {
            Self::Network(edit) => (sort(edit), "network"),
            Self::Host(edit) => (sort(edit), "host"),
            Self::Vm(edit) => (sort(edit), "vm"),
            Self::Link(edit) => (sort(edit), "link"),
            Self::Rule(edit) => (sort(edit), "rule"),
        };
        let text = self.to_string();
        let text = text.get(2..).unwrap_or(&text);
        Said { change, of, text }.serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vnet_common::rule::{Destination, Source};

    use super::*;
    use crate::model::topology::Target;
    use crate::model::topology::sample::{GUEST, host, link, network, rule, some_topology, three};

    #[test]
    fn a_difference_reads_like_what_was_done() {
        let from = three();
        let mut to = three();
        to.networks.push(network("red", 9));
        to.hosts.retain(|host| host.name != "far");
        to.hosts.push(host("four", 4));
        to.vms[0].host = "two".into();
        to.vms[1].fixed = true;
        to.links
            .retain(|link| link.to != "proxy" && link.from != "far");
        to.links.push(link("four", "one", &["green"]));
        for rule in &mut to.rules {
            if rule.host == "one" && rule.destination == Destination::Is(GUEST[1]) {
                rule.to = Target::Edge("proxy".into());
            }
        }
        let said: Vec<String> = changes(&from, &to).iter().map(Change::to_string).collect();
        let expected = [
            "+ network red (id 9)",
            "- host far (foreign, admin, port 6081, eth0, 10.0.0.200)",
            "+ host four (agent, admin, port 6081, eth0, 10.0.0.4)",
            "~ VM vm1 moves from one to two",
            "~ VM vm2 (52:54:00:00:00:02) in blue on two, tap2 becomes vm2 (52:54:00:00:00:02) in blue on two, tap2, fixed",
            "- link plain far to proxy for blue, flood from-ports",
            "- link udp one to proxy for blue, flood always",
            "+ link udp four to one for green, flood from-ports",
            "~ rule on one, blue: any -> 52:54:00:00:00:02 = edge to two becomes edge to proxy",
        ];
        for line in expected {
            assert!(said.iter().any(|said| said == line), "{line}\n{said:#?}");
        }
        assert_eq!(changes(&from, &from), []);
    }

    #[test]
    fn the_order_of_writing_is_no_difference_unless_it_is_age_that_decides() {
        let from = three();
        let mut to = three();
        to.hosts.reverse();
        to.rules.reverse();
        for link in &mut to.links {
            std::mem::swap(&mut link.from, &mut link.to);
        }
        assert_eq!(changes(&from, &to), []);
        let not = |mac| Rule {
            source: Source::Not(mac),
            ..rule("one", Destination::Any, Target::Drop)
        };
        let with = |first, second| {
            let mut topology = three();
            topology.rules.extend([not(first), not(second)]);
            topology
        };
        let [a, b, _] = GUEST;
        let said = changes(&with(a, b), &with(b, a));
        let said: Vec<String> = said.iter().map(Change::to_string).collect();
        assert_eq!(
            said,
            ["~ rule on one, blue: not 52:54:00:00:00:01 -> any = drop (another age)"]
        );
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_other(
            from in some_topology(),
            to in some_topology(),
        ) {
            let changes = changes(&from, &to);
            let mut changed = from.clone();
            apply(&mut changed, &changes);
            prop_assert_eq!(changed.normal(), to, "{:#?}", changes);
        }
    }
}
