//! The task that keeps every link's connection: opens them, hears others who do, and says which are
//! there.
//!
//! Input: the [`Plan`], which the agent's task changes. Output: frames in the tap, and the state of
//! each link. May be aborted at any `await`; with it end all connections.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use vnet_common::addr::LinkId;

use super::connection::{self, End, Ended, Stream};
use super::gate::{Gate, Refused};
use super::outbox::{Outbox, Outboxes};
use super::plan::{Plan, PlannedLink, Way};
use super::state::{Carried, ConnectionState, add};
use super::tls::Certificates;
use super::{tcp, tls};
use crate::identity;
use crate::model::Transport;
use crate::overlay::carrier::life::{Backoff, Ends, GIVE_WAY, HANDSHAKE};
use crate::overlay::carrier::preface::{self, Instance, Nonce, Opener, Unproved};
use crate::world::tap::Tap;

/// Between two tries to listen at an address that is taken, or not there yet.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// What the agent's task holds of all this.
#[derive(Debug)]
pub struct Carriers {
    shared: Arc<Shared>,
    plan: watch::Sender<Arc<Plan>>,
    /// Says when a link has got a connection, or lost it.
    changed: watch::Sender<()>,
    task: AbortHandle,
}

/// What all tasks share.
#[derive(Debug)]
struct Shared {
    own: Instance,
    gate: Arc<Gate>,
    outboxes: Outboxes,
    tap: watch::Sender<Option<Arc<Tap>>>,
    links: Mutex<BTreeMap<String, Arc<Link>>>,
    /// Where nobody can be heard, and why.
    deaf: Mutex<BTreeMap<SocketAddr, String>>,
    plan: watch::Receiver<Arc<Plan>>,
    changed: watch::Sender<()>,
}

/// A link as its tasks know it.
#[derive(Debug)]
struct Link {
    name: String,
    outbox: Arc<Outbox>,
    planned: watch::Sender<Arc<PlannedLink>>,
    state: watch::Sender<ConnectionState>,
    current: Mutex<Option<Current>>,
}

/// The connection that a link has.
#[derive(Debug)]
struct Current {
    ends: Ends,
    number: u64,
    task: AbortHandle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these can panic half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Carriers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Carriers {
    /// Starts the task, with nothing to do yet.
    ///
    /// # Errors
    ///
    /// The system gives no randomness.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start() -> Result<Self, identity::IdentityError> {
        let (plan, planned) = watch::channel(Arc::new(Plan::default()));
        let changed = watch::Sender::new(());
        let shared = Arc::new(Shared {
            own: identity::random()?,
            gate: Arc::default(),
            outboxes: Outboxes::default(),
            tap: watch::Sender::new(None),
            links: Mutex::default(),
            deaf: Mutex::default(),
            plan: planned,
            changed: changed.clone(),
        });
        let task = tokio::spawn(keep(Arc::clone(&shared))).abort_handle();
        Ok(Self {
            shared,
            plan,
            changed,
            task,
        })
    }

    /// Says what there should be.
    pub fn follow(&self, plan: Plan) {
        self.plan.send_if_modified(|now| {
            let differs = **now != plan;
            if differs {
                *now = Arc::new(plan);
            }
            differs
        });
    }

    /// Writes what arrives to this tap.
    pub fn write_to(&self, tap: Arc<Tap>) {
        self.shared.tap.send_replace(Some(tap));
    }

    /// Where the slow path puts frames.
    pub fn outboxes(&self) -> Outboxes {
        self.shared.outboxes.clone()
    }

    /// What tells of changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The state of a link, and what became of its frames.
    pub fn state(&self, link: &str) -> Option<(ConnectionState, Carried)> {
        let links = lock(&self.shared.links);
        let link = links.get(link)?;
        let state = link.state.borrow().clone();
        Some((state, link.outbox.counts.read()))
    }

    /// The links that have a connection.
    pub fn connected(&self) -> std::collections::BTreeSet<String> {
        let links = lock(&self.shared.links);
        let up = links
            .values()
            .filter(|link| link.state.borrow().peer.is_some());
        up.map(|link| link.name.clone()).collect()
    }

    /// How many connections were refused, and why.
    pub fn refused(&self) -> BTreeMap<Refused, u64> {
        self.shared.gate.refused()
    }

    /// Where nobody can be heard, and why.
    pub fn deaf(&self) -> BTreeMap<SocketAddr, String> {
        lock(&self.shared.deaf).clone()
    }
}

