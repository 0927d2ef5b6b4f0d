//! Where do tests load programs? On a machine of their own: a thread with a network namespace, a
//! mount namespace with a bpf file system in a temporary directory, and taps for the actors'
//! devices. All of it goes with the thread, however that ends.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use frames::actor::{AGENT, PORTS, WIRE};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A machine, as the thread in it sees it.
pub struct Machine {
    /// Index of each device of [`frames::stage::Stage::devices`].
    pub devices: BTreeMap<&'static str, u32>,
    /// The one CPU that this thread runs on.
    pub cpu: u8,
    taps: BTreeMap<&'static str, File>,
    directory: PathBuf,
}

/// Does work on a machine of its own.
///
/// # Panics
///
/// The machine cannot be made (root is needed), or the work panics.
pub fn on_a_machine<T: Send>(work: impl FnOnce(&Machine) -> T + Send) -> T {
    let directory = TempDir::new().expect("a temporary directory");
    let inside = || {
        let machine = Machine::new(directory.path()).expect("a machine of its own; it needs root");
        work(&machine)
    };
    match thread::scope(|scope| scope.spawn(inside).join()) {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Machine {
    fn new(directory: &Path) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        let nothing = None::<&str>;
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_PRIVATE | MsFlags::MS_REC,
            nothing,
        )?;
        mount(
            Some("bpf"),
            directory,
            Some("bpf"),
            MsFlags::empty(),
            nothing,
        )
        .context("mounting a bpf file system")?;
        let mut taps = BTreeMap::new();
        let mut devices = BTreeMap::new();
        for name in PORTS.into_iter().chain([WIRE, AGENT]) {
            taps.insert(
                name,
                tap(name).with_context(|| format!("making the tap {name}"))?,
            );
            devices.insert(name, if_nametoindex(name)?);
        }
        Ok(Self {
            devices,
            cpu: stay_on_a_cpu(0)?,
            taps,
            directory: directory.to_owned(),
        })
    }

    /// A directory for pins, on a bpf file system that nobody else sees.
    #[must_use]
    pub fn pin_directory(&self) -> PathBuf {
        self.directory.join("vnet")
    }

    /// Runs `ip` in here.
    ///
    /// # Errors
    ///
    /// It cannot be run, or fails.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let status = Command::new("ip")
            .args(arguments.split_whitespace())
            .status()?;
        ensure!(status.success(), "`ip {arguments}` failed: {status}");
        Ok(())
    }

    /// Writes a frame to a device, as the VM behind it would.
    ///
    /// # Errors
    ///
    /// The device does not take it.
    pub fn send(&self, device: &str, frame: &[u8]) -> Result<()> {
        let mut tap = self.tap(device)?;
        ensure!(tap.write(frame)? == frame.len(), "a frame was cut");
        Ok(())
    }

    /// The frames that wait at a device, as the VM behind it would read them.
    ///
    /// # Errors
    ///
    /// The device cannot be read.
    pub fn received(&self, device: &str) -> Result<Vec<Vec<u8>>> {
        let mut tap = self.tap(device)?;
        let mut frames = Vec::new();
        let mut buffer = vec![0; 65_536];
        loop {
            match tap.read(&mut buffer) {
                Ok(length) => frames.push(buffer[..length].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(frames),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tap(&self, device: &str) -> Result<&File> {
        self.taps
            .get(device)
            .with_context(|| format!("no device {device}"))
    }
}

/// Makes a tap that lives as long as the file.
fn tap(name: &str) -> Result<File> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: all zero is a valid `ifreq`: numbers and an empty name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(name.bytes())
    {
        *to = libc::c_char::try_from(from)?;
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TAP | libc::IFF_NO_PI)?;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    ensure!(result == 0, io::Error::last_os_error());
    Ok(file)
}

/// Keeps the calling thread on one of the CPUs that it may use (the `place`th, or the last), so
/// that it knows which CPU's counters its frames move. Returns which.
///
/// # Errors
///
/// The kernel refuses.
pub fn stay_on_a_cpu(place: usize) -> Result<u8> {
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread)?;
    let mut usable = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true));
    let cpus: Vec<usize> = usable.by_ref().take(place + 1).collect();
    let cpu = *cpus.last().context("no CPU to run on")?;
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(this_thread, &only)?;
    // The stream in the option has eight bits.
    Ok((cpu % 256) as u8)
}
