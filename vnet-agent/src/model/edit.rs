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
        let rules: Vec<String> = self
            .rules
            .iter()
            .filter(|rule| points_at_it(rule))
            .map(Rule::to_string)
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

fn refuse(found: Problems) -> Result<(), ConfigurationError> {
    match found.0.into_iter().next() {
        Some(Problem { error, .. }) => Err(error),
        None => Ok(()),
    }
}
