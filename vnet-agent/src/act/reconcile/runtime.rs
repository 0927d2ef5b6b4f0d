//! Takes the steps.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, info};
use vnet_common::addr::LinkId;

use super::desired::{Desired, Fault};
use super::image::Image;
use super::order::{Step, apply, steps};
use crate::dataplane::{DataPlane, DataPlaneError, KernelTables};
use crate::model::attachment::{Attachment, Role};
use crate::model::host::Host;

/// What a fault is about that is about nothing smaller.
const DATA_PLANE: &str = "data plane";

/// What the kernel holds, and the means to change it.
pub struct Reconciler {
    plane: DataPlane,
    now: Image,
    written: u64,
    has_made_room: bool,
    /// Devices that have an earlier agent's program.
    stale: BTreeSet<Attachment>,
    /// What the last reconciliation could not attach, and why.
    unattached: BTreeMap<Attachment, String>,
}

impl Reconciler {
    /// Starts from what the data plane holds. Flows are made to ask the rules once more, because
    /// an agent that died between writing rules and saying so leaves flows that have not heard.
    ///
    /// # Errors
    ///
    /// The tables cannot be read.
    pub fn new(plane: DataPlane) -> Result<Self, DataPlaneError> {
        let now = read(&plane)?;
        let stale = now.attachments.clone();
        let mut reconciler = Self {
            plane,
            now,
            written: 0,
            has_made_room: false,
            stale,
            unattached: BTreeMap::new(),
        };
        reconciler.ask_rules_again()?;
        Ok(reconciler)
    }

    fn ask_rules_again(&mut self) -> Result<(), DataPlaneError> {
        let networks: Vec<_> = self.now.networks.clone().into_iter().collect();
        for (slot, mut network) in networks {
            network.generation = self.now.generation.wrapping_add(1).max(1);
            self.take(&Step::SetNetwork(slot, network), &Host::default())?;
        }
        Ok(())
    }

    /// What the kernel holds.
    pub fn now(&self) -> &Image {
        &self.now
    }

    /// The tables, to be read.
    pub fn tables(&self) -> &KernelTables {
        self.plane.tables()
    }

