//! Which links and rules does the star need?
//!
//! Input: what the proxy and the agents say of themselves, the networks, the cookies. Output: each
//! host's part.
//!
//! ```text
//!   agent: any -> any  = link to the proxy         proxy: any -> VM's address = link to its agent
//!          any -> none = flood                            any -> any  = its LAN's port, where it has one
//!                                                         any -> none = flood
//! ```
//!
//! So a frame for one station takes the kernel's way at every hop, and one for many is copied by the
//! agents, once for each that should hear it: the proxy's links pass on what other links bring.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use super::message::Introduction;
use crate::model::part::{Part, Secrets};
use crate::model::{Flooding, Link, Network, Rule, RuleOrigin, Target, Transport};

/// What a link to this host is called.
pub fn link_to(host: &str) -> String {
    format!("to-{host}")
}

/// What the star is made of.
#[derive(Clone, Copy, Debug)]
pub struct Star<'a> {
    /// The proxy's name.
    pub proxy: &'a str,
    /// What the proxy has.
    pub hub: &'a Introduction,
    /// The agents, by name.
    pub agents: &'a BTreeMap<String, Introduction>,
    /// The networks that there are.
    pub networks: &'a [Network],
    /// The cookies of each pair of proxy and agent.
    pub secrets: &'a Secrets,
}

impl Star<'_> {
    /// An agent's part, without a revision. Empty while it has no address that the proxy's are of
    /// one family with, or no cookie.
    pub fn agent(&self, name: &str) -> Part {
        let Some(introduction) = self.agents.get(name) else {
            return Part::default();
        };
        let networks = self.networks_of(introduction);
        let ends = ends(self.hub, introduction);
        let cookie = self.secrets.between(self.proxy, name);
        let (Some((hub, _)), Some(cookie), false) = (ends, cookie, networks.is_empty()) else {
            return Part {
                networks,
                ..Part::default()
            };
        };
        let to_proxy = link_to(self.proxy);
        let rules = networks.iter().flat_map(|network| {
            let to = Target::Link(to_proxy.clone());
            [
                rule(&network.name, Destination::Any, to),
                rule(&network.name, Destination::None, Target::Flood),
            ]
        });
        Part {
            revision: 0,
            rules: rules.collect(),
            links: with_rung(
                Link {
                    name: to_proxy,
                    remote: hub,
                    networks: names(&networks),
                    cookie: Some(cookie),
                    fallback: None,
                    flood: Flooding::FromPorts,
                    kind: Transport::Udp,
                    listen_only: false,
                    rung_of: None,
                },
                false,
            )
            .into(),
            networks,
        }
    }

    /// The proxy's own part, without a revision: links and rules to each agent.
    pub fn proxy(&self) -> Part {
        let mut part = Part::default();
        for network in self.networks {
            part.rules.extend(self.lan_rule(network));
            part.rules
                .push(rule(&network.name, Destination::None, Target::Flood));
        }
        // Two agents may say that they have one station: the first one's word counts, by name.
        let mut taken: BTreeSet<(&str, Mac)> = self
            .hub
            .ports
            .iter()
            .flat_map(|port| {
                port.stations
                    .iter()
                    .map(|&mac| (port.network.as_str(), mac))
            })
            .collect();
        for (name, introduction) in self.agents {
            let networks = self.networks_of(introduction);
            let cookie = self.secrets.between(self.proxy, name);
            let (Some((_, agent)), Some(cookie), false) =
                (ends(self.hub, introduction), cookie, networks.is_empty())
            else {
                continue;
            };
            let link = link_to(name);
            for port in &introduction.ports {
                for &station in &port.stations {
                    let is_carried = networks.iter().any(|network| network.name == port.network);
                    if is_carried && taken.insert((&port.network, station)) {
                        let to = Target::Link(link.clone());
                        part.rules
                            .push(rule(&port.network, Destination::Is(station), to));
                    }
                }
            }
            let link = Link {
                name: link,
                remote: agent,
                networks: names(&networks),
                cookie: Some(cookie),
                fallback: None,
                flood: Flooding::Always,
                kind: Transport::Udp,
                listen_only: false,
                rung_of: None,
            };
            part.links.extend(with_rung(link, true));
        }
        part
    }

    /// Where frames for stations go that no agent has: into the one port that leads to a LAN. With
    /// none or several of them, they are copied.
    fn lan_rule(&self, network: &Network) -> Option<Rule> {
        let mut open = self
            .hub
            .ports
            .iter()
            .filter(|port| port.is_open && port.network == network.name);
        match (open.next(), open.next()) {
            (Some(port), None) => Some(rule(
                &network.name,
                Destination::Any,
                Target::Port(port.device.clone()),
            )),
            _ => None,
        }
    }

    /// The networks that a host has ports in.
    fn networks_of(&self, introduction: &Introduction) -> Vec<Network> {
        let wanted: BTreeSet<&str> = introduction
            .ports
            .iter()
            .map(|port| port.network.as_str())
            .collect();
        self.networks
            .iter()
            .filter(|network| wanted.contains(network.name.as_str()))
            .cloned()
            .collect()
    }
}

