//! What does a host hold to prove who it is? One text with its certificate, the authority's
//! certificate and the host's key.
//!
//! One text and not three, so that a renewal replaces all of it in one step: no moment at which the
//! key on disk is another certificate's.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::certificate::Certificate;
use super::{CertificateFingerprint, IdentityError};

/// A host's proof of who it is.
pub struct Bundle {
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    key: KeyPair,
    says: Certificate,
}

/// Without the key.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle({:?})", self.says)
    }
}

impl Bundle {
    /// Puts together what belongs together.
    ///
    /// # Errors
    ///
    /// The certificate is not a host's, or is another key's.
    pub fn new(
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
        key: KeyPair,
    ) -> Result<Self, IdentityError> {
        let says = Certificate::read(&certificate)?;
        if !holds_key(&certificate, &key) {
            return Err(IdentityError::ForeignKey);
        }
        Ok(Self {
            certificate,
            authority,
            key,
            says,
        })
    }

    /// Reads the text of a bundle.
    ///
    /// # Errors
    ///
    /// Something is missing, cannot be read, or does not belong to the rest.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let mut certificates = certificates(text)?.into_iter();
        let certificate = certificates
            .next()
            .ok_or(IdentityError::Missing("certificate"))?;
        let authority = certificates
            .next()
            .ok_or(IdentityError::Missing("certificate of an authority"))?;
        Self::new(certificate, authority, read_key(text)?)
    }

    /// The text, secret.
    pub fn to_text(&self) -> String {
        let certificates = [&self.certificate, &self.authority];
        let mut text: String = certificates
            .into_iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect();
        text.push_str(&self.key.serialize_pem());
        text
    }

    /// What its certificate says.
    pub const fn says(&self) -> &Certificate {
        &self.says
    }

    /// What it shows to others: its certificate, and the authority's.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone(), self.authority.clone()]
    }

    /// Whom it believes.
    pub const fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// What tells its authority from others.
    pub fn authority_fingerprint(&self) -> CertificateFingerprint {
        CertificateFingerprint::of(&self.authority)
    }

    /// Its key, as TLS wants it.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }
}

/// A new key, and the request for a certificate that goes with it.
pub struct KeyAndRequest {
    key: KeyPair,
    request: Vec<u8>,
}

impl KeyAndRequest {
    /// A new key for a host. The key never leaves the host.
    ///
    /// # Errors
    ///
    /// The system gives no randomness.
    pub fn new(host: &str) -> Result<Self, IdentityError> {
        let failed = |error: rcgen::Error| IdentityError::Making(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name = DistinguishedName::new();
        wanted.distinguished_name.push(DnType::CommonName, host);
        let request = wanted.serialize_request(&key).map_err(failed)?;
        Ok(Self {
            key,
            request: request.der().to_vec(),
        })
    }

    /// The request, for the authority (PKCS #10, DER).
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// With the authority's answer: a bundle.
    ///
    /// # Errors
    ///
    /// The answer is not for this key.
    pub fn with(self, certificate: Vec<u8>, authority: Vec<u8>) -> Result<Bundle, IdentityError> {
        Bundle::new(certificate.into(), authority.into(), self.key)
    }
}

/// Whether a certificate is the one of this key.
pub(super) fn holds_key(certificate: &[u8], key: &KeyPair) -> bool {
    use x509_parser::prelude::FromDer;
    let parsed = x509_parser::certificate::X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, certificate)| {
        certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
    })
}

pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| IdentityError::Unreadable {
            what: "certificate",
            why: error.to_string(),
        })
}

pub(super) fn read_key(text: &str) -> Result<KeyPair, IdentityError> {
    use rustls::pki_types::pem::Error;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        Error::NoItemsFound => IdentityError::Missing("private key"),
        _ => IdentityError::Unreadable {
            what: "private key",
            why: "it is broken off or mangled".to_owned(),
        },
    })?;
    KeyPair::try_from(&key).map_err(|error| IdentityError::Unreadable {
        what: "private key",
        why: error.to_string(),
    })
}

/// The text form of a thing (RFC 7468): 64 characters a line between two marks.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let digits = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            text.push('\n');
        }
        text.push(digit);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}
