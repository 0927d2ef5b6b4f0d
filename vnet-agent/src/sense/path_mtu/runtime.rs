//! The task that asks every link what its path carries.
//!
//! Input: the links there are, and the answers to probes, which the slow path hands on. Output:
//! probes by the agent's tap, and what is known of each link. May be aborted at any `await`; without
//! a tap it waits for one, and what is known stays.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use vnet_common::addr::{LinkId, NetworkId};
use vnet_common::wire::probe::Probe;
use vnet_common::wire::slow::Slow;
use zerocopy::IntoBytes;

use super::search::{PathMtu, Send, Size, State};
use crate::world::tap::Tap;

/// A link whose path can be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where it is in the tables.
    pub id: LinkId,
    /// A network that may cross: the other end admits no others.
    pub network: NetworkId,
    /// The other end.
    pub remote: IpAddr,
    /// This end.
    pub local: IpAddr,
    /// The largest packet that the device and the route take.
    pub top: Size,
    /// Bytes that the packet has besides the inner frame.
    pub outer_bytes: usize,
    /// What arrived before anybody asked: what the tables say of an earlier agent.
    pub hint: Option<Size>,
}

impl Asked {
    /// Whether what is known of one holds for the other.
    fn is_same_path(&self, other: &Self) -> bool {
        let key = |asked: &Self| (asked.id, asked.remote, asked.local, asked.top);
        key(self) == key(other)
    }
}

/// The links to ask, by name.
pub type Links = Arc<BTreeMap<String, Asked>>;

/// What is known of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The largest packet that is known to arrive.
    pub size: Option<Size>,
    /// The same when the last search was over.
    pub settled: Option<Size>,
    /// How far the search is.
    pub state: State,
    /// Since when both are so.
    pub since: SystemTime,
}

/// What is known, by the link's name.
pub type Paths = Arc<BTreeMap<String, Found>>;

/// An answer to a probe, and the link that it came by.
pub type Reply = (LinkId, Probe);

/// Answers that may wait; a queue that is full loses some, and their probes are sent again.
pub const REPLIES_WAITING_MAX: usize = 1024;

/// Probes a second at the most, over all links: thousands of links share what one link must not
/// notice.
const PROBES_PER_S: u64 = 500;
const TICK: Duration = Duration::from_millis(20);
const PROBES_PER_TICK: usize = (PROBES_PER_S * 20 / 1000) as usize;
/// Without links there is nothing to do, and new ones wake the task.
const IDLE: Duration = Duration::from_secs(3600);
/// How long the tap may take to take a probe: beyond, it counts as lost.
const WRITE_PATIENCE: Duration = Duration::from_millis(10);
/// As far as a packet of the overlay goes.
const HOP_LIMIT: u8 = 64;

/// What the task lives on.
#[derive(Debug)]
pub struct Inputs {
    /// The links there are.
    pub links: watch::Receiver<Links>,
    /// Answers.
    pub replies: mpsc::Receiver<Reply>,
    /// The agent's tap, while there is one.
    pub tap: watch::Receiver<Option<Arc<Tap>>>,
}

/// Asks, until it is aborted or the agent is gone.
pub async fn run(mut inputs: Inputs, paths: watch::Sender<Paths>, probes: Arc<AtomicU64>) {
    let mut asking = Asking::new();
    loop {
        let wait = asking.wait();
        tokio::select! {
            changed = inputs.links.changed() => {
                if changed.is_err() {
                    return;
                }
                let links = Arc::clone(&inputs.links.borrow_and_update());
                asking.follow(&links);
            }
            reply = inputs.replies.recv() => match reply {
                Some(reply) => asking.answered(reply),
                None => return,
            },
            () = tokio::time::sleep(wait) => {
                let tap = inputs.tap.borrow().clone();
                // Without a tap nothing is sent, so nothing is to be learned from silence.
                if let Some(tap) = tap {
                    asking.send(&tap, &probes).await;
                } else {
                    tokio::time::sleep(TICK).await;
                }
            }
        }
        asking.tell(&paths);
    }
}

/// A link, and what is known of it.
struct Line {
    asked: Asked,
    machine: PathMtu,
    found: Found,
}

impl Line {
    fn new(asked: Asked, now_ms: u64) -> Self {
        let is_ipv6 = asked.remote.is_ipv6();
        // Answers to an earlier agent's probes have other numbers.
        let sequence = RandomState::new().hash_one(asked.id.0) as u32;
        let machine = PathMtu::new(asked.top, is_ipv6, asked.hint, sequence, now_ms);
        let found = Found {
            size: machine.known(),
            settled: machine.settled(),
            state: machine.state(),
            since: SystemTime::now(),
        };
        Self {
            asked,
            machine,
            found,
        }
    }

