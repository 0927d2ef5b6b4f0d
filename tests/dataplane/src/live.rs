//! The runner between devices: the programs attached to taps, frames written and read there.
//!
//! What a test run cannot show: that a frame comes out of the device that the program named, as
//! the driver hands it on. The price is that what is dropped and what is passed both come out
//! nowhere; the books tell them apart.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, bail, ensure};
use frames::actor::{AGENT, PORTS, WIRE};
use frames::books::Books;
use frames::runner::{Door, Ran, Runner, Verdict};
use frames::stage::Stage;
use frames::world::Entries;
use vnet_agent::dataplane::{Attachment, Door as At, Role};

use crate::kernel::{Kernel, now_ns};
use crate::machine::Machine;

/// The programs on their devices.
pub struct Live<'a> {
    /// The programs and their tables.
    pub kernel: Kernel,
    machine: &'a Machine,
}

/// Large enough for the largest frame of the vectors.
const MTU: u32 = 9000;

impl<'a> Live<'a> {
    /// Attaches the programs to this machine's devices.
    ///
    /// # Errors
    ///
    /// They cannot be loaded or attached.
    pub fn attach(machine: &'a Machine) -> Result<Self> {
        let mut kernel = Kernel::load(machine)?;
        // Nobody but the test speaks on these devices.
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
        for (&name, &ifindex) in &machine.devices {
            machine.ip(&format!("link set {name} mtu {MTU} up"))?;
            let role = match name {
                WIRE => Role::Underlay,
                AGENT => Role::Agent,
                _ => Role::Port,
            };
            let hold = Attachment::new(role, ifindex, At::Xdp);
            kernel.plane.attach(hold, name)?;
        }
        // Redirects that the kernel refuses are counted for devices of this namespace.
        let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
        kernel.namespace = u32::try_from(namespace)?;
        Ok(Self { kernel, machine })
    }
}

impl Runner for Live<'_> {
    fn name(&self) -> &'static str {
        "devices"
    }

    fn stage(&self) -> &Stage {
        self.kernel.stage()
    }

    fn frame_bytes_min(&self) -> usize {
        self.kernel.frame_bytes_min()
    }

    fn reset(&mut self) -> Result<()> {
        self.kernel.reset()
    }

    fn write(&mut self, entries: &Entries) -> Result<()> {
        self.kernel.write(entries)
    }

    /// A frame goes in at the device's far end; what comes out anywhere is read there. All of it
    /// happens within the call that writes the frame.
    fn run(&mut self, _: Door, device: u32, frame: &[u8], times: u32) -> Result<Ran> {
        ensure!(times == 1, "a frame goes through a device once");
        let name = self.stage().device_name(device);
        let began_ns = now_ns()?;
        self.machine.send(&name, frame)?;
        let clock_ns = (began_ns, now_ns()?);
        let mut out = Vec::new();
        for at in PORTS.into_iter().chain([WIRE, AGENT]) {
            out.extend(
                self.machine
                    .received(at)?
                    .into_iter()
                    .map(|frame| (at, frame)),
            );
        }
        let (verdict, frame) = match out.len() {
            0 => (Verdict::Nowhere, Vec::new()),
            1 => {
                let (at, frame) = out.pop().context("the one frame")?;
                (
                    Verdict::Out {
                        at: self.stage().device(at)?,
                    },
                    frame,
                )
            }
            frames => bail!("{frames} frames came out: {out:02x?}"),
        };
        Ok(Ran {
            verdict,
            frame,
            clock_ns,
        })
    }

    fn books(&mut self) -> Result<Books> {
        self.kernel.books()
    }
}
