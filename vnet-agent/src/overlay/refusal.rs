//! Why was somebody turned away from the control channel? Each reason has its count.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a connection to the proxy came to nothing.
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
    /// Its certificate is another proxy's.
    WrongRole,
    /// It does not believe that this is its proxy.
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
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "no certificate",
            Self::UnknownAuthority => "a certificate of another authority",
            Self::Expired => "a certificate that is over",
            Self::NotYetValid => "a certificate that is not good yet",
            Self::BadCertificate => "a certificate that is wrong",
            Self::WrongRole => "a proxy's certificate",
            Self::Distrust => "it does not believe the proxy's certificate",
            Self::NoTls => "no TLS 1.3",
            Self::TooSlow => "too slow",
            Self::TooMany => "too many at once",
            Self::Nonsense => "not a message",
            Self::NotAdmitted => "not admitted",
            Self::BadToken => "a token that is not good",
        })
    }
}

/// How many were turned away, by reason.
pub type TurnedCounts = BTreeMap<Turned, u64>;
