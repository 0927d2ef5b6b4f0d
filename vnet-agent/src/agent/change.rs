//! Changes that clients ask for: stored first, then brought about.

use std::time::SystemTime;

use vnet_common::rule::{Destination, Source};

use super::Agent;
use super::overlay::with_part;
use crate::api::stream::{Event, EventKind};
use crate::api::{Change, ChangeOutcome, Refusal};
use crate::model::part::Part;
use crate::model::problem::ErrorKind;
use crate::model::wanted::own_of;
use crate::model::{ChangedRules, Configuration, ConfigurationError, Link, Rule, RuleName};
use crate::store::state::ChangeError;

fn refusal(error: ChangeError) -> Refusal {
    match error {
        ChangeError::Refused(error) => {
            let message = error.to_string();
            let refusal = match error.kind() {
                ErrorKind::Invalid => Refusal::invalid(message),
                ErrorKind::NotFound => Refusal::not_found(message),
                ErrorKind::Conflict => Refusal::conflict(message),
            };
            refusal.cure(error.cure())
        }
        ChangeError::NotStored(error) => Refusal::unavailable(error.to_string()),
    }
}

impl Agent {
    pub(super) async fn add_link(&mut self, link: Link) -> Result<Change, Refusal> {
        let subject = format!("link {} to {}", link.name, link.remote);
        let about = [format!("link {}", link.name), "links".to_owned()];
        if self.configuration.link(&link.name) == Some(&link) {
            return Ok(unchanged(subject));
        }
        self.change(|configuration| configuration.add_link(link))
            .await?;
        Ok(self.done(ChangeOutcome::Added, subject, &about))
    }

    pub(super) async fn delete_link(&mut self, name: &str, force: bool) -> Result<Change, Refusal> {
        let deleted = self
            .change(|configuration| configuration.delete_link(name, force))
            .await?;
        let mut change = self.done(ChangeOutcome::Deleted, format!("link {name}"), &[]);
        let rules = deleted.rules.iter();
        change
            .notes
            .extend(rules.map(|rule| format!("rule deleted with it: {rule}")));
        Ok(change)
    }

    pub(super) async fn add_rule(&mut self, rule: Rule) -> Result<Change, Refusal> {
        let subject = format!("rule {rule}");
        let about = [rule.to.to_string(), "rules".to_owned()];
        // Exactly this one, and nothing of its strength is newer: adding it again changes nothing.
        if self.configuration.rules.last() == Some(&rule) {
            return Ok(unchanged(subject));
        }
        let replaced = self
            .change(|configuration| configuration.add_rule(rule))
            .await?;
        let outcome = match replaced {
            Some(_) => ChangeOutcome::Replaced,
            None => ChangeOutcome::Added,
        };
        let mut change = self.done(outcome, subject, &about);
        change
            .notes
            .extend(replaced.map(|rule| format!("it took the place of: {rule}")));
        Ok(change)
    }

    pub(super) async fn delete_rule(
        &mut self,
        network: &str,
        source: Source,
        destination: Destination,
    ) -> Result<Change, Refusal> {
        let deleted = self
            .change(|configuration| configuration.delete_rule(network, source, destination))
            .await?;
        Ok(self.done(ChangeOutcome::Deleted, format!("rule {deleted}"), &[]))
    }

    pub(super) async fn change_rules(
        &mut self,
        delete: &[RuleName],
        add: Vec<Rule>,
    ) -> Result<Change, Refusal> {
        let mut trial = self.configuration.clone();
        let changed = trial
            .change_rules(delete, add)
            .map_err(|error| refusal(error.into()))?;
        let ChangedRules {
            added,
            replaced,
            deleted,
        } = changed;
        if trial.rules == self.configuration.rules {
            return Ok(unchanged(format!("{replaced} rules")));
        }
        self.bring_about(trial).await?;
        let outcome = match (added, replaced) {
            (0, 0) => ChangeOutcome::Deleted,
            (0, _) => ChangeOutcome::Replaced,
            _ => ChangeOutcome::Added,
        };
        let counts = [
            (added, "new"),
            (replaced, "in the place of others"),
            (deleted, "gone"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let subject = format!("rules: {}", counts.join(", "));
        Ok(self.done(outcome, subject, &["rules".to_owned()]))
    }

    async fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Configuration) -> Result<T, ConfigurationError>,
    ) -> Result<T, Refusal> {
        let mut changed = self.configuration.clone();
        let outcome = change(&mut changed).map_err(|error| refusal(error.into()))?;
        self.bring_about(changed).await?;
        Ok(outcome)
    }

    /// Stores what a client has made of the configuration, and has it count.
    async fn bring_about(&mut self, changed: Configuration) -> Result<(), Refusal> {
        // What the proxy has dealt is kept apart from what this host wants itself.
        let nothing = Part::default();
        let part = self.part.as_ref().unwrap_or(&nothing);
        let own = own_of(changed, &self.own, part).map_err(|error| refusal(error.into()))?;
        let stored = self.store.save(self.fingerprint, &own);
        stored.map_err(|error| refusal(error.into()))?;
        let limits = self.configuration.limits;
        (self.configuration, self.waiting) = with_part(&own, self.part.as_ref(), limits);
        self.own = own;
        self.changed = SystemTime::now();
        self.source = format!("{}, and changes made since", self.settings_path.display());
        self.watcher.follow(Self::destinations(&self.configuration));
        self.reconcile().await;
        Ok(())
    }

    /// With what the asker should know besides: the faults of these subjects.
    pub(super) fn done(&self, outcome: ChangeOutcome, subject: String, about: &[String]) -> Change {
        let faults = self
            .faults
            .iter()
            .filter(|fault| about.contains(&fault.subject));
        let notes = faults
            .map(|fault| format!("{}: {}", fault.subject, fault.message))
            .collect();
        let message = outcome.to_string();
        self.events
            .tell(Event::now(EventKind::Changed, &subject, message));
        Change {
            outcome,
            subject,
            notes,
        }
    }
}

fn unchanged(subject: String) -> Change {
    Change {
        outcome: ChangeOutcome::Unchanged,
        subject,
        notes: Vec::new(),
    }
}