/// Brings about every plan.
async fn keep(shared: Arc<Shared>) {
    let mut plans = shared.plan.clone();
    let mut listeners: BTreeMap<SocketAddr, JoinSet<()>> = BTreeMap::new();
    let mut openers: BTreeMap<String, (Way, JoinSet<()>)> = BTreeMap::new();
    loop {
        let plan = Arc::clone(&plans.borrow_and_update());
        listeners.retain(|address, _| plan.listen.contains(address));
        for &address in &plan.listen {
            listeners.entry(address).or_insert_with(|| {
                let mut task = JoinSet::new();
                task.spawn(hear(Arc::clone(&shared), address));
                task
            });
        }
        lock(&shared.deaf).retain(|address, _| plan.listen.contains(address));
        openers.retain(|name, (way, _)| plan.links.get(name).is_some_and(|l| l.way == *way));
        let links = keep_links(&shared, &plan);
        for (name, link) in links {
            let way = link.planned.borrow().way.clone();
            openers.entry(name).or_insert_with(|| {
                let mut task = JoinSet::new();
                if !way.listen_only {
                    task.spawn(open_again_and_again(Arc::clone(&shared), link));
                }
                (way, task)
            });
        }
        if plans.changed().await.is_err() {
            return;
        }
    }
}

/// The links of a plan: those that there were, where they go the same way, and new ones.
fn keep_links(shared: &Shared, plan: &Plan) -> BTreeMap<String, Arc<Link>> {
    let mut links = lock(&shared.links);
    links.retain(|name, link| {
        let way = &link.planned.borrow().way;
        let stays = plan.links.get(name).is_some_and(|new| new.way == *way);
        if !stays {
            link.end("the link was changed");
        }
        stays
    });
    for (name, planned) in &plan.links {
        let planned = Arc::new(planned.clone());
        match links.get(name) {
            Some(link) => drop(link.planned.send_replace(planned)),
            None => drop(links.insert(name.clone(), Arc::new(Link::new(name, planned)))),
        }
    }
    let boxes: BTreeMap<LinkId, Arc<Outbox>> = links
        .values()
        .map(|link| (link.planned.borrow().id, Arc::clone(&link.outbox)))
        .collect();
    shared.outboxes.set(boxes);
    links.clone()
}

impl Link {
    fn new(name: &str, planned: Arc<PlannedLink>) -> Self {
        Self {
            name: name.to_owned(),
            outbox: Arc::default(),
            planned: watch::Sender::new(planned),
            state: watch::Sender::new(ConnectionState::default()),
            current: Mutex::default(),
        }
    }

    /// Ends the connection that it has.
    fn end(&self, why: &str) {
        if let Some(current) = lock(&self.current).take() {
            current.task.abort();
        }
        self.is_down(why.to_owned());
    }

    fn is_down(&self, why: String) {
        self.outbox.close();
        self.state.send_if_modified(|state| {
            let was_up = state.peer.is_some();
            if was_up {
                *state = ConnectionState::default();
            }
            state.why = why;
            was_up
        });
    }

