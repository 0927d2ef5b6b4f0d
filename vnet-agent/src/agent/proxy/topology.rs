//! What does an admin want of the whole overlay, and is it brought about?
//!
//! A topology is checked, compared with what is there, and dealt on trial. Bringing it about is the
//! work of [`rollout`](super::rollout).

use vnet_common::addr::Cookie;

use super::super::Agent;
use super::super::overlay::{Control, now_unix_ms};
use super::{Proxy, no_proxy};
use crate::api::{AppliedTopology, NewTopology, Refusal, TopologyPlan, TopologyStatus, Undo};
use crate::model::topology::{CutOff, Topology, changes};
use crate::model::wanted::in_force;
use crate::model::{Configuration, Network};
use crate::overlay::picture::{left_out, picture};
use crate::overlay::roll::Hub;

impl Proxy {
    /// The overlay as it is.
    pub(super) fn topology(&self, networks: &[Network]) -> Topology {
        match self.history.current() {
            Some(applied) => applied.topology.clone(),
            None => picture(&self.hub(networks), self.roll.kept()),
        }
    }

    pub(super) fn hub<'a>(&'a self, networks: &'a [Network]) -> Hub<'a> {
        Hub {
            name: &self.name,
            introduction: &self.introduction,
            networks,
        }
    }

    /// What would come of another topology, or of none.
    fn plan(
        &self,
        own: &Configuration,
        wanted: Option<&Topology>,
    ) -> Result<TopologyPlan, Refusal> {
        let before = self.topology(&own.networks);
        let hub = self.hub(&own.networks);
        let mut trial = self.roll.clone();
        trial.set_topology(wanted.cloned());
        // The cookies of a trial are nobody's.
        let hosts = trial
            .deal(&hub, now_unix_ms(), || Ok::<_, String>(Cookie(1)))
            .map_err(Refusal::conflict)?;
        if let Some(part) = trial.part(&self.name) {
            let (configuration, _) = in_force(own, Some(part));
            if let Some(problem) = configuration.problems().first() {
                let message = format!("the proxy itself cannot go by it: {}", problem.error);
                return Err(Refusal::conflict(message).cure(problem.error.cure()));
            }
        }
        let after = match wanted {
            Some(wanted) => wanted.clone(),
            None => picture(&hub, trial.kept()),
        };
        let lost = before.cut_off_by(&after);
        let mut warnings = left_out(&after, self.roll.kept());
        warnings.extend(lost.iter().map(CutOff::to_string));
        let absent = hosts
            .iter()
            .filter(|host| **host != self.name && !self.roll.present().contains_key(*host));
        let absent = absent.cloned().collect();
        Ok(TopologyPlan {
            applied: false,
            absent,
            number: self.history.current().map(|applied| applied.number),
            changes: changes(&before, &after)
                .iter()
                .map(ToString::to_string)
                .collect(),
            warnings,
            hosts: hosts.into_iter().collect(),
        })
    }

    fn check(&self, wanted: &Topology) -> Result<(), Refusal> {
        if let Some(problem) = wanted.problems().first() {
            let refusal = Refusal::invalid(problem.error.to_string());
            return Err(refusal.cure(problem.error.cure()));
        }
        match wanted.proxy() {
            Some(proxy) if proxy.name == self.name => Ok(()),
            Some(proxy) => {
                let message = format!(
                    "its proxy is {:?}, and this one is {:?}",
                    proxy.name, self.name
                );
                Err(Refusal::invalid(message))
            }
            None => {
                let message = format!("it has no proxy, and this one is {:?}", self.name);
                Err(Refusal::invalid(message).cure("write PROXY behind its host"))
            }
        }
    }
}

impl Agent {
    pub(in super::super) fn topology(&self) -> Result<TopologyStatus, Refusal> {
        let Control::Proxy(proxy) = &self.control else {
            return Err(no_proxy());
        };
        Ok(TopologyStatus {
            number: proxy.history.current().map(|applied| applied.number),
            topology: proxy.topology(&self.own.networks),
        })
    }

    pub(in super::super) fn apply_topology(
        &mut self,
        wanted: NewTopology,
    ) -> Result<TopologyPlan, Refusal> {
        let Control::Proxy(proxy) = &mut self.control else {
            return Err(no_proxy());
        };
        proxy.check(&wanted.topology)?;
        let topology = wanted.topology.normal();
        let mut plan = proxy.plan(&self.own, Some(&topology))?;
        if wanted.dry_run {
            return Ok(plan);
        }
        if !plan.warnings.is_empty() && !wanted.force {
            return Err(Refusal::conflict(plan.warnings.join("; "))
                .cure("give it links to the proxy, or force it"));
        }
        proxy.must_be_idle()?;
        let mut history = proxy.history.clone();
        let count = u32::try_from(plan.changes.len()).unwrap_or(u32::MAX);
        plan.number = Some(history.apply(topology, count, now_unix_ms()));
        proxy.begin(&self.own, history, wanted.force)?;
        plan.applied = true;
        Ok(plan)
    }

    pub(in super::super) fn undo_topology(&mut self, undo: Undo) -> Result<TopologyPlan, Refusal> {
        let Control::Proxy(proxy) = &mut self.control else {
            return Err(no_proxy());
        };
        let mut history = proxy.history.clone();
        let before = history
            .before()
            .map_err(|why| Refusal::conflict(why.to_string()))?;
        let mut plan = proxy.plan(&self.own, before)?;
        history
            .undo(now_unix_ms())
            .map_err(|why| Refusal::conflict(why.to_string()))?;
        plan.number = history.current().map(|applied| applied.number);
        if undo.dry_run {
            return Ok(plan);
        }
        proxy.begin(&self.own, history, false)?;
        plan.applied = true;
        Ok(plan)
    }

    pub(in super::super) fn topology_history(&self) -> Result<Vec<AppliedTopology>, Refusal> {
        let Control::Proxy(proxy) = &self.control else {
            return Err(no_proxy());
        };
        let current = proxy.history.current().map(|applied| applied.number);
        let entries = proxy.history.entries().iter();
        Ok(entries
            .map(|entry| AppliedTopology {
                number: entry.number,
                applied_unix_ms: entry.applied_unix_ms,
                changes: entry.changes,
                undone_unix_ms: entry.undone_unix_ms,
                is_current: current == Some(entry.number),
            })
            .collect())
    }
}
