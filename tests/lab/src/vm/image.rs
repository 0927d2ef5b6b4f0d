//! Where do a guest's kernel and programs come from?
//!
//! From Debian packages: the kernel that `linux-image-cloud-amd64` depends on, and
//! `busybox-static`. They are downloaded and unpacked once, not installed, and kept under
//! `${XDG_CACHE_HOME:-$HOME/.cache}/vnet/guest/<kernel version>`. A directory appears there only
//! when complete, and only one process makes it. There are modules for two ends: a guest with a
//! network card, and a machine that is a lab itself ([`super::machine`]). Their directories are
//! called after what is in them, so that a longer list makes another one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::process::attempt;

use super::initramfs::Initramfs;

/// The package that always depends on the newest kernel for virtual machines.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
const SHELL_PACKAGE: &str = "busybox-static";
/// What the guest's network card needs, in the order in which it can be loaded.
const CARD_MODULES: [&str; 8] = [
    "failover",
    "net_failover",
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_net",
];
/// What hosts, underlays and guests of a lab are made of, in the order in which it can be loaded.
/// The last two are the TC door of a kernel without links for it, and the last but two the tunnels
/// that guests make themselves.
const LAB_MODULES: [&str; 10] = [
    "llc",
    "stp",
    "bridge",
    "veth",
    "tun",
    "udp_tunnel",
    "ip6_udp_tunnel",
    "vxlan",
    "sch_ingress",
    "cls_bpf",
];
const INIT: &str = include_str!("init.sh");

/// What a machine is for, and so what its kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A guest: it has a network card.
    Guest,
    /// A place for a lab: it has bridges, veths and taps.
    Lab,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Guest, Self::Lab];

    const fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Guest => &CARD_MODULES,
            Self::Lab => &LAB_MODULES,
        }
    }

    /// Where they are, under the directory of a kernel.
    fn directory(self) -> String {
        format!("modules+{}", self.modules().join("+"))
    }
}

/// The files of a guest, unpacked and ready to boot.
#[derive(Clone, Debug)]
pub struct GuestImage {
    directory: PathBuf,
}

impl GuestImage {
    /// The newest guest that the package lists know, from the cache or made now. Without usable
    /// package lists it is the newest in the cache.
    ///
    /// # Errors
    ///
    /// Where neither packages nor cache have one; the error says what to do.
    pub fn prepare() -> Result<Self> {
        let cache = cache_directory();
        fs::create_dir_all(&cache)
            .with_context(|| format!("cannot make the cache {}", cache.display()))?;
        let lock = File::create(cache.join("lock"))?;
        let _locked = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .with_context(|| format!("cannot lock {}", cache.display()))?;
        let made = newest_kernel_package().and_then(|package| in_cache_or_made(&cache, &package));
        match (made, newest_in(&cache)) {
            (Ok(directory), _) => Ok(Self { directory }),
            (Err(_), Some(directory)) => Ok(Self { directory }),
            (Err(error), None) => Err(error.context(
                "cannot make a guest from Debian packages: is this Debian on x86-64, \
                 and are its package lists there (apt-get update)?",
            )),
        }
    }

    /// The kernel's version, for example `6.1.0-56-cloud-amd64`.
    #[must_use]
    pub fn kernel_version(&self) -> String {
        self.directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// The kernel, as QEMU boots it.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// An archive with what a machine for this purpose needs to come up, to be finished.
    pub(crate) fn initramfs(&self, purpose: Purpose) -> Result<Initramfs> {
        let busybox = fs::read(self.directory.join("busybox"))?;
        let archive = Initramfs::default()
            .device("dev/console", 5, 1)
            .program("bin/busybox", &busybox)
            .program("init", INIT.as_bytes());
        let directory = self.directory.join(purpose.directory());
        let mut modules = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        modules.sort();
        modules.iter().try_fold(archive, |archive, path| {
            let name = format!("modules/{}", file_name(path));
            Ok(archive.data(&name, &fs::read(path)?))
        })
    }
}

fn cache_directory() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("vnet/guest")
}

/// Guests in the cache have the names of kernel versions; everything else is in the making.
fn newest_in(cache: &Path) -> Option<PathBuf> {
    fs::read_dir(cache)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("vmlinuz").exists() && lacking(path).is_empty())
        .max_by_key(|path| path.metadata().and_then(|about| about.modified()).ok())
}

