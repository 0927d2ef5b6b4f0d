//! How is another topology brought about on all hosts?
//!
//! Stage by stage, as [`overlay::rollout`](crate::overlay::rollout) says. Each stage is on disk before
//! any host hears of it, and in force on the proxy first. With the last one the new topology counts: a
//! proxy that ends before comes back with the old one, and deals that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use vnet_common::addr::Cookie;

use super::super::Agent;
use super::super::member::READY_MAX;
use super::super::overlay::{Control, now_unix_ms};
use super::{Proxy, no_proxy};
use crate::api::stream::{Event, EventKind};
use crate::api::{Refusal, RolloutStage, RolloutState, RolloutStatus};
use crate::model::topology::{History, Topology};
use crate::model::{Configuration, part::Part};
use crate::overlay::message::{Introduction, Missing};
use crate::overlay::roll::Roll;
use crate::overlay::rollout::{Deed, Outcome, Place, Plan, Rollout, Stage};

/// What an admin wants, and what he wanted before.
#[derive(Clone, Debug, Default)]
struct Wish {
    history: History,
    topology: Option<Topology>,
}

/// A change that is being brought about.
pub(super) struct Change {
    rollout: Rollout,
    began: Instant,
    before: Wish,
    after: Wish,
    stages: Vec<RolloutStage>,
    stage_began: Instant,
}

/// When a change goes on by itself.
pub(super) async fn due(change: Option<&Change>) {
    match change {
        Some(change) => {
            let after = Duration::from_millis(change.rollout.due_ms());
            // A stage that could not be dealt, say: not at once again.
            let soon = Instant::now() + Duration::from_millis(1);
            sleep_until((change.began + after).max(soon)).await;
        }
        None => std::future::pending().await,
    }
}

impl Change {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes note of how long the stage took that hosts were at.
    fn end_stage(&mut self) {
        if let Some(stage) = self.stages.last_mut() {
            let took = self.stage_began.elapsed().as_millis();
            stage.took_ms = stage.took_ms.or(u64::try_from(took).ok());
        }
        self.stage_began = Instant::now();
    }

    fn status(&self, state: RolloutState, astray: &BTreeSet<String>) -> RolloutStatus {
        let progress = self.rollout.progress();
        RolloutStatus {
            state,
            stages: self.stages.clone(),
            of: u32::try_from(progress.last).unwrap_or(u32::MAX),
            waiting: progress.waiting.into_iter().collect(),
            failed: progress.failed,
            astray: astray.iter().cloned().collect(),
        }
    }
}

impl Proxy {
    /// Begins to bring about what this history says last.
    pub(super) fn begin(
        &mut self,
        own: &Configuration,
        history: History,
        is_forced: bool,
    ) -> Result<(), Refusal> {
        self.must_be_idle()?;
        let hub = self.hub(&own.networks);
        let topology = history.current().map(|applied| applied.topology.clone());
        let mut trial = self.roll.clone();
        trial.set_topology(topology.clone());
        trial
            .deal(&hub, now_unix_ms(), || {
                super::super::secret()
                    .map(Cookie)
                    .map_err(|error| format!("{error:#}"))
            })
            .map_err(Refusal::conflict)?;
        let kept = self.roll.kept();
        let places = self.places([&kept.topology, &topology].into_iter().flatten());
        let plan = Plan::new(&kept.parts, &trial.kept().parts, &places);
        let before = Wish {
            history: self.history.clone(),
            topology: kept.topology.clone(),
        };
        let mut awaited: BTreeSet<String> = self.roll.present().keys().cloned().collect();
        awaited.insert(self.name.clone());
        self.roll.take_secrets(&trial);
        info!(
            stages = plan.stages().len(),
            "another topology is brought about"
        );
        self.last_change = None;
        self.change = Some(Box::new(Change {
            rollout: Rollout::new(plan, awaited, is_forced, 0),
            began: Instant::now(),
            before,
            after: Wish { history, topology },
            stages: Vec::new(),
            stage_began: Instant::now(),
        }));
        Ok(())
    }

