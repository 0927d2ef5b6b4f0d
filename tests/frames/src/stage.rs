//! Which numbers do the names of the actors have in this run?
//!
//! In the kernel a port's number is whatever index its device got, and tables are shared by many
//! vectors, so that each gets link and network numbers of its own. A runner says where its
//! numbers begin; everything else names.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use vnet_common::addr::{LinkId, NetworkId};
use vnet_common::table::ledger::Ledger;

use crate::actor::{LINKS, NETWORKS, PORTS};

/// The numbers of one run.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// Device indexes: [`PORTS`], [`WIRE`](crate::actor::WIRE) and
    /// [`AGENT`](crate::actor::AGENT).
    pub devices: BTreeMap<&'static str, u32>,
    /// Added to a link's place in [`LINKS`].
    pub links_from: u32,
    /// Added to a network's number in [`NETWORKS`].
    pub networks_from: u32,
    /// The CPU that programs run on: the stream of what they send.
    pub cpu: u8,
}

/// The ledger of the underlay; [`Ledger::AGENT`] is the agent's.
pub const UNDERLAY_LEDGER: u32 = 1;
const FIRST_PORT_LEDGER: u32 = 2;
const FIRST_LINK_LEDGER: u32 = FIRST_PORT_LEDGER + PORTS.len() as u32;
/// Ledgers that a run uses.
pub const LEDGERS: u32 = FIRST_LINK_LEDGER + LINKS.len() as u32;

fn place_of(name: &str, mut names: impl Iterator<Item = &'static str>, what: &str) -> Result<u32> {
    let place = names
        .position(|known| known == name)
        .with_context(|| format!("no {what} is called `{name}`"))?;
    Ok(u32::try_from(place)?)
}

fn link_place(name: &str) -> Result<u32> {
    place_of(name, LINKS.iter().map(|link| link.name), "link")
}

impl Stage {
    /// The index of a device.
    ///
    /// # Errors
    ///
    /// No device is called so.
    pub fn device(&self, name: &str) -> Result<u32> {
        self.devices
            .get(name)
            .copied()
            .with_context(|| format!("no device is called `{name}`"))
    }

    /// The name of a device.
    pub fn device_name(&self, index: u32) -> String {
        self.devices
            .iter()
            .find(|(_, known)| **known == index)
            .map_or_else(|| format!("device {index}"), |(name, _)| (*name).to_owned())
    }

    /// The number of a link.
    ///
    /// # Errors
    ///
    /// No link is called so.
    pub fn link(&self, name: &str) -> Result<LinkId> {
        Ok(LinkId(self.links_from + link_place(name)?))
    }

    /// The name of a link.
    pub fn link_name(&self, id: LinkId) -> String {
        let place = id.0.checked_sub(self.links_from);
        place
            .and_then(|place| LINKS.get(usize::try_from(place).ok()?))
            .map_or_else(|| format!("link {}", id.0), |link| link.name.to_owned())
    }

    /// The number of a network, or the number that the word is.
    ///
    /// # Errors
    ///
    /// No network is called so, or it is no network's number.
    pub fn network(&self, word: &str) -> Result<NetworkId> {
        let named = NETWORKS.iter().find(|(name, _)| *name == word);
        let number = match named {
            Some((_, number)) => number + self.networks_from,
            None => word
                .parse()
                .with_context(|| format!("no network is called `{word}`"))?,
        };
        NetworkId::new(number).with_context(|| format!("{number} is no network's number"))
    }

    /// The name of a network.
    pub fn network_name(&self, network: NetworkId) -> String {
        NETWORKS
            .iter()
            .find(|(_, number)| number + self.networks_from == network.get())
            .map_or_else(|| network.to_string(), |(name, _)| (*name).to_owned())
    }

    /// The slot of a network.
    ///
    /// # Errors
    ///
    /// No network is called so.
    pub fn network_slot(name: &str) -> Result<u32> {
        place_of(name, NETWORKS.iter().map(|(name, _)| *name), "network")
    }

    /// The ledger of a port.
    ///
    /// # Errors
    ///
    /// No port is called so.
    pub fn port_ledger(name: &str) -> Result<u32> {
        Ok(FIRST_PORT_LEDGER + place_of(name, PORTS.into_iter(), "port")?)
    }

    /// The ledger of a link.
    ///
    /// # Errors
    ///
    /// No link is called so.
    pub fn link_ledger(name: &str) -> Result<u32> {
        Ok(FIRST_LINK_LEDGER + link_place(name)?)
    }

    /// Whose books a ledger has.
    pub fn ledger_name(slot: u32) -> String {
        let of = |first: u32, names: &[&str]| {
            let place = usize::try_from(slot.checked_sub(first)?).ok()?;
            names.get(place).map(|name| (*name).to_owned())
        };
        let links = LINKS.map(|link| link.name);
        match slot {
            Ledger::AGENT => "agent".to_owned(),
            UNDERLAY_LEDGER => "underlay".to_owned(),
            _ => of(FIRST_PORT_LEDGER, &PORTS)
                .map(|port| format!("port {port}"))
                .or_else(|| of(FIRST_LINK_LEDGER, &links).map(|link| format!("link {link}")))
                .unwrap_or_else(|| format!("ledger {slot}")),
        }
    }
}
