//! What becomes of a frame that came up to the agent?
//!
//! Input: its header and bytes, and who is to get frames for many. Output: the headers of the
//! copies to be written back, or the reason why there are none. Whether one has been here before is
//! `once.rs`'s question. Pure.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::addr::{LinkId, NetworkId, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::flow::Origin;
use vnet_common::wire::ethernet::Ethernet;
use vnet_common::wire::slow::Slow;
use zerocopy::FromBytes;

use super::flood::{End, FloodTable};

/// Who gets what, with the numbers that the programs use.
#[derive(Clone, Debug, Default)]
pub struct Receivers {
    /// The rules of all networks.
    pub table: FloodTable,
    /// The names of networks.
    pub networks: BTreeMap<NetworkId, String>,
    /// Ports, by the device's name.
    pub ports: BTreeMap<String, PortId>,
    /// Links, by name.
    pub links: BTreeMap<String, LinkId>,
    /// The links that others' frames take.
    pub detours: BTreeMap<LinkId, LinkId>,
    /// The links that others are rungs of.
    pub wholes: BTreeMap<LinkId, LinkId>,
}

/// Reads a frame from the tap: its header, and where the frame behind it begins to matter.
///
/// # Errors
///
/// It is not from our programs, or too short.
pub fn parse(bytes: &[u8]) -> Result<(Slow, &[u8]), Reason> {
    let (header, frame) = Slow::read_from_prefix(bytes).map_err(|_| Reason::SlowHeader)?;
    if !header.is_to_agent() {
        return Err(Reason::SlowHeader);
    }
    Ok((header, frame))
}

/// Hops of a frame that begins here.
const HOP_LIMIT: u8 = 64;

impl Receivers {
    /// The header of a frame that goes to where another came from.
    ///
    /// # Errors
    ///
    /// That came from no port and no link.
    pub fn back_to_sender(&self, header: &Slow) -> Result<Slow, Reason> {
        let network = header.network().ok_or(Reason::SlowHeader)?;
        let origin = header.origin();
        match (origin.as_port(), origin.as_link()) {
            (Some(port), _) => Ok(Slow::deliver(network, port)),
            (_, Some(link)) => {
                let carrier = self.carrier(link);
                Ok(Slow::send(Slow::SEND, HOP_LIMIT, network, carrier))
            }
            _ => Err(Reason::SlowHeader),
        }
    }

    /// The link that the frames of this one take.
    fn carrier(&self, link: LinkId) -> LinkId {
        self.detours.get(&link).copied().unwrap_or(link)
    }

    /// The headers of the copies of this frame, without a number.
    ///
    /// # Errors
    ///
    /// Nobody gets it, or it is broken.
    pub fn copies(&self, header: &Slow, frame: &[u8]) -> Result<Vec<Slow>, Reason> {
        let network = header.network().ok_or(Reason::SlowHeader)?;
        let (ethernet, _) = Ethernet::read_from_prefix(frame).map_err(|_| Reason::Runt)?;
        let name = self.networks.get(&network).ok_or(Reason::UnknownNetwork)?;
        let from = self.end(header).ok_or(Reason::UnknownPort)?;
        let targets = self
            .table
            .targets(name, ethernet.source, ethernet.destination, from);
        let mut taken = BTreeSet::new();
        // Over a link that carries another's frames, one copy will do.
        let mut is_new = |link: LinkId| {
            let carrier = self.carrier(link);
            let whole = self.wholes.get(&carrier).copied().unwrap_or(carrier);
            let is_back = header.origin() == Origin::link(whole);
            (!is_back && taken.insert(whole)).then_some(carrier)
        };
        let copies: Vec<Slow> = targets
            .into_iter()
            .filter_map(|target| match target {
                End::Port(name) => self
                    .ports
                    .get(name)
                    .map(|&port| Slow::deliver(network, port)),
                End::Link(name) => self
                    .links
                    .get(name)
                    .and_then(|&link| is_new(link))
                    .map(|link| Slow::send(Slow::SEND, header.hop_limit, network, link)),
            })
            .collect();
        if copies.is_empty() {
            Err(Reason::NoReceiver)
        } else {
            Ok(copies)
        }
    }

    fn end(&self, header: &Slow) -> Option<End<'_>> {
        fn name_of<T: PartialEq>(names: &BTreeMap<String, T>, id: T) -> Option<&str> {
            names
                .iter()
                .find(|(_, known)| **known == id)
                .map(|(name, _)| name.as_str())
        }
        let origin = header.origin();
        match (origin.as_port(), origin.as_link()) {
            (Some(port), _) => name_of(&self.ports, port).map(End::Port),
            (_, Some(link)) => name_of(&self.links, link).map(End::Link),
            _ => None,
        }
    }
}
