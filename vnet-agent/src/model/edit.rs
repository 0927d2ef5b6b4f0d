//! How does a configuration change at run time?
//!
//! The operations of the API, as pure functions: each either does the whole of what it says or
//! refuses and changes nothing. They check what the settings file is checked for.

use vnet_common::rule::{Destination, Source};

use super::problem::{ConfigurationError, Item, Noun, Place, Problem};
use super::validate::{Index, Problems, check_count, check_link, check_rule, unknown};
use super::{Configuration, Link, Rule, Target};

/// A link that has been deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedLink {
    /// The link itself.
    pub link: Link,
    /// The rules that went with it, because it was their target.
    pub rules: Vec<Rule>,
}

impl Configuration {
    /// Adds a link.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn add_link(&mut self, link: Link) -> Result<(), ConfigurationError> {
        let mut found = Problems::default();
        let place = self.links.len();
        check_link(&Index::new(self), place, &link, &mut found);
        let at = Place::new(Item::Limits, "links");
        check_count(
            Noun::Link,
            place.saturating_add(1),
            self.limits.links,
            at,
            &mut found,
        );
        refuse(found)?;
        self.links.push(link);
        Ok(())
    }

    /// Deletes a link; with `force` the rules that point at it too.
    ///
    /// # Errors
    /// There is no such link, or rules point at it (named in the error) and `force` is not set.
    pub fn delete_link(
        &mut self,
        name: &str,
        force: bool,
    ) -> Result<DeletedLink, ConfigurationError> {
        let Some(place) = self.links.iter().position(|link| link.name == name) else {
            let links = self.links.iter().map(|link| link.name.as_str());
            return Err(unknown(Noun::Link, name, links));
        };
        let points_at_it = |rule: &Rule| matches!(&rule.to, Target::Link(link) if link == name);
        let falls_back = |link: &Link| link.fallback.as_deref() == Some(name);
        let rules = self.rules.iter().filter(|rule| points_at_it(rule));
        let links = self.links.iter().filter(|link| falls_back(link));
        let rules: Vec<String> = rules
            .map(Rule::to_string)
            .chain(links.map(|link| format!("link {link}")))
            .collect();
        if !rules.is_empty() && !force {
            return Err(ConfigurationError::LinkInUse {
                link: name.to_owned(),
                rules,
            });
        }
        let rules = self
            .rules
            .extract_if(.., |rule| points_at_it(rule))
            .collect();
        for link in self.links.iter_mut().filter(|link| falls_back(link)) {
            link.fallback = None;
        }
        Ok(DeletedLink {
            link: self.links.remove(place),
            rules,
        })
    }

    /// Adds a rule, the newest from now on; one with the same key goes, and is returned.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn add_rule(&mut self, rule: Rule) -> Result<Option<Rule>, ConfigurationError> {
        let mut found = Problems::default();
        check_rule(self, self.rules.len(), &rule, &mut found);
        let replaced = self
            .rules
            .iter()
            .position(|other| other.key() == rule.key());
        if replaced.is_none() {
            let at = Place::new(Item::Limits, "rules");
            let count = self.rule_count().saturating_add(1);
            check_count(Noun::Rule, count, self.limits.rules, at, &mut found);
        }
        refuse(found)?;
        let replaced = replaced.map(|place| self.rules.remove(place));
        self.rules.push(rule);
        Ok(replaced)
    }

    /// Deletes the rule with this key.
    ///
    /// # Errors
    /// There is no such rule, or it follows from a port's addresses.
    pub fn delete_rule(
        &mut self,
        network: &str,
        source: Source,
        destination: Destination,
    ) -> Result<Rule, ConfigurationError> {
        let key = (network, source, destination);
        if let Some(place) = self.rules.iter().position(|rule| rule.key() == key) {
            return Ok(self.rules.remove(place));
        }
        if self.network(network).is_none() {
            let networks = self.networks.iter().map(|network| network.name.as_str());
            return Err(unknown(Noun::Network, network, networks));
        }
        let network = network.to_owned();
        let implied = self
            .effective_rules(&[])
            .into_iter()
            .find(|rule| rule.key() == (network.as_str(), source, destination));
        Err(match implied {
            Some(rule) => ConfigurationError::ImpliedRule {
                rule: rule.to_string(),
            },
            None => ConfigurationError::NoSuchRule {
                network,
                from: source,
                to: destination,
            },
        })
    }
}

