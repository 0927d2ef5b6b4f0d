//! Who turns what the kernel says into snapshots of the host?
//!
//! Input: the sockets of [`super::events`] and [`super::request`], and the destinations to follow.
//! Output: a new [`Host`] whenever something is different, after a burst of events has ended.
//! Nothing is polled: without an event the task sleeps.
//!
//! ```text
//!             events socket opened, then full lists read       (nothing can fall in between)
//!                  |
//!                  v        event            quiet 5 ms, or 50 ms after the first
//!   +---------> watching ----------> burst -------------------------------> settle
//!   |              |                                        routes asked again, neighbours
//!   |              |  destinations to follow, or the address of one that was waited for: at once
//!   |              | overrun                                kept, snapshot if different
//!   +-- resync <---+  (the first at once, then one per 10 s)
//! ```
//!
//! A resync opens a new socket of events: what still waits in the old one is older than what was
//! lost, and would undo parts of the new lists.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::abilities::XdpFeatureEvents;
use super::events::{EventSocket, Heard};
use super::neighbours::Keeper;
use super::request::{NetlinkError, Requests};
use super::view::{Event, Touched, View};
use crate::model::host::{Change, Host};

/// A burst has ended when nothing was heard for this long ...
const QUIET: Duration = Duration::from_millis(5);
/// ... or when it has lasted this long.
const BURST_MAX: Duration = Duration::from_millis(50);
/// How long to wait before asking again what the kernel failed to answer.
const RETRY: Duration = Duration::from_secs(1);

/// How to watch. The default is right for anything but tests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The receive buffer for events, in bytes.
    pub receive_buffer_bytes: usize,
    /// The shortest time between two resynchronisations.
    pub resync_interval: Duration,
    /// How the neighbours that lead to followed destinations are kept fresh.
    pub freshness: Freshness,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: 16 << 20,
            resync_interval: Duration::from_secs(10),
            freshness: Freshness::Managed,
        }
    }
}

/// How neighbours are kept fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// By the kernel (`NTF_EXT_MANAGED`, 5.16); on an older one [`Freshness::Used`] takes over.
    Managed,
    /// By telling the kernel every few seconds that they are in use.
    Used,
}

/// What has happened since the watcher started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often events were lost because the receive buffer was full.
    pub overruns: u64,
    /// How often everything was read anew.
    pub resyncs: u64,
}

#[derive(Debug, Default)]
struct Counters {
    overruns: AtomicU64,
    resyncs: AtomicU64,
}

/// Watches the network namespace that it was started in, until it is dropped.
///
/// Dropping it leaves the neighbours as they are: what the data plane forwards by stays fresh
/// while no agent runs. [`super::release_neighbours`] lets go of them.
#[derive(Debug)]
pub struct Watcher {
    requests: Requests,
    followed: watch::Sender<Option<BTreeSet<IpAddr>>>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts to watch, and to follow these destinations; the first snapshot is complete.
    ///
    /// Neighbours that an earlier run has had kept fresh are let go of once destinations are
    /// followed that do not need them; with an empty list here nothing is until
    /// [`Watcher::follow`] is called.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime. It must be a current-thread one, for the sake of the namespace.
    pub async fn start(
        destinations: Vec<IpAddr>,
    ) -> Result<(Self, watch::Receiver<Arc<Host>>), NetlinkError> {
        Self::start_with(Options::default(), destinations).await
    }

    /// As [`Watcher::start`], with other options.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`].
    pub async fn start_with(
        options: Options,
        destinations: Vec<IpAddr>,
    ) -> Result<(Self, watch::Receiver<Arc<Host>>), NetlinkError> {
        let requests = Requests::open()?;
        let counters = Arc::new(Counters::default());
        let destinations = (!destinations.is_empty()).then(|| destinations.into_iter().collect());
        let (followed, follow) = watch::channel(destinations);
        let (snapshots, receiver) = watch::channel(Arc::new(Host::default()));
        let mut task = Task {
            options,
            requests: requests.clone(),
            events: None,
            xdp_features: None,
            counters: Arc::clone(&counters),
            keeper: Keeper::new(options.freshness),
            view: View::default(),
            follow,
            routes_are_stale: true,
            snapshots,
            burst: Burst::default(),
            resync: Resync::new(options.resync_interval),
        };
        task.listen_and_read().await?;
        task.settle().await;
        let task = tokio::spawn(task.run());
        Ok((
            Self {
                requests,
                followed,
                counters,
                task,
            },
            receiver,
        ))
    }

