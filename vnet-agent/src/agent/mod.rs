//! Wiring: every task and channel of the agent is made here. The only module that knows all
//! others.
//!
//! One task owns all state ([`Agent`]) and takes turns: the host changed, a client asked, the
//! programs told something, a signal came. Beside it run the netlink watcher, the API's listener
//! and the slow path's copier; each may be aborted at any moment without loss of state.

mod answer;
mod books;
mod calls;
mod carriers;
mod change;
mod doors;
mod guest_mtu;
mod inventory;
mod joiner;
mod lifecycle;
mod liveness;
mod member;
mod overlay;
mod path_mtu;
mod proxy;
mod remote;
mod revoked;
mod route;
mod rung;
mod status;
mod tap;
mod trace;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use vnet_common::addr::{Mac, PortId, Stations};
use vnet_common::rule::{Destination, Shape, Source};
use vnet_common::table::action::Action;
use vnet_common::table::event::Event;
use vnet_common::table::rule::RuleKey;

use answer::Coming;
pub use lifecycle::{Traces, run, teardown};
use overlay::Control;

use crate::act::reconcile::desired::Fault;
use crate::act::reconcile::runtime::Reconciler;
use crate::act::reconcile::{Desired, Surroundings, desired};
use crate::api::Request;
use crate::api::stream::{self, EventKind, Teller};
use crate::dataplane::events::Events;
use crate::dataplane::object::ledger_slots;
use crate::model::host::{Device, Host};
use crate::model::part::Part;
use crate::model::{Addresses, Configuration, Port, PortDevice};
use crate::overlay::flood::FloodTable;
use crate::overlay::message::Capacities;
use crate::overlay::runtime::SlowPathCounts;
use crate::overlay::slow_path::Receivers;
use crate::overlay::via::carry::runtime::Carriers;
use crate::sense::liveness::runtime::Lives;
use crate::sense::path_mtu::runtime::Paths;
use crate::settings::{AgentSettings, ControlSettings};
use crate::store::{Fingerprint, StateStore};
use crate::world::netlink::Watcher;

/// The state of the agent, owned by its one task.
pub struct Agent {
    settings: AgentSettings,
    settings_path: PathBuf,
    fingerprint: Fingerprint,
    store: StateStore,
    /// What this host itself wants: its file, and what clients changed.
    own: Configuration,
    /// Its part of the overlay.
    part: Option<Part>,
    /// Both: what is in force.
    configuration: Configuration,
    /// Where the configuration comes from, in words.
    source: String,
    reconciler: Reconciler,
    watcher: Watcher,
    host: Arc<Host>,
    devices: Vec<PortDevice>,
    desired: Desired,
    faults: Vec<Fault>,
    events: Teller,
    receivers: watch::Sender<Arc<Receivers>>,
    slow_path: Arc<SlowPathCounts>,
    tap: tap::OwnTap,
    joiner: joiner::Joiner,
    doors: doors::Doors,
    too_big: guest_mtu::TooBigSeen,
    probing: path_mtu::Probing,
    watch: liveness::Watch,
    carriers: Carriers,
    proof: carriers::Proof,
    namespace: u32,
    secret: u64,
    started: Instant,
    changed: SystemTime,
    control: Control,
    revocations: revoked::Revocations,
    /// Who asks over the network; nothing before the API listens.
    elsewhere: Option<remote::Elsewhere>,
    routes: route::Routes,
    /// What the file says of it.
    control_settings: Option<ControlSettings>,
    capacities: Capacities,
    /// Ports that have to wait for their networks.
    waiting: Vec<Fault>,
}

/// What the agent listens to.
struct Inputs {
    hosts: watch::Receiver<Arc<Host>>,
    requests: mpsc::Receiver<Request>,
    events: Events,
    paths: watch::Receiver<Paths>,
    lives: watch::Receiver<Lives>,
    connections: watch::Receiver<()>,
}

/// Between two looks at addresses that ports have learned, should an event have been lost.
const SWEEP: Duration = Duration::from_secs(30);

