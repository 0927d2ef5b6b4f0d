//! Which steps lead from what is to what should be, and in which order?
//!
//! Make before break: what frames may need is written before anything leads to it, and taken away
//! after nothing does any more. Where a step fails, those before it stand on their own.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::link::LinkEntry;
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::PortEntry;
use vnet_common::table::rule::{RuleEntry, RuleKey};
use vnet_common::table::setting::Setting;
use vnet_common::table::underlay::UnderlayEntry;

use super::image::Image;
use crate::model::attachment::{Attachment, Role};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is the operation on the table of its name"
)]
pub enum Step {
    SetSetting(Setting),
    ZeroLedger(u32),
    SetLink(u32, LinkEntry),
    SetNetwork(u32, NetworkEntry),
    SetUnderlay(UnderlayEntry),
    AddPortState(u32),
    SetPort(u32, PortEntry),
    SetAdmission(AdmissionKey, AdmissionEntry),
    SetRule(RuleKey, RuleEntry),
    RemoveRule(RuleKey),
    Attach(Attachment),
    /// Its two programs are there: from now on they join frames.
    Join(UnderlayEntry),
    Detach(Attachment),
    RemoveAdmission(AdmissionKey),
    RemovePort(u32),
    RemoveUnderlay(u32),
    RemoveLink(u32),
    RemoveNetwork(u32),
}

/// The entries that are new or different.
fn changed<'a, K: Ord + Copy, V: PartialEq + Copy>(
    now: &'a BTreeMap<K, V>,
    wanted: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (K, V)> + 'a {
    wanted
        .iter()
        .filter(|(key, value)| now.get(key) != Some(value))
        .map(|(key, value)| (*key, *value))
}

/// The keys that are not wanted any more.
fn gone<'a, K: Ord + Copy, V>(
    now: &'a BTreeMap<K, V>,
    wanted: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    now.keys().filter(|key| !wanted.contains_key(key)).copied()
}

/// The steps, in order. None where nothing differs.
pub fn steps(now: &Image, wanted: &Image) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(setting) = wanted.setting
        && now.setting != Some(setting)
    {
        steps.push(Step::SetSetting(setting));
    }
    make(now, wanted, &mut steps);
    decide(now, wanted, &mut steps);
    // Programs of devices that are new: their tables are complete.
    let new = wanted.attachments.difference(&now.attachments);
    steps.extend(new.map(|attachment| Step::Attach(*attachment)));
    join(now, wanted, &mut steps);
    take_away(now, wanted, &mut steps);
    steps
}

/// What frames may need.
fn make(now: &Image, wanted: &Image, steps: &mut Vec<Step>) {
    let before = ledgers(now);
    let new = ledgers(wanted);
    steps.extend(new.difference(&before).map(|slot| Step::ZeroLedger(*slot)));
    steps.extend(changed(&now.links, &wanted.links).map(|(id, link)| Step::SetLink(id, link)));
    // A new network exists before its ports and links do; its rules follow.
    for (slot, network) in &wanted.networks {
        if now
            .networks
            .get(slot)
            .is_none_or(|before| before.id != network.id)
        {
            let generation = next(now.generation);
            steps.push(Step::SetNetwork(
                *slot,
                NetworkEntry {
                    generation,
                    ..*network
                },
            ));
        }
    }
    let without: BTreeMap<u32, UnderlayEntry> = wanted
        .underlays
        .iter()
        .map(|(device, entry)| (*device, not_yet_joining(now, entry)))
        .collect();
    let underlays = changed(&now.underlays, &without);
    steps.extend(underlays.map(|(_, underlay)| Step::SetUnderlay(underlay)));
    for (device, port) in changed(&now.ports, &wanted.ports) {
        if !now.ports.contains_key(&device) {
            steps.push(Step::AddPortState(device));
        }
        steps.push(Step::SetPort(device, port));
    }
    for (key, admission) in changed(&now.admissions, &wanted.admissions) {
        steps.push(Step::SetAdmission(key, admission));
    }
}

/// The entry as it may be before new programs are attached: what the XDP program passes up to be
/// joined goes to the host, and is lost, where no TC program takes it.
fn not_yet_joining(now: &Image, entry: &UnderlayEntry) -> UnderlayEntry {
    let was = now.underlays.get(&entry.device);
    let joined = was.is_some_and(|was| was.flags & UnderlayEntry::JOINS != 0);
    UnderlayEntry {
        flags: match joined {
            true => entry.flags,
            false => entry.flags & !UnderlayEntry::JOINS,
        },
        ..*entry
    }
}

/// Underlays that join frames now that both of their programs are there.
fn join(now: &Image, wanted: &Image, steps: &mut Vec<Step>) {
    for entry in wanted.underlays.values() {
        if not_yet_joining(now, entry) != *entry {
            steps.push(Step::Join(*entry));
        }
    }
}

