//! How does the service manager learn how we are?
//!
//! Input: `NOTIFY_SOCKET`, which systemd sets for a service of `Type=notify`. Output: datagrams
//! of `NAME=value` lines, as sd_notify(3) has them. Without the variable nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// By the environment of this process.
    ///
    /// # Errors
    ///
    /// `NOTIFY_SOCKET` is set to something that is no address of a Unix socket.
    pub fn from_environment() -> io::Result<Self> {
        std::env::var_os("NOTIFY_SOCKET").map_or(Ok(Self { manager: None }), |to| Self::to(&to))
    }

    /// To this address: a path, or `@name` for an abstract socket.
    ///
    /// # Errors
    ///
    /// It is no address of a Unix socket, or there are no more file descriptors.
    pub fn to(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not stop us.
        socket.set_nonblocking(true)?;
        Ok(Self {
            manager: Some((socket, address)),
        })
    }

    /// The data plane forwards, and questions are answered.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The agent is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.manager
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::warn!(%error, state, "cannot tell the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_at_a_path_hears_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        notifier.ready();
        notifier.status("two\nlines");
        notifier.stopping();
        assert_eq!(hear(&manager), "READY=1");
        assert_eq!(hear(&manager), "STATUS=two lines");
        assert_eq!(hear(&manager), "STOPPING=1");
    }

    #[test]
    fn a_manager_on_an_abstract_socket_hears_too() {
        let name = format!("vnet-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::to(OsStr::new(&format!("@{name}")))
            .unwrap()
            .ready();
        assert_eq!(hear(&manager), "READY=1");
    }

    #[test]
    fn a_manager_that_went_away_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        Notifier::to(directory.path().join("gone").as_os_str())
            .unwrap()
            .ready();
        Notifier { manager: None }.ready();
    }

    #[test]
    fn an_address_of_another_kind_is_refused() {
        assert!(Notifier::to(OsStr::new("vsock:2:1234")).is_err());
    }
}