/// Whose modules are not there, or not those of today.
fn lacking(directory: &Path) -> Vec<Purpose> {
    let is_there = |purpose: &Purpose| directory.join(purpose.directory()).exists();
    Purpose::ALL
        .into_iter()
        .filter(|purpose| !is_there(purpose))
        .collect()
}

/// The name of the package that holds the newest kernel.
fn newest_kernel_package() -> Result<String> {
    let output = attempt(Command::new("apt-cache").env("LC_ALL", "C").args([
        "depends",
        "-i",
        KERNEL_PACKAGE,
    ]))?
    .successful()?;
    output
        .stdout
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .map(str::to_owned)
        .with_context(|| format!("the package lists do not know {KERNEL_PACKAGE}"))
}

fn in_cache_or_made(cache: &Path, package: &str) -> Result<PathBuf> {
    let version = package
        .trim_start_matches("linux-image-")
        .trim_end_matches("-unsigned");
    let directory = cache.join(version);
    if lacking(&directory).is_empty() {
        return Ok(directory);
    }
    eprintln!("downloading {package} and {SHELL_PACKAGE} (once)");
    let work = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(cache)?;
    download(work.path(), &[package, SHELL_PACKAGE])?;
    let unpacked = work.path().join("unpacked");
    for entry in fs::read_dir(work.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            attempt(unpack.arg("-x").arg(&path).arg(&unpacked))?.successful()?;
        }
    }
    let complete = work.path().join("complete");
    collect(&unpacked, version, &complete)?;
    let fail = |to: &Path| format!("cannot make {}", to.display());
    if directory.exists() {
        // All else of it may be in use.
        for purpose in lacking(&directory) {
            let to = directory.join(purpose.directory());
            fs::rename(complete.join(purpose.directory()), &to).with_context(|| fail(&to))?;
        }
    } else {
        fs::rename(&complete, &directory).with_context(|| fail(&directory))?;
    }
    Ok(directory)
}

fn download(into: &Path, packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        // apt would change to a user who cannot write here, and warn that it did not.
        .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
        .args(packages)
        .current_dir(into);
    attempt(&mut command)?.successful()?;
    Ok(())
}

/// Copies what a guest needs out of the unpacked packages.
fn collect(unpacked: &Path, version: &str, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let kernel = unpacked.join(format!("boot/vmlinuz-{version}"));
    fs::copy(&kernel, target.join("vmlinuz"))
        .with_context(|| format!("the kernel package has no {}", kernel.display()))?;
    let busybox = ["bin/busybox", "usr/bin/busybox"]
        .map(|path| unpacked.join(path))
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("{SHELL_PACKAGE} has no busybox"))?;
    fs::copy(busybox, target.join("busybox"))?;
    let library = ["lib/modules", "usr/lib/modules"]
        .map(|path| unpacked.join(path).join(version))
        .into_iter()
        .find(|path| path.exists())
        .context("the kernel package has no modules")?;
    Purpose::ALL.into_iter().try_for_each(|purpose| {
        collect_modules(
            &library,
            purpose.modules(),
            &target.join(purpose.directory()),
        )
    })
}

fn collect_modules(library: &Path, modules: &[&str], target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let built_in = fs::read_to_string(library.join("modules.builtin")).unwrap_or_default();
    for (order, module) in modules.iter().enumerate() {
        let path = target.join(format!("{order:02}-{module}.ko"));
        match find_module(&library.join("kernel"), module)? {
            Some(found) => unpack_module(&found, &path)?,
            None => ensure!(
                built_in
                    .lines()
                    .any(|line| line.ends_with(&format!("/{module}.ko"))),
                "the kernel package has no module {module}"
            ),
        }
    }
    Ok(())
}

fn find_module(directory: &Path, module: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find_module(&path, module)? {
                return Ok(Some(found));
            }
        } else if file_name(&path)
            .split_once(".ko")
            .is_some_and(|(name, _)| name == module)
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Writes a module as the guest loads it, without the compression of newer packages.
fn unpack_module(from: &Path, to: &Path) -> Result<()> {
    let unpacker = match from.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => None,
        Some("xz") => Some("xz"),
        Some("zst") => Some("zstd"),
        _ => bail!("{} is compressed in an unknown way", from.display()),
    };
    match unpacker {
        None => fs::copy(from, to).map(drop)?,
        Some(program) => {
            let status = Command::new(program)
                .arg("-dc")
                .arg(from)
                .stdout(File::create(to)?)
                .status()
                .with_context(|| format!("cannot start {program}"))?;
            ensure!(
                status.success(),
                "{program} cannot unpack {}",
                from.display()
            );
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