    /// That nothing else is being brought about.
    pub(super) fn must_be_idle(&self) -> Result<(), Refusal> {
        match self.change {
            None => Ok(()),
            Some(_) => Err(Refusal::conflict(
                "another topology is being brought about at this moment",
            )
            .cure("wait for it: `vnetctl topology rollout` says how far it is")),
        }
    }

    /// Where hosts are, and what is behind their ports.
    fn places<'a>(
        &self,
        topologies: impl Iterator<Item = &'a Topology>,
    ) -> BTreeMap<String, Place> {
        let place = |has: &Introduction| Place {
            addresses: has.underlay.clone(),
            stations: has
                .ports
                .iter()
                .flat_map(|port| {
                    let stations = port.stations.iter();
                    stations.map(|&mac| (port.network.clone(), mac, port.device.clone()))
                })
                .collect(),
        };
        let agents = self.roll.kept().agents.iter();
        let mut places: BTreeMap<String, Place> = agents
            .map(|(name, has)| (name.clone(), place(has)))
            .collect();
        places.insert(self.name.clone(), place(&self.introduction));
        for host in topologies.flat_map(|topology| &topology.hosts) {
            let place = places.entry(host.name.clone()).or_default();
            place.addresses.extend(host.underlay());
        }
        places
    }

    /// Takes note of what hosts have said about the stage that they are at.
    fn hear_hosts(&mut self, own: Option<&Part>, own_missing: &[Missing]) {
        let Some(change) = &mut self.change else {
            return;
        };
        let now_ms = change.now_ms();
        for host in change.rollout.progress().waiting {
            let Some(wanted) = self.roll.part(&host).map(|part| part.revision) else {
                continue;
            };
            if host == self.name {
                let is_ready = own_missing.is_empty() || change.stage_began.elapsed() >= READY_MAX;
                if is_ready && own.is_some_and(|part| part.revision == wanted) {
                    change.rollout.taken(&host, own_missing, now_ms);
                }
                continue;
            }
            let Some(presence) = self.roll.present().get(&host) else {
                continue;
            };
            match &presence.declined {
                Some((declined, why)) if *declined == wanted => {
                    change.rollout.declined(&host, why, now_ms);
                }
                _ if presence.revision == Some(wanted) => {
                    let lacks = presence.lacks.as_ref();
                    let missing = lacks.filter(|(revision, _)| *revision == wanted);
                    let missing = missing.map_or(&[][..], |(_, missing)| missing.as_slice());
                    change.rollout.taken(&host, missing, now_ms);
                }
                _ => {}
            }
        }
    }

    /// Has a stage count, on disk too. Answers whether anything is different by it.
    fn put_stage(
        &mut self,
        stage: Stage,
        store: &crate::store::StateStore,
    ) -> Result<bool, String> {
        let Some(change) = &self.change else {
            return Ok(false);
        };
        let wish = match stage {
            Stage::After => change.after.clone(),
            _ => change.before.clone(),
        };
        let parts = change.rollout.plan().parts(stage);
        let before: (Roll, History) = (self.roll.clone(), self.history.clone());
        let changed = self.roll.put(parts, now_unix_ms());
        self.roll.set_topology(wish.topology);
        self.history = wish.history;
        let is_other = !changed.is_empty()
            || self.history != before.1
            || self.roll.kept().topology != before.0.kept().topology;
        if !is_other {
            return Ok(false);
        }
        self.store(store).map(|()| true).inspect_err(|_| {
            (self.roll, self.history) = before;
        })
    }

    fn finish(&mut self, outcome: &Outcome) {
        let Some(mut change) = self.change.take() else {
            return;
        };
        change.end_stage();
        let status = match outcome {
            Outcome::Done => {
                let number = self.history.current().map(|applied| applied.number);
                info!(number, "every host goes by the new topology");
                change.status(RolloutState::Done, &BTreeSet::new())
            }
            Outcome::Undone { failed, astray } => {
                for (host, why) in failed {
                    warn!(
                        host,
                        "all is as it was before, since it did not follow: {why}"
                    );
                }
                change.status(RolloutState::Undone, astray)
            }
        };
        self.last_change = Some(status);
        // What agents have said of themselves meanwhile counts now.
        self.is_stale = true;
    }

    fn rollout(&self) -> RolloutStatus {
        match (&self.change, &self.last_change) {
            (Some(change), _) => {
                let state = match change.rollout.progress().failed.is_empty() {
                    true => RolloutState::Running,
                    false => RolloutState::Returning,
                };
                change.status(state, &BTreeSet::new())
            }
            (None, Some(last)) => last.clone(),
            (None, None) => RolloutStatus {
                state: RolloutState::None,
                stages: Vec::new(),
                of: 0,
                waiting: Vec::new(),
                failed: BTreeMap::new(),
                astray: Vec::new(),
            },
        }
    }
}

