//! Which stage is dealt when, and what happens when a host does not follow?
//!
//! Input: what hosts answer, who is gone, the clock. Output: the stage to deal, and how it ended. A
//! stage ends when every host that got another part says that it is in force, and that nothing is
//! missing there. A host that declines, or says nothing for too long, or on which something is
//! missing, turns the whole round: the same stages lead back, as far as hosts follow.
//!
//! ```text
//!             all in force                 all in force
//!   stage 1 ----------------> stage 2 ... ---------------> the last: done
//!      |  declined, missing,     |
//!      |  too slow               |
//!      v                         v
//!   stage 0 <--------------- stage 1 ...      and on: nobody is waited for long
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Plan, Stage};
use crate::overlay::message::Missing;

/// A time, or how long.
type Ms = u64;

/// For all hosts to have a stage in force. Who has lost the proxy for a moment may come back.
pub const STAGE_MAX_MS: Ms = 5000;
/// The same on the way back: those that follow are not kept waiting for those that do not.
pub const BACK_MAX_MS: Ms = 2000;
/// For frames that are under way, at the least and at the most.
const PAUSE_MS: (Ms, Ms) = (2, 250);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Give every host its part of this stage.
    Deal(Stage),
    /// It is over.
    Finish(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every host goes by the new state.
    Done,
    /// All is as it was before.
    Undone {
        /// The hosts that did not follow, and why.
        failed: BTreeMap<String, String>,
        /// Those that have not said that they are back: they are given the old state when they are
        /// there again.
        astray: BTreeSet<String>,
    },
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage that hosts are at.
    pub stage: Stage,
    /// Its number.
    pub number: usize,
    /// The number of the last.
    pub last: usize,
    /// Who has not said yet that it is in force.
    pub waiting: BTreeSet<String>,
    /// Why it goes back.
    pub failed: BTreeMap<String, String>,
}

/// A plan being carried out.
#[derive(Clone, Debug)]
pub struct Rollout {
    plan: Plan,
    /// The hosts that were there when it began, the proxy among them.
    awaited: BTreeSet<String>,
    /// Whether it goes on where something is missing.
    is_forced: bool,
    at: usize,
    waiting: BTreeSet<String>,
    dealt_ms: Ms,
    /// When the next stage is dealt, once nobody is waited for.
    next_ms: Option<Ms>,
    failed: BTreeMap<String, String>,
    astray: BTreeSet<String>,
    is_over: bool,
}

impl Rollout {
    /// Begins; the first stage is dealt by the first [`Self::poll`]. Only these hosts are waited for.
    pub const fn new(plan: Plan, awaited: BTreeSet<String>, is_forced: bool, now_ms: Ms) -> Self {
        Self {
            plan,
            awaited,
            is_forced,
            at: 0,
            waiting: BTreeSet::new(),
            dealt_ms: now_ms,
            next_ms: Some(now_ms),
            failed: BTreeMap::new(),
            astray: BTreeSet::new(),
            is_over: false,
        }
    }

