//! How are many rules changed at once?
//!
//! As if each were deleted and added by itself, one after the other, but all of it or nothing, and in
//! a time that grows with their number and not with its square.

use std::collections::{BTreeMap, BTreeSet};

use super::edit::refuse;
use super::problem::{ConfigurationError, Item, Noun, Place};
use super::validate::{Index, Problems, check_count, check_rule};
use super::{Configuration, Rule, RuleName};

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangedRules {
    /// New ones.
    pub added: usize,
    /// Those that took the place of another, or of themselves.
    pub replaced: usize,
    /// Those that are gone.
    pub deleted: usize,
}

impl Configuration {
    /// Deletes rules, then adds others: the newest from now on, in their order.
    ///
    /// # Errors
    /// The first thing that is wrong with one of them; nothing has changed then.
    pub fn change_rules(
        &mut self,
        delete: &[RuleName],
        add: Vec<Rule>,
    ) -> Result<ChangedRules, ConfigurationError> {
        let there: BTreeSet<_> = self.rules.iter().map(Rule::key).collect();
        let mut deleted = BTreeSet::new();
        for name in delete {
            if !there.contains(&name.key()) || !deleted.insert(name.key()) {
                return Err(self.no_such_rule(name));
            }
        }
        let mut found = Problems::default();
        let names = Index::new(self);
        for (rule, place) in add.iter().zip(self.rules.len()..) {
            check_rule(&names, place, rule, &mut found);
        }
        // Of two with one key in the list the later counts.
        let newest: BTreeMap<_, _> = add.iter().map(Rule::key).zip(0_usize..).collect();
        let keys = newest.keys();
        let replaced = keys.filter(|key| there.contains(key) && !deleted.contains(*key));
        let replaced = replaced.count();
        let changed = ChangedRules {
            added: newest.len().saturating_sub(replaced),
            replaced,
            deleted: deleted.len(),
        };
        let count = self.rule_count().saturating_add(changed.added);
        let count = count.saturating_sub(changed.deleted);
        let at = Place::new(Item::Limits, "rules");
        check_count(Noun::Rule, count, self.limits.rules, at, &mut found);
        refuse(found)?;
        let stays = self
            .rules
            .iter()
            .filter(|rule| !deleted.contains(&rule.key()) && !newest.contains_key(&rule.key()));
        let new = add
            .iter()
            .zip(0..)
            .filter(|(rule, place)| newest.get(&rule.key()) == Some(place));
        self.rules = stays.chain(new.map(|(rule, _)| rule)).cloned().collect();
        Ok(changed)
    }

    fn no_such_rule(&self, name: &RuleName) -> ConfigurationError {
        let RuleName {
            network,
            source,
            destination,
        } = name;
        let mut trial = self.clone();
        // Named twice, it is not there any more the second time.
        trial.rules.retain(|rule| rule.key() != name.key());
        let outcome = trial.delete_rule(network, *source, *destination);
        outcome.err().unwrap_or(ConfigurationError::NoSuchRule {
            network: network.clone(),
            from: *source,
            to: *destination,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vnet_common::addr::Mac;
    use vnet_common::rule::{Destination, Source};

    use super::*;
    use crate::model::sample::{GUEST_ONE, GUEST_THREE, host_one, rule, some_target};
    use crate::model::{ErrorKind, Target};

    fn name(network: &str, destination: Destination) -> RuleName {
        RuleName {
            network: network.into(),
            source: Source::Any,
            destination,
        }
    }

    #[test]
    fn one_that_is_wrong_spoils_all() {
        let mut host = host_one();
        let good = rule("blue", Destination::Is(GUEST_ONE), Target::Drop);
        let bad = rule("blue", Destination::Any, Target::Link("to-tow".into()));
        let error = host.change_rules(&[], vec![good.clone(), bad]).unwrap_err();
        assert_eq!(error.to_string(), "there is no link \"to-tow\"");
        let missing = name("blue", Destination::Is(Mac([0x52, 0x54, 0, 0, 0, 0x77])));
        let there = name("blue", Destination::None);
        for delete in [vec![there.clone(), missing], vec![there.clone(), there]] {
            let error = host.change_rules(&delete, vec![good.clone()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        host.limits.rules = 4;
        let before = host.clone();
        let other = rule("green", Destination::Any, Target::Drop);
        let error = host.change_rules(&[], vec![good.clone(), other.clone()]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "6 rules are more than the limit, 4"
        );
        assert_eq!(host, before);
        let both = [
            name("blue", Destination::None),
            name("blue", Destination::Is(GUEST_THREE)),
        ];
        let changed = host.change_rules(&both, vec![good, other]).unwrap();
        assert_eq!((changed.added, changed.deleted), (2, 2));
    }

    proptest! {
        #[test]
        fn many_at_once_are_what_one_after_the_other_would_be(
            adds in prop::collection::vec(
                (
                    prop::sample::select(vec!["blue", "green"]),
                    prop::sample::select(vec![
                        Destination::None,
                        Destination::Any,
                        Destination::Is(GUEST_ONE),
                        Destination::Is(GUEST_THREE),
                    ]),
                    some_target(),
                ),
                0..12,
            ),
            deletes in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        ) {
            let adds: Vec<Rule> = adds.into_iter().map(|(n, d, t)| rule(n, d, t)).collect();
            let mut single = host_one();
            let deletes: Vec<RuleName> = deletes
                .iter()
                .map(|index| index.get(&single.rules))
                .map(|rule| RuleName {
                    network: rule.network.clone(),
                    source: rule.source,
                    destination: rule.destination,
                })
                .collect();
            let one_by_one = || -> Result<Configuration, ConfigurationError> {
                for name in &deletes {
                    single.delete_rule(&name.network, name.source, name.destination)?;
                }
                for rule in &adds {
                    single.add_rule(rule.clone())?;
                }
                Ok(single)
            }();
            let mut at_once = host_one();
            let outcome = at_once.change_rules(&deletes, adds.clone());
            match one_by_one {
                Ok(single) => {
                    prop_assert!(outcome.is_ok(), "{outcome:?}");
                    prop_assert_eq!(at_once, single);
                }
                Err(error) => {
                    prop_assert!(outcome.is_err(), "{error}");
                    prop_assert_eq!(at_once, host_one());
                }
            }
        }
    }
}