impl Agent {
    /// Goes on with what is being brought about, as far as hosts have answered. Answers whether
    /// there is something.
    pub(super) async fn turn_rollout(&mut self) -> bool {
        loop {
            let missing = match &self.control {
                Control::Proxy(proxy) if proxy.change.is_some() => self.missing(),
                _ => return false,
            };
            let Control::Proxy(proxy) = &mut self.control else {
                return false;
            };
            proxy.hear_hosts(self.part.as_ref(), &missing);
            let deed = proxy.change.as_mut().and_then(|change| {
                let now_ms = change.now_ms();
                change.rollout.poll(now_ms)
            });
            match deed {
                None => {
                    // Somebody may be back.
                    proxy.deliver();
                    return true;
                }
                Some(Deed::Deal(stage)) => self.deal_stage(stage).await,
                Some(Deed::Finish(outcome)) => {
                    proxy.finish(&outcome);
                    let message = match outcome {
                        Outcome::Done => "every host goes by the new one",
                        Outcome::Undone { .. } => "all is as it was before: a host did not follow",
                    };
                    let event = Event::now(EventKind::Changed, "topology", message);
                    self.events.tell(event);
                    return false;
                }
            }
        }
    }

    async fn deal_stage(&mut self, stage: Stage) {
        let Control::Proxy(proxy) = &mut self.control else {
            return;
        };
        let name = proxy.name.clone();
        let put = proxy.put_stage(stage, &self.store);
        let own = proxy.roll.part(&name).cloned();
        let Some(change) = &mut proxy.change else {
            return;
        };
        change.end_stage();
        let is_back = !change.rollout.progress().failed.is_empty();
        match &put {
            Ok(true) => change.stages.push(RolloutStage {
                name: stage.to_string(),
                is_back,
                took_ms: None,
            }),
            Ok(false) => {}
            Err(why) => {
                warn!(%stage, "a stage is not dealt: {why}");
                let now_ms = change.now_ms();
                change.rollout.not_dealt(&name, why, now_ms);
                return;
            }
        }
        let taken = match own {
            Some(own) => self.take_part(own).await,
            None => Ok(()),
        };
        let Control::Proxy(proxy) = &mut self.control else {
            return;
        };
        match (taken, &mut proxy.change) {
            (Err(why), Some(change)) => {
                let now_ms = change.now_ms();
                change.rollout.declined(&name, &why, now_ms);
            }
            (_, change) => {
                if let Some(change) = change {
                    let now_ms = change.now_ms();
                    change.rollout.dealt(now_ms);
                }
                proxy.deliver();
            }
        }
    }

    pub(in super::super) fn rollout_status(&self) -> Result<RolloutStatus, Refusal> {
        match &self.control {
            Control::Proxy(proxy) => Ok(proxy.rollout()),
            _ => Err(no_proxy()),
        }
    }
}