/// A link between the proxy and an agent, and what takes its frames where UDP does not pass: a
/// connection, which the agent opens, for a firewall that lets it out lets nobody in.
pub fn with_rung(link: Link, is_proxys: bool) -> [Link; 2] {
    let rung = link.tls_rung(is_proxys);
    let whole = Link {
        fallback: Some(rung.name.clone()),
        ..link
    };
    [whole, rung]
}

/// The two underlay addresses of a link: the proxy's and the agent's, of one family, the proxy's
/// first where it has both.
fn ends(hub: &Introduction, agent: &Introduction) -> Option<(IpAddr, IpAddr)> {
    hub.underlay.iter().find_map(|&own| {
        let same = agent
            .underlay
            .iter()
            .find(|other| other.is_ipv4() == own.is_ipv4());
        same.map(|&other| (own, other))
    })
}

fn names(networks: &[Network]) -> Vec<String> {
    networks
        .iter()
        .map(|network| network.name.clone())
        .collect()
}

fn rule(network: &str, destination: Destination, to: Target) -> Rule {
    Rule {
        network: network.to_owned(),
        source: Source::Any,
        destination,
        to,
        origin: RuleOrigin::Proxy,
    }
}

#[cfg(test)]
mod tests {
    use vnet_common::addr::Cookie;

    use super::*;
    use crate::model::sample::{GUEST_ONE, GUEST_THREE, GUEST_TWO, host_one, network};
    use crate::overlay::message::IntroducedPort;

    fn port(device: &str, network: &str, stations: &[Mac]) -> IntroducedPort {
        IntroducedPort {
            device: device.into(),
            network: network.into(),
            stations: stations.to_vec(),
            is_open: stations.is_empty(),
        }
    }

    fn host(addresses: &[&str], ports: Vec<IntroducedPort>) -> Introduction {
        Introduction {
            underlay: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            udp_port: 6081,
            ports,
            ..Introduction::default()
        }
    }

    struct Stage {
        hub: Introduction,
        agents: BTreeMap<String, Introduction>,
        networks: Vec<Network>,
        secrets: Secrets,
    }

    impl Stage {
        fn new() -> Self {
            let agents = [
                (
                    "one",
                    host(
                        &["10.0.0.1"],
                        vec![
                            port("tap0", "blue", &[GUEST_ONE]),
                            port("tap1", "green", &[GUEST_ONE]),
                        ],
                    ),
                ),
                (
                    "two",
                    host(
                        &["10.0.0.2", "fd00::2"],
                        vec![port("tap0", "blue", &[GUEST_TWO])],
                    ),
                ),
            ];
            let mut secrets = Secrets::default();
            secrets.deal("one", "proxy", Cookie(1));
            secrets.deal("two", "proxy", Cookie(2));
            Self {
                hub: host(&["fd00::9", "10.0.0.9"], vec![port("lan0", "blue", &[])]),
                agents: agents
                    .into_iter()
                    .map(|(name, host)| (name.to_owned(), host))
                    .collect(),
                networks: vec![network("blue", 7), network("green", 8), network("red", 9)],
                secrets,
            }
        }