    /// Forgets what a port's frames have shown.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn forget_shown(&mut self, ifindex: u32) -> Result<(), DataPlaneError> {
        self.plane.tables_mut().forget_shown(ifindex)
    }

    /// The data plane, to be asked.
    pub fn plane(&mut self) -> &mut DataPlane {
        &mut self.plane
    }

    /// How many steps were taken since the start.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Brings about what is desired, as far as it goes. What fails is reported, the rest is done,
    /// and the next call tries again.
    pub fn reconcile(&mut self, desired: &Desired, host: &Host) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut failed_ports = BTreeSet::new();
        self.has_made_room = false;
        self.unattached.clear();
        faults.extend(self.renew_programs(desired, host));
        for step in steps(&self.now, &desired.image) {
            if step.port().is_some_and(|port| failed_ports.contains(&port))
                || self.waits_for_another(&step)
            {
                continue;
            }
            if let Err(error) = self.take(&step, host) {
                failed_ports.extend(step.port());
                if let Step::Attach(attachment) = step {
                    self.unattached.insert(attachment, error.to_string());
                }
                faults.push(fault(&step, &error, host));
            } else {
                self.has_made_room |= step.makes_room();
            }
        }
        if let Err(error) = self.retire_others(desired) {
            faults.push(fault_of(DATA_PLANE.to_owned(), &error));
        }
        faults
    }

    /// Has the frames of a link take another, or its own way again: one write for all rules and flows
    /// that lead to it. Answers whether there was anything to do.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn turn(&mut self, link: LinkId, instead: Option<LinkId>) -> Result<bool, DataPlaneError> {
        let Some(entry) = self.now.links.get(&link.0) else {
            return Ok(false);
        };
        let turned = entry.with_instead(instead);
        let is_new = turned != *entry;
        if is_new {
            self.take(&Step::SetLink(link.0, turned), &Host::default())?;
        }
        Ok(is_new)
    }

    /// What the last reconciliation could not attach, and why.
    pub fn unattached(&self) -> &BTreeMap<Attachment, String> {
        &self.unattached
    }

    /// Whether a program that should be attached before this step could not be.
    fn waits_for_another(&self, step: &Step) -> bool {
        step.after_attaching().is_some_and(|(role, ifindex)| {
            let mut failed = self.unattached.keys();
            failed.any(|failed| (failed.role, failed.ifindex) == (role, ifindex))
        })
    }

    /// Lets go of another schema's data plane where its devices are this one's now. Flows ask the
    /// rules once more: what the other's programs decided meanwhile may lack what is new here.
    fn retire_others(&mut self, desired: &Desired) -> Result<(), DataPlaneError> {
        let wanted = &desired.image.attachments;
        let waiting = wanted.difference(&self.now.attachments);
        let waiting = waiting.map(|attachment| attachment.ifindex).collect();
        if self.plane.retire_others(&waiting)? {
            self.ask_rules_again()?;
        }
        Ok(())
    }

    /// Whether the last reconciliation took something away, so that what failed before that may
    /// succeed now.
    pub fn has_made_room(&self) -> bool {
        self.has_made_room
    }

    fn take(&mut self, step: &Step, host: &Host) -> Result<(), DataPlaneError> {
        match step {
            // There is a cookie among its bytes.
            Step::SetLink(id, _) => debug!(id, "taking SetLink"),
            step => debug!(?step, "taking"),
        }
        let tables = self.plane.tables_mut();
        match step {
            Step::SetSetting(setting) => tables.set_setting(setting)?,
            Step::ZeroLedger(slot) => tables.zero_ledger(*slot)?,
            Step::SetLink(id, link) => tables.set_link(*id, link)?,
            Step::SetNetwork(slot, network) => tables.set_network(*slot, network)?,
            Step::SetUnderlay(underlay) | Step::Join(underlay) => tables.set_underlay(underlay)?,
            Step::AddPortState(device) => tables.add_port_state(*device)?,
            Step::SetPort(device, port) => tables.set_port(device, port)?,
            Step::SetAdmission(key, admission) => tables.set_admission(key, admission)?,
            Step::SetRule(key, rule) => tables.set_rule(key, rule)?,
            Step::RemoveRule(key) => tables.remove_rule(key)?,
            Step::RemoveAdmission(key) => tables.remove_admission(key)?,
            Step::RemovePort(device) => {
                tables.remove_port(device)?;
                tables.remove_port_state(*device)?;
            }
            Step::RemoveUnderlay(device) => tables.remove_underlay(*device)?,
            Step::RemoveLink(id) => {
                tables.set_link(*id, &vnet_common::table::link::LinkEntry::NONE)?;
            }
            Step::RemoveNetwork(slot) => {
                // The generation stays, so that whoever gets the slot next starts above it.
                let generation = self
                    .now
                    .networks
                    .get(slot)
                    .map_or(0, |entry| entry.generation);
                let free = vnet_common::table::network::NetworkEntry {
                    id: 0,
                    generation,
                    shapes: 0,
                    _pad: 0,
                };
                tables.set_network(*slot, &free)?;
            }
            Step::Attach(attachment) => self.attach(*attachment, host)?,
            Step::Detach(attachment) => {
                info!(%attachment, "taking the program off");
                self.plane.detach(*attachment)?;
            }
        }
        apply(&mut self.now, step);
        self.written += 1;
        Ok(())
    }

    fn attach(&mut self, attachment: Attachment, host: &Host) -> Result<(), DataPlaneError> {
        let name = match attachment.role {
            Role::Agent => "the agent's own tap".to_owned(),
            _ => device_name(attachment.ifindex, host),
        };
        self.plane.attach(attachment, &name)?;
        let door = attachment.door;
        info!(device = name, %door, "frames of this device are ours");
        Ok(())
    }

    /// Puts this agent's programs where an earlier agent's are, one device after the other and
    /// without a moment in between. What fails is tried again next time.
    fn renew_programs(&mut self, desired: &Desired, host: &Host) -> Vec<Fault> {
        let mut faults = Vec::new();
        // Others are about to be taken off, or their device is gone.
        self.stale
            .retain(|attachment| desired.image.attachments.contains(attachment));
        for attachment in self.stale.clone() {
            let name = device_name(attachment.ifindex, host);
            match self.plane.attach(attachment, &name) {
                Ok(()) => {
                    self.stale.remove(&attachment);
                }
                Err(error) => {
                    faults.push(fault(&Step::Attach(attachment), &error, host));
                    self.unattached.insert(attachment, error.to_string());
                }
            }
        }
        faults
    }
}

fn read(plane: &DataPlane) -> Result<Image, DataPlaneError> {
    let tables = plane.tables();
    Ok(Image {
        generation: tables.generation()?,
        setting: Some(tables.setting()?).filter(|setting| setting.namespace != 0),
        ports: tables.ports()?.into_iter().collect(),
        underlays: tables.underlays()?.into_iter().collect(),
        networks: tables.networks()?.into_iter().collect(),
        links: tables.links()?.into_iter().collect(),
        admissions: tables.admissions()?.into_iter().collect(),
        rules: tables.rules()?.into_iter().collect(),
        attachments: plane.attachments()?.into_iter().collect(),
    })
}

fn device_name(ifindex: u32, host: &Host) -> String {
    host.devices
        .get(&ifindex)
        .map_or_else(|| format!("device {ifindex}"), |device| device.name.clone())
}

fn fault(step: &Step, error: &DataPlaneError, host: &Host) -> Fault {
    let subject = match step {
        Step::Attach(Attachment { ifindex, .. }) | Step::SetPort(ifindex, _) => {
            format!("device {}", device_name(*ifindex, host))
        }
        Step::SetRule(..) | Step::RemoveRule(_) => "rules".to_owned(),
        Step::SetLink(..) | Step::SetAdmission(..) => "links".to_owned(),
        _ => DATA_PLANE.to_owned(),
    };
    fault_of(subject, error)
}

fn fault_of(subject: String, error: &DataPlaneError) -> Fault {
    Fault {
        subject,
        message: error.to_string(),
        cure: String::new(),
        is_waiting: false,
    }
}
