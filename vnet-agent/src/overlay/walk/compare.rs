//! Where is a frame's way another one than by the model?
//!
//! Host by host, in the order of the frame: the first at which it goes elsewhere. Over which rung it
//! goes is no difference.

use std::collections::BTreeSet;

use super::found::{LiveFate, LiveHop, Stop};
use super::{Walk, came};
use crate::model::place::Place;
use crate::model::topology::{Came, Fate, Hop, Why};

/// How many ways of one frame are named.
const FATES_SHOWN: usize = 4;

/// What both can say of a frame at a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Common {
    Into(String),
    To(Option<String>),
    Again,
    Nowhere,
    Otherwise,
}

impl Walk<'_> {
    /// The first difference, in one line.
    pub(super) fn difference(&self) -> Option<String> {
        let (topology, router) = self.model.as_ref()?;
        let (source, destination) = (self.frame.source, self.frame.destination);
        let start = &self.start;
        let is_it =
            |vm: &&crate::model::topology::Vm| vm.mac == source && vm.network == start.network;
        if let Some(vm) = topology.vms.iter().find(is_it)
            && (&vm.host, &vm.device) != (&start.host, &start.device)
        {
            return Some(format!(
                "{} is on {} (port {}); by the model it is on {} (port {})",
                vm.name, start.host, start.device, vm.host, vm.device
            ));
        }
        let first = (start.host.clone(), Came::Interface(start.device.clone()));
        let hops = router.from_place(&start.network, first, source, destination);
        let mut asked = self.hops.iter().filter(|hop| hop.unasked.is_none());
        asked.find_map(|hop| {
            let came = came(hop)?;
            let is_it = |modelled: &&Hop| modelled.host == hop.host && modelled.came == came;
            match hops.iter().find(is_it) {
                Some(modelled) => differs(hop, modelled),
                None => Some(format!(
                    "it comes to {} ({}), where by the model it never does",
                    hop.host,
                    from(hop)
                )),
            }
        })
    }
}

fn differs(hop: &LiveHop, modelled: &Hop) -> Option<String> {
    let live: BTreeSet<Common> = hop.fates.iter().map(of_live).collect();
    let wanted: BTreeSet<Common> = modelled.fates.iter().map(of_model).collect();
    if live == wanted {
        return None;
    }
    let shown = hop.fates.iter().take(FATES_SHOWN).map(words);
    let mut fates = shown.collect::<Vec<_>>().join(", ");
    if fates.is_empty() {
        "goes nowhere".clone_into(&mut fates);
    }
    if hop.fates.len() > FATES_SHOWN {
        fates.push_str(", and more");
    }
    let rule = match &hop.rule {
        Some(rule) => format!(" ({rule})"),
        None => String::new(),
    };
    let wanted: Vec<String> = modelled.fates.iter().map(Fate::to_string).collect();
    Some(format!(
        "on {} it {fates}{rule}; by the model: {} ({})",
        hop.host,
        wanted.join(", "),
        deciders(modelled)
    ))
}

/// The rules that decide by the model.
pub(super) fn deciders(hop: &Hop) -> String {
    let deciders: Vec<String> = hop.deciders.iter().map(ToString::to_string).collect();
    match deciders.is_empty() {
        true => "no rule".to_owned(),
        false => deciders.join(", "),
    }
}

fn of_live(fate: &LiveFate) -> Common {
    match fate {
        LiveFate::Delivered { device, .. } => Common::Into(device.clone()),
        LiveFate::Forwarded(way) => match way.stop {
            Some(Stop::Loop | Stop::Twice) => Common::Again,
            _ => Common::To(way.to.clone()),
        },
        LiveFate::Dropped { .. } => Common::Nowhere,
        LiveFate::Otherwise { .. } => Common::Otherwise,
    }
}

fn of_model(fate: &Fate) -> Common {
    match fate {
        Fate::Interface { device, .. } => Common::Into(device.clone()),
        Fate::Edge { host, .. } | Fate::Leaves { host } => Common::To(Some(host.clone())),
        Fate::Dropped(Why::Loop) => Common::Again,
        Fate::Dropped(_) => Common::Nowhere,
    }
}

fn words(fate: &LiveFate) -> String {
    match fate {
        LiveFate::Delivered { device, .. } => format!("is delivered into {device}"),
        LiveFate::Forwarded(way) => {
            let to = way.to.as_deref().unwrap_or("nobody knows whom");
            match &way.over {
                Some(over) => format!("goes over {over} to {to}, as link {} is dead", way.link),
                None => format!("goes over {} to {to}", way.link),
            }
        }
        LiveFate::Dropped { message, .. } => format!("is dropped: {message}"),
        LiveFate::Otherwise { message } => message.clone(),
    }
}

fn from(hop: &LiveHop) -> String {
    match (&hop.from, &hop.from_host) {
        (Place::Link(_), Some(host)) => format!("from {host}"),
        (place, _) => format!("from {place}"),
    }
}
