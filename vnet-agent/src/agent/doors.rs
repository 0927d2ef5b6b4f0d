//! By which door do frames come in, at this moment?
//!
//! Input: the settings, the host, what ports' frames have shown and what they mostly are (looked
//! at every second, since the kernel does not tell), and what could not be attached. Output: the
//! picks that reconciliation brings about. A change is logged with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tracing::{info, warn};
use vnet_common::table::port::PortState;

use super::Agent;
use crate::api::{DoorStatus, Refusal};
use crate::decide::door::mix::Mix;
use crate::decide::door::{PortFacts, UnderlayFacts, picks};
use crate::model::Port;
use crate::model::attachment::{Attachment, Role};
use crate::model::door::{Door, DoorChoice, Pick, Picks};
use crate::model::host::{Abilities, Device, Xdp};

/// Between two looks at what frames are like.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// What the agent knows about doors.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) picks: Picks,
    /// The device that the pick for the underlay is about.
    underlay: u32,
    ports: BTreeMap<u32, Watched>,
    /// Where a program could not be attached, and why; as long as the device stays as it was.
    fails: BTreeMap<(u32, Door), (Device, String)>,
    looked: Instant,
}

/// A port under observation.
#[derive(Clone, Copy, Debug)]
struct Watched {
    choice: DoorChoice,
    abilities: Abilities,
    shown: u32,
    mix: Mix,
}

impl Doors {
    pub(super) fn new() -> Self {
        Self {
            picks: Picks::default(),
            underlay: 0,
            ports: BTreeMap::new(),
            fails: BTreeMap::new(),
            looked: Instant::now(),
        }
    }

    /// What was picked for a device.
    pub(super) fn pick(&self, index: u32) -> Option<&Pick> {
        let underlay = || {
            self.picks
                .underlay
                .as_ref()
                .filter(|_| self.underlay == index)
        };
        self.picks.ports.get(&index).or_else(underlay)
    }

    fn fails(&self, device: &Device, door: Door) -> Option<&str> {
        let (_, why) = self.fails.get(&(device.index, door))?;
        Some(why)
    }
}

impl Agent {
    /// Looks at what the ports' frames are like now. True where that makes another pick.
    pub(super) fn look_at_frames(&mut self) -> bool {
        let elapsed = self.doors.looked.elapsed();
        self.doors.looked = Instant::now();
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        for (index, watched) in &mut self.doors.ports {
            let Some(entry) = self.reconciler.now().ports.get(index) else {
                continue;
            };
            // What cannot be read now is read at the next look.
            if let Ok(books) = self.reconciler.tables().ledger(entry.ledger) {
                watched.mix.look(books.received, books.sent, elapsed_ms);
            }
        }
        self.observe();
        self.picks() != self.doors.picks
    }

    /// Picks the doors, and says what is different.
    pub(super) fn pick_doors(&mut self) {
        let devices = &self.host.devices;
        self.doors
            .fails
            .retain(|(index, _), (device, _)| devices.get(index) == Some(device));
        self.observe();
        let picks = self.picks();
        for (index, pick) in &picks.ports {
            self.tell(*index, pick, self.doors.picks.ports.get(index));
        }
        let underlay = self.configuration.underlay.on.device(&self.host);
        let underlay = underlay.map_or(0, |device| device.index);
        if let Some(pick) = &picks.underlay {
            let before = self.doors.picks.underlay.as_ref();
            self.tell(
                underlay,
                pick,
                before.filter(|_| self.doors.underlay == underlay),
            );
        }
        self.doors.picks = picks;
        self.doors.underlay = underlay;
    }

    fn tell(&self, index: u32, pick: &Pick, before: Option<&Pick>) {
        if before != Some(pick) {
            let Pick {
                door, joins, why, ..
            } = pick;
            let device = self.device(index);
            info!(device, %door, joins, "its door: {why}");
        }
    }

    /// Where XDP was picked and could not be attached, TC it is; where TC could not be attached
    /// behind it, frames are not joined. True where something is known that was not.
    pub(super) fn give_up_doors(&mut self) -> bool {
        let mut gave_up = false;
        for (attachment, why) in self.reconciler.unattached() {
            let &Attachment {
                role,
                ifindex,
                door,
            } = attachment;
            let choice = match role {
                Role::Port => self.doors.ports.get(&ifindex).map(|port| port.choice),
                Role::Underlay => Some(self.configuration.underlay.door),
                Role::Agent => None,
            };
            let device = self.host.devices.get(&ifindex);
            let underlay = self.doors.picks.underlay.as_ref();
            let is_behind_xdp = underlay.is_some_and(|pick| pick.door == Door::Xdp && pick.joins);
            let can_do_without = match door {
                Door::Xdp => choice == Some(DoorChoice::Auto),
                Door::Tc => role == Role::Underlay && is_behind_xdp,
            };
            if let Some(device) = device.filter(|_| can_do_without) {
                let failure = (device.clone(), why.clone());
                let before = self.doors.fails.insert((ifindex, door), failure.clone());
                gave_up |= before != Some(failure);
            }
        }
        gave_up
    }

    /// The devices that are ports, and those that will be once their networks are there.
    fn ports_of_now_and_soon(&self) -> impl Iterator<Item = (&Device, &Port)> {
        let now = self.devices.iter().filter_map(|taken| {
            let device = self.host.device_named(&taken.name)?;
            Some((device, self.configuration.ports.get(taken.port)?))
        });
        now.chain(self.waiting_devices())
    }

