//! Start, reload, stop, teardown.

use std::fs::File;
use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::TcpListener;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::carriers::Proof;
use super::doors::Doors;
use super::guest_mtu::TooBigSeen;
use super::joiner::Joiner;
use super::liveness::Watch;
use super::overlay::{self, Control};
use super::path_mtu::Probing;
use super::revoked::Revocations;
use super::route::Routes;
use super::tap::OwnTap;
use super::{Agent, Inputs, namespace, secret};
use crate::act::reconcile::Desired;
use crate::act::reconcile::runtime::Reconciler;
use crate::api::pass::PassOn;
use crate::api::route::router;
use crate::api::stream::{Event, EventKind, Teller};
use crate::api::{ASKS_WAITING_MAX, Request, http, socket};
use crate::dataplane::events::Events;
use crate::dataplane::{DataPlane, pin};
use crate::model::Configuration;
use crate::model::part::Part;
use crate::model::wanted::in_force;
use crate::overlay::runtime::SlowPathCounts;
use crate::overlay::slow_path::Receivers;
use crate::overlay::via::carry::runtime::Carriers;
use crate::settings::{AgentSettings, ControlSettings, Settings};
use crate::store::{Fingerprint, Loaded, SettingsFile, StateStore};
use crate::world::bpffs;
use crate::world::joiner;
use crate::world::lock::Lock;
use crate::world::netlink::{Requests, Watcher, release_neighbours};
use crate::world::notify::Notifier;
use crate::world::tap::Tap;

/// A signal that means something to the agent.
pub(super) enum Signal {
    /// SIGTERM or SIGINT: stop, and leave the data plane forwarding.
    Stop,
    /// SIGHUP: read the settings again.
    Reload,
}

/// The signals of this process, as a stream.
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let signal = |kind| unix::signal(kind).context("listening to signals");
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. May be cancelled.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.terminate.recv() => Signal::Stop,
            Some(()) = self.interrupt.recv() => Signal::Stop,
            Some(()) = self.hangup.recv() => Signal::Reload,
            else => pending().await,
        }
    }
}

/// Reads and validates the settings file, with its warnings logged.
fn read_settings(path: &Path) -> Result<(Settings, Fingerprint)> {
    let file = SettingsFile::read(path)?;
    let settings = Settings::parse(&file.text, &file.name)?;
    for warning in settings.warnings(&file.name, file.mode) {
        warn!("{warning}");
    }
    Ok((settings, file.fingerprint()))
}

/// The right to work on these pins, until it is dropped.
struct Rights {
    _directory: Flock<File>,
    _file: Lock,
}

/// Takes the right to work on these pins. A file among other run-time files names the holder (a bpf
/// file system holds no plain ones); it is named after the directory itself, not its path, because
/// two mount namespaces can have different pins at one path. The lock on the directory is what
/// counts: nobody can remove it from under its holder.
fn lock(pin_directory: &Path) -> Result<Rights> {
    let doing = || format!("locking {}", pin_directory.display());
    let directory = File::open(pin_directory).with_context(doing)?;
    let place = directory.metadata().with_context(doing)?;
    let name = format!("pins-{:x}-{:x}", place.dev(), place.ino());
    let file = Lock::take(&Path::new("/run/vnet/lock").join(name))?;
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(directory) => Ok(Rights {
            _directory: directory,
            _file: file,
        }),
        Err((_, Errno::EWOULDBLOCK)) => bail!(
            "another agent runs on the pins in {} (its lock file was removed); `pgrep -a \
             vnet-agent` finds it",
            pin_directory.display()
        ),
        Err((_, error)) => Err(error).with_context(doing),
    }
}