/// The next generation; 0 is none.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// The rules, and then the generation that makes flows ask them again. New rules come before old
/// ones go, so that a flow is never without one.
fn decide(now: &Image, wanted: &Image, steps: &mut Vec<Step>) {
    let mut touched = touched_by_ports(now, wanted);
    for (key, rule) in changed(&now.rules, &wanted.rules) {
        touched.extend(key.network().map(|network| network.get()));
        steps.push(Step::SetRule(key, rule));
    }
    for key in gone(&now.rules, &wanted.rules) {
        touched.extend(key.network().map(|network| network.get()));
        steps.push(Step::RemoveRule(key));
    }
    // Above the one that new networks were made with: their rules were not complete then.
    let generation = next(next(now.generation));
    for (slot, network) in &wanted.networks {
        let before = now
            .networks
            .get(slot)
            .filter(|before| before.id == network.id);
        let has_other_shapes = before.is_some_and(|before| before.shapes != network.shapes);
        if touched.contains(&network.id) || has_other_shapes {
            steps.push(Step::SetNetwork(
                *slot,
                NetworkEntry {
                    generation,
                    ..*network
                },
            ));
        }
    }
}

/// Networks whose flows have cached what a changed port may not do, or is not, any more.
fn touched_by_ports(now: &Image, wanted: &Image) -> BTreeSet<u32> {
    // And what they have cached of the port itself.
    let secure = |port: &PortEntry| {
        (
            port.network,
            port.flags,
            port.addresses,
            port.ledger,
            port.frame_bytes_max,
        )
    };
    // One that is new: flows may have cached that it was not there.
    let new = wanted
        .ports
        .iter()
        .filter(|(device, _)| !now.ports.contains_key(device));
    let mut touched: BTreeSet<u32> = new.map(|(_, port)| port.network.get()).collect();
    for (device, before) in &now.ports {
        match wanted.ports.get(device) {
            Some(after) if secure(after) == secure(before) => {}
            Some(after) => touched.extend([before.network.get(), after.network.get()]),
            None => {
                touched.insert(before.network.get());
            }
        }
    }
    touched
}

/// What nothing leads to any more.
fn take_away(now: &Image, wanted: &Image, steps: &mut Vec<Step>) {
    let old = now.attachments.difference(&wanted.attachments);
    steps.extend(old.map(|attachment| Step::Detach(*attachment)));
    steps.extend(gone(&now.admissions, &wanted.admissions).map(Step::RemoveAdmission));
    steps.extend(gone(&now.ports, &wanted.ports).map(Step::RemovePort));
    steps.extend(gone(&now.underlays, &wanted.underlays).map(Step::RemoveUnderlay));
    steps.extend(gone(&now.links, &wanted.links).map(Step::RemoveLink));
    steps.extend(gone(&now.networks, &wanted.networks).map(Step::RemoveNetwork));
}

fn ledgers(image: &Image) -> BTreeSet<u32> {
    image
        .ports
        .values()
        .map(|port| port.ledger)
        .chain(image.underlays.values().map(|underlay| underlay.ledger))
        .chain(image.links.values().map(|link| link.ledger))
        .collect()
}

/// What the image becomes when the step has been taken: how the agent knows what is, without
/// reading 100,000 rules back.
pub fn apply(image: &mut Image, step: &Step) {
    match *step {
        Step::SetSetting(setting) => image.setting = Some(setting),
        Step::ZeroLedger(_) | Step::AddPortState(_) => {}
        Step::SetLink(id, link) => drop(image.links.insert(id, link)),
        Step::SetNetwork(slot, network) => {
            image.generation = image.generation.max(network.generation);
            image.networks.insert(slot, network);
        }
        Step::SetUnderlay(underlay) | Step::Join(underlay) => {
            image.underlays.insert(underlay.device, underlay);
        }

        Step::SetPort(device, port) => drop(image.ports.insert(device, port)),
        Step::SetAdmission(key, admission) => drop(image.admissions.insert(key, admission)),
        Step::SetRule(key, rule) => drop(image.rules.insert(key, rule)),
        Step::RemoveRule(key) => drop(image.rules.remove(&key)),
        Step::Attach(attachment) => drop(image.attachments.insert(attachment)),
        Step::Detach(attachment) => drop(image.attachments.remove(&attachment)),
        Step::RemoveAdmission(key) => drop(image.admissions.remove(&key)),
        Step::RemovePort(device) => drop(image.ports.remove(&device)),
        Step::RemoveUnderlay(device) => drop(image.underlays.remove(&device)),
        Step::RemoveLink(id) => drop(image.links.remove(&id)),
        Step::RemoveNetwork(slot) => drop(image.networks.remove(&slot)),
    }
}

impl Step {
    /// Whether this step frees a place in a table.
    pub const fn makes_room(&self) -> bool {
        matches!(
            self,
            Self::RemoveRule(_)
                | Self::RemoveAdmission(_)
                | Self::RemovePort(_)
                | Self::RemoveUnderlay(_)
                | Self::RemoveLink(_)
                | Self::RemoveNetwork(_)
        )
    }

    /// The device whose port this step makes, where it is one of those that may fail for that
    /// device alone.
    pub fn port(&self) -> Option<u32> {
        match *self {
            Self::SetPort(device, _) | Self::AddPortState(device) => Some(device),
            Self::Attach(Attachment {
                role: Role::Port,
                ifindex,
                ..
            }) => Some(ifindex),
            _ => None,
        }
    }

    /// The role and the device of which this step must not be taken where attaching a program to
    /// it has failed: the old one keeps its work until the new one is there.
    pub const fn after_attaching(&self) -> Option<(Role, u32)> {
        match *self {
            Self::Attach(Attachment { role, ifindex, .. })
            | Self::Detach(Attachment { role, ifindex, .. }) => Some((role, ifindex)),
            Self::Join(underlay) => Some((Role::Underlay, underlay.device)),
            _ => None,
        }
    }
}
