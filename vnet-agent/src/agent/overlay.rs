//! What has this host to do with the overlay? It says what it has, and goes by its part.
//!
//! Input: what the control channel's tasks bring. Output: the part stored and in force, before the
//! other end is told so. An agent's own affairs are in [`member`](super::member), the proxy's in
//! [`proxy`](super::proxy).

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::Router;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Agent;
use super::calls::Rights;
use super::member::Member;
use super::proxy::Proxy;
use crate::act::reconcile::desired::Fault;
use crate::api::OverlayStatus;
use crate::api::pass::PassOn;
use crate::identity::Role;
use crate::model::configuration::{Limits, UnderlayMatch};
use crate::model::part::Part;
use crate::model::wanted::{in_force, is_new};
use crate::model::{Addresses, Configuration};
use crate::overlay::message::{Capacities, IntroducedPort, Introduction, Missing};
use crate::overlay::via::dial::Renewed;
use crate::overlay::via::listen::Question;
use crate::settings::{ControlRole, ControlSettings};
use crate::store::{Found, StateStore};

/// The file of the part that this host goes by.
const PART: &str = "part.json";

/// For those who are at the proxy's door, before others get the parts that they may change.
const COMING_MAX: Duration = Duration::from_millis(10);

/// The agent's place in the overlay.
pub(super) enum Control {
    /// It stands alone.
    None,
    /// It dials the proxy.
    Member(Box<Member>),
    /// It is dialled.
    Proxy(Box<Proxy>),
}

/// What the control channel's tasks bring.
pub(super) enum Happening {
    /// A part for this host.
    Offered(Part),
    /// An answer to a request for a certificate.
    Renewed(Renewed),
    /// An agent or a host wants something of the proxy.
    Asked(Question),
    /// It is time to look at certificates.
    Look,
    /// It is time to go on with a change of the whole overlay.
    Due,
}

impl Control {
    /// The next thing that happens. May be cancelled.
    pub(super) async fn next(&mut self) -> Happening {
        match self {
            Self::None => std::future::pending().await,
            Self::Member(member) => member.next().await,
            Self::Proxy(proxy) => proxy.next().await,
        }
    }
}

/// The part that an earlier agent went by, if the host still belongs to an overlay.
pub(super) fn kept_part(
    store: &StateStore,
    control: Option<&ControlSettings>,
) -> Result<Option<Part>> {
    if control.is_none() {
        return Ok(None);
    }
    Ok(match store.kept::<Part>(PART)? {
        Found::Nothing => None,
        Found::Value(part) => Some(part),
        Found::SetAside { to, why } => {
            warn!(
                "this host's part of the overlay cannot be read ({why}); it is kept in {}",
                to.display()
            );
            None
        }
    })
}

/// What is in force, with the limits that the kernel's tables were made with.
pub(super) fn with_part(
    own: &Configuration,
    part: Option<&Part>,
    limits: Limits,
) -> (Configuration, Vec<Fault>) {
    let (configuration, waiting) = in_force(own, part);
    let faults = waiting.into_iter().map(|waiting| Fault {
        subject: format!("port {}", waiting.device),
        message: format!("there is no network {:?} yet", waiting.network),
        cure: "the proxy deals it, if it has it under [[network]]".to_owned(),
        is_waiting: true,
    });
    let configuration = Configuration {
        limits,
        ..configuration
    };
    (configuration, faults.collect())
}

pub(super) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

pub(super) fn now_unix_s() -> u64 {
    now_unix_ms() / 1000
}

impl Agent {
    /// Takes its place in the overlay.
    pub(super) async fn join_overlay(
        &mut self,
        control: Option<ControlSettings>,
        own: Router,
        pass: &PassOn,
    ) -> Result<()> {
        let Some(settings) = control else {
            return Ok(());
        };
        let introduction = self.introduction();
        self.control = match settings.role {
            ControlRole::Agent { proxy } => {
                let member = Member::start(
                    &self.settings.name,
                    proxy,
                    &settings.identity,
                    self.part.as_ref().map(|part| part.revision),
                    introduction,
                    own,
                );
                let (member, to_proxy) = member.context("joining the overlay")?;
                pass.to(to_proxy);
                Control::Member(Box::new(member))
            }
            ControlRole::Proxy {
                listen,
                authority,
                may_change,
            } => {
                let name = self.settings.name.clone();
                let asked = (own, Rights::Agents(may_change));
                let (identity, store) = (&settings.identity, &self.store);
                let proxy = Proxy::start(
                    name,
                    listen,
                    identity,
                    authority,
                    store,
                    asked,
                    self.revocations.follow(),
                )
                .await;
                Control::Proxy(Box::new(proxy.context("making the overlay's proxy")?))
            }
        };
        self.turn_overlay().await;
        Ok(())
    }

    pub(super) async fn happened(&mut self, happening: Happening) {
        match (happening, &mut self.control) {
            (Happening::Offered(part), _) => {
                let revision = part.revision;
                let taken = self.take_part(part).await;
                if let Err(why) = &taken {
                    warn!(revision, "the proxy's part is declined: {why}");
                }
                if let Control::Member(member) = &mut self.control {
                    member.answer(revision, taken);
                }
            }
            (Happening::Renewed(answer), Control::Member(member)) => member.renewed(answer),
            (Happening::Look, Control::Member(member)) => member.look(),
            (Happening::Look, Control::Proxy(proxy)) => proxy.look(),
            (Happening::Asked(question), Control::Proxy(_)) => {
                // With all that came meanwhile, and those who are at the door: what follows from
                // them is dealt once.
                let until = Instant::now() + COMING_MAX;
                let mut next = Some(question);
                while let Some(question) = next {
                    self.asked(question);
                    next = self.next_question(until).await;
                }
            }
            _ => {}
        }
    }

