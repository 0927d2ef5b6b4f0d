//! What can this way of forwarding give at most?
//!
//! Four instructions on each of the four devices: everything from the tap to the cable, everything
//! from the cable to the tap. The frame crosses without headers, unseen and uncounted.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use crate::bed::{Bed, CABLE, TAP};
use crate::bpf;

pub(super) fn lay(bed: &Bed) -> Result<Vec<OwnedFd>> {
    let (tap, cable) = (bed.device_index(TAP)?, bed.device_index(CABLE)?);
    let mut links = Vec::new();
    for host in [&bed.one, &bed.two] {
        let pair = host.inside(|| -> io::Result<_> {
            let join = |from, to| bpf::attach(bpf::load(&bpf::redirect_to(to))?, from);
            Ok([join(tap, cable)?, join(cable, tap)?])
        })?;
        links.extend(pair.context("cannot attach the redirecting programs")?);
    }
    Ok(links)
}
