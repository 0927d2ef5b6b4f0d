//! How is the agent reached, and what if it is not?
//!
//! Input: a path of the API and perhaps a value. Output: the agent's answer as it came, or an
//! error that names the cause and the cure.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use nix::unistd::{Gid, Group, Uid, User, geteuid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;
use vnet_agent::api::Refusal;

use crate::remote::{Remote, RemoteError};

/// For a request as a whole.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer: a million rules are shorter.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// The longest line of a stream.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How long a broken conversation is asked why.
const REASON_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the agent is.
pub enum Place {
    /// On this host: its socket.
    Here(PathBuf),
    /// On another.
    Elsewhere(Remote),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(socket) => write!(f, "on {}", socket.display()),
            Self::Elsewhere(remote) => write!(f, "at {}", remote.at),
        }
    }
}

/// What a conversation goes over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The agent, by its socket or by its address.
pub struct Client {
    place: Place,
}

/// An answer of the agent: JSON, as it came.
pub struct Answer(Bytes);

impl Answer {
    /// The agent's own words.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The answer as a value.
    ///
    /// # Errors
    /// The agent speaks another version of the API.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.0).map_err(|error| ClientError::Strange(error.to_string()))
    }
}

impl Client {
    /// A client of the agent that is there. Nothing is connected yet.
    pub const fn new(place: Place) -> Self {
        Self { place }
    }

    /// Asks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<Answer, ClientError> {
        self.request(Method::DELETE, path, Bytes::new()).await
    }

    /// Hands over a value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post(&self, path: &str, value: &impl Serialize) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(value).map_err(|error| self.broken(&error))?;
        self.request(Method::POST, path, body.into()).await
    }

    /// Hands over what is to be changed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn patch(&self, path: &str, value: &impl Serialize) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(value).map_err(|error| self.broken(&error))?;
        self.request(Method::PATCH, path, body.into()).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        match timeout(TIMEOUT, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    /// Reads an answer that goes on and on, a line at a time, until `each` says that it is enough
    /// (false) or the agent ends it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lines(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<(), ClientError> {
        let sent = timeout(TIMEOUT, self.send(Method::GET, path, Bytes::new())).await;
        let response = sent.map_err(|_| self.silent())??;
        if !response.status().is_success() {
            return self.receive(response).await.map(drop);
        }
        let mut body = response.into_body();
        let mut line = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            for &byte in frame.data_ref().into_iter().flatten() {
                if byte != b'\n' {
                    line.push(byte);
                } else if !each(&String::from_utf8_lossy(&std::mem::take(&mut line))) {
                    return Ok(());
                }
                if line.len() > LINE_BYTES_MAX {
                    let strange = format!("a line of more than {LINE_BYTES_MAX} bytes");
                    return Err(ClientError::Strange(strange));
                }
            }
        }
        Ok(())
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let response = self.send(method, path, body).await?;
        self.receive(response).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await?))
            .await
            .map_err(|error| self.broken(&error))?;
        // It ends with the runtime at the latest.
        let connection = tokio::spawn(connection);
        match sender.send_request(request).await {
            Ok(response) => Ok(response),
            Err(error) => {
                // Who was refused learns why from the connection, or from the request.
                let ended = timeout(REASON_TIMEOUT, connection).await;
                Err(match ended {
                    Ok(Ok(Err(why))) if self.cause(&why).is_some() => self.broken(&why),
                    _ => self.broken(&error),
                })
            }
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, ClientError> {
        match &self.place {
            Place::Here(socket) => match UnixStream::connect(socket).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(ClientError::connecting(socket, error)),
            },
            Place::Elsewhere(remote) => Ok(Box::new(remote.connect().await?)),
        }
    }

    fn cause(&self, error: &(dyn std::error::Error + 'static)) -> Option<RemoteError> {
        match &self.place {
            Place::Here(_) => None,
            Place::Elsewhere(remote) => remote.cause(error),
        }
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent {
            place: self.place.to_string(),
        }
    }

    async fn receive(&self, response: Response<Incoming>) -> Result<Answer, ClientError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.broken(error.as_ref()))?
            .to_bytes();
        if status.is_success() {
            return Ok(Answer(body));
        }
        Err(match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => ClientError::Refused { status, refusal },
            Err(_) => ClientError::Strange(format!("HTTP status {status}")),
        })
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        match self.cause(error) {
            Some(cause) => cause.into(),
            None => ClientError::Broken {
                place: self.place.to_string(),
                error: error.to_string(),
            },
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket.
    #[error("cannot reach the agent: there is no socket {}", .socket.display())]
    NoSocket {
        /// Where none is.
        socket: PathBuf,
    },
    /// There is a socket, and nobody listens on it.
    #[error("cannot reach the agent: nobody listens on {}", .socket.display())]
    NobodyListens {
        /// Which one.
        socket: PathBuf,
    },
    /// We may not connect.
    #[error("cannot reach the agent: {user} may not use {}", .socket.display())]
    Denied {
        /// To which socket.
        socket: PathBuf,
        /// Who we are.
        user: String,
        /// Whose it is, where we may see that.
        owner: Option<SocketOwner>,
    },
    /// So many wait for it already that the kernel lets no more wait.
    #[error("the agent on {} has too many clients now", .socket.display())]
    Crowded {
        /// Which socket.
        socket: PathBuf,
    },
    /// The kernel has another reason.
    #[error("cannot reach the agent on {}: {error}", .socket.display())]
    Unreachable {
        /// Which socket.
        socket: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// No answer came in time.
    #[error("the agent {place} did not answer within {} s", TIMEOUT.as_secs())]
    Silent {
        /// Where it is.
        place: String,
    },
    /// The conversation broke off.
    #[error("the conversation with the agent {place} broke off: {error}")]
    Broken {
        /// Where it is.
        place: String,
        /// How.
        error: String,
    },
    /// The agent that is elsewhere cannot be reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// What came is no answer of ours.
    #[error("not an answer of this version's agent: {0}")]
    Strange(String),
    /// The agent said no.
    #[error("{refusal}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        refusal: Refusal,
    },
}

