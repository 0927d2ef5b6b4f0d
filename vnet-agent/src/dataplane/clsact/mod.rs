//! How does a program get to the TC door of a kernel before 6.6, which has no BPF links for it?
//!
//! As a filter of the device's `clsact` queueing discipline, at a priority and with a handle of
//! our own, by which it is known again, replaced in one go and removed. It lives as long as the
//! device. The discipline goes with the filter where it is ours ([`Mark`]) and others have put
//! nothing there.

mod discipline;

use std::fs;
use std::io;
use std::path::PathBuf;

use aya::programs::links::Link;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, tc};
use aya::util::KernelVersion;
use nix::net::if_::if_indextoname;

use super::error::{DataPlaneError, os_error};
use super::pin::{Pins, remove_directory};
use crate::model::attachment::Attachment;
use crate::model::door::Door;

/// Before whatever people add by hand, which begins at 49152 or at 1.
const PRIORITY: u16 = 1;
/// "vnet" on a telephone.
const HANDLE: TcHandle = TcHandle::new(0, 8638);

/// Whether this kernel has no links for the TC door.
pub(super) fn is_needed() -> bool {
    KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 6, 0))
}

/// An empty directory among the pins: the device's discipline was made by an agent. (A bpf file
/// system takes no files.)
struct Mark(PathBuf);

impl Mark {
    fn of(pins: &Pins, ifindex: u32) -> Self {
        Self(pins.disciplines().join(ifindex.to_string()))
    }

    fn set(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)
    }

    fn is_set(&self) -> bool {
        self.0.exists()
    }

    /// With the directory that it is in, if it was the last.
    fn clear(&self, pins: &Pins) -> Result<(), DataPlaneError> {
        remove_directory(&self.0)?;
        remove_directory(&pins.disciplines())
    }
}

/// Makes the filter; in place of the one that is there, where that is ours.
pub(super) fn attach(
    pins: &Pins,
    program: &mut SchedClassifier,
    (ifindex, device): (u32, &str),
    is_ours: bool,
) -> Result<(), ProgramError> {
    make_discipline(&Mark::of(pins, ifindex), device)?;
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        classid: None,
    });
    let made = program.attach_with_options(device, TcAttachType::Ingress, options);
    let id = match made {
        Err(error) if is_ours && os_error(&error) == Some(libc::EEXIST) => {
            program.attach_to_link(ours(device)?)?
        }
        other => other?,
    };
    // It would remove the filter when it is dropped.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

fn make_discipline(mark: &Mark, device: &str) -> Result<(), ProgramError> {
    match tc::qdisc_add_clsact(device) {
        Ok(()) => mark.set().map_err(|error| TcError::IoError(error).into()),
        Err(TcError::AlreadyAttached) => Ok(()),
        Err(error) if os_error(&error) == Some(libc::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the filter that this hold stands for, if it is one by a filter and the device is there,
/// and the discipline, if it is ours and of no more use.
pub(super) fn release(pins: &Pins, hold: Attachment) -> Result<(), DataPlaneError> {
    if hold.door != Door::Tc || !is_needed() {
        return Ok(());
    }
    let name = if_indextoname(hold.ifindex).ok();
    let Some(device) = name.and_then(|name| name.into_string().ok()) else {
        return Mark::of(pins, hold.ifindex).clear(pins);
    };
    let removed = ours(&device).and_then(|filter| filter.detach());
    match removed {
        Err(error) if !is_gone(os_error(&error)) => Err(DataPlaneError::Detach {
            device,
            source: Box::new(error),
        }),
        _ => release_discipline(pins, hold.ifindex, device),
    }
}

/// Removes the discipline, if an agent made it and nobody's filter is there.
pub(super) fn release_discipline(
    pins: &Pins,
    ifindex: u32,
    device: String,
) -> Result<(), DataPlaneError> {
    let mark = Mark::of(pins, ifindex);
    if !mark.is_set() {
        return Ok(());
    }
    match discipline::remove_if_empty(ifindex) {
        Err(error) if !is_gone(error.raw_os_error()) => {
            return Err(DataPlaneError::Detach {
                device,
                source: Box::new(TcError::IoError(error).into()),
            });
        }
        _ => {}
    }
    mark.clear(pins)
}

/// No such filter, no such discipline, no such device.
fn is_gone(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::ENOENT | libc::EINVAL | libc::ENODEV))
}

fn ours(device: &str) -> Result<SchedClassifierLink, ProgramError> {
    SchedClassifierLink::attached(device, TcAttachType::Ingress, PRIORITY, HANDLE, None)
        .map_err(|error| TcError::IoError(error).into())
}