/// What was changed at run time, if the settings file is still the one that was changed.
fn configuration(
    store: &StateStore,
    settings: Settings,
    path: &Path,
    fingerprint: Fingerprint,
    part: Option<&Part>,
) -> Result<(Configuration, String)> {
    let file = path.display();
    let problems = |own: &Configuration| in_force(own, part).0.problems();
    Ok(match store.load_checked(fingerprint, problems)? {
        Loaded::Nothing => (settings.configuration, file.to_string()),
        Loaded::Changed(changed) => {
            info!("{file} is unchanged: what clients changed since is kept");
            // Clients do not change limits. A file that was read while running may have others
            // than those that were in force when the change was stored.
            let limits = settings.configuration.limits;
            (
                Configuration { limits, ..*changed },
                format!("{file}, and changes made since"),
            )
        }
        Loaded::Outdated { to } => {
            warn!(
                "{file} was edited: it counts, and what clients had changed before is set aside \
                 in {}",
                to.display()
            );
            (settings.configuration, file.to_string())
        }
        Loaded::SetAside { to, why } => {
            warn!(
                "what clients had changed cannot be read ({why}); it is kept in {}",
                to.display()
            );
            (settings.configuration, file.to_string())
        }
    })
}

/// Runs the agent until a signal says to stop. The data plane forwards on.
///
/// # Errors
///
/// The settings are wrong, another agent runs on the same pins, or the kernel or the system
/// refuses something that the agent cannot do without.
pub async fn run(settings_path: &Path) -> Result<()> {
    let started = Instant::now();
    // First of all, so that a signal during the start is heard and does not kill.
    let signals = Signals::new()?;
    let (settings, fingerprint) = read_settings(settings_path)?;
    bpffs::ensure(&settings.agent.pin_directory)?;
    let _lock = lock(&settings.agent.pin_directory)?;
    let store = StateStore::open(&settings.agent.state_directory)?;
    let agent_settings = settings.agent.clone();
    let control = settings.control.clone();
    let mut part = overlay::kept_part(&store, control.as_ref())?;
    let (own, source) = configuration(&store, settings, settings_path, fingerprint, part.as_ref())?;
    let revocations = Revocations::new(&agent_settings, control.as_ref());
    let limits = own.limits;
    let (mut configuration, mut waiting) = overlay::with_part(&own, part.as_ref(), limits);
    if let Some(problem) = configuration.problems().into_iter().next() {
        warn!(
            "this host's part of the overlay does not fit its settings: {}",
            problem.error
        );
        part = None;
        (configuration, waiting) = overlay::with_part(&own, None, limits);
    }

    let mut plane = DataPlane::open(
        &agent_settings.pin_directory,
        &configuration.limits,
        agent_settings.count_refused,
    )?;
    plane.follow_log();
    let events = plane
        .tables_mut()
        .take_events()
        .context("the events have another reader")?;
    let events = Events::new(events).context("watching the ring of events")?;
    let reconciler = Reconciler::new(plane)?;
    let mut earlier_ports = reconciler.now().underlays.values();
    let earlier_port = earlier_ports.next().map(|entry| entry.udp_port);

    let (watcher, mut hosts) = Watcher::start(Agent::destinations(&configuration)).await?;
    let host = Arc::clone(&hosts.borrow_and_update());
    let tap = Tap::open(&agent_settings.slow_path_device, watcher.requests()).await?;
    let receivers = watch::Sender::new(Arc::new(Receivers::default()));
    let mut agent = Agent {
        settings: agent_settings,
        settings_path: settings_path.to_owned(),
        fingerprint,
        store,
        own,
        part,
        configuration,
        source,
        reconciler,
        watcher,
        host,
        devices: Vec::new(),
        desired: Desired::default(),
        faults: Vec::new(),
        events: Teller::default(),
        receivers,
        slow_path: Arc::new(SlowPathCounts::default()),
        tap: OwnTap::new(&tap),
        joiner: Joiner::of_earlier_agent(earlier_port),
        doors: Doors::new(),
        too_big: TooBigSeen::default(),
        probing: Probing::start(),
        watch: Watch::start(),
        carriers: Carriers::start().context("starting what carries links")?,
        proof: Proof::default(),
        namespace: namespace()?,
        secret: secret()?,
        started,
        changed: SystemTime::now(),
        control: Control::None,
        revocations,
        elsewhere: None,
        routes: Routes::default(),
        control_settings: None,
        capacities: overlay::capacities(),
        waiting,
    };
    let inputs = Kernel {
        hosts,
        events,
        control,
    };
    agent.start(tap, inputs, signals).await
}