        fn star(&self) -> Star<'_> {
            Star {
                proxy: "proxy",
                hub: &self.hub,
                agents: &self.agents,
                networks: &self.networks,
                secrets: &self.secrets,
            }
        }
    }

    fn shown(part: &Part) -> Vec<String> {
        let networks = part.networks.iter().map(ToString::to_string);
        let links = part.links.iter().map(ToString::to_string);
        networks
            .chain(links)
            .chain(part.rules.iter().map(ToString::to_string))
            .collect()
    }

    #[test]
    fn an_agent_gets_its_networks_and_one_link() {
        let stage = Stage::new();
        assert_eq!(
            shown(&stage.star().agent("one")),
            [
                "blue (id 7)",
                "green (id 8)",
                "to-proxy to 10.0.0.9 for blue, green, flood from-ports, falls back to tls-to-proxy",
                "tls-to-proxy to 10.0.0.9 for blue, green, flood never, tls, a rung of to-proxy",
                "blue: any -> any = link to-proxy",
                "blue: any -> none = flood",
                "green: any -> any = link to-proxy",
                "green: any -> none = flood",
            ]
        );
        assert_eq!(
            shown(&stage.star().agent("two"))[..2],
            [
                "blue (id 7)",
                "to-proxy to fd00::9 for blue, flood from-ports, falls back to tls-to-proxy"
            ]
        );
        assert_eq!(stage.star().agent("three"), Part::default());
    }

    #[test]
    fn the_proxy_knows_where_every_station_is_and_sends_the_rest_to_its_lan() {
        let stage = Stage::new();
        assert_eq!(
            shown(&stage.star().proxy()),
            [
                "to-one to 10.0.0.1 for blue, green, flood always, falls back to tls-to-one",
                "tls-to-one to 10.0.0.1 for blue, green, flood never, tls, a rung of to-one",
                "to-two to fd00::2 for blue, flood always, falls back to tls-to-two",
                "tls-to-two to fd00::2 for blue, flood never, tls, a rung of to-two",
                "blue: any -> any = port lan0",
                "blue: any -> none = flood",
                "green: any -> none = flood",
                "red: any -> none = flood",
                "blue: any -> 52:54:00:00:00:01 = link to-one",
                "green: any -> 52:54:00:00:00:01 = link to-one",
                "blue: any -> 52:54:00:00:00:02 = link to-two",
            ]
        );
    }

    #[test]
    fn a_station_is_where_it_was_said_first_and_the_proxys_own_are_its_own() {
        let mut stage = Stage::new();
        stage.hub.ports = vec![
            port("lan0", "blue", &[]),
            port("lan1", "blue", &[]),
            port("tap7", "blue", &[GUEST_THREE]),
        ];
        let two = stage.agents.get_mut("two").unwrap();
        two.ports = vec![port("tap0", "blue", &[GUEST_ONE, GUEST_THREE, GUEST_TWO])];
        let part = stage.star().proxy();
        let exact: Vec<_> = part
            .rules
            .iter()
            .filter(|rule| matches!(rule.destination, Destination::Is(_)))
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            exact,
            [
                "blue: any -> 52:54:00:00:00:01 = link to-one",
                "green: any -> 52:54:00:00:00:01 = link to-one",
                "blue: any -> 52:54:00:00:00:02 = link to-two",
            ]
        );
        // Two ports lead to LANs: frames for strangers are copied to both.
        assert!(
            !part
                .rules
                .iter()
                .any(|rule| rule.destination == Destination::Any)
        );
    }

    #[test]
    fn who_cannot_have_a_link_gets_none_and_disturbs_nobody() {
        let mut stage = Stage::new();
        stage.hub.underlay = vec!["fd00::9".parse().unwrap()];
        let part = stage.star().agent("one");
        assert_eq!(shown(&part), ["blue (id 7)", "green (id 8)"]);
        let links: Vec<_> = stage.star().proxy().links;
        assert_eq!(links.len(), 2);
        // Ports in networks that nobody has made count for nothing.
        stage.agents.get_mut("two").unwrap().ports = vec![port("tap0", "grey", &[GUEST_TWO])];
        assert_eq!(stage.star().agent("two"), Part::default());
        assert!(stage.star().proxy().links.is_empty());
    }

    #[test]
    fn the_agent_opens_the_rung_and_the_proxy_listens() {
        let stage = Stage::new();
        let rung = |part: Part| part.links.into_iter().find(|link| link.rung_of.is_some());
        let (agent, proxy) = (rung(stage.star().agent("one")), rung(stage.star().proxy()));
        let (agent, proxy) = (agent.unwrap(), proxy.unwrap());
        assert_eq!((agent.listen_only, proxy.listen_only), (false, true));
        assert_eq!(agent.cookie, proxy.cookie);
        assert_eq!(proxy.rung_of.as_deref(), Some("to-one"));
    }

    #[test]
    fn parts_of_a_star_are_right_by_the_checks_for_files() {
        let stage = Stage::new();
        let mut own = host_one();
        own.links.clear();
        own.rules.clear();
        let together = stage.star().agent("one").onto(&own);
        assert_eq!(together.problems(), []);
    }
}