    /// After each turn: what this host says of itself follows what it has.
    pub(super) async fn turn_overlay(&mut self) {
        if matches!(self.control, Control::None) {
            return;
        }
        let introduction = self.introduction();
        let is_asked = matches!(&self.control, Control::Member(member) if member.owes_an_answer());
        let missing = match is_asked {
            true => self.missing(),
            false => Vec::new(),
        };
        match &mut self.control {
            Control::None => {}
            Control::Member(member) => {
                member.introduce(introduction);
                member.ready(missing);
            }
            Control::Proxy(_) => self.deal(introduction).await,
        }
    }

    /// What of this host's part is not in force: links that do not lead to their other ends yet, and
    /// what the kernel has no room for.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let links = self.part.iter().flat_map(|part| &part.links);
        // What is amiss with a rung is its whole link's matter.
        let links = links.filter(|link| link.rung_of.is_none());
        let links = links.filter_map(|link| {
            let subject = format!("link {}", link.name);
            let fault = self.faults.iter().find(|fault| fault.subject == subject);
            let why = match fault {
                Some(fault) => fault.message.clone(),
                None => self.unproven(link)?.to_owned(),
            };
            Some(Missing {
                link: Some(link.name.clone()),
                why: format!("{subject}: {why}"),
            })
        });
        let tables = ["links", "rules", "data plane"];
        let tables = self.faults.iter().filter(|fault| {
            self.part.is_some() && !fault.is_waiting && tables.contains(&fault.subject.as_str())
        });
        let tables = tables.map(|fault| Missing {
            link: None,
            why: format!("{}: {}", fault.subject, fault.message),
        });
        links.chain(tables).collect()
    }

    /// Stores a part and brings it about.
    pub(super) async fn take_part(&mut self, part: Part) -> Result<(), String> {
        if !is_new(self.part.as_ref(), &part).map_err(|stale| stale.to_string())? {
            return Ok(());
        }
        let limits = self.configuration.limits;
        let (configuration, waiting) = with_part(&self.own, Some(&part), limits);
        if let Some(problem) = configuration.problems().into_iter().next() {
            return Err(format!("{}; {}", problem.error, problem.error.cure()));
        }
        self.store
            .keep(PART, &part)
            .map_err(|error| error.to_string())?;
        info!("this host's part of the overlay: {part}");
        self.part = Some(part);
        self.waiting = waiting;
        self.configuration = configuration;
        self.changed = SystemTime::now();
        self.watcher.follow(Self::destinations(&self.configuration));
        self.reconcile().await;
        Ok(())
    }

    /// What this host has.
    pub(super) fn introduction(&self) -> Introduction {
        let on = &self.own.underlay.on;
        let device = on.device(&self.host);
        let named = match on {
            UnderlayMatch::Address(address) => Some(*address),
            UnderlayMatch::Device(_) => None,
        };
        let mut underlay: Vec<IpAddr> = named.into_iter().collect();
        if let Some(device) = device {
            let first = [false, true]
                .into_iter()
                .filter_map(|ipv6| self.host.first_address(device.index, ipv6))
                .filter(|address| Some(*address) != named);
            underlay.extend(first);
        }
        let devices = self.host.devices.values();
        let ports = devices
            .filter(|device| !self.is_own(device) && device.mac.is_some())
            .filter_map(|device| {
                let (_, port) = self.own.port_for(&device.name)?;
                Some(IntroducedPort {
                    device: device.name.clone(),
                    network: port.network.clone(),
                    stations: match &port.addresses {
                        Addresses::Only(list) => list.clone(),
                        Addresses::Learn => {
                            self.learned_address(device.index).into_iter().collect()
                        }
                        Addresses::Any => Vec::new(),
                    },
                    is_open: port.addresses == Addresses::Any,
                })
            });
        Introduction {
            underlay,
            udp_port: self.own.underlay.udp_port,
            ports: ports.collect(),
            capacities: self.capacities,
        }
    }

    pub(super) fn overlay_status(&self) -> Option<OverlayStatus> {
        match &self.control {
            Control::None => None,
            Control::Member(member) => {
                Some(member.status(self.part.as_ref().map(|part| part.revision)))
            }
            Control::Proxy(proxy) => Some(proxy.status()),
        }
    }

    pub(super) fn overlay_faults(&self) -> Vec<Fault> {
        let mut faults = self.waiting.clone();
        match &self.control {
            Control::None => {}
            Control::Member(member) => faults.extend(member.faults()),
            Control::Proxy(proxy) => faults.extend(proxy.faults()),
        }
        faults
    }
}

/// That an identity is of no use here.
pub(super) fn check_identity(
    says: &crate::identity::Certificate,
    name: &str,
    role: Role,
) -> Result<()> {
    anyhow::ensure!(
        says.role == role,
        "the identity is a certificate for the role {}, and [control] says {role}",
        says.role
    );
    anyhow::ensure!(
        says.name == name,
        "the identity is {:?}, and this agent is called {name:?}: set name = {:?} under [agent]",
        says.name,
        says.name
    );
    Ok(())
}

/// What VMs may use of this host.
pub(super) fn capacities() -> Capacities {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| {
        let kilobytes = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
        kilobytes.trim().parse::<u64>().ok()
    });
    Capacities {
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
        memory_bytes: total.unwrap_or(0).saturating_mul(1024),
    }
}