/// What comes from the kernel and from the file: the inputs that exist before the API listens.
struct Kernel {
    hosts: watch::Receiver<Arc<crate::model::host::Host>>,
    events: Events,
    control: Option<ControlSettings>,
}

impl Agent {
    async fn start(&mut self, tap: Tap, inputs: Kernel, signals: Signals) -> Result<()> {
        let earlier = self.reconciler.now().setting;
        self.control_settings.clone_from(&inputs.control);
        self.reconcile().await;
        self.remove_earlier_tap(earlier.map_or(0, |setting| setting.slow_path_device))
            .await;
        trim_heap();

        let socket = self.settings.socket.clone();
        let (listener, _socket_file) =
            socket::listen_on(&socket, self.settings.socket_group.as_deref())?;
        let (asks, requests) = mpsc::channel(ASKS_WAITING_MAX);
        self.routes.ask_here(asks.downgrade());
        let metrics = self.serve_metrics(asks.clone()).await?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let pass = PassOn::default();
        let own = router(asks.clone(), self.events.clone(), PassOn::default());
        let whole = router(asks.clone(), self.events.clone(), pass.clone());
        let api = tokio::spawn(http::serve(
            listener,
            asks,
            self.events.clone(),
            pass.clone(),
            async move {
                // Either way it is time to stop.
                let _ = stopped.await;
            },
        ));
        self.copy_from(tap);
        let Kernel {
            hosts,
            events,
            control,
        } = inputs;
        self.join_overlay(control.clone(), own, &pass).await?;
        self.hear_elsewhere(whole, control.as_ref());

        let notifier = Notifier::from_environment().context("NOTIFY_SOCKET")?;
        info!(
            socket = %socket.display(),
            took_ms = self.started.elapsed().as_millis() as u64,
            "ready"
        );
        notifier.ready();
        let connections = self.carriers.changes();
        let outcome = self
            .serve(
                Inputs {
                    hosts,
                    requests,
                    events,
                    paths: self.probing.paths(),
                    lives: self.watch.lives(),
                    connections,
                },
                signals,
            )
            .await;
        notifier.stopping();
        let stopping = "it stops; the data plane forwards on";
        self.events
            .tell(Event::now(EventKind::Stopping, "agent", stopping));
        info!("stopping; the data plane forwards on (`vnet-agent teardown` removes it)");
        self.tap = OwnTap::default();
        if let Some(metrics) = metrics {
            metrics.abort();
        }
        drop(stop);
        let elsewhere = self.elsewhere.take();
        let _ = tokio::join!(api, async {
            if let Some(elsewhere) = elsewhere {
                elsewhere.stop().await;
            }
        });
        outcome
    }

