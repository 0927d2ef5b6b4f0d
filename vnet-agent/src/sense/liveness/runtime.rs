//! The task that asks every link, again and again, whether its other end answers.
//!
//! Input: the links there are, and the answers to probes, which the slow path hands on. Output:
//! probes by the agent's tap, and which links are up and down. May be aborted at any `await`; without
//! a tap it asks nobody, and what is known stays.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use vnet_common::addr::{LinkId, NetworkId};
use vnet_common::wire::probe::Probe;
use vnet_common::wire::slow::Slow;
use zerocopy::IntoBytes;

use super::pulse::{INTERVAL_MS, Pulse, State};
use crate::world::tap::Tap;

/// A link that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Where it is in the tables.
    pub id: LinkId,
    /// A network that may cross: the other end admits no others.
    pub network: NetworkId,
    /// The other end.
    pub remote: IpAddr,
    /// Whether there is a way to it: a probe would not leave otherwise.
    pub has_way: bool,
    /// Whether its frames took another link when the agent began to watch.
    pub was_down: bool,
}

/// The links to watch, by name.
pub type Links = Arc<BTreeMap<String, Watched>>;

/// What is known of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Whether it is alive.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
}

/// What is known, by the link's name.
pub type Lives = Arc<BTreeMap<String, Life>>;

/// An answer to a probe, and the link that it came by.
pub type Reply = (LinkId, Probe);

/// Answers that may wait; a queue that is full loses some, which the next ones make up for.
pub const REPLIES_WAITING_MAX: usize = 1024;

/// Probes a second at the most, over all links: beyond a hundred, each is asked less often.
const PROBES_PER_S: u64 = 2000;
/// Without links there is nothing to do, and new ones wake the task.
const IDLE: Duration = Duration::from_secs(3600);
/// How long the tap may take to take a probe: beyond, it counts as lost.
const WRITE_PATIENCE: Duration = Duration::from_millis(10);
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
pub async fn run(mut inputs: Inputs, lives: watch::Sender<Lives>, probes: Arc<AtomicU64>) {
    let mut watching = Watching {
        started: Instant::now(),
        lines: BTreeMap::new(),
        is_news: false,
        packet: Vec::new(),
    };
    loop {
        let wait = watching.wait();
        // In this order: who has answered is not blamed.
        tokio::select! {
            biased;
            changed = inputs.links.changed() => {
                if changed.is_err() {
                    return;
                }
                let links = Arc::clone(&inputs.links.borrow_and_update());
                watching.follow(&links);
            }
            reply = inputs.replies.recv() => match reply {
                Some(reply) => watching.answered(reply),
                None => return,
            },
            () = tokio::time::sleep(wait) => {
                let tap = inputs.tap.borrow().clone();
                match tap {
                    Some(tap) => watching.send(&tap, &probes).await,
                    None => tokio::time::sleep(Duration::from_millis(INTERVAL_MS)).await,
                }
            }
        }
        if std::mem::take(&mut watching.is_news) {
            let lives_now = watching
                .lines
                .iter()
                .map(|(name, line)| (name.clone(), line.life));
            lives.send_replace(Arc::new(lives_now.collect()));
        }
    }
}

struct Line {
    watched: Watched,
    pulse: Pulse,
    life: Life,
}

impl Line {
    fn new(watched: Watched, now_ms: u64) -> Self {
        // Answers to an earlier agent's probes have other numbers.
        let sequence = RandomState::new().hash_one(watched.id.0) as u32;
        let pulse = Pulse::new(watched.was_down, sequence, now_ms);
        let life = Life {
            state: pulse.state(),
            since: SystemTime::now(),
        };
        Self {
            watched,
            pulse,
            life,
        }
    }

    /// Takes note of what is known now; answers whether that is news.
    fn note(&mut self) -> bool {
        let state = self.pulse.state();
        let is_news = state != self.life.state;
        if is_news {
            self.life = Life {
                state,
                since: SystemTime::now(),
            };
        }
        is_news
    }
}

struct Watching {
    started: Instant,
    lines: BTreeMap<String, Line>,
    is_news: bool,
    packet: Vec<u8>,
}

impl Watching {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Goes on with those that were watched before, begins with the others.
    fn follow(&mut self, links: &BTreeMap<String, Watched>) {
        let now_ms = self.now_ms();
        let mut before = std::mem::take(&mut self.lines);
        for (name, &watched) in links {
            let same = before.remove(name).filter(|line| {
                (line.watched.id, line.watched.remote) == (watched.id, watched.remote)
            });
            let line = match same {
                Some(mut line) => {
                    if watched.has_way && !line.watched.has_way {
                        line.pulse.has_way(now_ms);
                    }
                    Line { watched, ..line }
                }
                None => Line::new(watched, now_ms),
            };
            self.lines.insert(name.clone(), line);
        }
        self.is_news = true;
    }

    /// Until somebody has to be asked.
    fn wait(&self) -> Duration {
        let due_ms = self.lines.values().map(|line| line.pulse.due_ms()).min();
        due_ms.map_or(IDLE, |due_ms| {
            let due = self.started + Duration::from_millis(due_ms);
            due.saturating_duration_since(Instant::now())
        })
    }

    fn answered(&mut self, (link, probe): Reply) {
        let now_ms = self.now_ms();
        let mut lines = self.lines.values_mut();
        if let Some(line) = lines.find(|line| line.watched.id == link) {
            let sequence = u32::from_be_bytes(probe.sequence);
            line.pulse.answered(sequence, now_ms);
            self.is_news |= line.note();
        }
    }

    /// Asks those whose time has come.
    async fn send(&mut self, tap: &Tap, probes: &AtomicU64) {
        let now_ms = self.now_ms();
        let links = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        let interval_ms = INTERVAL_MS.max(links.saturating_mul(1000) / PROBES_PER_S);
        let sent_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for line in self.lines.values_mut() {
            let sequence = line.pulse.poll(interval_ms, now_ms);
            self.is_news |= line.note();
            let Some(sequence) = sequence else {
                continue;
            };
            let Watched { id, network, .. } = line.watched;
            if !line.watched.has_way {
                continue;
            }
            let request = Probe::request(sequence, sent_ns);
            self.packet.clear();
            let header = Slow::send(Slow::PROBE, HOP_LIMIT, network, id);
            self.packet.extend_from_slice(header.as_bytes());
            self.packet.extend_from_slice(request.as_bytes());
            let written = tokio::time::timeout(WRITE_PATIENCE, tap.write(&self.packet)).await;
            if matches!(written, Ok(Ok(()))) {
                probes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
