//! Where does the agent listen, and who may ask?
//!
//! Input: the path and the group of the settings. Output: a listener whose socket only root, or
//! root and the group, can connect to, from its first moment on.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown,
};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::Group;
use tokio::net::UnixListener;

/// Mode of the socket where no group may use it.
const MODE_OWNER: u32 = 0o600;
/// Mode of the socket where a group may.
const MODE_GROUP: u32 = 0o660;
/// Mode of the directories that are made for it.
const MODE_DIRECTORY: u32 = 0o755;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The directory is not there and cannot be made.
    #[error("cannot make the directory {path} for the socket: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel takes no path of this length.
    #[error("the socket path {0} is too long: the kernel takes at most 107 bytes")]
    TooLong(PathBuf),
    /// Another process listens.
    #[error("another agent already listens on {0}; stop it first, or set another `socket`")]
    Taken(PathBuf),
    /// There is something that we did not make.
    #[error("{0} exists and is not a socket; remove it, or set another `socket`")]
    NotASocket(PathBuf),
    /// The group of the settings does not exist.
    #[error("the socket's group {0:?} does not exist; make it (groupadd --system {0})")]
    NoGroup(String),
    /// A step of the kernel's failed.
    #[error("cannot {step} the socket {path}: {source}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The file of a socket that we listen on; removed when dropped, unless another agent's has taken
/// its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Open for nothing (O_PATH): as long as it is, no other file has the same inode number.
    ours: File,
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = match (fs::symlink_metadata(&self.path), self.ours.metadata()) {
            (Ok(found), Ok(ours)) => (found.dev(), found.ino()) == (ours.dev(), ours.ino()),
            _ => false,
        };
        if is_ours {
            // Nothing can be done about a failure, and the next agent removes a stale socket.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on `path`, with the parent directory made where it is missing and a stale socket
/// removed. Only the owner may connect, or with `group` its members too.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// See [`SocketError`]; nothing is left behind then, save a directory.
pub fn listen_on(
    path: &Path,
    group: Option<&str>,
) -> Result<(UnixListener, SocketFile), SocketError> {
    let failed = |step| {
        move |source: io::Error| SocketError::Kernel {
            step,
            path: path.to_owned(),
            source,
        }
    };
    let address = UnixAddr::new(path).map_err(|_| SocketError::TooLong(path.to_owned()))?;
    let group = group.map(find_group).transpose()?;
    make_directory(path)?;
    remove_stale(path, &address)?;

    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let owned = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|error| failed("make")(error.into()))?;
    // bind(2) gives the file the mode of the socket's own inode, less the umask: set before, there
    // is no moment in which others can connect.
    fchmod(&owned, Mode::from_bits_truncate(MODE_OWNER))
        .map_err(|error| failed("protect")(error.into()))?;
    bind(owned.as_raw_fd(), &address).map_err(|error| match error {
        Errno::EADDRINUSE => SocketError::Taken(path.to_owned()),
        error => failed("bind")(error.into()),
    })?;
    let ours = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed("look at"))?;
    let file = SocketFile {
        path: path.to_owned(),
        ours,
    };
    if let Some(group) = group {
        chown(path, None, Some(group.gid.as_raw())).map_err(failed("give its group"))?;
        fs::set_permissions(path, Permissions::from_mode(MODE_GROUP))
            .map_err(failed("open to its group"))?;
    }
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    listen(&owned, backlog).map_err(|error| failed("listen on")(error.into()))?;
    let listener = UnixListener::from_std(StdUnixListener::from(owned)).map_err(failed("watch"))?;
    Ok((listener, file))
}

fn find_group(name: &str) -> Result<Group, SocketError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group),
        Ok(None) | Err(_) => Err(SocketError::NoGroup(name.to_owned())),
    }
}

fn make_directory(path: &Path) -> Result<(), SocketError> {
    match path.parent() {
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => Ok(()),
        Some(parent) => DirBuilder::new()
            .recursive(true)
            .mode(MODE_DIRECTORY)
            .create(parent)
            .map_err(|source| SocketError::Directory {
                path: parent.to_owned(),
                source,
            }),
    }
}

/// Removes the socket of an agent that is no more.
fn remove_stale(path: &Path, address: &UnixAddr) -> Result<(), SocketError> {
    let failed = |step| {
        move |source: io::Error| SocketError::Kernel {
            step,
            path: path.to_owned(),
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|error| failed("probe")(error.into()))?;
    match connect(probe.as_raw_fd(), address) {
        // EAGAIN: somebody listens, with a full backlog.
        Ok(()) | Err(Errno::EAGAIN) => Err(SocketError::Taken(path.to_owned())),
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed("remove the stale")),
        Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(failed("probe")(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use nix::unistd::getegid;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_socket_is_for_its_owner_alone_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/vnet/agent.sock");
        let (listener, file) = listen_on(&path, None).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o755);
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn with_a_group_its_members_may_connect_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let group = Group::from_gid(getegid()).unwrap().unwrap();
        let (_listener, _file) = listen_on(&path, Some(&group.name)).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert_eq!(fs::metadata(&path).unwrap().gid(), group.gid.as_raw());
    }

    #[tokio::test]
    async fn a_group_that_is_not_there_is_named_and_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/agent.sock");
        let error = listen_on(&path, Some("no-such-group-here")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("groupadd --system no-such-group-here"),
            "{error}"
        );
        assert!(!path.parent().unwrap().exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        drop(StdUnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_listener, _file) = listen_on(&path, None).unwrap();
        let error = listen_on(&path, None).unwrap_err();
        assert!(matches!(error, SocketError::Taken(_)), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_successors_socket_survives_its_predecessor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let (listener, first) = listen_on(&path, None).unwrap();
        drop(listener);
        let (_listener, _second) = listen_on(&path, None).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        fs::write(&path, "precious").unwrap();
        let error = listen_on(&path, None).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

        let long = directory.path().join("x".repeat(120));
        assert!(matches!(
            listen_on(&long, None),
            Err(SocketError::TooLong(_))
        ));
    }
}
