//! How is an agent reached that is elsewhere, and what if it is not?
//!
//! Input: where it is, and the file of an operator's or a reader's certificate. Output: a connection
//! over TLS 1.3 to a host of the overlay whose authority vouches for both ends, or an error that
//! names the cause and the cure.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use vnet_agent::api::remote::PORT_DEFAULT;
use vnet_agent::api::remote::tls::OperatorTls;
use vnet_agent::identity::{Bundle, Role};
use vnet_agent::store::secret::{SecretError, read_bundle};

use crate::ca::now_unix_s;

/// Where an agent is: `[NAME@]HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What it is called in the overlay, where that is to be made sure.
    pub name: Option<String>,
    /// What is dialled, with the port.
    pub dialled: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}@{}", self.dialled),
            None => f.write_str(&self.dialled),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, place) = match text.split_once('@') {
            Some((name, place)) => (Some(name), place),
            None => (None, text),
        };
        if let Some(name) = name {
            vnet_agent::identity::check_host(name).map_err(|error| error.to_string())?;
        }
        let dialled = vnet_agent::settings::control::dialled(place, PORT_DEFAULT);
        let dialled = dialled.ok_or_else(|| {
            format!(
                "{place:?} is no address to dial; write 10.0.0.1:6083, [fd00::1]:6083 or a name"
            )
        })?;
        Ok(Self {
            name: name.map(str::to_owned),
            dialled,
        })
    }
}

/// The agent, elsewhere.
pub struct Remote {
    /// Where.
    pub at: Address,
    /// The file of the certificate; nothing where none was named.
    pub credentials: Option<PathBuf>,
}

impl Remote {
    /// Makes a connection.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>, RemoteError> {
        let bundle = self.bundle()?;
        let tls = OperatorTls::new(&bundle).map_err(|error| self.refused(&bundle, error))?;
        let stream = TcpStream::connect(&self.at.dialled)
            .await
            .map_err(|error| RemoteError::Unreachable {
                at: self.at.clone(),
                error,
            })?;
        let (stream, says) = match tls.greet(stream).await {
            Ok(greeted) => greeted,
            Err(error) => {
                return Err(match tls_cause(&error) {
                    Some(cause) => self.refused(&bundle, cause.clone()),
                    None => RemoteError::NoTls {
                        at: self.at.clone(),
                        error,
                    },
                });
            }
        };
        match &self.at.name {
            Some(name) if *name != says.name => Err(RemoteError::OtherHost {
                at: self.at.clone(),
                found: says.name,
            }),
            _ => Ok(stream),
        }
    }

    fn bundle(&self) -> Result<Bundle, RemoteError> {
        let Some(path) = &self.credentials else {
            return Err(RemoteError::NoCredentials);
        };
        let bundle = read_bundle(path)?;
        let says = bundle.says();
        if says.role.is_host() {
            return Err(RemoteError::NotForPeople {
                path: path.clone(),
                role: says.role,
            });
        }
        if now_unix_s().is_ok_and(|now| says.life.is_over(now)) {
            return Err(RemoteError::Over {
                path: path.clone(),
                name: says.name.clone(),
                role: says.role,
            });
        }
        Ok(bundle)
    }

    /// What an error in a conversation means, where TLS is its cause.
    pub fn cause(&self, error: &(dyn StdError + 'static)) -> Option<RemoteError> {
        let cause = tls_cause(error)?.clone();
        let bundle = self.bundle().ok()?;
        Some(self.refused(&bundle, cause))
    }

    fn refused(&self, bundle: &Bundle, error: TlsError) -> RemoteError {
        let path = self.credentials.clone().unwrap_or_default();
        RemoteError::Tls(Box::new(Disbelief {
            at: self.at.clone(),
            path,
            name: bundle.says().name.clone(),
            authority: bundle.authority_fingerprint().to_string(),
            error,
        }))
    }
}

/// The error of TLS behind another.
fn tls_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next: Option<&'a (dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What an error of a stream wraps is not its source, but it itself.
        next = match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    None
}

/// Why an agent that is elsewhere does not answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No file was named.
    #[error("who asks an agent elsewhere has to show a certificate, and none is named")]
    NoCredentials,
    /// The file is not there, or is none.
    #[error("the certificate to show: {0}")]
    Unreadable(#[from] SecretError),
    /// It is a host's.
    #[error("{} is a certificate for the role {role}", path.display())]
    NotForPeople {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        role: Role,
    },
    /// It is over.
    #[error("the certificate in {} is over", path.display())]
    Over {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        name: String,
        /// What for.
        role: Role,
    },
    /// Nobody is there.
    #[error("cannot reach the agent at {}: {error}", at.dialled)]
    Unreachable {
        /// Where.
        at: Address,
        /// What the kernel says.
        error: io::Error,
    },
    /// Something else is there.
    #[error("what listens at {} does not speak TLS: {error}", at.dialled)]
    NoTls {
        /// Where.
        at: Address,
        /// How it broke off.
        error: io::Error,
    },
    /// Another host is there.
    #[error("{} is {found}, and not {}", at.dialled, at.name.as_deref().unwrap_or("?"))]
    OtherHost {
        /// Where.
        at: Address,
        /// What it is called.
        found: String,
    },
    /// One end does not believe the other.
    #[error("{}", .0.words())]
    Tls(Box<Disbelief>),
}

