//! What became of every frame, in numbers?
//!
//! Input: the programs' ledgers ([`vnet_common::table::ledger`]) and flow entries. Output: the
//! values of `stats`, `flows` and `drops`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Mac;
use vnet_common::reason::Reason;
use vnet_common::table::ledger::Ledger;

use super::{Place, Verdict};
use crate::model::Target;

/// The books of one place. `received = forwarded + delivered + slow_path + answered + passed +
/// dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LedgerValues {
    /// Frames that came in here (on an underlay: packets).
    pub received_packets: u64,
    /// Their bytes, outer headers not included (on an underlay: all).
    pub received_bytes: u64,
    /// Of those received: left over a link (on an underlay: admitted by a link).
    pub forwarded: u64,
    /// Of those received: left into a port of this host.
    pub delivered: u64,
    /// Of those received: went up to the agent.
    pub slow_path: u64,
    /// Of those received: probes answered.
    pub answered: u64,
    /// Of those received: left to the host's own stack.
    pub passed: u64,
    /// Of those received: dropped.
    pub dropped: u64,
    /// Why, without the reasons that never happened.
    pub dropped_by_reason: BTreeMap<Reason, u64>,
    /// Frames that were handed to this place.
    pub sent_packets: u64,
    /// Their bytes, outer headers not included.
    pub sent_bytes: u64,
    /// Of those sent: refused by the kernel or the device.
    pub refused: u64,
    /// Whether every frame received has exactly one outcome. The CPUs' books are read one after
    /// the other, so frames in flight can make it false for a moment.
    pub balanced: bool,
}

impl From<&Ledger> for LedgerValues {
    fn from(ledger: &Ledger) -> Self {
        Self {
            received_packets: ledger.received.packets,
            received_bytes: ledger.received.bytes,
            forwarded: ledger.forwarded,
            delivered: ledger.delivered,
            slow_path: ledger.slow_path,
            answered: ledger.answered,
            passed: ledger.passed,
            dropped: ledger.dropped_total(),
            dropped_by_reason: Reason::ALL
                .iter()
                .zip(ledger.dropped)
                .filter(|&(_, packets)| packets > 0)
                .map(|(&reason, packets)| (reason, packets))
                .collect(),
            sent_packets: ledger.sent.packets,
            sent_bytes: ledger.sent.bytes,
            refused: ledger.refused,
            balanced: ledger.is_balanced(),
        }
    }
}

/// All books of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Stats {
    /// By port.
    pub ports: Vec<SideStats>,
    /// By link.
    pub links: Vec<SideStats>,
    /// By underlay device.
    pub underlays: Vec<SideStats>,
    /// The agent's own.
    pub agent: AgentStats,
}

/// The books of a port, a link or an underlay device.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SideStats {
    /// The device of the port or the underlay, or the link's name.
    pub name: String,
    /// Its books.
    #[serde(flatten)]
    pub ledger: LedgerValues,
}

/// The books of the agent: the frames that it wrote to its tap (`ledger`), and what it did with
/// those that it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct AgentStats {
    /// What programs sent up (`sent`), and what became of the frames that the agent injected
    /// (`received` and its outcomes).
    #[serde(flatten)]
    pub ledger: LedgerValues,
    /// Frames read from the tap.
    pub taken: u64,
    /// Of those: copied to at least one target.
    pub flooded: u64,
    /// Copies made of them, one for each target.
    pub copies: u64,
    /// Of those taken: beginnings of frames that were too big, whose senders were told what fits.
    #[serde(default)]
    pub too_big_answered: u64,
    /// The others, of packets that must not be answered.
    #[serde(default)]
    pub too_big_unanswered: u64,
    /// Probes sent to find out what links carry.
    #[serde(default)]
    pub probes: u64,
    /// Of those taken: put into the queue of a link's connection.
    #[serde(default)]
    pub carried: u64,
    /// Connections from others that were refused, by why.
    #[serde(default)]
    pub connections_refused: BTreeMap<String, u64>,
    /// Of those taken: answers to probes.
    #[serde(default)]
    pub probe_replies: u64,
    /// Of those taken: dropped by the agent, without the reasons that never happened.
    pub slow_path_dropped_by_reason: BTreeMap<Reason, u64>,
}

impl Stats {
    /// What was dropped, where and why, in the order of places and reasons; with `all` also what
    /// never was. Frames that the kernel refused appear where they were sent to.
    pub fn drops(&self, all: bool) -> Vec<Drop> {
        let sides = [
            (&self.ports, Place::Port as fn(String) -> Place),
            (&self.links, Place::Link),
            (&self.underlays, Place::Underlay),
        ];
        let mut drops = Vec::new();
        for (side, place) in sides {
            for SideStats { name, ledger } in side {
                list(
                    &mut drops,
                    &place(name.clone()),
                    ledger,
                    &BTreeMap::new(),
                    all,
                );
            }
        }
        let AgentStats {
            ledger,
            slow_path_dropped_by_reason,
            ..
        } = &self.agent;
        list(
            &mut drops,
            &Place::Agent,
            ledger,
            slow_path_dropped_by_reason,
            all,
        );
        drops
    }
}

