//! Who is who? The overlay's own certificate authority, the certificates of hosts and of those who
//! run them, and the tokens that hosts join with.
//!
//! Input: texts of files and requests, and the time. Output: certificates, what they say, and why
//! one is refused. Keys are made here, with the system's randomness; otherwise nothing does I/O:
//! files are `store::secret`'s affair, connections `overlay::via`'s.
//!
//! A certificate says two things about its holder: the name (the subject's common name) and the role
//! (the DNS name [`Role::server_name`]). So an agent that asks TLS for the proxy's DNS name is sure,
//! by the rules that every TLS library knows, to talk to a proxy and not to another agent.
//!
//! The same rules keep hosts and people apart. An operator's certificate is good for TLS clients alone
//! (extended key usage) and has no host's DNS name: nobody who dials takes its holder for an agent or
//! a proxy. Where it is shown by one who dials, every listener asks for the role: the control channel
//! and links let in hosts, the API operators and readers.

pub mod authority;
pub mod bundle;
pub mod certificate;
pub mod life;
pub mod revoked;
pub mod token;
pub mod trust;

pub use authority::Authority;
pub use bundle::{Bundle, KeyAndRequest};
pub use certificate::{Certificate, CertificateFingerprint};
pub use token::{Invite, Invites, Token};

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::model::problem::{BadName, check_name};

/// What the holder of a certificate is in the overlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It dials the proxy.
    #[default]
    Agent,
    /// It is dialled.
    Proxy,
    /// Somebody who may ask any agent's API for anything.
    Operator,
    /// Somebody who may ask it questions, and have it plan.
    Reader,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Proxy, Self::Operator, Self::Reader];

    /// Whether a host holds it: one that others may dial, and that belongs to the overlay.
    pub const fn is_host(self) -> bool {
        matches!(self, Self::Agent | Self::Proxy)
    }

    /// The DNS name in the certificates of this role. `.internal` belongs to nobody on the
    /// Internet, by ICANN's decision of 2024.
    pub const fn server_name(self) -> &'static str {
        match self {
            Self::Agent => "agent.vnet.internal",
            Self::Proxy => "proxy.vnet.internal",
            Self::Operator => "operator.vnet.internal",
            Self::Reader => "reader.vnet.internal",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Proxy => "proxy",
            Self::Operator => "operator",
            Self::Reader => "reader",
        })
    }
}

/// The longest name of a host in the overlay: a link is called `to-` and this.
pub const HOST_NAME_BYTES_MAX: usize = 60;

/// Why something about an identity is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The name cannot be a host's.
    #[error("the host name {name:?} {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: BadName,
    },
    /// The name leaves no room for a link's name.
    #[error("the host name {0:?} is longer than {HOST_NAME_BYTES_MAX} characters")]
    LongName(String),
    /// The text has no such part.
    #[error("there is no {0} in it")]
    Missing(&'static str),
    /// A part is not what it says it is.
    #[error("its {what} cannot be read: {why}")]
    Unreadable {
        /// Which part.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The key is another certificate's.
    #[error("the key does not belong to the certificate")]
    ForeignKey,
    /// The certificate does not say a role.
    #[error("the certificate says no role")]
    NoRole,
    /// A life that no certificate can have.
    #[error("{0:?} is no length of time; write 90d, 12h, 30m or 45s")]
    BadLife(String),
    /// A certificate would have to be made for a time that no calendar has.
    #[error("that is beyond the calendar")]
    BeyondCalendar,
    /// The system's randomness or the arithmetic failed.
    #[error("no certificate could be made: {0}")]
    Making(String),
    /// It is no token.
    #[error("this is no token of vnet")]
    NoToken,
    /// The token was cut or mistyped.
    #[error("the token is damaged: copy all of it")]
    DamagedToken,
}

/// Whether a host may be called so.
///
/// # Errors
///
/// What is wrong with the name.
pub fn check_host(name: &str) -> Result<(), IdentityError> {
    check_name(name).map_err(|why| IdentityError::BadName {
        name: name.to_owned(),
        why,
    })?;
    if name.len() > HOST_NAME_BYTES_MAX {
        return Err(IdentityError::LongName(name.to_owned()));
    }
    Ok(())
}

/// Bytes that nobody can guess.
///
/// # Errors
///
/// The system has none.
pub fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IdentityError::Making("the system gives no random bytes".to_owned()))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