/// That one end does not believe the other.
#[derive(Debug)]
pub struct Disbelief {
    at: Address,
    /// The file that was shown.
    path: PathBuf,
    /// Whose it is.
    name: String,
    /// Who vouches for it.
    authority: String,
    /// What TLS says.
    error: TlsError,
}

impl Disbelief {
    fn words(&self) -> String {
        let Self { name, error, .. } = self;
        let at = &self.at.dialled;
        match meaning(error) {
            Meaning::ForeignHost => format!("the certificate at {at} is of another authority"),
            Meaning::NoHost => format!("the certificate at {at} is not a host's"),
            Meaning::HostOver => format!("the certificate at {at} is over, or not good yet"),
            Meaning::Foreign => format!("the agent at {at} believes another authority"),
            Meaning::Over => {
                format!("the agent at {at} says that the certificate of {name} is over")
            }
            Meaning::NotApi => format!("what listens at {at} is not the API"),
            Meaning::Other => format!("TLS with {at}: {error}"),
        }
    }

    fn cure(&self) -> String {
        match meaning(&self.error) {
            Meaning::ForeignHost | Meaning::Foreign => format!(
                "{} is of the authority {}: is it of the same overlay as the agent?",
                self.path.display(),
                self.authority
            ),
            Meaning::NoHost => {
                "is it an agent of this version? `vnetctl ca issue` makes its identity anew".into()
            }
            Meaning::HostOver => {
                "the host's `vnetctl status` says how to renew it; do the clocks agree?".into()
            }
            Meaning::Over => issue(&self.name, "operator"),
            Meaning::NotApi => format!("is that the port? {PORT}"),
            Meaning::Other => "see the agent's log: journalctl -u vnet-agent".into(),
        }
    }
}

/// What an error of TLS means to the one who asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    ForeignHost,
    NoHost,
    HostOver,
    Foreign,
    Over,
    NotApi,
    Other,
}

fn meaning(error: &TlsError) -> Meaning {
    use CertificateError as Bad;
    match error {
        TlsError::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer | Bad::BadSignature => Meaning::ForeignHost,
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. } => Meaning::HostOver,
            _ => Meaning::NoHost,
        },
        TlsError::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => Meaning::Foreign,
            AlertDescription::CertificateExpired => Meaning::Over,
            AlertDescription::NoApplicationProtocol => Meaning::NotApi,
            _ => Meaning::Other,
        },
        TlsError::InvalidMessage(_) | TlsError::NoApplicationProtocol => Meaning::NotApi,
        _ => Meaning::Other,
    }
}

const PORT: &str = "the API's is `api` under [agent] of its settings; it is off unless that is set";

fn issue(name: &str, role: &str) -> String {
    format!("vnetctl ca issue {name} --role {role}, where the authority is")
}

impl RemoteError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        let make = issue("YOUR-NAME", "operator");
        match self {
            Self::NoCredentials => {
                format!(
                    "name its file: --credentials FILE or VNET_CREDENTIALS; to make one: {make}"
                )
            }
            Self::Unreadable(_) => format!("to make one: {make}"),
            Self::NotForPeople { .. } => format!("the API is for people: {make}"),
            Self::Over { name, role, .. } => issue(name, &role.to_string()),
            Self::Unreachable { .. } | Self::NoTls { .. } => {
                format!("is the agent running, and is that its address and port? {PORT}")
            }
            Self::OtherHost { found, .. } => {
                format!("say {found}@… if that is the one that is meant")
            }
            Self::Tls(disbelief) => disbelief.cure(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_say_who_is_expected_and_has_a_port_in_the_end() {
        for (text, name, dialled) in [
            ("10.0.0.1", None, "10.0.0.1:6083"),
            ("hub@10.0.0.1:7", Some("hub"), "10.0.0.1:7"),
            ("hub@[fd00::1]:7", Some("hub"), "[fd00::1]:7"),
            ("hub.example.org", None, "hub.example.org:6083"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.name.as_deref(), &*address.dialled),
                (name, dialled)
            );
        }
        for text in [
            "",
            "@10.0.0.1",
            "hub@",
            "a b@10.0.0.1",
            "10.0.0.1:0",
            "a@b@c",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_error_of_tls_is_found_behind_others() {
        let inner = TlsError::AlertReceived(AlertDescription::UnknownCA);
        let error = io::Error::new(io::ErrorKind::InvalidData, inner.clone());
        assert_eq!(tls_cause(&error), Some(&inner));
        let around = io::Error::other(error);
        assert_eq!(tls_cause(&around), Some(&inner));
        assert_eq!(tls_cause(&io::Error::other("no")), None);
    }
}