    /// Follows these destinations from now on, instead of those before.
    pub fn follow(&self, destinations: impl IntoIterator<Item = IpAddr>) {
        let destinations = Some(destinations.into_iter().collect());
        self.followed.send_if_modified(|followed| {
            let changed = *followed != destinations;
            *followed = destinations;
            changed
        });
    }

    /// The socket to ask the kernel by.
    pub const fn requests(&self) -> &Requests {
        &self.requests
    }

    /// What has happened since the start.
    pub fn counts(&self) -> Counts {
        Counts {
            overruns: self.counters.overruns.load(Ordering::Relaxed),
            resyncs: self.counters.resyncs.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The watcher's task. May be aborted at any `await`.
struct Task {
    options: Options,
    requests: Requests,
    /// None while it is broken.
    events: Option<EventSocket>,
    /// None while it is broken, and on a kernel that does not tell.
    xdp_features: Option<XdpFeatureEvents>,
    counters: Arc<Counters>,
    keeper: Keeper,
    view: View,
    follow: watch::Receiver<Option<BTreeSet<IpAddr>>>,
    routes_are_stale: bool,
    snapshots: watch::Sender<Arc<Host>>,
    burst: Burst,
    resync: Resync,
}

impl Task {
    async fn run(mut self) {
        loop {
            // Time limits come first: a storm of events must not put them off for ever.
            tokio::select! {
                biased;
                () = at(self.burst.ends) => self.settle().await,
                () = at(self.resync.due) => self.start_over().await,
                changed = self.follow.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.routes_are_stale = true;
                    self.settle().await;
                }
                heard = hear(self.events.as_mut()) => self.take_in(heard),
                changed = hear_change(self.xdp_features.as_mut()) => self.look_again(changed),
            }
        }
    }

    fn take_in(&mut self, heard: io::Result<Heard>) {
        match heard {
            Ok(Heard::Events(events)) => {
                let events = events
                    .into_iter()
                    .map(|event| self.requests.completed(event));
                let touched = events.map(|event| self.view.apply(event)).max();
                let touched = touched.unwrap_or(Touched::Nothing);
                self.routes_are_stale |= touched == Touched::Routes;
                let now = Instant::now();
                if touched != Touched::Nothing {
                    self.burst.hear(now);
                }
                if touched == Touched::Way {
                    self.burst.end_at(now);
                }
            }
            Ok(Heard::Overrun) => {
                self.counters.overruns.fetch_add(1, Ordering::Relaxed);
                self.resync.ask(Instant::now());
            }
            Err(error) => {
                tracing::error!(%error, "the socket of netlink events broke; opening a new one");
                self.events = None;
                self.resync.ask_not_before(Instant::now() + RETRY);
            }
        }
    }

    /// Looks at the device whose XDP features have changed.
    fn look_again(&mut self, changed: io::Result<Option<u32>>) {
        match changed {
            Ok(Some(index)) => {
                if let Some(device) = self.view.device(index) {
                    let event = Event::Host(Change::Device(device.clone()));
                    let touched = self.view.apply(self.requests.completed(event));
                    if touched != Touched::Nothing {
                        self.burst.hear(Instant::now());
                    }
                }
            }
            Ok(None) => self.resync.ask(Instant::now()),
            Err(error) => {
                tracing::error!(%error, "the socket of XDP features broke; opening a new one");
                self.xdp_features = None;
                self.resync.ask_not_before(Instant::now() + RETRY);
            }
        }
    }

    /// Reads everything anew, after events were lost.
    async fn start_over(&mut self) {
        self.resync.begin(Instant::now());
        self.counters.resyncs.fetch_add(1, Ordering::Relaxed);
        tracing::info!("netlink events were lost: reading devices, addresses and neighbours anew");
        if let Err(error) = self.listen_and_read().await {
            tracing::warn!(%error, "cannot read the state of the host anew; trying again");
            self.resync.ask_not_before(Instant::now() + RETRY);
        }
        self.settle().await;
    }

    /// Listens first and reads then, so that nothing can fall in between.
    async fn listen_and_read(&mut self) -> Result<(), NetlinkError> {
        let events = EventSocket::open(self.options.receive_buffer_bytes);
        self.events = Some(events.map_err(NetlinkError::Open)?);
        self.xdp_features = XdpFeatureEvents::open().map_err(NetlinkError::Open)?;
        let listed = self.requests.everything().await?;
        if listed.complete {
            self.view.replace(listed.events);
        } else {
            // What is not in the list may be there all the same: nothing is taken for gone yet.
            for event in listed.events {
                self.view.apply(event);
            }
            self.resync.ask(Instant::now());
        }
        self.routes_are_stale = true;
        Ok(())
    }

    /// Brings routes and neighbours up to date, and tells everybody if anything is different.
    async fn settle(&mut self) {
        self.burst = Burst::default();
        if self.routes_are_stale {
            self.routes_are_stale = false;
            if let Err(error) = self.ask_for_routes().await {
                tracing::warn!(%error);
                self.routes_are_stale = true;
                self.burst.end_at(Instant::now() + RETRY);
            }
        }
        if self.follow.borrow().is_some() {
            let wanted = self.view.wanted_neighbours();
            let known = &self.view.neighbours;
            if let Some(again) = self.keeper.keep(&self.requests, &wanted, known).await {
                self.burst.end_at(again);
            }
        }
        let host = self.view.snapshot();
        self.snapshots.send_if_modified(|before| {
            let changed = **before != host;
            if changed {
                *before = Arc::new(host);
            }
            changed
        });
    }

    async fn ask_for_routes(&mut self) -> Result<(), NetlinkError> {
        let destinations = self.follow.borrow_and_update().clone().unwrap_or_default();
        self.view.keep_routes(&destinations);
        for destination in destinations {
            let route = self.requests.route(destination).await?;
            self.view.set_route(destination, route);
        }
        Ok(())
    }
}

/// Sleeps until then; for ever if there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn hear(events: Option<&mut EventSocket>) -> io::Result<Heard> {
    match events {
        Some(events) => events.hear().await,
        None => std::future::pending().await,
    }
}

async fn hear_change(events: Option<&mut XdpFeatureEvents>) -> io::Result<Option<u32>> {
    match events {
        Some(events) => events.hear().await,
        None => std::future::pending().await,
    }
}

/// When the present burst of events is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Burst {
    began: Option<Instant>,
    ends: Option<Instant>,
}