/// Who may use a socket.
#[derive(Debug)]
pub struct SocketOwner {
    /// The group, by name where it has one.
    group: String,
    /// Whether its members may connect.
    for_group: bool,
}

impl ClientError {
    fn connecting(socket: &Path, error: io::Error) -> Self {
        let socket = socket.to_owned();
        match error.kind() {
            ErrorKind::NotFound => Self::NoSocket { socket },
            ErrorKind::ConnectionRefused => Self::NobodyListens { socket },
            ErrorKind::WouldBlock => Self::Crowded { socket },
            ErrorKind::PermissionDenied => {
                let owner = socket_owner(&socket);
                Self::Denied {
                    socket,
                    user: user_name(geteuid()),
                    owner,
                }
            }
            _ => Self::Unreachable { socket, error },
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> Option<String> {
        let running = "is the agent running? systemctl status vnet-agent";
        Some(match self {
            Self::NoSocket { .. } => {
                format!("{running}; does it listen elsewhere? --socket PATH or VNET_SOCKET")
            }
            Self::NobodyListens { .. } => format!("it ended without removing it; {running}"),
            Self::Denied { user, owner, .. } => match owner {
                Some(SocketOwner {
                    group,
                    for_group: true,
                }) => format!(
                    "its group {group} may: usermod -aG {group} {user}, and log in anew; or use sudo"
                ),
                Some(SocketOwner { .. }) => {
                    "only root may; use sudo, or set `socket_group` in the agent's settings".into()
                }
                None => "use sudo, or ask for access to its directory".into(),
            },
            Self::Remote(error) => error.cure(),
            Self::Unreachable { .. } => return None,
            Self::Crowded { .. } | Self::Silent { .. } => {
                "it is busy or stuck; see its log: journalctl -u vnet-agent".into()
            }
            Self::Broken { .. } => format!("did the agent end? {running}"),
            Self::Strange(_) => {
                "is it the vnet agent's socket, and are vnetctl and the agent of one version?"
                    .into()
            }
            Self::Refused { refusal, .. } => return refusal.cure.clone(),
        })
    }
}

fn socket_owner(socket: &Path) -> Option<SocketOwner> {
    let found = fs::metadata(socket).ok()?;
    let group = match Group::from_gid(Gid::from_raw(found.gid())) {
        Ok(Some(group)) => group.name,
        Ok(None) | Err(_) => found.gid().to_string(),
    };
    Some(SocketOwner {
        group,
        for_group: found.mode() & 0o020 != 0,
    })
}

fn user_name(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}

/// A path with a query, both encoded; parameters without a value are left out.
pub fn path(segments: &[&str], query: &[(&str, Option<String>)]) -> String {
    let mut path = String::from("/v1");
    for segment in segments {
        path.push('/');
        encode(segment, &mut path);
    }
    let mut separator = '?';
    for (key, value) in query {
        if let Some(value) = value {
            path.push(separator);
            path.push_str(key);
            path.push('=');
            encode(value, &mut path);
            separator = '&';
        }
    }
    path
}

/// Percent encoding of all but RFC 3986's unreserved characters.
fn encode(text: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for digit in [byte >> 4, byte & 15] {
                into.push(char::from(DIGITS[usize::from(digit)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_a_path() {
        assert_eq!(path(&["status"], &[]), "/v1/status");
        assert_eq!(
            path(
                &["links", "a/../b?c=d é"],
                &[("force", Some("true".into()))]
            ),
            "/v1/links/a%2F..%2Fb%3Fc%3Dd%20%C3%A9?force=true"
        );
        assert_eq!(
            path(
                &["rules"],
                &[
                    ("network", None),
                    ("source", Some("not 52:54&x".into())),
                    ("b", Some("".into()))
                ]
            ),
            "/v1/rules?source=not%2052%3A54%26x&b="
        );
    }

    #[test]
    fn who_is_denied_is_told_whom_to_ask() {
        let denied = |owner| ClientError::Denied {
            socket: "/run/vnet/agent.sock".into(),
            user: "eve".into(),
            owner,
        };
        let group = |for_group| {
            Some(SocketOwner {
                group: "vnet".into(),
                for_group,
            })
        };
        assert_eq!(
            denied(None).to_string(),
            "cannot reach the agent: eve may not use /run/vnet/agent.sock"
        );
        let cure = |owner| denied(owner).cure().unwrap();
        assert!(cure(group(true)).contains("usermod -aG vnet eve"));
        assert!(cure(group(false)).contains("socket_group"));
        assert!(cure(None).contains("sudo"));
    }

    #[test]
    fn the_kernels_reasons_are_told_apart() {
        let kind = |kind: ErrorKind| ClientError::connecting(Path::new("/x"), kind.into());
        assert!(matches!(
            kind(ErrorKind::NotFound),
            ClientError::NoSocket { .. }
        ));
        assert!(matches!(
            kind(ErrorKind::ConnectionRefused),
            ClientError::NobodyListens { .. }
        ));
        assert!(matches!(
            kind(ErrorKind::PermissionDenied),
            ClientError::Denied { owner: None, .. }
        ));
        assert!(matches!(
            kind(ErrorKind::WouldBlock),
            ClientError::Crowded { .. }
        ));
        assert!(matches!(
            kind(ErrorKind::InvalidInput),
            ClientError::Unreachable { .. }
        ));
    }
}
