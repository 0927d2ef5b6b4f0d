//! What do a link's frames travel in now, why, and since when?
//!
//! Input: what liveness knows, which links have a connection, and which link the tables have each one's
//! frames take. Output: what clients are told of it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Agent;
use crate::act::reconcile::desired::Fault;
use crate::api::{LinkRung, LinkState, Problem, Severity};
use crate::model::Link;
use crate::sense::liveness::pulse::State;

impl Agent {
    /// What a link with a way is, as far as its other end's answers tell, and why.
    pub(super) fn live_state(&self, link: &Link) -> (LinkState, Option<String>) {
        let Some((dead, since)) = self.dead(link) else {
            return (LinkState::Up, None);
        };
        let why = format!("{dead}, for {}", seconds(since));
        match self.detour(link) {
            Some(other) => {
                let state = match self.own_rung(link) {
                    Some(_) => LinkState::Up,
                    None => LinkState::FallenBack,
                };
                (state, Some(format!("{why}; its frames take {other}")))
            }
            None if link.kind.is_carried() => (LinkState::Unconnected, None),
            None => (LinkState::Down, Some(why)),
        }
    }

    /// Why nothing gets over a link, and since when; nothing where it is not known to be dead.
    fn dead(&self, link: &Link) -> Option<(String, SystemTime)> {
        if link.kind.is_carried() {
            let (state, _) = self.carriers.state(&link.name)?;
            let why = match state.why.as_str() {
                "" => "it has no connection".to_owned(),
                why => format!("it has no connection ({why})"),
            };
            return state.peer.is_none().then_some((why, state.since));
        }
        let life = self.life(link)?;
        let why = "its other end does not answer over udp".to_owned();
        (life.state == State::Down).then_some((why, life.since))
    }

    /// The link that this one's frames take now.
    pub(super) fn instead(&self, link: &Link) -> Option<&Link> {
        let id = self.desired.links.get(&link.name)?;
        let other = self.reconciler.now().links.get(&id.0)?.instead()?;
        let links = self.configuration.links.iter();
        let mut links = links.filter(|link| self.desired.links.get(&link.name) == Some(&other));
        links.next()
    }

    /// The rung of its own that a link's frames take now.
    pub(super) fn own_rung(&self, link: &Link) -> Option<&Link> {
        let other = self.instead(link)?;
        (other.rung_of.as_ref() == Some(&link.name)).then_some(other)
    }

    /// The link that this one's frames take now: of another's rungs, that other.
    pub(super) fn detour(&self, link: &Link) -> Option<&str> {
        let other = self.instead(link)?;
        match &other.rung_of {
            Some(whole) if *whole != link.name => Some(whole),
            _ => Some(&other.name),
        }
    }

    /// The rung that a link is on.
    pub(super) fn rung(&self, link: &Link) -> LinkRung {
        let connected = |link: &Link| {
            self.carriers
                .state(&link.name)
                .map(|(state, _)| state.since)
        };
        let (kind, why, since) = match (self.dead(link), self.own_rung(link)) {
            (Some((why, dead)), Some(rung)) => (rung.kind, why, connected(rung).max(Some(dead))),
            (Some((why, dead)), None) => {
                let rungs = self.configuration.links.iter();
                let mut rungs = rungs.filter(|rung| rung.rung_of.as_ref() == Some(&link.name));
                let none = rungs.next().and_then(|rung| self.dead(rung));
                let why = match none {
                    Some((none, _)) => format!("{why}, and over tls {none}"),
                    None => why,
                };
                (link.kind, why, Some(dead))
            }
            (None, _) if link.kind.is_carried() => {
                let why = format!("it is a link of kind {}", link.kind);
                (link.kind, why, connected(link))
            }
            (None, _) => {
                let life = self.life(link);
                let (why, since) = match life.map(|life| (life.state, life.since)) {
                    Some((State::Up, since)) => ("its other end answers over udp", Some(since)),
                    Some(_) => ("its other end is being asked", None),
                    None if link.is_plain() => ("it is plain", None),
                    None => ("nobody asks whether its other end answers", None),
                };
                (link.kind, why.to_owned(), since)
            }
        };
        LinkRung {
            kind,
            why,
            since_unix_ms: since.and_then(unix_ms),
        }
    }

    /// When the link came into the state that its other end's answers tell.
    pub(super) fn live_since_unix_ms(&self, link: &Link) -> Option<u64> {
        unix_ms(self.life(link)?.since)
    }

    /// What is amiss with one rung is no trouble while the link has another.
    pub(super) fn excuse_rungs(&self, faults: &mut [Fault]) {
        let is_made_up_for = |name: &str| {
            let link = self.configuration.link(name)?;
            Some(match &link.rung_of {
                Some(whole) => {
                    let whole = self.configuration.link(whole)?;
                    self.life(whole)?.state == State::Up
                }
                None => self.own_rung(link).is_some(),
            })
        };
        for fault in faults {
            let name = fault.subject.strip_prefix("link ");
            fault.is_waiting |= name.and_then(is_made_up_for).unwrap_or(false);
        }
    }

    /// Links whose other ends do not answer.
    pub(super) fn dead_link_problems(&self) -> Vec<Problem> {
        let watched = self.configuration.links.iter();
        let watched = watched.filter(|link| !link.kind.is_carried());
        let dead = watched.filter_map(|link| {
            let (_, note) = self.live_state(link);
            note.map(|message| Problem {
                severity: Severity::Warning,
                subject: format!("link {}", link.name),
                message,
                cure: Some(format!(
                    "see whether {} runs its data plane, and whether UDP passes on the way",
                    link.remote
                )),
            })
        });
        dead.collect()
    }
}

fn unix_ms(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn seconds(since: SystemTime) -> String {
    let elapsed = since.elapsed().unwrap_or_default();
    format!("{} s", elapsed.as_secs())
}
