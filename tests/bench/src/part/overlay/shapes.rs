//! Which shapes does the overlay take?

use vnet_agent::model::Flooding;
use vnet_agent::model::topology::{Link, LinkKind, Rule, Target, Topology};
use vnet_common::rule::{Destination, Source};

use crate::constellation::{Constellation, NETWORK};

/// The star, and links and rules from each agent to each.
#[must_use]
pub fn mesh(star: &Topology, constellation: &Constellation) -> Topology {
    let mut topology = star.clone();
    let count = constellation.agents().len();
    for one in 0..count {
        for other in one + 1..count {
            link(&mut topology, constellation, one, other);
        }
        for other in (0..count).filter(|&other| other != one) {
            rule(&mut topology, constellation, one, other, other);
        }
    }
    topology
}

/// The star, and links from each agent to the next, with rules by which every guest's frames take
/// them.
#[must_use]
pub fn bus(star: &Topology, constellation: &Constellation) -> Topology {
    let mut topology = star.clone();
    let count = constellation.agents().len();
    for one in 0..count {
        if one + 1 < count {
            link(&mut topology, constellation, one, one + 1);
        }
        for other in (0..count).filter(|&other| other != one) {
            let next = if other > one { one + 1 } else { one - 1 };
            rule(&mut topology, constellation, one, other, next);
        }
    }
    topology
}

fn link(topology: &mut Topology, constellation: &Constellation, one: usize, other: usize) {
    if let [Some(from), Some(to)] = [one, other].map(|place| constellation.agents().get(place)) {
        topology.links.push(Link {
            kind: LinkKind::Udp,
            from: from.name.clone(),
            to: to.name.clone(),
            networks: vec![NETWORK.to_owned()],
            flood: Flooding::Never,
        });
    }
}

/// At one agent: frames for another's guest go over the edge to the next.
fn rule(
    topology: &mut Topology,
    constellation: &Constellation,
    at: usize,
    guest: usize,
    next: usize,
) {
    let [at, guest, next] = [at, guest, next].map(|place| constellation.agents().get(place));
    if let (Some(at), Some(guest), Some(next)) = (at, guest, next) {
        topology.rules.push(Rule {
            host: at.name.clone(),
            network: NETWORK.to_owned(),
            source: Source::Any,
            destination: Destination::Is(guest.guest.mac()),
            to: Target::Edge(next.name.clone()),
        });
    }
}
