//! How is a virtual machine switched on?
//!
//! Input: what its parts are. Output: QEMU running as a program of the lab, and a [`Console`] on
//! which the machine's shell answers. Machines boot a kernel and an archive directly, without
//! firmware or disk, and without hardware acceleration.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::host::Host;
use crate::laboratory::last_lines;
use crate::process::Process;

use super::console::Console;
use super::image::GuestImage;
use super::initramfs::Initramfs;

/// How long booting may take, on a machine that does other things as well.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// What a card must not offer to the machine (`host_…`, `csum`, `gso`) and what it must not ask
/// of the host (`guest_…`).
const OFFLOADS_OFF: &str = "csum=off,gso=off,host_tso4=off,host_tso6=off,host_ecn=off,\
    host_ufo=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";

/// The parts of a machine.
pub(super) struct Hardware<'a> {
    /// For the names of its files in the host's directory.
    pub(super) name: String,
    /// Its kernel.
    pub(super) image: &'a GuestImage,
    /// What it finds in its root directory.
    pub(super) initramfs: Initramfs,
    /// Said to the kernel, beside where its messages go.
    pub(super) command_line: String,
    /// Its memory.
    pub(super) memory_mib: u32,
    /// Its processors.
    pub(super) processors: u32,
    /// Its network card, if it has one: the tap of the host that it is plugged into.
    pub(super) card: Option<Card>,
}

/// A network card.
pub(super) struct Card {
    /// Its cable.
    pub(super) tap: File,
    /// Its Ethernet address, as text.
    pub(super) address: String,
}

/// A machine that is on. QEMU holds the card's tap: it must end before the host does.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) qemu: Process,
    pub(super) console: Console<ChildStdin>,
}

impl Hardware<'_> {
    /// Switches it on and waits until its shell answers.
    ///
    /// # Errors
    ///
    /// It does not come up; the error quotes its kernel and QEMU.
    pub(super) fn switch_on(self, host: &Host) -> Result<Running> {
        let file = |ending| host.directory().join(format!("{}.{ending}", self.name));
        let (kernel_log, qemu_log) = (file("kernel"), file("qemu"));
        let initramfs = file("initramfs");
        host.estate().add_log(kernel_log.clone());
        host.estate().add_log(qemu_log.clone());
        let mut command = host.command("qemu-system-x86_64");
        self.describe_to(&mut command, &initramfs, &kernel_log);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&qemu_log)?);
        fs::write(&initramfs, self.initramfs.finish())?;
        if let Some(card) = self.card {
            hand_over(&mut command, card.tap);
        }
        let mut qemu = Process::start(command).context("is qemu-system-x86 installed?")?;
        let pipes = qemu.child().stdin.take().zip(qemu.child().stdout.take());
        let (to_machine, from_machine) = pipes.context("QEMU has no standard streams")?;
        let mut console = Console::new(to_machine, from_machine);
        console
            .wait_until_up(BOOT_LIMIT)
            .with_context(|| boot_report(&[&qemu_log, &kernel_log]))?;
        Ok(Running { qemu, console })
    }

    fn describe_to(&self, command: &mut Command, initramfs: &Path, kernel_log: &Path) {
        // Messages of the kernel go to the first serial port, and are few: each costs emulated
        // time.
        let command_line = format!(
            "console=ttyS0 quiet loglevel=4 panic=-1 {}",
            self.command_line
        );
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-machine", "pc", "-accel", "tcg", "-cpu", "max"])
            .args(["-smp", &self.processors.to_string()])
            .args(["-m", &self.memory_mib.to_string(), "-name", &self.name])
            .arg("-kernel")
            .arg(self.image.kernel())
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", &command_line])
            .arg("-serial")
            .arg(format!("file:{}", kernel_log.display()))
            .args(["-serial", "stdio"]);
        if let Some(Card { tap, address }) = &self.card {
            let card = format!("virtio-net-pci,netdev=port,mac={address},romfile=,{OFFLOADS_OFF}");
            command
                .args(["-netdev", &format!("tap,id=port,fd={}", tap.as_raw_fd())])
                .args(["-device", &card]);
        }
    }
}

/// Leaves a file open in a command, and only in that one.
fn hand_over(command: &mut Command, file: File) {
    // SAFETY: between fork and exec the closure makes one system call, on a file that it owns.
    unsafe {
        command.pre_exec(move || {
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
}

fn boot_report(logs: &[&Path]) -> String {
    let mut report = String::from("the virtual machine did not boot");
    for log in logs {
        for line in last_lines(log, 20).unwrap_or_default() {
            report.push_str(&format!("\n{line}"));
        }
    }
    report
}
