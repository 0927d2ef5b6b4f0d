//! What does the agent answer? One arm a question.

use super::Agent;
use super::route::Finding;
use crate::api::{Answer, Ask, ChangeOutcome, Refusal};
use crate::dataplane::DataPlaneError;

/// A question that the kernel did not answer.
pub(super) fn internal(error: DataPlaneError) -> Refusal {
    Refusal::internal(error.to_string())
}

/// An answer, or what has yet to be asked of other hosts.
pub(super) enum Coming {
    /// It is here.
    Now(Answer),
    /// It comes without this task.
    Later(Finding),
}

impl Agent {
    pub(super) async fn answer(&mut self, ask: Ask) -> Result<Coming, Refusal> {
        Ok(Coming::Now(match ask {
            Ask::Status => Answer::Status(Box::new(self.status().await?)),
            Ask::Interfaces => Answer::Interfaces(self.interfaces().await?),
            Ask::Links => Answer::Links(self.links()?),
            Ask::AddLink(link) => Answer::Change(self.add_link(link).await?),
            Ask::DeleteLink { name, force } => {
                Answer::Change(self.delete_link(&name, force).await?)
            }
            Ask::Rules { network } => Answer::Rules(self.rules(network.as_deref())?),
            Ask::AddRule(rule) => Answer::Change(self.add_rule(rule).await?),
            Ask::DeleteRule {
                network,
                source,
                destination,
            } => Answer::Change(self.delete_rule(&network, source, destination).await?),
            Ask::ChangeRules { delete, add } => {
                Answer::Change(self.change_rules(&delete, add).await?)
            }
            Ask::Stats => Answer::Stats(Box::new(self.stats()?)),
            Ask::Flows {
                network,
                limit,
                sort,
            } => Answer::Flows(self.flows(network.as_deref(), limit, sort)?),
            Ask::Drops { all } => Answer::Drops(self.stats()?.drops(all)),
            Ask::Trace(request) => Answer::Trace(Box::new(self.trace(&request)?)),
            Ask::Agents => Answer::Agents(self.agents()?),
            Ask::ForgetAgent { name } => {
                self.forget_agent(&name)?;
                Answer::Change(self.done(ChangeOutcome::Deleted, format!("agent {name}"), &[]))
            }
            Ask::Topology => Answer::Topology(Box::new(self.topology()?)),
            Ask::ApplyTopology(wanted) => Answer::TopologyPlan(self.apply_topology(*wanted)?),
            Ask::UndoTopology(undo) => Answer::TopologyPlan(self.undo_topology(undo)?),
            Ask::TopologyHistory => Answer::TopologyHistory(self.topology_history()?),
            Ask::Rollout => Answer::Rollout(self.rollout_status()?),
            Ask::Invite(wanted) => Answer::Invited(self.invite(&wanted)?),
            Ask::Configuration => Answer::Configuration(Box::new(self.configuration.clone())),
            Ask::Route(query) => return Ok(Coming::Later(self.find_route(query)?)),
        }))
    }
}
