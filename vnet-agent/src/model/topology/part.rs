//! What does one host get of the topology?
//!
//! Input: the whole, and the secrets. Output: the host's part, in the words of its own
//! configuration: links by name and remote address, rules to links and ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use vnet_common::addr::Cookie;

use super::super::part::{Part, Secrets};
use super::super::{self as model, RuleOrigin};
use super::{Host, Link, LinkKind, Noun, Role, Rule, Target, Topology};

/// Why a host cannot get its part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each is, the fields are their parts"
)]
pub enum PartError {
    #[error("there is no {noun} {name:?}")]
    Unknown { noun: Noun, name: String },
    #[error("{host:?} is foreign: it has no agent that would take a part")]
    Foreign { host: String },
    #[error("nothing says where {host:?} is: write ADDRESS and its underlay address in its line")]
    NoAddress { host: String },
    #[error("no cookie has been dealt to {one:?} and {other:?}")]
    NoCookie { one: String, other: String },
}

impl Topology {
    /// What this host gets of the whole.
    ///
    /// # Errors
    /// There is no such agent, or something about one of its links is not known.
    pub fn part(&self, host: &str, revision: u64, secrets: &Secrets) -> Result<Part, PartError> {
        let own = self.known(host)?;
        if own.role == Role::Foreign {
            let host = host.to_owned();
            return Err(PartError::Foreign { host });
        }
        let mut links: Vec<(&Link, model::Link)> = Vec::new();
        for link in &self.links {
            let Some(other) = link.other(host) else {
                continue;
            };
            let earlier = links.iter().filter(|(l, _)| l.other(host) == Some(other));
            let name = link_name(other, earlier.count());
            links.push((link, self.own_link(name, link, own, other, secrets)?));
        }
        self.fall_back_to_the_star(host, &mut links);
        let own_rules = self.rules.iter().filter(|rule| rule.host == host);
        let rules = own_rules
            .map(|rule| own_rule(rule, &links))
            .collect::<Result<Vec<_>, _>>()?;
        let links = self.with_rungs(host, links);
        let here = |name: &str| {
            links.iter().any(|link| link.carries(name))
                || rules.iter().any(|rule| rule.network == name)
                || self
                    .vms
                    .iter()
                    .any(|vm| vm.host == host && vm.network == name)
        };
        let networks = self.networks.iter().filter(|n| here(&n.name)).cloned();
        Ok(Part {
            revision,
            networks: networks.collect(),
            links,
            rules,
        })
    }

    /// The pairs of hosts whose links need a cookie, each once.
    pub fn pairs(&self) -> std::collections::BTreeSet<(&str, &str)> {
        let with_cookies = self.links.iter().filter(|l| l.kind != LinkKind::Plain);
        with_cookies.map(Link::ends).collect()
    }

    fn known(&self, host: &str) -> Result<&Host, PartError> {
        self.host(host).ok_or_else(|| PartError::Unknown {
            noun: Noun::Host,
            name: host.to_owned(),
        })
    }

    fn own_link(
        &self,
        name: String,
        link: &Link,
        own: &Host,
        other: &str,
        secrets: &Secrets,
    ) -> Result<model::Link, PartError> {
        Ok(model::Link {
            name,
            remote: self.remote(other)?,
            networks: link.networks.clone(),
            cookie: cookie(link.kind, &own.name, other, secrets)?,
            flood: link.flood,
            fallback: None,
            kind: match link.kind {
                LinkKind::Udp | LinkKind::Plain => model::Transport::Udp,
                LinkKind::Tcp => model::Transport::Tcp,
                LinkKind::Tls => model::Transport::Tls,
            },
            // The end that is written first opens it.
            listen_only: link.kind.has_opener() && link.from != own.name,
            rung_of: None,
        })
    }

    /// Has the frames of dead links to other hosts go by the star, where this host has a link to its
    /// middle that carries as much. An endpoint that is not ours tells nobody that it is dead.
    fn fall_back_to_the_star(&self, host: &str, links: &mut [(&Link, model::Link)]) {
        let Some(proxy) = self.proxy().map(|proxy| proxy.name.as_str()) else {
            return;
        };
        let leads_there =
            |link: &Link| link.kind != LinkKind::Plain && link.other(host) == Some(proxy);
        let star = links.iter().filter(|(link, _)| leads_there(link));
        let star: Vec<model::Link> = star.map(|(_, own)| own.clone()).collect();
        for (link, own) in links {
            if link.kind == LinkKind::Plain || leads_there(link) {
                continue;
            }
            let carries_all = |other: &&model::Link| link.networks.iter().all(|n| other.carries(n));
            own.fallback = star
                .iter()
                .find(carries_all)
                .map(|other| other.name.clone());
        }
    }