impl Burst {
    fn hear(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        self.ends = Some((now + QUIET).min(began + BURST_MAX));
    }

    /// Ends it then, or before.
    fn end_at(&mut self, time: Instant) {
        self.ends = Some(self.ends.map_or(time, |ends| ends.min(time)));
    }
}

/// When to read everything anew: soon after it is asked for, but not too often.
#[derive(Clone, Copy, Debug)]
struct Resync {
    interval: Duration,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Resync {
    const fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            due: None,
        }
    }

    fn ask(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| now.max(last + self.interval));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Asks when the sockets themselves do not work: no sense in trying before then.
    fn ask_not_before(&mut self, time: Instant) {
        self.ask(time);
        self.due = self.due.map(|due| due.max(time));
    }

    fn begin(&mut self, now: Instant) {
        self.last = Some(now);
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_ends_in_a_quiet_moment_but_not_too_late() {
        let start = Instant::now();
        let mut burst = Burst::default();
        burst.hear(start);
        assert_eq!(burst.ends, Some(start + QUIET));
        for step in 1..20 {
            burst.hear(start + step * 4 * MILLISECOND);
        }
        assert_eq!(burst.ends, Some(start + BURST_MAX));
    }

    #[test]
    fn a_date_does_not_put_off_the_end_of_a_burst() {
        let start = Instant::now();
        let mut burst = Burst::default();
        burst.end_at(start + SECOND);
        assert_eq!(burst.ends, Some(start + SECOND));
        burst.hear(start);
        assert_eq!(burst.ends, Some(start + QUIET));
        burst.end_at(start + SECOND);
        assert_eq!(burst.ends, Some(start + QUIET));
    }

    #[test]
    fn the_first_resync_is_immediate_and_the_next_ones_wait() {
        let start = Instant::now();
        let mut resync = Resync::new(10 * SECOND);
        resync.ask(start);
        assert_eq!(resync.due, Some(start));
        resync.begin(start);
        assert_eq!(resync.due, None);
        for second in 1..4 {
            resync.ask(start + second * SECOND);
            assert_eq!(resync.due, Some(start + 10 * SECOND));
        }
        resync.begin(start + 10 * SECOND);
        resync.ask(start + 60 * SECOND);
        assert_eq!(resync.due, Some(start + 60 * SECOND));
    }

    #[test]
    fn a_broken_socket_is_not_opened_in_a_tight_loop() {
        let start = Instant::now();
        let mut resync = Resync::new(Duration::ZERO);
        resync.ask(start);
        resync.ask_not_before(start + SECOND);
        assert_eq!(resync.due, Some(start + SECOND));
    }
}
