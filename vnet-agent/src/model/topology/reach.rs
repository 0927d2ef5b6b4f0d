//! Would anybody be cut off?
//!
//! Input: a topology. Output: the hosts, and the networks on them, from which no sequence of links
//! leads to the proxy. What rules say is not asked: a rule can be corrected over the star.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::Serialize;

use super::{Role, Topology};

/// Somebody without a way to the proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CutOff {
    /// An agent, altogether.
    Host {
        /// Its host.
        host: String,
    },
    /// The VMs of one network there.
    Network {
        /// The host.
        host: String,
        /// The network that no link carries all the way.
        network: String,
    },
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host } => write!(f, "no links lead from {host} to the proxy"),
            Self::Network { host, network } => {
                write!(
                    f,
                    "no links that carry {network} lead from {host} to the proxy"
                )
            }
        }
    }
}

impl Topology {
    /// Who has no way to the proxy. Nobody, where there is no proxy.
    pub fn cut_off(&self) -> BTreeSet<CutOff> {
        let Some(proxy) = self.proxy() else {
            return BTreeSet::new();
        };
        let by_any = self.reached_from(&proxy.name, None);
        let mut found: BTreeSet<CutOff> = BTreeSet::new();
        for host in &self.hosts {
            if host.role != Role::Foreign && !by_any.contains(host.name.as_str()) {
                let host = host.name.clone();
                found.insert(CutOff::Host { host });
            }
        }
        let mut by_network = BTreeMap::new();
        for vm in &self.vms {
            let reached = by_network
                .entry(vm.network.as_str())
                .or_insert_with(|| self.reached_from(&proxy.name, Some(&vm.network)));
            if by_any.contains(vm.host.as_str()) && !reached.contains(vm.host.as_str()) {
                let (host, network) = (vm.host.clone(), vm.network.clone());
                found.insert(CutOff::Network { host, network });
            }
        }
        found
    }

    /// Who would lose the proxy by a change from `self` to `other`.
    pub fn cut_off_by(&self, other: &Self) -> BTreeSet<CutOff> {
        let before = self.cut_off();
        let mut after = other.cut_off();
        after.retain(|cut_off| !before.contains(cut_off));
        after
    }

    /// The hosts that links lead to from here; foreign ones pass nothing on.
    fn reached_from<'a>(&'a self, start: &'a str, network: Option<&str>) -> BTreeSet<&'a str> {
        let mut neighbours: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for link in &self.links {
            if network.is_none_or(|network| link.carries(network)) {
                neighbours.entry(&link.from).or_default().push(&link.to);
                neighbours.entry(&link.to).or_default().push(&link.from);
            }
        }
        let foreign = self.hosts.iter().filter(|host| host.role == Role::Foreign);
        let foreign: BTreeSet<&str> = foreign.map(|host| host.name.as_str()).collect();
        let mut reached = BTreeSet::from([start]);
        let mut waiting = VecDeque::from([start]);
        while let Some(host) = waiting.pop_front() {
            for &next in neighbours.get(host).into_iter().flatten() {
                if !foreign.contains(next) && reached.insert(next) {
                    waiting.push_back(next);
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::topology::sample::{host, link, three, vm};

    fn said(topology: &Topology) -> Vec<String> {
        topology.cut_off().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_has_no_links_to_the_proxy_is_named() {
        let mut topology = three();
        assert!(said(&topology).is_empty());
        topology
            .links
            .retain(|link| (link.from.as_str(), link.to.as_str()) != ("one", "proxy"));
        assert!(said(&topology).is_empty(), "there is a way by two");
        topology.links.retain(|link| link.other("one").is_none());
        assert_eq!(said(&topology), ["no links lead from one to the proxy"]);
        topology.links.push(link("one", "far", &["blue"]));
        assert_eq!(
            said(&topology),
            ["no links lead from one to the proxy"],
            "a foreign endpoint passes nothing on"
        );
        topology.links.push(link("one", "two", &["green"]));
        assert_eq!(
            said(&topology),
            ["no links that carry blue lead from one to the proxy"]
        );
    }

    #[test]
    fn only_what_a_change_does_is_held_against_it() {
        let mut before = three();
        before.hosts.push(host("four", 4));
        let mut after = before.clone();
        after.vms.push(vm("vm9", 9, "green", "three"));
        let newly: Vec<String> = before
            .cut_off_by(&after)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            newly,
            ["no links that carry green lead from three to the proxy"]
        );
        assert!(after.cut_off_by(&before).is_empty());
        before.hosts.remove(0);
        assert!(said(&before).is_empty(), "no proxy, no star");
    }
}
