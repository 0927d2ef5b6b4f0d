//! Which program sits on which device? Attached through BPF links, pinned, and replaced in place:
//! never detached in order to attach.

use std::fs;

use aya::programs::ProgramError;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use vnet_common::name;

use super::DataPlane;
use super::error::{DataPlaneError, os_error};
use super::object::xdp;
use crate::model::attachment::{Attachment, Role};

/// The program of a role.
pub(super) const fn program(role: Role) -> &'static str {
    match role {
        Role::Port => name::PORT_XDP,
        Role::Underlay => name::UNDERLAY_XDP,
        Role::Agent => name::AGENT_XDP,
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
        let pin = self.pins.link(to);
        if pin.exists() && self.replace(to, device)? {
            return Ok(());
        }
        let program = program(to.role);
        let fail = |source| attach_error(program, device, source);
        let xdp = xdp(&mut self.object, program)?;
        let id = xdp
            .attach_to_if_index(to.ifindex, XdpMode::default())
            .map_err(fail)?;
        let link: XdpLink = xdp.take_link(id).map_err(fail)?;
        let no_link = || DataPlaneError::NoBpfLink {
            program,
            device: device.to_owned(),
        };
        let link = FdLink::try_from(link).map_err(|_| no_link())?;
        link.pin(&pin).map_err(|error| DataPlaneError::Pin {
            doing: "pinning",
            path: pin,
            source: std::io::Error::other(error),
        })?;
        Ok(())
    }

    /// Replaces the program of a pinned link. False where the link's device is gone: its pin is
    /// litter, which is removed.
    fn replace(&mut self, to: Attachment, device: &str) -> Result<bool, DataPlaneError> {
        let pin = self.pins.link(to);
        let program = program(to.role);
        let pinned = match PinnedLink::from_pin(&pin) {
            Ok(pinned) => pinned,
            Err(error) => {
                return Err(DataPlaneError::Pin {
                    doing: "opening the pin",
                    path: pin,
                    source: std::io::Error::other(error),
                });
            }
        };
        let no_link = || DataPlaneError::NoBpfLink {
            program,
            device: device.to_owned(),
        };
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|_| no_link())?;
        let xdp = xdp(&mut self.object, program)?;
        match xdp.attach_to_link(link) {
            Ok(id) => {
                // The pin alone holds the link from here on, so that removing it detaches.
                drop(xdp.take_link(id));
                Ok(true)
            }
            Err(error) if os_error(&error) == Some(libc::ENOLINK) => {
                remove(&pin)?;
                Ok(false)
            }
            Err(source) => Err(attach_error(program, device, source)),
        }
    }

    /// Takes the program off the device; nothing happens where there is none.
    ///
    /// # Errors
    ///
    /// The pin could not be removed.
    pub fn detach(&mut self, from: Attachment) -> Result<(), DataPlaneError> {
        remove(&self.pins.link(from))
    }
}

fn remove(pin: &std::path::Path) -> Result<(), DataPlaneError> {
    match fs::remove_file(pin) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(DataPlaneError::Pin {
            doing: "removing the pin",
            path: pin.to_owned(),
            source,
        }),
        _ => Ok(()),
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
