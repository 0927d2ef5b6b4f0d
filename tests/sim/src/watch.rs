//! Which of a host's links answer? What the agent's task does that asks them, in virtual time.
//!
//! Input: the clock, and answers that came up. Output: probes to be sent, and whether each link answers.
//! The states are the agent's own ([`Pulse`]).

use std::collections::BTreeMap;
use std::net::IpAddr;

use vnet_agent::sense::liveness::pulse::{INTERVAL_MS, Pulse, State};
use vnet_common::addr::{LinkId, NetworkId};
use vnet_common::wire::probe::Probe;
use vnet_common::wire::slow::Slow;
use zerocopy::IntoBytes;

/// A link that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Where it is in the tables.
    pub id: LinkId,
    /// A network that may cross.
    pub network: NetworkId,
    /// The other end.
    pub remote: IpAddr,
    /// Whether its frames took another link.
    pub was_down: bool,
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub struct Watch {
    lines: BTreeMap<String, (Watched, Pulse)>,
}

impl Watch {
    /// Goes on with those that were watched before, begins with the others.
    pub fn follow(&mut self, links: BTreeMap<String, Watched>, now_ms: u64) {
        let mut before = std::mem::take(&mut self.lines);
        for (name, watched) in links {
            let same = before
                .remove(&name)
                .filter(|(known, _)| (known.id, known.remote) == (watched.id, watched.remote));
            let pulse = same.map_or_else(
                || Pulse::new(watched.was_down, watched.id.0.wrapping_mul(7919), now_ms),
                |(_, pulse)| pulse,
            );
            self.lines.insert(name, (watched, pulse));
        }
    }

    /// The probes whose time has come, as they are written to the agent's tap.
    pub fn probes(&mut self, now_ms: u64) -> Vec<Vec<u8>> {
        let due = self.lines.values_mut().filter_map(|(watched, pulse)| {
            let sequence = pulse.poll(INTERVAL_MS, now_ms)?;
            let header = Slow::send(Slow::PROBE, 64, watched.network, watched.id);
            let probe = Probe::request(sequence, now_ms * 1_000_000);
            Some([header.as_bytes(), probe.as_bytes()].concat())
        });
        due.collect()
    }

    /// A probe was answered.
    pub fn answered(&mut self, link: LinkId, probe: &Probe, now_ms: u64) {
        let mut lines = self.lines.values_mut();
        if let Some((_, pulse)) = lines.find(|(watched, _)| watched.id == link) {
            pulse.answered(u32::from_be_bytes(probe.sequence), now_ms);
        }
    }

    /// Whether each answers; nothing where nobody knows yet.
    pub fn answering(&self) -> BTreeMap<String, Option<bool>> {
        let lines = self.lines.iter();
        let known = lines.map(|(name, (_, pulse))| {
            let answers = match pulse.state() {
                State::Unknown => None,
                State::Up => Some(true),
                State::Down => Some(false),
            };
            (name.clone(), answers)
        });
        known.collect()
    }
}
