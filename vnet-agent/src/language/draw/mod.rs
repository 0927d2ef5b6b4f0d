//! What does an overlay look like?
//!
//! Input: a topology. Output: a picture as text, for Graphviz (`dot`) or as it is (`svg`).

mod dot;
mod svg;

pub use dot::dot;
pub use svg::svg;

use crate::model::topology::{Link, LinkKind, Topology, Vm};

/// The VMs of a host, in the order of the topology.
fn vms_of<'t>(topology: &'t Topology, host: &str) -> Vec<&'t Vm> {
    topology.vms.iter().filter(|vm| vm.host == host).collect()
}

/// What is written beside a link: nothing for UDP that carries everything.
fn label(topology: &Topology, link: &Link) -> String {
    let mut words = Vec::new();
    if link.kind != LinkKind::Udp {
        words.push(link.kind.word().to_owned());
    }
    if link.networks.len() < topology.networks.len() {
        words.push(link.networks.join(", "));
    }
    words.join(": ")
}

#[cfg(test)]
mod tests;
