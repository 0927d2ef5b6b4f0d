//! Which program sits on which device? Attached through BPF links, pinned, and replaced in place:
//! never detached in order to attach. At the TC door of a kernel that has no links for it:
//! [`clsact`].

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp};
use nix::net::if_::if_indextoname;
use vnet_common::name;

use super::error::{DataPlaneError, os_error};
use super::pin::remove_file;
use super::{DataPlane, clsact, object};
use crate::model::attachment::{Attachment, Role};
use crate::model::door::Door;

/// The program of a role at a door.
pub(super) const fn program_name(role: Role, door: Door) -> &'static str {
    match (role, door) {
        (Role::Port, Door::Xdp) => name::PORT_XDP,
        (Role::Port, Door::Tc) => name::PORT_TC,
        (Role::Underlay, Door::Xdp) => name::UNDERLAY_XDP,
        (Role::Underlay, Door::Tc) => name::UNDERLAY_TC,
        (Role::Agent, Door::Xdp) => name::AGENT_XDP,
        (Role::Agent, Door::Tc) => name::AGENT_TC,
    }
}

impl DataPlane {
    /// Every hold there is, an earlier agent's included.
    ///
    /// # Errors
    ///
    /// The pin directory cannot be read.
    pub fn attachments(&self) -> Result<Vec<Attachment>, DataPlaneError> {
        self.pins.attachments()
    }

    /// Puts this agent's program on the device: in place of an earlier agent's where there is
    /// one, without a moment in between, else anew.
    ///
    /// # Errors
    ///
    /// The device is taken, gone, or does not fit; what was on it stays.
    pub fn attach(&mut self, to: Attachment, device: &str) -> Result<(), DataPlaneError> {
        match to.door {
            Door::Tc if clsact::is_needed() => self.attach_by_filter(to, device),
            _ => self.attach_by_link(to, device),
        }
    }

    fn attach_by_link(&mut self, to: Attachment, device: &str) -> Result<(), DataPlaneError> {
        if let Some(held) = self.pins.held(to)?
            && self.replace(to, &held, device)?
        {
            return self.pins.settle(to, &held);
        }
        let pin = self.pins.link(to);
        let link = match to.door {
            Door::Xdp => self.new_xdp_link(to, device),
            Door::Tc => self.new_tc_link(to, device),
        }?;
        link.pin(&pin).map_err(|error| DataPlaneError::Pin {
            doing: "pinning",
            path: pin,
            source: std::io::Error::other(error),
        })?;
        Ok(())
    }

    fn new_xdp_link(&mut self, to: Attachment, device: &str) -> Result<FdLink, DataPlaneError> {
        let program = program_name(to.role, to.door);
        let fail = |source| attach_error(program, device, source);
        let xdp: &mut Xdp = object::program(&mut self.object, program)?;
        let id = xdp
            .attach_to_if_index(to.ifindex, XdpMode::default())
            .map_err(fail)?;
        let link: XdpLink = xdp.take_link(id).map_err(fail)?;
        FdLink::try_from(link).map_err(|_| no_link(program, device))
    }

    fn new_tc_link(&mut self, to: Attachment, device: &str) -> Result<FdLink, DataPlaneError> {
        let program = program_name(to.role, to.door);
        let fail = |source| attach_error(program, device, source);
        let current = current_name(to.ifindex, device)?;
        if has_tc_of_another_agent(&current) {
            let device = device.to_owned();
            return Err(DataPlaneError::DeviceTakenAtTc { device });
        }
        let tc: &mut SchedClassifier = object::program(&mut self.object, program)?;
        // Like the XDP door: before whatever else looks at the device's frames.
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = tc
            .attach_with_options(&current, TcAttachType::Ingress, order)
            .map_err(fail)?;
        let link: SchedClassifierLink = tc.take_link(id).map_err(fail)?;
        FdLink::try_from(link).map_err(|_| no_link(program, device))
    }