    /// Lets Prometheus in where the settings say so. May be aborted at any moment.
    async fn serve_metrics(&self, asks: mpsc::Sender<Request>) -> Result<Option<JoinHandle<()>>> {
        let Some(address) = self.settings.metrics else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("listening on {address} for readers of metrics (`metrics` under [agent])")
        })?;
        info!(%address, "GET /metrics is served to whoever can reach it");
        let never = pending();
        Ok(Some(tokio::spawn(http::serve_metrics(
            listener, asks, never,
        ))))
    }

    /// Reads the settings file again. What is wrong with it is said, and nothing changes.
    pub(super) async fn reload(&mut self) {
        let (settings, fingerprint) = match read_settings(&self.settings_path) {
            Ok(read) => read,
            Err(error) => {
                warn!("the settings stay as they were: {error:#}");
                return;
            }
        };
        if fingerprint == self.fingerprint {
            info!("{} has not changed", self.settings_path.display());
            return;
        }
        let api = settings.agent.api;
        let now = AgentSettings {
            api,
            ..self.settings.clone()
        };
        if settings.agent != now || settings.configuration.limits != self.configuration.limits {
            warn!(
                "changes under [agent], save api, and [limits] take effect when the agent starts again"
            );
        }
        if settings.control != self.control_settings {
            warn!("changes under [control] take effect when the agent starts again");
        }
        let limits = self.configuration.limits;
        let part = self.part.clone();
        let loaded = configuration(
            &self.store,
            settings,
            &self.settings_path,
            fingerprint,
            part.as_ref(),
        );
        let (own, source) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                warn!("the settings stay as they were: {error:#}");
                return;
            }
        };
        let (configuration, waiting) = overlay::with_part(&own, part.as_ref(), limits);
        if let Some(problem) = configuration.problems().into_iter().next() {
            let what = "they do not fit this host's part of the overlay";
            warn!("the settings stay as they were: {what}: {}", problem.error);
            return;
        }
        self.own = Configuration { limits, ..own };
        self.waiting = waiting;
        self.configuration = configuration;
        self.fingerprint = fingerprint;
        self.source = source;
        self.changed = SystemTime::now();
        if self.settings.api != api {
            self.settings.api = api;
            if let Some(elsewhere) = &mut self.elsewhere {
                elsewhere.listen(api);
            }
        }
        self.watcher.follow(Self::destinations(&self.configuration));
        self.reconcile().await;
        info!("{} is read again", self.settings_path.display());
    }
}

/// Gives back what loading needed and running does not: the kernel's type information alone takes
/// more than all the rest.
fn trim_heap() {
    // SAFETY: no arguments that could be wrong; it may be called at any time.
    unsafe { libc::malloc_trim(0) };
}

/// What a teardown removed, in the order in which it did.
#[derive(Debug, Default)]
pub struct TornDown {
    /// Pins.
    pub pins: pin::Removed,
    /// Devices whose MTU was put back.
    pub mtus: usize,
    /// Neighbour entries that were kept fresh.
    pub neighbours: usize,
    /// Whether the agent's tap was there.
    pub tap: bool,
    /// Whether the device was there for which the kernel joins frames.
    pub joiner: bool,
}

/// Where a data plane has left its traces.
#[derive(Clone, Debug)]
pub struct Traces {
    /// Where it is pinned.
    pub pin_directory: PathBuf,
    /// The agent's tap.
    pub slow_path_device: String,
    /// The overlay's UDP port.
    pub udp_port: u16,
}

impl Traces {
    /// As a settings file names them.
    ///
    /// # Errors
    ///
    /// The file is not there, or something is wrong with it.
    pub fn of(settings_path: &Path) -> Result<Self> {
        let (settings, _) = read_settings(settings_path)
            .context("name what to remove by --pin-directory where there are no right settings")?;
        let AgentSettings {
            pin_directory,
            slow_path_device,
            ..
        } = settings.agent;
        Ok(Self {
            pin_directory,
            slow_path_device,
            udp_port: settings.configuration.underlay.udp_port,
        })
    }
}

/// Removes every trace of a data plane, and nothing else. What clients changed
/// at run time stays in the state directory.
///
/// # Errors
///
/// An agent is running, or something could not be removed.
pub async fn teardown(what: &Traces) -> Result<TornDown> {
    let _rights = match what.pin_directory.exists() {
        true => Some(lock(&what.pin_directory)?),
        false => None,
    };
    let requests = Requests::open()?;
    let mut done = TornDown::default();
    let earlier = DataPlane::earlier_mtus(&what.pin_directory);
    done.pins = DataPlane::remove(&what.pin_directory)?;
    for (index, mtu) in earlier {
        if requests.device(index).await?.is_some() {
            requests.set_mtu(index, mtu).await?;
            done.mtus += 1;
        }
    }
    done.tap = Tap::remove_named(&what.slow_path_device, &requests).await?;
    done.joiner = joiner::remove(what.udp_port, &requests).await?;
    done.neighbours = release_neighbours(&requests).await?;
    if what.pin_directory.exists() {
        bail!(
            "{} has something in it that is not ours; it was left alone",
            what.pin_directory.display()
        );
    }
    Ok(done)
}