    /// The links, those between agents and the middle of the star with another way for where UDP
    /// does not pass: the agent opens it. Two hosts have one at the most, for what they prove to each
    /// other is a cookie that they have once.
    fn with_rungs(&self, host: &str, links: Vec<(&Link, model::Link)>) -> Vec<model::Link> {
        let is_proxy = |name: &str| self.host(name).is_some_and(|h| h.role == Role::Proxy);
        let of_star = |link: &Link| is_proxy(&link.from) != is_proxy(&link.to);
        let is_proxys = is_proxy(host);
        let mut connected: BTreeSet<Option<Cookie>> = links
            .iter()
            .filter(|(_, own)| own.kind.is_carried())
            .map(|(_, own)| own.cookie)
            .collect();
        let mut all = Vec::new();
        for (link, mut own) in links {
            let needs_one = link.kind == LinkKind::Udp && of_star(link);
            if needs_one && connected.insert(own.cookie) {
                let rung = own.tls_rung(is_proxys);
                own.fallback = Some(rung.name.clone());
                all.extend([own, rung]);
            } else {
                all.push(own);
            }
        }
        all
    }

    fn remote(&self, host: &str) -> Result<IpAddr, PartError> {
        let address = self.known(host)?.underlay();
        address.ok_or_else(|| PartError::NoAddress {
            host: host.to_owned(),
        })
    }
}

/// What a host calls its link to another, the first of several or a later one. No host can have a
/// name that makes two links share theirs: the first three characters tell.
fn link_name(other: &str, earlier: usize) -> String {
    let number = match earlier {
        0 => String::new(),
        earlier => format!("{}-", earlier.saturating_add(1)),
    };
    format!("{number}to-{other}")
}

fn cookie(
    kind: LinkKind,
    own: &str,
    other: &str,
    secrets: &Secrets,
) -> Result<Option<Cookie>, PartError> {
    let (one, other) = (own.to_owned(), other.to_owned());
    match kind {
        LinkKind::Plain => Ok(None),
        LinkKind::Udp | LinkKind::Tcp | LinkKind::Tls => match secrets.between(&one, &other) {
            Some(cookie) => Ok(Some(cookie)),
            None => Err(PartError::NoCookie { one, other }),
        },
    }
}