impl Agent {
    /// Takes turns until a signal says to stop.
    async fn serve(&mut self, mut inputs: Inputs, mut signals: lifecycle::Signals) -> Result<()> {
        let mut sweep = tokio::time::interval(SWEEP);
        let mut look = tokio::time::interval(doors::LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = inputs.hosts.changed() => {
                    changed.context("the netlink watcher ended")?;
                    self.host = Arc::clone(&inputs.hosts.borrow_and_update());
                    self.reconcile().await;
                }
                request = inputs.requests.recv() => {
                    let Request { ask, reply } = request.context("the API's listener ended")?;
                    // An asker that has gone away does not want the answer any more.
                    match self.answer(ask).await {
                        Ok(Coming::Later(finding)) => drop(tokio::spawn(finding.answer(reply))),
                        Ok(Coming::Now(answer)) => drop(reply.send(Ok(answer))),
                        Err(refusal) => drop(reply.send(Err(refusal))),
                    }
                    // It goes out before anything else is begun.
                    tokio::task::yield_now().await;
                }
                events = inputs.events.next() => {
                    for event in events.context("the ring of events broke")? {
                        if event.kind == Event::LEARNED {
                            self.learned(event.port, event.address);
                        }
                    }
                    self.reconcile().await;
                }
                turned = inputs.lives.changed() => {
                    turned.context("the task that watches links ended")?;
                    inputs.lives.borrow_and_update();
                    self.turn_links();
                    self.reconcile().await;
                }
                found = inputs.paths.changed() => {
                    found.context("the task that probes paths ended")?;
                    inputs.paths.borrow_and_update();
                    self.reconcile().await;
                }
                changed = inputs.connections.changed() => {
                    changed.context("the task that keeps connections ended")?;
                    inputs.connections.borrow_and_update();
                    self.turn_links();
                    self.reconcile().await;
                }
                _ = sweep.tick() => {
                    // Who sends too much is told by counters that have to be looked at now and then.
                    if let Err(refusal) = self.guest_mtu_problems() {
                        warn!("the ports' books cannot be read: {}", refusal.message);
                    }
                    self.reconcile().await;
                }
                _ = look.tick() => {
                    self.revocations.look();
                    self.elsewhere.as_mut().map(remote::Elsewhere::look);
                    if self.look_at_frames() {
                        self.reconcile().await;
                    }
                }
                happening = self.control.next() => self.happened(happening).await,
                signal = signals.next() => match signal {
                    lifecycle::Signal::Stop => return Ok(()),
                    lifecycle::Signal::Reload => self.reload().await,
                },
            }
            self.turn_overlay().await;
        }
    }

    fn learned(&self, port: PortId, address: Mac) {
        let device = self
            .host
            .devices
            .get(&port.0)
            .map_or("?", |device| device.name.as_str());
        info!(device, %address, "the port's address is learned");
        let (subject, message) = (
            format!("port {device}"),
            format!("its address is {address}"),
        );
        self.events
            .tell(stream::Event::now(EventKind::Learned, subject, message));
    }

    /// Makes the kernel hold what it should, given everything that is known now.
    async fn reconcile(&mut self) {
        let tap = self.keep_tap().await;
        let mut faults = self.reconcile_once().await;
        if self.give_up_doors() {
            faults = self.reconcile_once().await;
        }
        // The new comes before the old goes. What had no room beside the old has it now.
        if self.reconciler.has_made_room() && faults.iter().any(|fault| !fault.is_waiting) {
            faults = self.reconcile_once().await;
        }
        faults.extend(tap);
        self.keep_joiner().await;
        self.tell_slow_path();
        self.tell_probing();
        self.tell_watch();
        faults.extend(self.tell_carriers());
        self.excuse_rungs(&mut faults);
        self.report(&faults);
        self.faults = faults;
    }

    async fn reconcile_once(&mut self) -> Vec<Fault> {
        self.devices = self.port_devices();
        self.pick_doors();
        let path_mtus = self.path_mtus();
        let answering = self.answering();
        let carried = self.carriers.connected();
        let early = self.early_programs();
        let given = Surroundings {
            host: &self.host,
            devices: &self.devices,
            early: &early,
            slow_path_device: self.tap.index,
            namespace: self.namespace,
            secret: self.secret,
            ledgers: ledger_slots(&self.configuration.limits),
            path_mtus: &path_mtus,
            answering: &answering,
            picks: &self.doors.picks,
            carried: &carried,
        };
        let desired = desired(&self.configuration, &given, self.reconciler.now());
        let mut faults = desired.faults.clone();
        // Before the tables forget what it was, and after they remember it.
        faults.extend(self.set_mtus(&desired.mtus_before).await);
        faults.extend(self.reconciler.reconcile(&desired, &self.host));
        faults.extend(self.set_mtus(&desired.mtus).await);
        self.desired = desired;
        faults
    }

    /// Says once what is new among the faults, and what is over.
    fn report(&self, faults: &[Fault]) {
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            if fault.is_waiting {
                info!(subject = fault.subject, "{}. {}", fault.message, fault.cure);
            } else {
                warn!(subject = fault.subject, "{}. {}", fault.message, fault.cure);
            }
            let kind = if fault.is_waiting {
                EventKind::Waiting
            } else {
                EventKind::Problem
            };
            let event = stream::Event::now(kind, &fault.subject, &fault.message);
            self.events.tell(event.cure(&fault.cure));
        }
        for fault in self.faults.iter().filter(|fault| !faults.contains(fault)) {
            info!(subject = fault.subject, "over: {}", fault.message);
            let event = stream::Event::now(EventKind::Over, &fault.subject, &fault.message);
            self.events.tell(event);
        }
    }

    /// The devices that port entries take in. Not the underlay, not the agent's own tap.
    fn port_devices(&self) -> Vec<PortDevice> {
        let devices = self.host.devices.values();
        let mut devices: Vec<PortDevice> = devices
            .filter(|device| !self.is_own(device) && device.mac.is_some())
            .filter_map(|device| {
                let (place, port) = self.configuration.port_for(&device.name)?;
                let learned = match port.addresses {
                    Addresses::Learn => self.learned_address(device.index),
                    _ => None,
                };
                Some(PortDevice {
                    name: device.name.clone(),
                    port: place,
                    learned,
                })
            })
            .collect();
        // Where two have shown one address, it stays with whom frames go to already.
        devices.sort_by_key(|device| !self.is_delivered_to(device));
        devices
    }

    /// The devices that become ports once their networks are there, with what the host wants of them.
    fn waiting_devices(&self) -> impl Iterator<Item = (&Device, &Port)> {
        let devices = self.host.devices.values();
        let devices = devices.filter(|device| {
            let is_port = self.configuration.port_for(&device.name).is_some();
            !is_port && !self.is_own(device) && device.mac.is_some()
        });
        devices.filter_map(|device| Some((device, self.own.port_for(&device.name)?.1)))
    }

    /// Whether it is the underlay, or one that the agent made for itself.
    fn is_own(&self, device: &Device) -> bool {
        let underlay = self.configuration.underlay.on.device(&self.host);
        device.index == self.tap.index
            || underlay.is_some_and(|underlay| underlay.index == device.index)
            || self.is_joiner(device)
    }

    /// Whether the tables deliver the device's learned address to it.
    fn is_delivered_to(&self, taken: &PortDevice) -> bool {
        let device = self.host.device_named(&taken.name);
        let found = taken.learned.zip(device).and_then(|(address, device)| {
            let now = self.reconciler.now();
            let network = now.ports.get(&device.index)?.network;
            let shape = Shape::of(Source::Any, Destination::Is(address));
            let key = RuleKey::new(network, shape, Stations::new(Mac::ZERO, address));
            let [rule, ..] = now.rules.get(&key)?.alternatives();
            Some(rule.action == Action::deliver(PortId(device.index)))
        });
        found.unwrap_or(false)
    }

    fn learned_address(&self, ifindex: u32) -> Option<Mac> {
        let state = self
            .reconciler
            .tables()
            .port_state(ifindex)
            .ok()
            .flatten()?;
        (state.learned != 0).then(|| Mac::from_bits(state.learned))
    }

    async fn set_mtus(&self, mtus: &BTreeMap<u32, u32>) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (&index, &mtu) in mtus {
            if let Err(error) = self.watcher.requests().set_mtu(index, mtu).await {
                let name = self
                    .host
                    .devices
                    .get(&index)
                    .map_or("?", |d| d.name.as_str());
                faults.push(Fault {
                    subject: format!("port {name}"),
                    message: format!("its MTU could not be set to {mtu}: {error}"),
                    cure: format!("ip link set {name} mtu {mtu}, or set_mtu = false"),
                    is_waiting: false,
                });
            }
        }
        faults
    }

    fn tell_slow_path(&self) {
        let ports = self.devices.iter().filter_map(|taken| {
            let device = self.host.device_named(&taken.name)?;
            Some((taken.name.clone(), PortId(device.index)))
        });
        let networks = self.configuration.networks.iter();
        let receivers = Receivers {
            table: FloodTable::new(&self.configuration, &self.devices),
            networks: networks
                .map(|network| (network.id, network.name.clone()))
                .collect(),
            ports: ports.collect(),
            links: self.desired.links.clone(),
            detours: self.detours(),
            wholes: self.wholes(),
        };
        self.receivers.send_replace(Arc::new(receivers));
    }

    /// The ways that links need.
    fn destinations(configuration: &Configuration) -> Vec<IpAddr> {
        configuration.links.iter().map(|link| link.remote).collect()
    }
}

/// A number that nobody can guess; not zero.
fn secret() -> Result<u64> {
    let mut bytes = [0; 8];
    let doing = "asking the kernel for random bytes";
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context(doing)?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}

/// The inode of the network namespace that this process is in.
fn namespace() -> Result<u32> {
    let path = Path::new("/proc/self/ns/net");
    let inode = path
        .metadata()
        .with_context(|| format!("reading {}", path.display()))?
        .ino();
    u32::try_from(inode).context("the network namespace has an inode beyond 32 bits")
}
