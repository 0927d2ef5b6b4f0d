//! How does one make a machine's worth of networking, and do things in it?
//!
//! A [`Namespace`] is a network namespace and a mount namespace that belong together. Neither
//! has a name in the file system: file descriptors of this process hold them, so they vanish
//! with it however it ends, with every device and every pinned map in them. For people and for
//! `nsenter` there is a link under the lab's directory: `nsenter --net=DIRECTORY/NAME/net`.
//!
//! The mount namespace shows the network namespace's own `/sys/class/net`, and a bpf file system
//! of its own at `/sys/fs/bpf`: what an agent pins there is seen in this host only.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::{self, Output, Process};

/// Where a namespace's own bpf file system lies, as programs in it see it.
pub const BPF_DIRECTORY: &str = "/sys/fs/bpf";

/// A network namespace with the mounts that fit it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    directory: PathBuf,
    handles: Arc<Handles>,
}

#[derive(Debug)]
struct Handles {
    net: File,
    mount: File,
}

impl Namespace {
    /// Makes an empty namespace with its loopback device up; `directory` is made for it.
    pub(crate) fn new(name: &str, directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let handles = thread::scope(|scope| scope.spawn(make).join())
            .map_err(|_| anyhow::anyhow!("the thread that makes namespaces panicked"))?
            .with_context(|| {
                format!("cannot make the namespaces of `{name}`: the lab needs root")
            })?;
        let namespace = Self {
            name: name.to_owned(),
            directory,
            handles: Arc::new(handles),
        };
        std::os::unix::fs::symlink(namespace.path(), namespace.directory.join("net"))?;
        // A station that answers at once: no wait for duplicates, nobody asked for routers.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/default/accept_ra", "0")?;
        namespace.sysctl("net/ipv6/conf/default/router_solicitations", "0")?;
        namespace.run(["ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory for files of this namespace, the same inside and outside.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path that `ip link set … netns` and `nsenter --net=` take while the lab lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.handles.net.as_raw_fd()
        ))
    }

    /// A command that will run in here, with `/` as its working directory.
    ///
    /// Use [`Namespace::run`], [`Namespace::attempt`] or [`Namespace::start`] to run it: a child
    /// spawned in another way outlives a lab that is killed.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("PATH", path_with_system_programs())
            .env("LC_ALL", "C");
        let handles = Arc::clone(&self.handles);
        // SAFETY: between fork and exec the closure makes two system calls on descriptors that
        // it keeps open itself; it takes no lock and allocates nothing.
        unsafe {
            command.pre_exec(move || handles.enter());
        }
        command
    }

    /// Runs a program and its arguments to the end.
    ///
    /// # Errors
    ///
    /// Where it cannot be started, or its exit status is not 0; the error quotes what it said.
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Output> {
        let output = self.attempt(words)?;
        output
            .successful()
            .with_context(|| format!("in `{}`", self.name))
    }

    /// Runs a program and its arguments to the end; any exit status will do.
    pub fn attempt<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Output> {
        process::attempt(&mut self.command_of(words)?)
            .with_context(|| format!("in `{}`", self.name))
    }

    /// Starts a program that runs until it is dropped; its output goes to a file of that name in
    /// [`Namespace::directory`].
    pub fn start<S: AsRef<OsStr>>(
        &self,
        log: &str,
        words: impl IntoIterator<Item = S>,
    ) -> Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join(log))?;
        Process::start_logged(self.command_of(words)?, &log)
            .with_context(|| format!("in `{}`", self.name))
    }

    /// Calls a function on a thread that is in here.
    ///
    /// Sockets, taps and maps opened there stay usable on any thread.
    pub fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        let body = || -> io::Result<T> {
            // Threads share one idea of the root directory, and `setns` refuses to change it.
            unshare(CloneFlags::CLONE_FS)?;
            self.handles.enter()?;
            Ok(function())
        };
        match thread::scope(|scope| scope.spawn(body).join()) {
            Ok(result) => result.with_context(|| format!("cannot enter `{}`", self.name)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Writes a setting below `/proc/sys`, for example `net/ipv4/ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name);
        self.inside(|| fs::write(&path, value))?.with_context(|| {
            format!(
                "cannot write {value} to {} in `{}`",
                path.display(),
                self.name
            )
        })
    }

    /// Makes the host's own stack leave a device alone: it neither speaks nor listens IPv6 there.
    pub(crate) fn silence(&self, device: &str) -> Result<()> {
        self.sysctl(&format!("net/ipv6/conf/{device}/disable_ipv6"), "1")
    }

    fn command_of<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Command> {
        let mut words = words.into_iter();
        let program = words.next().context("a command needs a program")?;
        let mut command = self.command(program);
        command.args(words);
        Ok(command)
    }
}

impl Handles {
    /// Moves the calling thread, which must not share its root directory with another.
    fn enter(&self) -> io::Result<()> {
        setns(&self.net, CloneFlags::CLONE_NEWNET)?;
        setns(&self.mount, CloneFlags::CLONE_NEWNS)?;
        Ok(())
    }
}

/// Gives the calling thread namespaces of its own and returns what holds them.
fn make() -> Result<Handles> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let nothing: Option<&str> = None;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .context("cannot make the mounts private")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, nothing).context("cannot mount /sys")?;
    mount(
        Some("bpf"),
        BPF_DIRECTORY,
        Some("bpf"),
        flags,
        Some("mode=0700"),
    )
    .with_context(|| format!("cannot mount a bpf file system on {BPF_DIRECTORY}"))?;
    Ok(Handles {
        net: File::open("/proc/thread-self/ns/net")?,
        mount: File::open("/proc/thread-self/ns/mnt")?,
    })
}

/// `PATH`, with the places of `ip` and `tcpdump` that `su` and `sudo` may leave out.
pub(crate) fn path_with_system_programs() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}