fn own_rule(rule: &Rule, links: &[(&Link, model::Link)]) -> Result<model::Rule, PartError> {
    let to = match &rule.to {
        Target::Edge(other) => {
            let goes_there = |(link, _): &&(&Link, model::Link)| {
                link.other(&rule.host) == Some(other) && link.carries(&rule.network)
            };
            let link = links.iter().find(goes_there);
            let (_, own) = link.ok_or_else(|| PartError::Unknown {
                noun: Noun::Link,
                name: other.clone(),
            })?;
            model::Target::Link(own.name.clone())
        }
        Target::Interface(device) => model::Target::Port(device.clone()),
        Target::Flood => model::Target::Flood,
        Target::Drop => model::Target::Drop,
    };
    Ok(model::Rule {
        network: rule.network.clone(),
        source: rule.source,
        destination: rule.destination,
        to,
        origin: RuleOrigin::Proxy,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::sample::host_one;
    use crate::model::topology::sample::{host, link, some_topology, three};
    use crate::model::{Addresses, Configuration, DeviceMatch, Port};

    fn secrets(topology: &Topology) -> Secrets {
        let mut secrets = Secrets::default();
        for ((one, other), number) in topology.pairs().into_iter().zip(1..) {
            secrets.deal(one, other, Cookie(number));
        }
        secrets
    }

    #[test]
    fn a_host_gets_its_own_ends_and_its_own_rules() {
        let topology = three();
        let part = topology.part("one", 5, &secrets(&topology)).unwrap();
        assert_eq!(part.revision, 5);
        let networks: Vec<_> = part.networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["blue (id 7)"]);
        let links: Vec<_> = part.links.iter().map(ToString::to_string).collect();
        assert_eq!(
            links,
            [
                "to-proxy to 10.0.0.100 for blue, flood always, falls back to tls-to-proxy",
                "tls-to-proxy to 10.0.0.100 for blue, flood never, tls, a rung of to-proxy",
                "to-two to 10.0.0.2 for blue, flood never, falls back to to-proxy",
            ]
        );
        let rules: Vec<_> = part.rules.iter().map(ToString::to_string).collect();
        assert_eq!(
            rules,
            [
                "blue: any -> 52:54:00:00:00:02 = link to-two",
                "blue: any -> none = link to-proxy",
            ]
        );
        let far = topology.part("proxy", 5, &secrets(&topology)).unwrap();
        let plain: Vec<_> = far.links.iter().filter(|link| link.is_plain()).collect();
        assert_eq!(plain[0].name, "to-far");
    }

    #[test]
    fn both_ends_of_a_link_have_the_same_cookie() {
        let topology = three();
        let secrets = secrets(&topology);
        let cookie = |host: &str, link: &str| {
            let part = topology.part(host, 1, &secrets).unwrap();
            let found = part.links.into_iter().find(|l| l.name == link).unwrap();
            found.cookie
        };
        assert!(cookie("one", "to-two").is_some());
        assert_eq!(cookie("one", "to-two"), cookie("two", "to-one"));
        assert_ne!(cookie("one", "to-two"), cookie("one", "to-proxy"));
    }

    #[test]
    fn the_end_that_is_written_first_opens_a_link() {
        let mut topology = three();
        topology.links[1].kind = LinkKind::Tls;
        let (from, to) = (topology.links[1].from.clone(), topology.links[1].to.clone());
        let secrets = secrets(&topology);
        let end = |host: &str, other: &str| {
            let part = topology.part(host, 1, &secrets).unwrap();
            let name = format!("to-{other}");
            let found = part.links.into_iter().find(|link| link.name == name);
            found.map(|link| (link.kind, link.listen_only))
        };
        assert_eq!(end(&from, &to), Some((model::Transport::Tls, false)));
        assert_eq!(end(&to, &from), Some((model::Transport::Tls, true)));
    }

    #[test]
    fn links_fall_back_to_a_star_that_carries_as_much_and_to_nothing_else() {
        let mut topology = three();
        let fallback = |topology: &Topology, host: &str, link: &str| {
            let part = topology.part(host, 1, &secrets(topology)).unwrap();
            let found = part.links.into_iter().find(|l| l.name == link).unwrap();
            found.fallback
        };
        assert_eq!(
            fallback(&topology, "two", "to-one"),
            Some("to-proxy".into())
        );
        let rung = fallback(&topology, "one", "to-proxy");
        assert_eq!(rung, Some("tls-to-proxy".into()));
        assert_eq!(fallback(&topology, "one", "tls-to-proxy"), None);
        let rung = fallback(&topology, "proxy", "to-one");
        assert_eq!(rung, Some("tls-to-one".into()));
        assert_eq!(fallback(&topology, "proxy", "to-far"), None);
        let direct = topology
            .links
            .iter_mut()
            .find(|l| l.ends() == ("one", "two"));
        direct.unwrap().networks.push("green".into());
        assert_eq!(fallback(&topology, "two", "to-one"), None);
        topology
            .links
            .push(link("proxy", "two", &["green", "blue"]));
        assert_eq!(
            fallback(&topology, "two", "to-one"),
            Some("2-to-proxy".into())
        );
        assert_eq!(fallback(&topology, "one", "to-two"), None);
        topology.rules.clear();
        topology
            .links
            .retain(|link| link.other("two") != Some("proxy"));
        assert_eq!(fallback(&topology, "two", "to-one"), None);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let topology = three();
        let secrets = secrets(&topology);
        let said = |topology: &Topology, host: &str, secrets: &Secrets| {
            topology.part(host, 1, secrets).unwrap_err().to_string()
        };
        assert_eq!(
            said(&topology, "four", &secrets),
            "there is no host \"four\""
        );
        assert!(said(&topology, "far", &secrets).starts_with("\"far\" is foreign"));
        assert_eq!(
            said(&topology, "one", &Secrets::default()),
            "no cookie has been dealt to \"one\" and \"proxy\""
        );
        let mut topology = three();
        for host in &mut topology.hosts {
            host.address = None;
        }
        assert!(said(&topology, "one", &secrets).starts_with("nothing says where \"proxy\" is"));
    }

    #[test]
    fn two_links_between_two_hosts_have_two_names() {
        let mut topology = three();
        topology.hosts.push(host("2-one", 9));
        topology.links.push(link("one", "two", &["green"]));
        topology.links.push(link("two", "2-one", &["green"]));
        let topology = topology.normal();
        assert_eq!(topology.problems(), []);
        let part = topology.part("two", 1, &secrets(&topology)).unwrap();
        let names: Vec<_> = part.links.iter().map(|l| l.name.as_str()).collect();
        let expected = ["to-2-one", "to-one", "2-to-one", "to-proxy", "tls-to-proxy"];
        assert_eq!(names, expected);
    }

    /// A host whose own file has a port for each of its VMs and for the devices of rules.
    fn own(topology: &Topology, host: &str) -> Configuration {
        let mut own = host_one();
        let template = own.ports[0].clone();
        own.underlay.on = model::configuration::UnderlayMatch::Device("underlay0".to_owned());
        (own.networks, own.ports, own.links, own.rules) = Default::default();
        own.networks.clone_from(&topology.networks);
        for vm in topology.vms.iter().filter(|vm| vm.host == host) {
            own.ports.push(Port {
                device: DeviceMatch::Name(vm.device.clone()),
                network: vm.network.clone(),
                addresses: Addresses::Only(vec![vm.mac]),
                ..template.clone()
            });
        }
        own
    }

    proptest! {
        /// Whatever the language lets through, the agents take.
        #[test]
        fn the_part_of_a_valid_topology_is_a_valid_configuration(topology in some_topology()) {
            let mut topology = topology;
            for (host, number) in topology.hosts.iter_mut().zip(1u8..) {
                if host.underlay().is_none() {
                    host.address = Some(IpAddr::from([10, 1, 0, number]));
                }
            }
            for link in &mut topology.links {
                link.kind = LinkKind::Udp;
            }
            topology.rules.retain(|r| r.to != Target::Interface("lan#0".into()));
            prop_assert_eq!(topology.problems(), vec![]);
            let secrets = secrets(&topology);
            for host in &topology.hosts {
                let part = topology.part(&host.name, 1, &secrets).unwrap();
                let whole = part.onto(&own(&topology, &host.name));
                prop_assert_eq!(whole.problems(), vec![]);
            }
        }
    }
}
