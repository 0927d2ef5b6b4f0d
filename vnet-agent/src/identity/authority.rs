//! Who vouches for hosts? One authority an overlay: a key whose certificate every host has.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;

use super::bundle::{Bundle, certificates, holds_key, pem, read_key};
use super::life::Life;
use super::{CertificateFingerprint, IdentityError, KeyAndRequest, Role, check_host, random};

/// An authority that can sign: its certificate and its key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    ///
    /// The name will not do, or the system gives no randomness.
    pub fn create(name: &str, now_unix_s: u64, life: Duration) -> Result<Self, IdentityError> {
        check_host(name)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut wanted = CertificateParams::default();
        set_life(&mut wanted, Life::new(now_unix_s, life))?;
        wanted.serial_number = Some(serial()?);
        wanted.distinguished_name = common_name(name);
        // It signs hosts and no other authorities.
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = wanted.self_signed(&key).map_err(failed)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(wanted, key),
        })
    }

    /// Reads the texts of its two files.
    ///
    /// # Errors
    ///
    /// They cannot be read, or do not belong together.
    pub fn parse(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let certificate = certificates(certificate)?
            .into_iter()
            .next()
            .ok_or(IdentityError::Missing("certificate"))?;
        let key = read_key(key)?;
        if !holds_key(&certificate, &key) {
            return Err(IdentityError::ForeignKey);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| {
            IdentityError::Unreadable {
                what: "certificate",
                why: error.to_string(),
            }
        })?;
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// Its certificate as text: for everybody.
    pub fn certificate_text(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// Its key as text: secret.
    pub fn key_text(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What tells it from others.
    pub fn fingerprint(&self) -> CertificateFingerprint {
        CertificateFingerprint::of(&self.certificate)
    }

    /// A key and a certificate for a host.
    ///
    /// # Errors
    ///
    /// The name will not do, or the system gives no randomness.
    pub fn issue(
        &self,
        host: &str,
        role: Role,
        now_unix_s: u64,
        life: Duration,
    ) -> Result<Bundle, IdentityError> {
        let request = KeyAndRequest::new(host)?;
        let certificate = self.sign(request.request(), host, role, now_unix_s, life)?;
        request.with(certificate, self.certificate.to_vec())
    }

    /// A certificate for a host that holds the key of this request. What the request says besides
    /// the key does not count: name and role are the ones given here.
    ///
    /// # Errors
    ///
    /// The request is none, or is not signed by the key that it names; or as [`Self::issue`].
    pub fn sign(
        &self,
        request: &[u8],
        host: &str,
        role: Role,
        now_unix_s: u64,
        life: Duration,
    ) -> Result<Vec<u8>, IdentityError> {
        check_host(host)?;
        let request = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&request).map_err(|error| {
            IdentityError::Unreadable {
                what: "request",
                why: error.to_string(),
            }
        })?;
        request.params = wanted(host, role, Life::new(now_unix_s, life))?;
        let signed = request.signed_by(&self.issuer).map_err(failed)?;
        Ok(signed.der().to_vec())
    }
}

fn wanted(host: &str, role: Role, life: Life) -> Result<CertificateParams, IdentityError> {
    let mut wanted = CertificateParams::default();
    set_life(&mut wanted, life)?;
    wanted.serial_number = Some(serial()?);
    wanted.distinguished_name = common_name(host);
    let name = role.server_name().try_into().map_err(failed)?;
    wanted.subject_alt_names = vec![SanType::DnsName(name)];
    wanted.use_authority_key_identifier_extension = true;
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // Hosts are dialled; people are not.
    if role.is_host() {
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        wanted.extended_key_usages.push(server);
    }
    Ok(wanted)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// 127 random bits: positive, and never used twice (RFC 5280, section 4.1.2.2).
fn serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes = random::<16>()?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

fn set_life(wanted: &mut CertificateParams, life: Life) -> Result<(), IdentityError> {
    let time = |unix_s: u64| {
        i64::try_from(unix_s)
            .ok()
            .and_then(|unix_s| OffsetDateTime::from_unix_timestamp(unix_s).ok())
            .ok_or(IdentityError::BeyondCalendar)
    };
    wanted.not_before = time(life.from_unix_s)?;
    wanted.not_after = time(life.to_unix_s)?;
    Ok(())
}

fn failed(error: rcgen::Error) -> IdentityError {
    IdentityError::Making(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    fn authority() -> Authority {
        Authority::create("overlay", NOW, 1000 * HOUR).unwrap()
    }

    #[test]
    fn a_host_gets_what_the_authority_says_and_can_read_it_again() {
        let authority = authority();
        let bundle = authority.issue("one", Role::Proxy, NOW, HOUR).unwrap();
        let again = Bundle::parse(&bundle.to_text()).unwrap();
        assert_eq!(again.says(), bundle.says());
        assert_eq!(again.says().name, "one");
        assert_eq!(again.says().role, Role::Proxy);
        assert_eq!(again.says().life, Life::new(NOW, HOUR));
        assert_eq!(again.authority_fingerprint(), authority.fingerprint());
        assert!(!format!("{again:?}").contains("PRIVATE"));
    }

    #[test]
    fn each_role_is_told_from_the_others_and_people_are_no_servers() {
        use x509_parser::prelude::FromDer;
        let authority = authority();
        for role in Role::ALL {
            let bundle = authority.issue("one", role, NOW, HOUR).unwrap();
            assert_eq!(bundle.says().role, role);
            let chain = bundle.chain();
            let parsed = x509_parser::certificate::X509Certificate::from_der(&chain[0]);
            let (_, parsed) = parsed.unwrap();
            let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
            assert!(purposes.client_auth, "{role}");
            assert_eq!(purposes.server_auth, role.is_host(), "{role}");
        }
    }

    #[test]
    fn an_authority_is_what_its_files_say() {
        let authority = authority();
        let (certificate, key) = (authority.certificate_text(), authority.key_text());
        let again = Authority::parse(&certificate, &key).unwrap();
        assert_eq!(again.fingerprint(), authority.fingerprint());
        let bundle = again.issue("one", Role::Agent, NOW, HOUR).unwrap();
        assert_eq!(bundle.authority(), authority.certificate());
        let other = super::tests::authority();
        let mixed = Authority::parse(&certificate, &other.key_text());
        assert_eq!(mixed.err(), Some(IdentityError::ForeignKey));
        let no_key = Authority::parse(&certificate, &certificate);
        assert_eq!(no_key.err(), Some(IdentityError::Missing("private key")));
    }

    #[test]
    fn a_request_says_whose_key_it_is_and_nothing_else() {
        let authority = authority();
        let asked = KeyAndRequest::new("proxy-of-all").unwrap();
        let certificate = authority
            .sign(asked.request(), "two", Role::Agent, NOW, HOUR)
            .unwrap();
        let bundle = asked
            .with(certificate.clone(), authority.certificate().to_vec())
            .unwrap();
        let says = bundle.says();
        assert_eq!((says.name.as_str(), says.role), ("two", Role::Agent));
        // Somebody else's answer is of no use.
        let other = KeyAndRequest::new("two").unwrap();
        let mixed = other.with(certificate, authority.certificate().to_vec());
        assert_eq!(mixed.err(), Some(IdentityError::ForeignKey));
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let authority = authority();
        let asked = KeyAndRequest::new("two").unwrap();
        let mut request = asked.request().to_vec();
        *request.last_mut().unwrap() ^= 1;
        for request in [request, Vec::new(), vec![0x30; 4000]] {
            let signed = authority.sign(&request, "two", Role::Agent, NOW, HOUR);
            let refused = matches!(
                signed,
                Err(IdentityError::Unreadable {
                    what: "request",
                    ..
                })
            );
            assert!(refused, "{signed:?}");
        }
    }

    #[test]
    fn names_that_make_no_link_are_refused() {
        let authority = authority();
        for name in ["", "-one", "a b", &"x".repeat(61)] {
            assert!(
                authority.issue(name, Role::Agent, NOW, HOUR).is_err(),
                "{name:?}"
            );
        }
        assert!(
            authority
                .issue(&"x".repeat(60), Role::Agent, NOW, HOUR)
                .is_ok()
        );
    }

    #[test]
    fn texts_that_are_no_bundle_say_what_is_missing() {
        let authority = authority();
        let text = authority
            .issue("one", Role::Agent, NOW, HOUR)
            .unwrap()
            .to_text();
        let said = |text: &str| Bundle::parse(text).unwrap_err().to_string();
        assert_eq!(said(""), "there is no certificate in it");
        let only_own = authority.certificate_text();
        assert_eq!(
            said(&only_own),
            "there is no certificate of an authority in it"
        );
        let (before, _) = text.split_once("-----BEGIN PRIVATE KEY").unwrap();
        assert_eq!(said(before), "there is no private key in it");
        let key = authority.key_text();
        let foreign = format!("{before}{key}");
        assert_eq!(said(&foreign), "the key does not belong to the certificate");
        let authority_as_host = format!("{only_own}{only_own}{key}");
        assert_eq!(said(&authority_as_host), "the certificate says no role");
    }
}