    /// The plan.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            stage: self.stage(self.at),
            number: self.at,
            last: self.last(),
            waiting: self.waiting.clone(),
            failed: self.failed.clone(),
        }
    }

    /// When [`Self::poll`] has something to do, should nothing else happen.
    pub fn due_ms(&self) -> Ms {
        let patience = match self.is_back() {
            true => BACK_MAX_MS,
            false => STAGE_MAX_MS,
        };
        self.next_ms
            .unwrap_or(self.dealt_ms.saturating_add(patience))
    }

    /// A host says that its part of the stage is in force; `missing` is what it lacks nevertheless.
    pub fn taken(&mut self, host: &str, missing: &[Missing], now_ms: Ms) {
        if !self.waiting.contains(host) {
            return;
        }
        let missing = missing.iter().filter(|missing| self.matters(host, missing));
        let missing: Vec<&str> = missing.map(|missing| missing.why.as_str()).collect();
        if missing.is_empty() || self.is_forced || self.is_back() {
            self.waiting.remove(host);
            self.settle(now_ms);
        } else {
            let why = missing.join("; ");
            self.fail(host, why, now_ms);
        }
    }

    /// Whether a new frame could need it: a link that is new, and whose other end is there.
    fn matters(&self, host: &str, missing: &Missing) -> bool {
        let Some(link) = &missing.link else {
            return true;
        };
        let other = self.plan.new_link_to(host, link);
        other.is_some_and(|other| self.awaited.contains(other))
    }

    /// A host does not take its part of the stage.
    pub fn declined(&mut self, host: &str, why: &str, now_ms: Ms) {
        if !self.waiting.contains(host) {
            return;
        }
        if self.is_back() {
            self.waiting.remove(host);
            self.astray.insert(host.to_owned());
            self.settle(now_ms);
        } else {
            self.fail(host, why.to_owned(), now_ms);
        }
    }

    /// A stage could not be dealt at all: nobody has heard of it.
    pub fn not_dealt(&mut self, host: &str, why: &str, now_ms: Ms) {
        if self.is_back() {
            // Once more, in a while: the old state is the only one to go to.
            self.waiting.clear();
            self.at = self.at.saturating_add(1).min(self.last());
            self.next_ms = Some(now_ms.saturating_add(PAUSE_MS.1));
        } else {
            self.fail(host, why.to_owned(), now_ms);
        }
    }

    /// The stage of the last [`Deed::Deal`] is on its way to the hosts: what the proxy's disk took
    /// before says nothing about how long frames are under way.
    pub const fn dealt(&mut self, now_ms: Ms) {
        self.dealt_ms = now_ms;
    }

    /// What the clock, or what happened before, brings about.
    pub fn poll(&mut self, now_ms: Ms) -> Option<Deed> {
        if self.is_over {
            return None;
        }
        if self.next_ms.is_none() && now_ms >= self.due_ms() {
            self.give_up_waiting(now_ms);
        }
        if self.next_ms.is_none_or(|next| now_ms < next) {
            return None;
        }
        let from = self.at;
        let is_back = self.is_back();
        let is_done = match is_back {
            true => from == 0,
            false => from == self.last(),
        };
        if is_done {
            self.is_over = true;
            return Some(Deed::Finish(self.outcome()));
        }
        self.at = match is_back {
            true => from.saturating_sub(1),
            false => from.saturating_add(1),
        };
        let stage = self.stage(self.at);
        let changed = self.plan.changed(self.stage(from), stage);
        let awaited = changed.intersection(&self.awaited);
        let here = awaited.filter(|host| !is_back || !self.failed.contains_key(*host));
        self.waiting = here.cloned().collect();
        self.dealt_ms = now_ms;
        self.next_ms = None;
        if self.waiting.is_empty() {
            self.next_ms = Some(now_ms);
        }
        Some(Deed::Deal(stage))
    }

    fn outcome(&self) -> Outcome {
        match self.failed.is_empty() {
            true => Outcome::Done,
            false => Outcome::Undone {
                failed: self.failed.clone(),
                astray: self.astray.clone(),
            },
        }
    }

    fn is_back(&self) -> bool {
        !self.failed.is_empty()
    }

    fn last(&self) -> usize {
        self.plan.stages().len().saturating_sub(1)
    }

    fn stage(&self, number: usize) -> Stage {
        let stage = self.plan.stages().get(number).copied();
        stage.unwrap_or(Stage::After)
    }

    /// Nobody is waited for any more: the next stage may follow.
    fn settle(&mut self, now_ms: Ms) {
        if self.waiting.is_empty() {
            let took_ms = now_ms.saturating_sub(self.dealt_ms);
            let pause_ms = match self.is_pause_needed() {
                true => took_ms.clamp(PAUSE_MS.0, PAUSE_MS.1),
                false => 0,
            };
            self.next_ms = Some(now_ms.saturating_add(pause_ms));
        }
    }

    /// Whether what is under way now could get lost by the next stage.
    fn is_pause_needed(&self) -> bool {
        let next = self.stage(self.at.saturating_add(1));
        self.is_back() || !matches!(next, Stage::Links | Stage::Round(1))
    }

    /// Turns round. Those that have not answered yet may have taken what they were given.
    fn fail(&mut self, host: &str, why: String, now_ms: Ms) {
        self.failed.insert(host.to_owned(), why);
        self.waiting.clear();
        self.settle(now_ms);
    }

    fn give_up_waiting(&mut self, now_ms: Ms) {
        let waiting = std::mem::take(&mut self.waiting);
        if self.is_back() {
            self.astray.extend(waiting);
        } else {
            let s = STAGE_MAX_MS / 1000;
            for host in waiting {
                let why = format!("it has not answered for {s} s");
                self.astray.insert(host.clone());
                self.failed.insert(host, why);
            }
        }
        self.settle(now_ms);
    }
}
