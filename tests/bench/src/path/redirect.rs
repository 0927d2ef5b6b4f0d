//! What can this way of forwarding give at most?
//!
//! Four to six instructions on each of the four devices: everything from the port to the cable,
//! everything from the cable to the port. The frame crosses without headers, unseen and uncounted.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use crate::bed::{Bed, CABLE};
use crate::bpf::{self, Hook};

/// In the drivers.
pub(super) fn lay_xdp(bed: &Bed) -> Result<Vec<OwnedFd>> {
    on_both_hosts(bed, |port, cable| {
        let join = |from, to| {
            let program = bpf::load(Hook::Xdp, &bpf::redirect_to(to))?;
            bpf::attach(Hook::Xdp, program, from)
        };
        Ok([join(port, cable)?, join(cable, port)?])
    })
}

/// As socket buffers, between guests behind veths.
pub(super) fn lay_tc(bed: &Bed) -> Result<Vec<OwnedFd>> {
    on_both_hosts(bed, |port, cable| {
        let out = bpf::load(Hook::Tc, &bpf::redirect_to(cable))?;
        let back = bpf::load(Hook::Tc, &bpf::redirect_to_peer_of(port))?;
        Ok([
            bpf::attach(Hook::Tc, out, port)?,
            bpf::attach(Hook::Tc, back, cable)?,
        ])
    })
}

/// Calls it in each host, with the port and the cable.
fn on_both_hosts(
    bed: &Bed,
    attach: impl Fn(u32, u32) -> io::Result<[OwnedFd; 2]> + Sync,
) -> Result<Vec<OwnedFd>> {
    let (port, cable) = (bed.device_index(bed.port)?, bed.device_index(CABLE)?);
    let mut links = Vec::new();
    for host in bed.hosts() {
        let pair = host.inside(|| attach(port, cable))?;
        links.extend(pair.context("cannot attach the redirecting programs")?);
    }
    Ok(links)
}
