//! How does one run programs on another kernel than this machine's?
//!
//! In a virtual machine without a network card: it carries the programs ([`super::Luggage`]) and
//! has what a lab is made of, so that hosts, underlay and guests are inside.

use std::process::ChildStdin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::{Output, Process};

use super::console::Console;
use super::hardware::{Hardware, Running};
use super::image::{GuestImage, Purpose};
use super::luggage::{Luggage, PROGRAMS};

/// Set for programs that run in a machine.
pub(super) const IN_MACHINE: &str = "VNET_LAB_MACHINE";

/// The archive twice while it is unpacked, and several agents with their tables.
const MEMORY_MIB: u32 = 512;
/// More than one, for tables with a value for each.
const PROCESSORS: u32 = 2;

/// A virtual machine with Debian's kernel, to run a lab on.
#[derive(Debug)]
pub struct Machine {
    kernel_version: String,
    console: Mutex<Console<ChildStdin>>,
    _qemu: Process,
    _host: Host,
}

impl Machine {
    /// Boots it with this luggage; returns when its shell answers. QEMU is a program of the host.
    ///
    /// # Errors
    ///
    /// There is no kernel for it, or it does not come up.
    pub fn boot(host: &Host, luggage: &Luggage) -> Result<Self> {
        let image = GuestImage::prepare()?;
        let hardware = Hardware {
            name: "machine".to_owned(),
            image: &image,
            initramfs: luggage.pack(image.initramfs(Purpose::Lab)?)?,
            command_line: String::new(),
            memory_mib: MEMORY_MIB,
            processors: PROCESSORS,
            card: None,
        };
        let Running { qemu, console } = hardware.switch_on(host)?;
        Ok(Self {
            kernel_version: image.kernel_version(),
            console: Mutex::new(console),
            _qemu: qemu,
            _host: host.clone(),
        })
    }

    /// Its kernel, for example `6.1.0-56-cloud-amd64`.
    #[must_use]
    pub fn kernel_version(&self) -> &str {
        &self.kernel_version
    }

    /// Runs a shell command in it to its end; any exit status will do.
    ///
    /// # Errors
    ///
    /// It does not end within `limit`, or the machine is gone.
    pub fn attempt(&self, command: &str, limit: Duration) -> Result<Output> {
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        console
            .run(command, limit)
            .with_context(|| format!("in the machine with Linux {}", self.kernel_version))
    }

    /// Runs a program of the luggage to its end; any exit status will do. It finds the agent and
    /// its client, if they were taken along.
    ///
    /// # Errors
    ///
    /// As for [`Machine::attempt`].
    pub fn run_program(&self, name: &str, arguments: &[&str], limit: Duration) -> Result<Output> {
        let mut line = format!(
            "cd / && export {IN_MACHINE}=1 VNET_AGENT={PROGRAMS}/vnet-agent \
             VNETCTL={PROGRAMS}/vnetctl && exec {PROGRAMS}/{name}"
        );
        for argument in arguments {
            line.push_str(&format!(" '{}'", argument.replace('\'', "'\\''")));
        }
        self.attempt(&line, limit)
    }
}
