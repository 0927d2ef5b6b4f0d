//! How does a test use a real virtual machine as a guest?
//!
//! QEMU without hardware acceleration boots Debian's cloud kernel with a small archive of
//! programs ([`image`]) in a few seconds; commands go in over a serial port (`console`). Its
//! network card is a tap of the host, with checksum and segmentation offloads off: frames that
//! XDP redirects would lose what an offload left undone.

mod console;
pub mod image;
mod initramfs;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::host::Host;
use crate::laboratory::last_lines;
use crate::process::{Output, Process};
use crate::station::Station;
use crate::tap;

use console::Console;
use image::GuestImage;

/// Memory of a guest, in MiB: the archive, the kernel, and tens of MiB of files.
const MEMORY_MIB: u32 = 256;
/// How long booting may take, on a machine that does other things as well.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// How long a command in the guest may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// What the card must not offer to the guest (`host_…`, `csum`, `gso`) and what it must not ask
/// of the host (`guest_…`).
const OFFLOADS_OFF: &str = "csum=off,gso=off,host_tso4=off,host_tso6=off,host_ecn=off,\
    host_ufo=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";

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
        let name = format!("vm-{}", station.port);
        let initramfs = host.directory().join(format!("{name}.initramfs"));
        fs::write(&initramfs, image.initramfs()?)?;
        let kernel_log = host.directory().join(format!("{name}.kernel"));
        let qemu_log = host.directory().join(format!("{name}.qemu"));
        host.estate().add_log(kernel_log.clone());
        host.estate().add_log(qemu_log.clone());

        let tap = tap::open(host, &station.port, true, station.mtu)?;
        let mut command = host.command("qemu-system-x86_64");
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-machine", "pc", "-accel", "tcg", "-cpu", "max"])
            .args(["-m", &MEMORY_MIB.to_string(), "-name", &name])
            .arg("-kernel")
            .arg(image.kernel())
            .arg("-initrd")
            .arg(&initramfs)
            .args(["-append", &kernel_command_line(&station)])
            .arg("-serial")
            .arg(format!("file:{}", kernel_log.display()))
            .args(["-serial", "stdio"])
            .args(["-netdev", &format!("tap,id=port,fd={}", tap.as_raw_fd())])
            .args([
                "-device",
                &format!(
                    "virtio-net-pci,netdev=port,mac={},romfile=,{OFFLOADS_OFF}",
                    station.mac
                ),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&qemu_log)?);
        hand_over(&mut command, tap);
        let mut qemu = Process::start(command).context("is qemu-system-x86 installed?")?;
        let pipes = qemu.child().stdin.take().zip(qemu.child().stdout.take());
        let (to_guest, from_guest) = pipes.context("QEMU has no standard streams")?;
        let mut console = Console::new(to_guest, from_guest);
        console
            .wait_until_up(BOOT_LIMIT)
            .with_context(|| boot_report(&[&qemu_log, &kernel_log]))?;
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

/// Leaves a file open in a command, and only in that one.
fn hand_over(command: &mut std::process::Command, file: File) {
    // SAFETY: between fork and exec the closure makes one system call, on a file that it owns.
    unsafe {
        command.pre_exec(move || {
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
}

fn kernel_command_line(station: &Station) -> String {
    // Messages of the kernel go to the first serial port, and are few: each costs emulated time.
    let mut line = format!(
        "console=ttyS0 quiet loglevel=4 panic=-1 vnet.mtu={}",
        station.mtu
    );
    for address in &station.addresses {
        line.push_str(&format!(" vnet.address={address}"));
    }
    line
}

fn boot_report(logs: &[&PathBuf]) -> String {
    let mut report = String::from("the virtual machine did not boot");
    for log in logs {
        for line in last_lines(log, 20).unwrap_or_default() {
            report.push_str(&format!("\n{line}"));
        }
    }
    report
}

fn first_word(output: Output) -> String {
    output
        .stdout
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}
