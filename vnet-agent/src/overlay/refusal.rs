//! Why was somebody turned away from the control channel, or from the API over the network? Each
//! reason has its count.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Error as StreamError;

use rustls::{CertificateError, Error};
use serde::{Deserialize, Serialize};

/// Why a connection came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turned {
    /// It showed no certificate.
    NoCertificate,
    /// Another authority vouches for it.
    UnknownAuthority,
    /// Its certificate is over.
    Expired,
    /// Its certificate is not good yet.
    NotYetValid,
    /// Its certificate is wrong in another way, or not a host's.
    BadCertificate,
    /// Its certificate is revoked.
    Revoked,
    /// Its certificate is for something else.
    WrongRole,
    /// It does not believe our certificate.
    Distrust,
    /// It does not speak TLS 1.3 as we do.
    NoTls,
    /// It took too long.
    TooSlow,
    /// There were too many others, or too many from one address.
    TooMany,
    /// What it said is no message, or not at this time.
    Nonsense,
    /// It may not come in: its name, version or address.
    NotAdmitted,
    /// Its token is not known, was used, or has expired.
    BadToken,
    /// Its role does not go as far as what it asked for.
    Forbidden,
}

impl Turned {
    /// Why TLS has not come about.
    pub fn at_handshake(error: &StreamError) -> Self {
        use CertificateError as Bad;
        match tls_error(error) {
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidCertificate(bad)) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                // A certificate that says it is of our authority, and is not signed by it.
                Bad::UnknownIssuer | Bad::BadSignature => Self::UnknownAuthority,
                _ => Self::BadCertificate,
            },
            Some(Error::AlertReceived(_)) => Self::Distrust,
            _ => Self::NoTls,
        }
    }
}

/// The error of TLS in an error of a stream.
pub fn tls_error(error: &StreamError) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "no certificate",
            Self::UnknownAuthority => "a certificate of another authority",
            Self::Expired => "a certificate that is over",
            Self::NotYetValid => "a certificate that is not good yet",
            Self::BadCertificate => "a certificate that is wrong",
            Self::Revoked => "a certificate that is revoked",
            Self::WrongRole => "a certificate for something else",
            Self::Distrust => "it does not believe our certificate",
            Self::NoTls => "no TLS 1.3",
            Self::TooSlow => "too slow",
            Self::TooMany => "too many at once",
            Self::Nonsense => "not a message",
            Self::NotAdmitted => "not admitted",
            Self::BadToken => "a token that is not good",
            Self::Forbidden => "its role does not allow that",
        })
    }
}

/// How many were turned away, by reason.
pub type TurnedCounts = BTreeMap<Turned, u64>;
