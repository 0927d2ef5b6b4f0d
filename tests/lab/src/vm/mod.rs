//! How does a test use a real virtual machine as a guest?
//!
//! QEMU without hardware acceleration boots Debian's cloud kernel with a small archive of
//! programs ([`image`]) in a few seconds; commands go in over a serial port (`console`). Its
//! network card is a tap of the host, with checksum and segmentation offloads off: frames that
//! XDP redirects would lose what an offload left undone.
//!
//! A [`machine`] is not a guest but another kernel to run a whole lab on.

mod console;
mod elsewhere;
mod hardware;
pub mod image;
mod initramfs;
mod luggage;
pub mod machine;

use std::process::ChildStdin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::process::{Output, Process};
use crate::station::Station;
use crate::tap;

pub use elsewhere::{Said, on_debians_kernel};
pub use luggage::Luggage;

use console::Console;
use hardware::{Card, Hardware, Running};
use image::{GuestImage, Purpose};

/// Memory of a guest, in MiB: the archive, the kernel, and tens of MiB of files.
const MEMORY_MIB: u32 = 256;
/// How long a command in the guest may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// A guest that is a virtual machine.
#[derive(Debug)]
pub struct VmGuest {
    station: Station,
    kernel_version: String,
    console: Mutex<Console<ChildStdin>>,
    // QEMU holds the tap: it must end before the host does.
    qemu: Mutex<Process>,
    host: Host,
}

/// A file that went from one guest to another over TCP.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Bytes received, the same as were sent.
    pub bytes: u64,
    /// From the sender's start to its end, as the lab's clock saw it.
    pub duration: Duration,
    /// The SHA-256 sum of both files, in hexadecimal.
    pub sha256: String,
}

impl VmGuest {
    pub(crate) fn boot(host: &Host, station: Station) -> Result<Self> {
        let image = GuestImage::prepare()?;
        let hardware = Hardware {
            name: format!("vm-{}", station.port),
            image: &image,
            initramfs: image.initramfs(Purpose::Guest)?,
            command_line: kernel_command_line(&station),
            memory_mib: MEMORY_MIB,
            processors: 1,
            card: Some(Card {
                tap: tap::open(host, &station.port, true, station.mtu)?,
                address: station.mac.to_string(),
            }),
        };
        let Running { qemu, console } = hardware.switch_on(host)?;
        Ok(Self {
            station,
            kernel_version: image.kernel_version(),
            console: Mutex::new(console),
            qemu: Mutex::new(qemu),
            host: host.clone(),
        })
    }

    /// The guest's port and addresses.
    #[must_use]
    pub fn station(&self) -> &Station {
        &self.station
    }

    /// The host that the machine runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The kernel in the guest, for example `6.1.0-56-cloud-amd64`.
    #[must_use]
    pub fn kernel_version(&self) -> &str {
        &self.kernel_version
    }

    /// Runs a shell command in the guest to its end.
    ///
    /// # Errors
    ///
    /// Where its exit status is not 0; the error quotes what it said.
    pub fn run(&self, command: &str) -> Result<Output> {
        self.attempt(command)?
            .successful()
            .with_context(|| self.whereabouts())
    }

    /// Runs a shell command in the guest to its end; any exit status will do.
    pub fn attempt(&self, command: &str) -> Result<Output> {
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        console
            .run(command, COMMAND_LIMIT)
            .with_context(|| self.whereabouts())
    }

    /// Starts a shell command in the guest and leaves it running, its output unread.
    pub fn leave_running(&self, command: &str) -> Result<()> {
        self.run(&format!("{{ {command}\n}} </dev/null >/dev/null 2>&1 &"))
            .map(drop)
    }

    /// Sends a file of random bytes to another guest over TCP, and compares what arrived.
    ///
    /// # Errors
    ///
    /// Where the file that arrived is another than the file that was sent.
    pub fn send_file(&self, to: &Self, address: &str, bytes: u64) -> Result<Transfer> {
        const PORT: u16 = 5001;
        to.run(
            "rm -f /tmp/received; printf '#!/bin/sh\ncat >/tmp/received' >/tmp/receive
            chmod +x /tmp/receive",
        )?;
        to.leave_running(&format!("nc -l -p {PORT} -e /tmp/receive"))?;
        to.run(&format!(
            "for try in $(seq 100); do netstat -ltn | grep -q ':{PORT} ' && exit; sleep 0.1; done
             exit 1"
        ))
        .context("the receiver does not listen")?;
        self.run(&format!("head -c {bytes} /dev/urandom >/tmp/sent"))?;
        let start = Instant::now();
        self.run(&format!("nc -w 10 {address} {PORT} </tmp/sent"))?;
        let duration = start.elapsed();
        to.run(
            "for try in $(seq 100); do pidof receive nc >/dev/null || exit 0; sleep 0.1; done
             exit 1",
        )
        .context("the receiver does not end")?;
        let sent = first_word(self.run("sha256sum /tmp/sent; rm /tmp/sent")?);
        let received = first_word(to.run("sha256sum /tmp/received")?);
        let arrived: u64 = first_word(to.run("wc -c </tmp/received; rm /tmp/received")?).parse()?;
        ensure!(
            arrived == bytes && sent == received,
            "{bytes} bytes were sent with SHA-256 {sent}, {arrived} arrived with {received}"
        );
        Ok(Transfer {
            bytes,
            duration,
            sha256: received,
        })
    }

    /// Switches the machine off at once; its tap goes with it.
    pub fn kill(&self) {
        self.qemu
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kill();
    }

    fn whereabouts(&self) -> String {
        format!(
            "in the virtual machine on {} of `{}`",
            self.station.port,
            self.host.name()
        )
    }
}

fn kernel_command_line(station: &Station) -> String {
    let mut line = format!("vnet.mtu={}", station.mtu);
    for address in &station.addresses {
        line.push_str(&format!(" vnet.address={address}"));
    }
    line
}

fn first_word(output: Output) -> String {
    output
        .stdout
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}