    /// Takes a connection that has been proved, and carries frames over it; not where the link has
    /// one that stays.
    fn take(
        self: Arc<Self>,
        shared: Arc<Shared>,
        stream: Box<dyn Stream>,
        ends: Ends,
        peer: SocketAddr,
    ) {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let mut current = lock(&self.current);
        if current
            .as_ref()
            .is_some_and(|has| !ends.replaces(&has.ends))
        {
            debug!(link = self.name, %peer, "the connection that is there stays");
            return;
        }
        if let Some(has) = current.take() {
            has.task.abort();
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        add(&self.outbox.counts.connections, 1);
        self.outbox.open();
        self.state.send_replace(ConnectionState {
            peer: Some((peer, ends.opened_here)),
            since: SystemTime::now(),
            why: String::new(),
        });
        let end = End {
            outbox: Arc::clone(&self.outbox),
            planned: self.planned.subscribe(),
            tap: shared.tap.subscribe(),
        };
        let link = Arc::clone(&self);
        let task = tokio::spawn(async move {
            let ended = connection::carry(stream, &end).await;
            link.ended(&shared, number, &ended);
        });
        *current = Some(Current {
            ends,
            number,
            task: task.abort_handle(),
        });
        info!(link = self.name, %peer, opened_here = ends.opened_here, "connected");
    }

    /// The connection of this number has ended.
    fn ended(&self, shared: &Shared, number: u64, ended: &Ended) {
        let mut current = lock(&self.current);
        if current.as_ref().is_none_or(|has| has.number != number) {
            return;
        }
        *current = None;
        drop(current);
        if let Ended::BadMessage(_) = ended {
            shared.gate.refuse(Refused::BadMessage);
        }
        warn!(link = self.name, "the connection ended: {ended}");
        self.is_down(ended.to_string());
        shared.changed.send_replace(());
    }
}

/// Opens a link's connection whenever it has none.
async fn open_again_and_again(shared: Arc<Shared>, link: Arc<Link>) {
    let mut states = link.state.subscribe();
    let mut backoff = Backoff::default();
    let way = link.planned.borrow().way.clone();
    loop {
        if states.wait_for(|state| state.peer.is_none()).await.is_err() {
            return;
        }
        if !way.opens_first() {
            let came = states.wait_for(|state| state.peer.is_some());
            if timeout(GIVE_WAY, came).await.is_ok() {
                continue;
            }
        }
        match open(&shared, &way).await {
            Ok((stream, ends)) => {
                backoff.reset();
                Arc::clone(&link).take(Arc::clone(&shared), stream, ends, way.remote);
                shared.changed.send_replace(());
                // One that is ended at once must not be opened again at once.
                tokio::time::sleep(backoff.pause(0)).await;
            }
            Err(ended) => {
                debug!(link = link.name, remote = %way.remote, "not connected: {ended}");
                link.state.send_if_modified(|state| {
                    if state.peer.is_none() {
                        state.why = format!("{}: {ended}", way.remote);
                    }
                    false
                });
                let chance = identity::random::<1>().map_or(0, |[chance]| chance);
                tokio::time::sleep(backoff.pause(chance)).await;
            }
        }
    }
}

async fn open(shared: &Shared, way: &Way) -> Result<(Box<dyn Stream>, Ends), Ended> {
    let conversation = async {
        let stream = tcp::open(way.local, way.remote).await?;
        let certificates = shared.plan.borrow().certificates.clone();
        let mut stream: Box<dyn Stream> = match (way.kind, certificates) {
            (Transport::Tls, Some(certificates)) => certificates.connect(stream).await?,
            (Transport::Tls, None) => return Err(Ended::NoCertificate),
            (Transport::Tcp | Transport::Udp, _) => Box::new(stream),
        };
        let opener = Opener::new(way.cookie, shared.own, nonce()?);
        let other = connection::introduce(&mut stream, &opener).await?;
        let ends = Ends {
            own: shared.own,
            other,
            opened_here: true,
        };
        Ok((stream, ends))
    };
    timeout(HANDSHAKE, conversation)
        .await
        .unwrap_or(Err(Ended::Slow))
}

fn nonce() -> Result<Nonce, Ended> {
    identity::random().map_err(|error| Ended::Io(io::Error::other(error)))
}

/// Hears who opens connections to this address.
async fn hear(shared: Arc<Shared>, address: SocketAddr) {
    let mut conversations = JoinSet::new();
    loop {
        match tcp::listen(address) {
            Ok(listener) => {
                if lock(&shared.deaf).remove(&address).is_some() {
                    shared.changed.send_replace(());
                }
                let error = accept(&shared, &listener, &mut conversations).await;
                warn!(%address, %error, "nobody can be heard");
            }
            Err(error) => {
                let why = error.to_string();
                let before = lock(&shared.deaf).insert(address, why.clone());
                if before.as_ref() != Some(&why) {
                    shared.changed.send_replace(());
                }
            }
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

async fn accept(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    conversations: &mut JoinSet<()>,
) -> io::Error {
    loop {
        // Those that have ended leave nothing behind.
        while conversations.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(came) => came,
            // Whoever came has gone again, or this process is out of descriptors.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        if let Ok(pass) = shared.gate.enter(peer.ip().to_canonical()) {
            let shared = Arc::clone(shared);
            conversations.spawn(async move {
                let talk = timeout(HANDSHAKE, answer(&shared, stream, peer)).await;
                if let Err(ended) = talk.unwrap_or(Err(Ended::Slow)) {
                    debug!(%peer, "refused: {ended}");
                    shared.gate.refuse(ended.refused());
                }
                drop(pass);
            });
        }
    }
}

/// Talks to whoever opened a connection, and gives it to the link that it proves to be for.
async fn answer(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> Result<(), Ended> {
    stream.set_nodelay(true)?;
    let mut first = [0; 1];
    if stream.peek(&mut first).await? == 0 {
        return Err(Ended::Closed);
    }
    let certificates: Option<Certificates> = shared.plan.borrow().certificates.clone();
    let (kind, mut stream): (_, Box<dyn Stream>) = match (first[0], certificates) {
        (tls::FIRST_BYTE, Some(certificates)) => {
            (Transport::Tls, certificates.accept(stream).await?)
        }
        (tls::FIRST_BYTE, None) => return Err(Ended::NoCertificate),
        (preface::FIRST_BYTE, _) => (Transport::Tcp, Box::new(stream)),
        _ => return Err(Unproved::Magic.into()),
    };
    let links: Vec<Arc<Link>> = lock(&shared.links)
        .values()
        .filter(|link| link.planned.borrow().way.kind == kind)
        .cloned()
        .collect();
    let cookies: Vec<_> = links
        .iter()
        .map(|link| link.planned.borrow().way.cookie)
        .collect();
    let (place, other) = connection::ask(&mut stream, &cookies, shared.own, nonce()?).await?;
    let ends = Ends {
        own: shared.own,
        other,
        opened_here: false,
    };
    if let Some(link) = links.get(place) {
        Arc::clone(link).take(Arc::clone(shared), stream, ends, peer);
        shared.changed.send_replace(());
    }
    Ok(())
}
