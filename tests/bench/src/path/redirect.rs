//! What can this way of forwarding give at most?
//!
//! Four instructions on each of the four devices: everything from the port to the cable,
//! everything from the cable to the port. The frame crosses without headers, unseen and uncounted.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use crate::bed::{Bed, CABLE};
use crate::bpf;

pub(super) fn lay(bed: &Bed) -> Result<Vec<OwnedFd>> {
    let (port, cable) = (bed.device_index(bed.port)?, bed.device_index(CABLE)?);
    let mut links = Vec::new();
    for host in bed.hosts() {
        let pair = host.inside(|| -> io::Result<_> {
            let join = |from, to| bpf::attach(bpf::load(&bpf::redirect_to(to))?, from);
            Ok([join(port, cable)?, join(cable, port)?])
        })?;
        links.extend(pair.context("cannot attach the redirecting programs")?);
    }
    Ok(links)
}
