//! Is this the only agent here?
//!
//! Two agents on the same pins would undo each other's work: `bpf_link_update` has no
//! compare-and-swap. Input: the path of a lock file, on an ordinary file system (bpf has no plain
//! files). Output: a [`Lock`] to keep for as long as the agent runs, or the name of who has it.
//!
//! The lock belongs to the open file, so the kernel frees it however its holder ends. The file
//! stays: to remove it would let two agents lock two files of the same name.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::process::Process;

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another agent runs on the same pins: {holder} holds {}; stop it first, or give this one other pins", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// The file cannot be made, opened or written.
    #[error("cannot use the lock file {}: {source}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Who has a lock, as far as the file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This process.
    Process(Process),
    /// The process of this id, in a PID namespace that we cannot see into.
    Elsewhere(u32),
    /// A process that has not written its id.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(process) => process.fmt(f),
            Self::Elsewhere(pid) => write!(f, "process {pid} of another PID namespace"),
            Self::Unknown => f.write_str("an unknown process"),
        }
    }
}

impl Lock {
    /// Takes the lock and writes this process's id into the file; makes the file and its
    /// directory if they are not there.
    ///
    /// # Errors
    ///
    /// [`LockError`].
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::File {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    // A bound, in case the file is not ours at all.
    let read = file.take(32).read_to_string(&mut text);
    match read.ok().and_then(|_| text.trim().parse().ok()) {
        None => Holder::Unknown,
        Some(pid) => Process::of(pid).map_or(Holder::Elsewhere(pid), Holder::Process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_again_once_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep").join("agent.lock");
        let lock = Lock::take(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        drop(lock);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_second_taker_is_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.lock");
        let _lock = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        let own = Process::of(std::process::id()).unwrap();
        assert!(error.to_string().contains(&own.to_string()), "{error}");
    }

    #[test]
    fn a_holder_that_wrote_nothing_sensible_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.lock");
        fs::write(&path, "who knows\n").unwrap();
        let file = File::open(&path).unwrap();
        file.try_lock().unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(
            matches!(
                error,
                LockError::Held {
                    holder: Holder::Unknown,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.lock");
        std::os::unix::fs::symlink(directory.path().join("other"), &path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(matches!(error, LockError::File { .. }), "{error}");
    }
}