    /// The programs of devices whose networks are not there yet.
    pub(super) fn early_programs(&self) -> BTreeSet<Attachment> {
        let devices = self.waiting_devices().filter_map(|(device, _)| {
            let pick = self.doors.picks.ports.get(&device.index)?;
            Some(Attachment::new(Role::Port, device.index, pick.door))
        });
        devices.collect()
    }

    /// Takes note of what devices can do and frames have shown. A guest that agrees on something
    /// else is another guest, of which nothing is known.
    fn observe(&mut self) {
        let mut ports = BTreeMap::new();
        let mut others = Vec::new();
        for (device, port) in self.ports_of_now_and_soon() {
            let before = self.doors.ports.get(&device.index).copied();
            let is_other_guest =
                before.is_some_and(|before| !before.abilities.is_same_guest(&device.abilities));
            let is_other_choice = before.is_none_or(|before| before.choice != port.door);
            // Who forces a door has seen to it that the guest is right for it.
            let is_forgiven = is_other_choice && port.door == DoorChoice::Xdp;
            if is_other_guest || is_forgiven {
                others.push(device.index);
            }
            let mix = before.filter(|_| !is_other_guest).map(|before| before.mix);
            let watched = Watched {
                choice: port.door,
                abilities: device.abilities,
                shown: 0,
                mix: mix.unwrap_or_default(),
            };
            ports.insert(device.index, watched);
        }
        for index in others {
            if let Err(error) = self.reconciler.forget_shown(index) {
                let device = self.device(index);
                warn!(device, %error, "what its frames have shown is still believed");
            }
        }
        for (&index, watched) in &mut ports {
            watched.shown = self.shown(index);
        }
        self.doors.ports = ports;
    }

    fn shown(&self, index: u32) -> u32 {
        let state = self.reconciler.tables().port_state(index);
        let shown = state.ok().flatten().map_or(0, |state| state.shown);
        shown & (PortState::SEGMENTS | PortState::UNFINISHED)
    }

    fn picks(&self) -> Picks {
        let underlay = self.configuration.underlay.on.device(&self.host);
        let underlay = underlay.map(|device| UnderlayFacts {
            choice: self.configuration.underlay.door,
            device,
            xdp_fails: self.doors.fails(device, Door::Xdp),
            tc_fails: self.doors.fails(device, Door::Tc),
            joiner_fails: self.joiner.fails.as_deref(),
        });
        let ports = self.ports_of_now_and_soon().filter_map(|(device, port)| {
            let watched = self.doors.ports.get(&device.index)?;
            Some(PortFacts {
                choice: port.door,
                device,
                network: &port.network,
                before: self.programs(Role::Port, device.index).next(),
                shown: watched.shown,
                mix: watched.mix,
                xdp_fails: self.doors.fails(device, Door::Xdp),
            })
        });
        // A star's links have rungs that are carried. To change the tap's door when the first part comes
        // would take what the kernel takes to see that no frame is under way any more, twice.
        let carries = self.control_settings.is_some()
            || self
                .configuration
                .links
                .iter()
                .any(|link| link.kind.is_carried());
        picks(underlay, &ports.collect::<Vec<_>>(), carries)
    }

    /// The devices whose frames are ours.
    pub(super) fn forwarding_ports(&self) -> impl Iterator<Item = u32> + '_ {
        let ports = self.reconciler.now().ports.keys().copied();
        ports.filter(|&index| self.programs(Role::Port, index).next().is_some())
    }

    /// Where programs of ours sit on a device.
    pub(super) fn programs(&self, role: Role, index: u32) -> impl Iterator<Item = Door> + '_ {
        let attachments = &self.reconciler.now().attachments;
        let is_there = move |door: &Door| {
            let hold = Attachment::new(role, index, *door);
            attachments.contains(&hold)
        };
        Door::ALL.into_iter().filter(is_there)
    }

    pub(super) fn door_status(&self) -> Vec<DoorStatus> {
        let underlay = self.doors.picks.underlay.as_ref();
        let underlay = underlay.map(|pick| {
            let choice = self.configuration.underlay.door;
            (self.doors.underlay, choice, pick)
        });
        let ports = self.doors.picks.ports.iter().filter_map(|(&index, pick)| {
            let watched = self.doors.ports.get(&index)?;
            Some((index, watched.choice, pick))
        });
        let doors = underlay.into_iter().chain(ports);
        let status = doors.map(|(index, wanted, pick)| DoorStatus {
            device: self.device(index),
            wanted,
            door: pick.door,
            joins: pick.joins,
            why: pick.why.clone(),
        });
        status.collect()
    }

    /// The programs on a device, in words; an XDP program of somebody else's too.
    pub(super) fn doors_of(&self, index: u32, xdp: Option<Xdp>) -> Option<String> {
        let xdp = xdp.map(|xdp| match xdp.native {
            true => "xdp (native)",
            false => "xdp (generic)",
        });
        let has_tc = Role::ALL
            .into_iter()
            .any(|role| self.programs(role, index).any(|door| door == Door::Tc));
        match (xdp, has_tc) {
            (Some(xdp), true) => Some(format!("{xdp} and tc")),
            (Some(xdp), false) => Some(xdp.to_owned()),
            (None, true) => Some(Door::Tc.to_string()),
            (None, false) => None,
        }
    }

    /// The same for one device. The kernel does not tell when XDP programs come or go: it is asked.
    pub(super) async fn ask_doors_of(&self, index: u32) -> Result<Option<String>, Refusal> {
        let device = self.watcher.requests().device(index).await;
        let device = device.map_err(|error| Refusal::internal(error.to_string()))?;
        Ok(self.doors_of(index, device.and_then(|device| device.xdp)))
    }
}
