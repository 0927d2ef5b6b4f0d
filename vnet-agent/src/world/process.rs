//! Who is that other process?
//!
//! Input: /proc. Output: a name to put into a message, so that whoever reads it knows what to stop.

use std::fmt;
use std::fs;
use std::path::Path;

/// A process that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, or its short name where it has no command line.
    pub command: String,
}

impl Process {
    /// The process of this id; none where there is none (in this PID namespace).
    pub fn of(pid: u32) -> Option<Self> {
        let directory = Path::new("/proc").join(pid.to_string());
        let line = fs::read(directory.join("cmdline")).ok()?;
        let words: Vec<_> = line
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let mut command = words.join(" ").trim().to_owned();
        if command.is_empty() {
            command = fs::read_to_string(directory.join("comm"))
                .ok()?
                .trim()
                .to_owned();
        }
        Some(Self { pid, command })
    }

    /// A process that holds the tun or tap device of this name open, in the network
    /// namespace of the calling thread, as far as we may look into others.
    pub fn with_tap_open(name: &str) -> Option<Self> {
        let here = fs::read_link("/proc/thread-self/ns/net").ok()?;
        let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| has_tap_open(*pid, name, &here))
            .find_map(Self::of)
    }
}

/// `fdinfo` of an open /dev/net/tun has a line `iff:` with the name of its device.
fn has_tap_open(pid: u32, name: &str, namespace: &Path) -> bool {
    let directory = Path::new("/proc").join(pid.to_string());
    let Ok(descriptors) = fs::read_dir(directory.join("fd")) else {
        return false;
    };
    let mut open = descriptors.filter_map(Result::ok).filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("/dev/net/tun"))
    });
    let holds = open.any(|entry| {
        let info = fs::read_to_string(directory.join("fdinfo").join(entry.file_name()));
        info.is_ok_and(|info| {
            info.lines()
                .any(|line| line.strip_prefix("iff:").map(str::trim) == Some(name))
        })
    });
    // Threads may be in different namespaces; the descriptor belongs to all of them.
    let threads = || {
        fs::read_dir(directory.join("task"))
            .into_iter()
            .flatten()
            .flatten()
    };
    holds
        && threads().any(|thread| {
            fs::read_link(thread.path().join("ns/net")).is_ok_and(|its| its == namespace)
        })
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_command_line() {
        let own = Process::of(std::process::id()).unwrap();
        let program = std::env::args().next().unwrap();
        assert!(own.to_string().contains(&program), "{own}");
    }

    #[test]
    fn a_process_that_is_not_there_is_none() {
        assert_eq!(Process::of(u32::MAX), None);
    }
}
