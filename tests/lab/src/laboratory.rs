//! Who holds everything that a test builds, and what remains of it?
//!
//! A [`Lab`] owns one temporary directory. Hosts, guests and underlays keep the directory alive;
//! when the last of them is dropped it is removed, by a small program of its own (the janitor)
//! that waits for the lab to close a pipe. So it is removed too when the lab is killed, while
//! namespaces and programs go by the kernel's hand (see [`crate::Namespace`] and
//! [`crate::Process`]). After a panic the logs are printed first.
//!
//! `VNET_LAB_KEEP=1` keeps the directory.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::unistd::{Uid, setsid};

use crate::host::Host;
use crate::namespace::Namespace;
use crate::underlay::{Underlay, UnderlaySettings};

/// How many lines of each log are shown after a panic.
const LOG_LINES_SHOWN: usize = 80;

/// A workshop for one test.
#[derive(Debug)]
pub struct Lab {
    estate: Arc<Estate>,
    underlays: AtomicU8,
}

impl Lab {
    /// An empty lab; its name becomes part of its directory's.
    ///
    /// # Errors
    ///
    /// Where the process is not root.
    pub fn new(name: &str) -> Result<Self> {
        ensure!(
            Uid::effective().is_root(),
            "the lab makes network namespaces and mounts, and so needs root: run it with sudo"
        );
        Ok(Self {
            estate: Arc::new(Estate::new(name)?),
            underlays: AtomicU8::new(0),
        })
    }

    /// The directory that holds every file of this lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.estate.directory
    }

    /// A new host: a namespace of its own, connected to nothing yet.
    ///
    /// Names are for messages and directories; each host of a lab needs another.
    pub fn host(&self, name: &str) -> Result<Host> {
        let namespace = Namespace::new(name, self.new_directory(name)?)?;
        Ok(Host::new(namespace, Arc::clone(&self.estate)))
    }

    /// A new underlay for hosts to connect to. The first has the addresses 10.0.0.n and fd00::n,
    /// the second 10.0.1.n and fd00:0:0:1::n, and so on.
    pub fn underlay(&self, settings: UnderlaySettings) -> Result<Underlay> {
        let number = self.underlays.fetch_add(1, Ordering::Relaxed);
        let name = format!("underlay-{number}");
        let namespace = Namespace::new(&name, self.new_directory(&name)?)?;
        Underlay::new(namespace, Arc::clone(&self.estate), number, settings)
    }

    /// Two hosts, `one` and `two`, with `eth0` on one underlay.
    pub fn two_hosts(&self, settings: UnderlaySettings) -> Result<(Host, Host, Underlay)> {
        let underlay = self.underlay(settings)?;
        let one = self.host("one")?;
        let two = self.host("two")?;
        underlay.connect(&one, "eth0")?;
        underlay.connect(&two, "eth0")?;
        Ok((one, two, underlay))
    }

    fn new_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory().join(name);
        fs::create_dir(&path).with_context(|| format!("the name `{name}` is taken in this lab"))?;
        Ok(path)
    }
}

/// Runs a test in a lab of its own.
///
/// # Panics
///
/// Where the body fails, with its error; the lab then prints its logs as for any panic.
pub fn in_lab(name: &str, body: impl FnOnce(&Lab) -> Result<()>) {
    match Lab::new(name) {
        Ok(lab) => {
            if let Err(error) = body(&lab) {
                // The lab is dropped by this panic, and so knows that it has logs to show.
                panic!("{error:?}");
            }
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// The directory of a lab, and whoever cleans it up.
#[derive(Debug)]
pub(crate) struct Estate {
    directory: PathBuf,
    logs: Mutex<Vec<PathBuf>>,
    janitor: Option<Child>,
}

impl Estate {
    fn new(name: &str) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("vnet-lab-{name}-"))
            .tempdir()
            .context("cannot make a temporary directory")?
            .keep();
        let keep = std::env::var_os("VNET_LAB_KEEP").is_some_and(|value| value != "0");
        let janitor = if keep {
            None
        } else {
            Some(start_janitor(&directory)?)
        };
        Ok(Self {
            directory,
            logs: Mutex::default(),
            janitor,
        })
    }

    /// Adds a file to those that are shown when a test fails.
    pub(crate) fn add_log(&self, path: PathBuf) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if !logs.contains(&path) {
            logs.push(path);
        }
    }

    fn show_logs(&self) {
        for path in self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            eprintln!("---- {} (its end)", path.display());
            match last_lines(path, LOG_LINES_SHOWN) {
                Ok(lines) => lines.iter().for_each(|line| eprintln!("{line}")),
                Err(error) => eprintln!("cannot be read: {error}"),
            }
        }
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        match &mut self.janitor {
            Some(janitor) => {
                // Closes the pipe first: that is what the janitor waits for.
                let _ = janitor.wait();
            }
            None => eprintln!("the lab's files are in {}", self.directory.display()),
        }
    }
}

/// The last lines of a text file, without what a terminal would take for a command.
pub(crate) fn last_lines(path: &Path, count: usize) -> io::Result<VecDeque<String>> {
    let mut lines = VecDeque::new();
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        if lines.len() == count {
            lines.pop_front();
        }
        let line = String::from_utf8_lossy(&line?).into_owned();
        lines.push_back(
            line.chars()
                .filter(|c| !c.is_control() || *c == '\t')
                .collect(),
        );
    }
    Ok(lines)
}

/// Starts the program that removes the directory once this process closes its pipe, or is gone.
fn start_janitor(directory: &Path) -> Result<Child> {
    let mut command = Command::new("/bin/sh");
    command
        // What is killed together with the lab may write for another moment.
        .args([
            "-c",
            "read -r nothing; rm -rf -- \"$1\" || { sleep 1; rm -rf -- \"$1\"; }",
            "sh",
        ])
        .arg(directory)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: between fork and exec the closure makes one system call and touches no memory.
    unsafe {
        // A session of its own: Control-C at the terminal must not reach it.
        command.pre_exec(|| setsid().map(drop).map_err(io::Error::from));
    }
    command
        .spawn()
        .context("cannot start the program that cleans up")
}
