//! How does a program get to the TC door of a kernel before 6.6, which has no BPF links for it?
//!
//! As a filter of the device's `clsact` queueing discipline, at a priority and with a handle of
//! our own, by which it is known again, replaced in one go and removed. It lives as long as the
//! device. The discipline stays when our filter goes: others may have filters there.

use aya::programs::links::Link;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, tc};
use aya::util::KernelVersion;
use nix::net::if_::if_indextoname;

use super::error::{DataPlaneError, os_error};
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

/// Makes the filter; in place of the one that is there, where that is ours.
pub(super) fn attach(
    program: &mut SchedClassifier,
    device: &str,
    is_ours: bool,
) -> Result<(), ProgramError> {
    if let Err(error) = tc::qdisc_add_clsact(device)
        && !matches!(error, TcError::AlreadyAttached)
        && os_error(&error) != Some(libc::EEXIST)
    {
        return Err(error.into());
    }
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

/// Removes the filter that this hold stands for, if it is one by a filter and the device is there.
pub(super) fn release(hold: Attachment) -> Result<(), DataPlaneError> {
    if hold.door != Door::Tc || !is_needed() {
        return Ok(());
    }
    let name = if_indextoname(hold.ifindex).ok();
    let Some(device) = name.and_then(|name| name.into_string().ok()) else {
        return Ok(());
    };
    let removed = ours(&device).and_then(|filter| filter.detach());
    match removed {
        Err(error) if !is_gone(os_error(&error)) => Err(DataPlaneError::Detach {
            device,
            source: Box::new(error),
        }),
        _ => Ok(()),
    }
}

/// No such filter, no such discipline, no such device.
fn is_gone(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::ENOENT | libc::EINVAL | libc::ENODEV))
}

fn ours(device: &str) -> Result<SchedClassifierLink, ProgramError> {
    SchedClassifierLink::attached(device, TcAttachType::Ingress, PRIORITY, HANDLE, None)
        .map_err(|error| TcError::IoError(error).into())
}