    /// Replaces the program of a pinned link. False where the link's device is gone: its pin is
    /// litter, which is removed.
    fn replace(
        &mut self,
        to: Attachment,
        pin: &Path,
        device: &str,
    ) -> Result<bool, DataPlaneError> {
        let link = match PinnedLink::from_pin(pin) {
            Ok(pinned) => FdLink::from(pinned),
            Err(error) => {
                return Err(DataPlaneError::Pin {
                    doing: "opening the pin",
                    path: pin.to_owned(),
                    source: std::io::Error::other(error),
                });
            }
        };
        let program = program_name(to.role, to.door);
        let replaced = match to.door {
            Door::Xdp => {
                let link = XdpLink::try_from(link).map_err(|_| no_link(program, device))?;
                let xdp: &mut Xdp = object::program(&mut self.object, program)?;
                // The pin alone holds the link from here on, so that removing it detaches.
                xdp.attach_to_link(link).map(|id| drop(xdp.take_link(id)))
            }
            Door::Tc => {
                let link =
                    SchedClassifierLink::try_from(link).map_err(|_| no_link(program, device))?;
                let tc: &mut SchedClassifier = object::program(&mut self.object, program)?;
                tc.attach_to_link(link).map(|id| drop(tc.take_link(id)))
            }
        };
        match replaced {
            Ok(()) => Ok(true),
            Err(error) if os_error(&error) == Some(libc::ENOLINK) => {
                remove_file(pin)?;
                Ok(false)
            }
            Err(source) => Err(attach_error(program, device, source)),
        }
    }

    /// The pin of the program stands for the filter: the kernel keeps that with the device, and
    /// neither a link nor a name of ours.
    fn attach_by_filter(&mut self, to: Attachment, device: &str) -> Result<(), DataPlaneError> {
        let program = program_name(to.role, to.door);
        let pin = self.pins.link(to);
        let held = self.pins.held(to)?;
        let is_ours = held.is_some();
        let current = current_name(to.ifindex, device)?;
        let tc = object::program(&mut self.object, program)?;
        // Before the filter, so that there is never one that nobody knows of.
        pin_program(tc, &pin)?;
        match clsact::attach(&self.pins, tc, (to.ifindex, &current), is_ours) {
            Ok(()) => match held {
                Some(other) if other != pin => remove_file(&other),
                _ => Ok(()),
            },
            Err(source) => {
                if held.as_ref() != Some(&pin) {
                    remove_file(&pin)?;
                }
                clsact::release_discipline(&self.pins, to.ifindex, current)?;
                Err(match os_error(&source) {
                    Some(libc::EEXIST) => DataPlaneError::DeviceTakenAtTc {
                        device: device.to_owned(),
                    },
                    _ => attach_error(program, device, source),
                })
            }
        }
    }

    /// Takes the program off the device; nothing happens where there is none.
    ///
    /// # Errors
    ///
    /// The pin could not be removed.
    pub fn detach(&mut self, from: Attachment) -> Result<(), DataPlaneError> {
        clsact::release(&self.pins, from)?;
        remove_file(&self.pins.link(from))
    }
}

/// Pins a program, in place of another. (A bpf file system takes no dots in names.)
fn pin_program(tc: &mut SchedClassifier, pin: &Path) -> Result<(), DataPlaneError> {
    let mut new = pin.as_os_str().to_owned();
    new.push("-new");
    let new = PathBuf::from(new);
    remove_file(&new)?;
    let fail = |source| DataPlaneError::Pin {
        doing: "pinning",
        path: pin.to_owned(),
        source,
    };
    tc.pin(&new)
        .map_err(|error| fail(std::io::Error::other(error)))?;
    fs::rename(&new, pin).map_err(fail)
}

/// What the device is called at this moment: aya takes names only.
fn current_name(ifindex: u32, device: &str) -> Result<String, DataPlaneError> {
    let name = if_indextoname(ifindex).ok();
    name.and_then(|name| name.into_string().ok())
        .ok_or_else(|| DataPlaneError::DeviceGone {
            device: device.to_owned(),
        })
}

/// Whether one of our programs sits there that none of our pins holds. Unlike XDP, this door has
/// room for several, and only the first would get any frames.
fn has_tc_of_another_agent(device: &str) -> bool {
    let ours = [name::PORT_TC, name::UNDERLAY_TC, name::AGENT_TC];
    SchedClassifier::query_tcx(device, TcAttachType::Ingress).is_ok_and(|(_, programs)| {
        programs
            .iter()
            .filter_map(|program| program.name_as_str())
            .any(|name| ours.contains(&name))
    })
}

fn no_link(program: &'static str, device: &str) -> DataPlaneError {
    DataPlaneError::NoBpfLink {
        program,
        device: device.to_owned(),
    }
}

fn attach_error(program: &'static str, device: &str, source: ProgramError) -> DataPlaneError {
    let device = device.to_owned();
    match os_error(&source) {
        Some(libc::EBUSY | libc::EEXIST) => DataPlaneError::DeviceTaken { device },
        Some(libc::ERANGE) => DataPlaneError::MtuTooLarge { device },
        Some(libc::EPERM) => DataPlaneError::NotPermitted,
        _ => DataPlaneError::Attach {
            program,
            device,
            source: Box::new(source),
        },
    }
}
