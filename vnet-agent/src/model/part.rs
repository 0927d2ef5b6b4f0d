//! What does one host get of the overlay that spans many?
//!
//! Made from the whole by `topology`, carried to the host by the control channel, kept there. It
//! is laid over what the host's own settings file says: the file knows the underlay, the ports and
//! the limits of its host, the part knows the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use vnet_common::addr::Cookie;

use super::{Configuration, Link, Network, Rule};

/// One host's share of the overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Which state of the whole it was made from: a higher number is a later one.
    pub revision: u64,
    /// The virtual LANs that the host takes part in.
    pub networks: Vec<Network>,
    /// Its ends of the edges to other hosts.
    pub links: Vec<Link>,
    /// Its forwarding table, oldest rule first.
    pub rules: Vec<Rule>,
}

impl Part {
    /// What the host's own configuration becomes with this part in it.
    ///
    /// A network of the part that the host has already, with the same name and id, is the same
    /// network. A rule of the part takes the place of the host's own rule with the same key, and is
    /// younger than all of them. Where names or ids clash otherwise, both stay, and
    /// [`Configuration::problems`] says so.
    #[must_use]
    pub fn onto(&self, own: &Configuration) -> Configuration {
        let mut all = own.clone();
        let new = self
            .networks
            .iter()
            .filter(|network| !own.networks.contains(network));
        all.networks.extend(new.cloned());
        all.links.extend(self.links.iter().cloned());
        let keys: BTreeSet<_> = self.rules.iter().map(Rule::key).collect();
        all.rules.retain(|rule| !keys.contains(&rule.key()));
        all.rules.extend(self.rules.iter().cloned());
        all
    }
}

/// In short, without secrets, so that it may go into logs.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (networks, links, rules) = (self.networks.len(), self.links.len(), self.rules.len());
        write!(
            f,
            "revision {}: {networks} networks, {links} links, {rules} rules",
            self.revision
        )
    }
}

/// The cookies of the links, one for each pair of hosts: dealt by the proxy, never in a text that
/// people write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Secret>", into = "Vec<Secret>")]
pub struct Secrets {
    cookies: BTreeMap<(String, String), Cookie>,
}

impl Secrets {
    /// The cookie of the links between two hosts, whichever is named first.
    pub fn between(&self, one: &str, other: &str) -> Option<Cookie> {
        self.cookies.get(&pair(one, other)).copied()
    }

    /// Deals a cookie to two hosts; one that they had already is returned, and forgotten.
    pub fn deal(&mut self, one: &str, other: &str, cookie: Cookie) -> Option<Cookie> {
        self.cookies.insert(pair(one, other), cookie)
    }

    /// Forgets the cookies of all pairs that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.cookies.retain(|(one, other), _| keep(one, other));
    }
}

fn pair(one: &str, other: &str) -> (String, String) {
    let (first, last) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    (first.to_owned(), last.to_owned())
}

/// How secrets are written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    hosts: (String, String),
    cookie: Cookie,
}

impl From<Vec<Secret>> for Secrets {
    fn from(list: Vec<Secret>) -> Self {
        let mut secrets = Self::default();
        for Secret { hosts, cookie } in list {
            secrets.deal(&hosts.0, &hosts.1, cookie);
        }
        secrets
    }
}

impl From<Secrets> for Vec<Secret> {
    fn from(secrets: Secrets) -> Self {
        secrets
            .cookies
            .into_iter()
            .map(|(hosts, cookie)| Secret { hosts, cookie })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use vnet_common::rule::Destination;

    use super::*;
    use crate::model::sample::{GUEST_THREE, host_one, link, network, rule};
    use crate::model::{RuleOrigin, Target};

    fn part() -> Part {
        Part {
            revision: 3,
            networks: vec![network("blue", 7), network("red", 9)],
            links: vec![link("to-four", 4, &["blue", "red"])],
            rules: vec![
                rule("red", Destination::None, Target::Link("to-four".into())),
                Rule {
                    origin: RuleOrigin::Proxy,
                    ..rule("blue", Destination::Is(GUEST_THREE), Target::Drop)
                },
            ],
        }
    }

    #[test]
    fn a_part_lies_over_the_hosts_own_configuration() {
        let (own, part) = (host_one(), part());
        let all = part.onto(&own);
        assert_eq!(all.problems(), []);
        let names: Vec<_> = all.networks.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["blue", "green", "red"]);
        assert_eq!(all.links.len(), 3);
        assert_eq!(all.ports, own.ports);
        let rules: Vec<_> = all.rules.iter().map(ToString::to_string).collect();
        assert_eq!(
            rules,
            [
                "blue: any -> none = link to-two",
                "red: any -> none = link to-four",
                "blue: any -> 52:54:00:00:00:03 = drop",
            ]
        );
        assert_eq!(Part::default().onto(&own), own);
    }

    #[test]
    fn a_clash_is_left_for_the_checks_to_find() {
        let other_id = Part {
            networks: vec![network("blue", 8)],
            ..Part::default()
        };
        let found = other_id.onto(&host_one()).problems();
        let said: Vec<_> = found.iter().map(|p| p.error.to_string()).collect();
        assert_eq!(
            said,
            [
                "a second network is called \"blue\"",
                "network id 8 is the id of network \"green\" already",
            ]
        );
    }

    #[test]
    fn a_part_is_what_it_is_written_as_and_nothing_else_is_understood() {
        let part = part();
        let text = serde_json::to_string(&part).unwrap();
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap(), part);
        let more = text.replacen("\"revision\"", "\"reversion\":1,\"revision\"", 1);
        assert!(serde_json::from_str::<Part>(&more).is_err());
        assert_eq!(part.to_string(), "revision 3: 2 networks, 1 links, 2 rules");
    }

    #[test]
    fn a_cookie_belongs_to_a_pair_of_hosts_whichever_is_named_first() {
        let mut secrets = Secrets::default();
        assert_eq!(secrets.deal("two", "one", Cookie(5)), None);
        assert_eq!(secrets.between("one", "two"), Some(Cookie(5)));
        assert_eq!(secrets.between("two", "one"), Some(Cookie(5)));
        assert_eq!(secrets.between("one", "three"), None);
        assert_eq!(secrets.deal("one", "two", Cookie(6)), Some(Cookie(5)));
        secrets.deal("one", "three", Cookie(7));
        let text = serde_json::to_string(&secrets).unwrap();
        assert_eq!(serde_json::from_str::<Secrets>(&text).unwrap(), secrets);
        secrets.retain(|one, other| (one, other) == ("one", "two"));
        assert_eq!(secrets.between("three", "one"), None);
        assert!(!format!("{secrets:?}").contains('6'));
    }
}
