//! What does a certificate say: whose is it, in which role, and until when?
//!
//! Whether it can be believed is TLS's affair; this reads what has been verified, or is our own.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::life::Life;
use super::{IdentityError, Role, check_host, hex};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The name of the host, or of whoever it is made for.
    pub name: String,
    /// What its holder is in the overlay.
    pub role: Role,
    /// When it is good.
    pub life: Life,
}

impl Certificate {
    /// Reads a certificate in its binary form (DER).
    ///
    /// # Errors
    ///
    /// It is no certificate, or not of a host of ours.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        let unreadable = |why: String| IdentityError::Unreadable {
            what: "certificate",
            why,
        };
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
        let name = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .ok_or_else(|| unreadable("it has no common name".to_owned()))?;
        check_host(name)?;
        let second = |time: i64| u64::try_from(time).unwrap_or(0);
        Ok(Self {
            name: name.to_owned(),
            role: role(&parsed).ok_or(IdentityError::NoRole)?,
            life: Life {
                from_unix_s: second(parsed.validity().not_before.timestamp()),
                to_unix_s: second(parsed.validity().not_after.timestamp()),
            },
        })
    }
}

fn role(certificate: &X509Certificate<'_>) -> Option<Role> {
    let names = certificate.subject_alternative_name().ok().flatten()?;
    let mut roles = names.value.general_names.iter().filter_map(|name| {
        let GeneralName::DNSName(name) = name else {
            return None;
        };
        Role::ALL
            .into_iter()
            .find(|role| role.server_name() == *name)
    });
    // Who is two things is neither.
    let role = roles.next()?;
    roles.next().is_none().then_some(role)
}

/// What tells one certificate from every other: the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificateFingerprint(pub [u8; 32]);

impl CertificateFingerprint {
    /// Of a certificate in its binary form.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CertificateFingerprint {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let bad = || IdentityError::Unreadable {
            what: "fingerprint",
            why: "it is not 64 hexadecimal digits".to_owned(),
        };
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(place * 2..place * 2 + 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for CertificateFingerprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CertificateFingerprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
