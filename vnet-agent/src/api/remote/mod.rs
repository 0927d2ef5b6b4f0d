//! Who may ask over the network, and how does a connection from there become HTTP?
//!
//! Input: where to listen and how to show who we are ([`Plan`]), which the agent's task changes; TCP
//! connections from anywhere. Output: requests to the paths of the API, by holders of an operator's or
//! a reader's certificate of the overlay's own authority, over TLS 1.3; and counts of who was turned
//! away. It runs on a thread of its own: arithmetic for strangers takes no turn of the agent's task.

mod guard;
mod listen;
mod places;
pub mod rights;
pub mod tls;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use tracing::info;

use crate::identity::revoked::Revoked;
use crate::overlay::refusal::{Turned, TurnedCounts};
use places::Places;
use tls::HostTls;

pub use listen::run;

/// The TCP port where nobody says otherwise: the one after the control channel's.
pub const PORT_DEFAULT: u16 = 6083;

/// Connections that have not shown yet who they are: all, and those from one address.
const STRANGERS_MAX: (usize, usize) = (64, 16);
/// Connections that have: all, and those of one name. All of them together ask for half of what may
/// wait for the agent's task ([`super::ASKS_WAITING_MAX`]): the other half is for its own host.
const KNOWN_MAX: (usize, usize) = (32, 8);
/// Streams of events: half of all there may be ([`super::stream::LISTENERS_MAX`]).
const STREAMS_MAX: usize = 8;

/// What is to be so.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where to listen; nowhere unless somebody says so.
    pub address: Option<SocketAddr>,
    /// How to show who we are; without that nobody is let in.
    pub tls: Option<HostTls>,
}

impl Plan {
    /// Where to listen, if anybody can be let in there.
    fn place(&self) -> Option<SocketAddr> {
        self.tls.as_ref().and(self.address)
    }
}

/// Who asks over the network, as `status` has it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct RemoteStatus {
    /// Where the agent listens, or is to.
    pub address: String,
    /// Why it does not.
    pub deaf: Option<String>,
    /// Connections of operators and readers.
    pub connections: u32,
    /// How many connections and requests were turned away, by reason.
    pub turned_away: BTreeMap<String, u64>,
}

/// What all connections share.
#[derive(Debug)]
pub struct Door {
    router: Router,
    strangers: Arc<Places<std::net::IpAddr>>,
    known: Arc<Places<String>>,
    streams: Arc<Semaphore>,
    turned: Mutex<TurnedCounts>,
    heard: Mutex<Heard>,
    revoked: watch::Receiver<Arc<Revoked>>,
}

/// Whether anybody can be heard.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// Where.
    at: Option<SocketAddr>,
    /// Why nowhere.
    deaf: Option<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters are right after a panic too.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// A door with nobody at it, to these paths, and not for the revoked.
    pub fn new(router: Router, revoked: watch::Receiver<Arc<Revoked>>) -> Self {
        Self {
            router,
            revoked,
            strangers: Places::new(STRANGERS_MAX),
            known: Places::new(KNOWN_MAX),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            turned: Mutex::default(),
            heard: Mutex::default(),
        }
    }

    /// How many were turned away, by reason.
    pub fn counts(&self) -> TurnedCounts {
        locked(&self.turned).clone()
    }

    /// Where it is open.
    pub fn heard_at(&self) -> Option<SocketAddr> {
        locked(&self.heard).at
    }

    /// Why it is not, where it should be.
    pub fn deaf(&self) -> Option<String> {
        locked(&self.heard).deaf.clone()
    }

    fn turn(&self, why: Turned, from: SocketAddr) {
        let mut turned = locked(&self.turned);
        let count = turned.entry(why).or_insert(0);
        *count = count.saturating_add(1);
        // Whoever wants to fill the log gets a line for each power of two.
        if count.is_power_of_two() {
            info!(%from, count, "turned away from the API: {why}");
        }
    }
}

/// The listener, as the agent's task holds it. Dropped, it ends.
#[derive(Debug)]
pub struct Remote {
    plan: watch::Sender<Plan>,
    door: Arc<Door>,
    ended: oneshot::Receiver<()>,
}

impl Remote {
    /// Starts the thread, which listens nowhere yet.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start(router: Router, revoked: watch::Receiver<Arc<Revoked>>) -> io::Result<Self> {
        let (plan, planned) = watch::channel(Plan::default());
        let door = Arc::new(Door::new(router, revoked));
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::clone(&door);
        std::thread::Builder::new()
            .name("vnet-api".to_owned())
            .spawn(move || {
                runtime.block_on(run(planned, shared));
                // Nobody waits for it where the agent has gone already.
                let _ = end.send(());
            })?;
        Ok(Self { plan, door, ended })
    }

    /// From now on it is to be so.
    pub fn follow(&self, plan: Plan) {
        self.plan.send_replace(plan);
    }

    /// Where it is to listen from now on.
    pub fn listen(&self, address: Option<SocketAddr>) {
        self.plan.send_if_modified(|plan| {
            let differs = plan.address != address;
            plan.address = address;
            differs
        });
    }

    /// How it shows who we are from now on, to those who come then.
    pub fn show(&self, tls: Option<HostTls>) {
        self.plan.send_modify(|plan| plan.tls = tls);
    }

    /// What connections share.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// For `status`; nothing where nobody is to be heard.
    pub fn status(&self) -> Option<RemoteStatus> {
        let address = self.plan.borrow().address?;
        let counts = self.door.counts().into_iter();
        Some(RemoteStatus {
            address: address.to_string(),
            deaf: self.door.deaf(),
            connections: u32::try_from(self.door.known.taken()).unwrap_or(u32::MAX),
            turned_away: counts
                .map(|(why, count)| (why.to_string(), count))
                .collect(),
        })
    }

    /// Ends it; what has been asked is answered first, within two seconds.
    pub async fn stop(self) {
        let Self { plan, ended, .. } = self;
        drop(plan);
        let _ = timeout(Duration::from_secs(3), ended).await;
    }
}