    /// Takes note of what is known now; answers whether that is news.
    fn note(&mut self) -> bool {
        let (size, state) = (self.machine.known(), self.machine.state());
        let is_news = (size, state) != (self.found.size, self.found.state);
        if is_news {
            self.found = Found {
                size,
                settled: self.machine.settled(),
                state,
                since: SystemTime::now(),
            };
        }
        is_news
    }

    /// The probe as the tap takes it: the agent's header, the probe, and zeroes.
    fn write(&self, probe: Send, sent_ns: u64, packet: &mut Vec<u8>) {
        let Asked {
            id,
            network,
            outer_bytes,
            ..
        } = self.asked;
        let request = Probe::request(probe.sequence, sent_ns);
        packet.clear();
        packet.extend_from_slice(Slow::send(Slow::PROBE, HOP_LIMIT, network, id).as_bytes());
        packet.extend_from_slice(request.as_bytes());
        let inner_bytes = usize::from(probe.size).saturating_sub(outer_bytes);
        packet.resize(Slow::BYTES + inner_bytes.max(Probe::BYTES), 0);
    }
}

/// All of them.
struct Asking {
    started: Instant,
    lines: BTreeMap<String, Line>,
    /// Who was asked last, so that all get their turn.
    last: String,
    /// The next tick.
    not_before: Instant,
    is_news: bool,
    packet: Vec<u8>,
}

impl Asking {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            lines: BTreeMap::new(),
            last: String::new(),
            not_before: now,
            is_news: false,
            packet: Vec::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Goes on with those that were asked before, begins with the others.
    fn follow(&mut self, links: &BTreeMap<String, Asked>) {
        let now_ms = self.now_ms();
        let mut before = std::mem::take(&mut self.lines);
        for (name, asked) in links {
            let same = before
                .remove(name)
                .filter(|line| line.asked.is_same_path(asked));
            let line = match same {
                Some(line) => Line {
                    asked: asked.clone(),
                    ..line
                },
                None => Line::new(asked.clone(), now_ms),
            };
            self.lines.insert(name.clone(), line);
        }
        self.is_news = true;
    }

    /// Until somebody has to be asked.
    fn wait(&self) -> Duration {
        let due_ms = self.lines.values().map(|line| line.machine.due_ms()).min();
        let Some(due_ms) = due_ms else {
            return IDLE;
        };
        let due = self.started + Duration::from_millis(due_ms);
        due.max(self.not_before)
            .saturating_duration_since(Instant::now())
    }

    fn answered(&mut self, (link, probe): Reply) {
        let now_ms = self.now_ms();
        let mut lines = self.lines.values_mut();
        if let Some(line) = lines.find(|line| line.asked.id == link) {
            let sequence = u32::from_be_bytes(probe.sequence);
            line.machine.answered(sequence, now_ms);
            self.is_news |= line.note();
        }
    }

    /// Asks those whose time has come, as many as a tick allows, beginning after the last one.
    async fn send(&mut self, tap: &Tap, probes: &AtomicU64) {
        self.not_before = Instant::now() + TICK;
        let now_ms = self.now_ms();
        let after = (Bound::Excluded(self.last.clone()), Bound::Unbounded);
        let is_due = |(name, line): (&String, &Line)| {
            (line.machine.due_ms() <= now_ms).then(|| name.clone())
        };
        let due: BTreeSet<String> = self.lines.iter().filter_map(is_due).collect();
        let turn: Vec<String> = due
            .range(after)
            .chain(&due)
            .take(PROBES_PER_TICK.min(due.len()))
            .cloned()
            .collect();
        for name in turn {
            let Some(line) = self.lines.get_mut(&name) else {
                continue;
            };
            let probe = line.machine.poll(now_ms);
            self.is_news |= line.note();
            if let Some(probe) = probe {
                let sent_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                line.write(probe, sent_ns, &mut self.packet);
                let written = tokio::time::timeout(WRITE_PATIENCE, tap.write(&self.packet)).await;
                if matches!(written, Ok(Ok(()))) {
                    probes.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.last = name;
        }
    }

    /// Says what is new.
    fn tell(&mut self, paths: &watch::Sender<Paths>) {
        if std::mem::take(&mut self.is_news) {
            let found = self
                .lines
                .iter()
                .map(|(name, line)| (name.clone(), line.found));
            paths.send_replace(Arc::new(found.collect()));
        }
    }
}