pub(super) fn refuse(found: Problems) -> Result<(), ConfigurationError> {
    match found.0.into_iter().next() {
        Some(Problem { error, .. }) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vnet_common::addr::Mac;

    use super::*;
    use crate::model::sample::{
        GUEST_ONE, GUEST_THREE, host_one, link, rule, some_link, some_target,
    };
    use crate::model::{ErrorKind, RuleOrigin};

    const UNKNOWN: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x77]);

    /// What is said, what to do, and what an HTTP status is made of.
    fn said<T: std::fmt::Debug>(
        outcome: Result<T, ConfigurationError>,
    ) -> (String, String, ErrorKind) {
        let error = outcome.unwrap_err();
        (error.to_string(), error.cure(), error.kind())
    }

    #[test]
    fn a_new_link_is_checked_like_one_of_the_file() {
        let mut host = host_one();
        assert_eq!(host.add_link(link("to-three", 4, &["blue"])), Ok(()));
        assert_eq!(
            host.links.last().map(|link| link.name.as_str()),
            Some("to-three")
        );
        let before = host.clone();
        for (link, message, kind) in [
            (
                link("to-three", 5, &["blue"]),
                "a second link is called \"to-three\"",
                ErrorKind::Conflict,
            ),
            (
                link("to-four", 1, &["blue"]),
                "10.0.0.1 is this host's own underlay address: a link to oneself",
                ErrorKind::Invalid,
            ),
            (
                link("to-four", 4, &["blue"]),
                "link \"to-three\" goes to 10.0.0.4 for network \"blue\" already",
                ErrorKind::Conflict,
            ),
            (
                link("to-four", 5, &["bleu"]),
                "there is no network \"bleu\"",
                ErrorKind::NotFound,
            ),
            (
                link("to-four", 5, &[]),
                "a link without networks carries nothing",
                ErrorKind::Invalid,
            ),
            (
                link("-four", 5, &["blue"]),
                "the link name \"-four\" begins with '-'",
                ErrorKind::Invalid,
            ),
        ] {
            let (said, cure, found) = said(host.add_link(link));
            assert_eq!((said.as_str(), found), (message, kind));
            assert!(!cure.is_empty(), "{message}");
            assert_eq!(host, before);
        }
        host.limits.links = 3;
        let full = said(host.add_link(link("to-four", 5, &["blue"])));
        assert_eq!(full.0, "4 links are more than the limit, 3");
    }

    #[test]
    fn a_link_that_rules_point_at_stays_unless_forced() {
        let mut host = host_one();
        let (message, cure, kind) = said(host.delete_link("to-two", false));
        assert_eq!(
            message,
            "link \"to-two\" is the target of 2 rules (blue: any -> 52:54:00:00:00:03 = link to-two; \
             blue: any -> none = link to-two)"
        );
        assert_eq!(
            cure,
            "delete those rules or point them elsewhere first, or force it: that deletes them too"
        );
        assert_eq!(kind, ErrorKind::Conflict);
        assert_eq!(host, host_one());

        let deleted = host.delete_link("to-two", true).unwrap();
        assert_eq!(
            (deleted.link, deleted.rules),
            (host_one().links.remove(0), host_one().rules)
        );
        assert!(host.rules.is_empty() && host.links.len() == 1);
        assert_eq!(host.delete_link("to-proxy", false).unwrap().rules, []);
        let (message, cure, kind) = said(host.delete_link("to-proxy", false));
        assert_eq!(message, "there is no link \"to-proxy\"");
        assert_eq!(cure, "there are no links: add one first");
        assert_eq!(kind, ErrorKind::NotFound);
    }

    #[test]
    fn a_rule_with_a_known_key_replaces_and_becomes_the_newest() {
        let mut host = host_one();
        let new = rule("blue", Destination::Is(GUEST_THREE), Target::Flood);
        let old = host.rules[0].clone();
        assert_eq!(host.add_rule(new.clone()), Ok(Some(old)));
        assert_eq!(host.rules[1], new);
        let other = rule("green", Destination::Is(GUEST_THREE), Target::Drop);
        assert_eq!(host.add_rule(other), Ok(None));
        assert_eq!(host.rules.len(), 3);
        // Two rules are implied by ports; a replacement needs no room.
        host.limits.rules = 5;
        assert!(host.add_rule(new).is_ok());
        let one_more = said(host.add_rule(rule("blue", Destination::Any, Target::Drop)));
        assert_eq!(one_more.0, "6 rules are more than the limit, 5");
    }

    #[test]
    fn a_new_rule_is_checked_like_one_of_the_file() {
        let mut host = host_one();
        let to = |to: Target| rule("blue", Destination::Any, to);
        let implied = Rule {
            origin: RuleOrigin::Port,
            ..to(Target::Drop)
        };
        let from_group = Rule {
            source: Source::Is(Mac::BROADCAST),
            ..to(Target::Drop)
        };
        for (rule, message) in [
            (
                to(Target::Link("to-tow".into())),
                "there is no link \"to-tow\"",
            ),
            (to(Target::Port("tap7".into())), "there is no port \"tap7\""),
            (
                to(Target::Port("tap-green-1".into())),
                "port tap-green-1 belongs to network \"green\", the rule to \"blue\"",
            ),
            (
                rule("green", Destination::Any, Target::Link("to-two".into())),
                "link \"to-two\" does not carry network \"green\"",
            ),
            (
                rule("red", Destination::Any, Target::Drop),
                "there is no network \"red\"",
            ),
            (
                from_group,
                "ff:ff:ff:ff:ff:ff is a group address, which is never a sender's",
            ),
            (
                implied,
                "the origin `port` is for rules that the agent makes itself",
            ),
        ] {
            assert_eq!(said(host.add_rule(rule)).0, message);
            assert_eq!(host, host_one());
        }
    }

    #[test]
    fn a_rule_is_deleted_by_its_key() {
        let mut host = host_one();
        let mut delete = |network, to| host.delete_rule(network, Source::Any, to);
        assert_eq!(
            delete("blue", Destination::None),
            Ok(host_one().rules.remove(1))
        );
        let again = said(delete("blue", Destination::None));
        assert_eq!(again.0, "there is no rule any -> none in network \"blue\"");
        assert_eq!(again.2, ErrorKind::NotFound);
        let elsewhere = said(delete("bleu", Destination::None));
        assert_eq!(elsewhere.0, "there is no network \"bleu\"");
        assert_eq!(elsewhere.1, "did you mean \"blue\"?");
        let implied = said(delete("blue", Destination::Is(GUEST_ONE)));
        assert_eq!(
            implied.0,
            "the rule blue: any -> 52:54:00:00:00:01 = port tap0 follows from the port's addresses, \
             and cannot be deleted"
        );
        assert_eq!(implied.2, ErrorKind::Conflict);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        AddLink(Link),
        DeleteLink(String, bool),
        AddRule(Rule),
        DeleteRule(Source, Destination),
    }

    fn some_operation() -> impl Strategy<Value = Operation> {
        let name = || prop::sample::select(vec!["to-two", "to-three", "to-proxy"]);
        let source = || {
            prop::sample::select(vec![
                Source::Any,
                Source::Is(GUEST_ONE),
                Source::Not(GUEST_ONE),
            ])
        };
        let destination = || {
            let known = [
                Destination::None,
                Destination::Any,
                Destination::Is(UNKNOWN),
            ];
            prop::sample::select(known.to_vec())
        };
        let network = prop::sample::select(vec!["blue", "green", "red"]);
        prop_oneof![
            name().prop_flat_map(some_link).prop_map(Operation::AddLink),
            (name(), any::<bool>())
                .prop_map(|(name, force)| Operation::DeleteLink(name.into(), force)),
            (network, source(), destination(), some_target()).prop_map(
                |(network, from, to, target)| {
                    Operation::AddRule(Rule {
                        source: from,
                        ..rule(network, to, target)
                    })
                }
            ),
            (source(), destination()).prop_map(|(from, to)| Operation::DeleteRule(from, to)),
        ]
    }

    proptest! {
        #[test]
        fn no_sequence_of_changes_makes_a_configuration_that_the_file_could_not_say(
            operations in prop::collection::vec(some_operation(), 0..30),
        ) {
            let mut host = host_one();
            for operation in operations {
                let before = host.clone();
                let done = match operation {
                    Operation::AddLink(link) => host.add_link(link).is_ok(),
                    Operation::DeleteLink(name, force) => host.delete_link(&name, force).is_ok(),
                    Operation::AddRule(rule) => host.add_rule(rule).is_ok(),
                    Operation::DeleteRule(from, to) => host.delete_rule("blue", from, to).is_ok(),
                };
                prop_assert_eq!(host.problems(), vec![]);
                prop_assert!(done || host == before);
            }
        }
    }
}
