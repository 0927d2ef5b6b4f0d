//! Is there a place to pin maps, programs and links?
//!
//! Input: the directory that the settings name. Output: that directory, on a bpf file system,
//! for root's eyes only; or an error that says what to do.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where a bpf file system is by convention; systemd mounts it there at boot.
const CUSTOMARY: &str = "/sys/fs/bpf";
const MODE: u32 = 0o700;

/// Why nothing can be pinned there.
#[derive(Debug, thiserror::Error)]
pub enum BpffsError {
    /// The directory lies on another file system.
    #[error(
        "{} is not on a bpf file system, and nothing can be pinned elsewhere; mount one \
         (mount -t bpf bpf {CUSTOMARY}) and set pin_directory to a directory on it",
        directory.display()
    )]
    OtherFileSystem {
        /// The directory.
        directory: PathBuf,
    },
    /// The customary place is empty, and nothing can be mounted on it.
    #[error(
        "cannot mount a bpf file system on {CUSTOMARY}: {source}; mount it beforehand \
         (mount -t bpf bpf {CUSTOMARY}), or run with CAP_SYS_ADMIN on a kernel with bpf"
    )]
    Mount {
        /// Why not.
        source: io::Error,
    },
    /// The directory cannot be made, looked at, or closed to others.
    #[error("cannot use {} to pin maps and programs: {source}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Makes sure that the directory is there, on a bpf file system, with mode 0700; mounts the file
/// system at the customary place if it should be there and is not.
///
/// # Errors
///
/// [`BpffsError`].
pub fn ensure(directory: &Path) -> Result<(), BpffsError> {
    let failed = |source| BpffsError::Directory {
        directory: directory.to_owned(),
        source,
    };
    if !lies_on_bpf(directory).map_err(failed)? {
        if !directory.starts_with(CUSTOMARY) || !is_empty(Path::new(CUSTOMARY)) {
            return Err(BpffsError::OtherFileSystem {
                directory: directory.to_owned(),
            });
        }
        mount_at_customary_place()?;
    }
    DirBuilder::new()
        .recursive(true)
        .mode(MODE)
        .create(directory)
        .map_err(failed)?;
    // Not the root of the file system, if that is what was named: it is not ours alone.
    if directory != Path::new(CUSTOMARY) {
        fs::set_permissions(directory, Permissions::from_mode(MODE)).map_err(failed)?;
    }
    Ok(())
}

/// Whether the directory, or the nearest one above it that exists, is on a bpf file system.
fn lies_on_bpf(directory: &Path) -> io::Result<bool> {
    let mut place = Some(directory);
    while let Some(path) = place {
        match statfs(path) {
            Ok(status) => return Ok(status.filesystem_type() == BPF_FS_MAGIC),
            Err(nix::Error::ENOENT) => place = path.parent(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn mount_at_customary_place() -> Result<(), BpffsError> {
    tracing::info!("mounting a bpf file system on {CUSTOMARY}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("bpf"),
        CUSTOMARY,
        Some("bpf"),
        flags,
        Some("mode=0700"),
    )
    .map_err(|error| BpffsError::Mount {
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_is_refused_with_a_cure() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("not").join("there");
        let error = ensure(&place).unwrap_err();
        assert!(
            matches!(error, BpffsError::OtherFileSystem { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
        assert!(
            !place.exists(),
            "nothing is made on a file system that will not do"
        );
    }
}