fn list(
    drops: &mut Vec<Drop>,
    place: &Place,
    ledger: &LedgerValues,
    more: &BTreeMap<Reason, u64>,
    all: bool,
) {
    let count = |of: &BTreeMap<Reason, u64>, reason| of.get(&reason).copied().unwrap_or(0);
    for &reason in Reason::ALL {
        let refused = if reason == Reason::RedirectFailed {
            ledger.refused
        } else {
            0
        };
        let packets = count(&ledger.dropped_by_reason, reason)
            .saturating_add(count(more, reason))
            .saturating_add(refused);
        if all || packets > 0 {
            drops.push(Drop {
                place: place.clone(),
                reason,
                text: reason.text().into(),
                packets,
            });
        }
    }
}

/// How many frames one place dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Drop {
    /// The place.
    #[serde(rename = "where")]
    pub place: Place,
    /// The reason.
    pub reason: Reason,
    /// What it means, and where to look.
    pub text: String,
    /// How many.
    pub packets: u64,
}

/// What makes one flow larger than another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowSort {
    /// More frames.
    Packets,
    /// More bytes.
    #[default]
    Bytes,
}

impl fmt::Display for FlowSort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
        })
    }
}

/// The largest flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Flows {
    /// How many there are (of the network that was asked for), listed or not.
    pub total: u64,
    /// The largest first.
    pub flows: Vec<Flow>,
}

/// One direction of talk between two stations of a network, since its entry was made.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Flow {
    /// The network's name, or its id where it has none (any more).
    pub network: String,
    /// Who sends.
    pub source: Mac,
    /// Who receives.
    pub destination: Mac,
    /// Frames.
    pub packets: u64,
    /// Their bytes, inner Ethernet header included.
    pub bytes: u64,
    /// Where its frames come in; nothing where that is not known (any more).
    pub origin: Option<Place>,
    /// What happens to them: forwarded, delivered, slow path or dropped.
    pub verdict: Verdict,
    /// The link or port that they go to, where they do.
    pub target: Option<Target>,
    /// Why they are dropped, where they are.
    pub reason: Option<Reason>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_shows_its_drops_by_name_and_whether_it_balances() {
        let mut ledger = Ledger::ZERO;
        ledger.received.add(60);
        ledger.received.add(90);
        ledger.delivered = 1;
        ledger.drop(Reason::NoRule);
        let values = LedgerValues::from(&ledger);
        assert_eq!((values.received_packets, values.received_bytes), (2, 150));
        assert_eq!(
            values.dropped_by_reason,
            BTreeMap::from([(Reason::NoRule, 1)])
        );
        assert!(values.balanced);
        ledger.passed = 1;
        assert!(!LedgerValues::from(&ledger).balanced);
    }

    #[test]
    fn drops_are_listed_by_place_and_refusals_count_where_frames_were_sent_to() {
        let side = |name: &str, reason, packets, refused| SideStats {
            name: name.into(),
            ledger: LedgerValues {
                dropped_by_reason: BTreeMap::from([(reason, packets)]),
                refused,
                ..LedgerValues::default()
            },
        };
        let stats = Stats {
            ports: vec![side("tap0", Reason::NoRule, 3, 0)],
            links: vec![side("to-two", Reason::RedirectFailed, 1, 4)],
            underlays: vec![],
            agent: AgentStats {
                slow_path_dropped_by_reason: BTreeMap::from([(Reason::NoReceiver, 2)]),
                ..AgentStats::default()
            },
        };
        let lines: Vec<_> = stats
            .drops(false)
            .into_iter()
            .map(|drop| format!("{} {} {}", drop.place, drop.reason, drop.packets))
            .collect();
        assert_eq!(
            lines,
            [
                "port tap0 no-rule 3",
                "link to-two redirect-failed 5",
                "agent no-receiver 2"
            ]
        );
        assert_eq!(stats.drops(true).len(), 3 * Reason::ALL.len());
    }

    #[test]
    fn stats_survive_json() {
        let stats = Stats {
            ports: vec![SideStats {
                name: "tap0".into(),
                ledger: LedgerValues {
                    received_packets: u64::MAX,
                    dropped_by_reason: BTreeMap::from([(Reason::Runt, 1)]),
                    ..LedgerValues::default()
                },
            }],
            ..Stats::default()
        };
        let text = serde_json::to_string(&stats).unwrap();
        assert!(text.contains(r#""dropped_by_reason":{"runt":1}"#), "{text}");
        assert_eq!(serde_json::from_str::<Stats>(&text).unwrap(), stats);
    }
}
