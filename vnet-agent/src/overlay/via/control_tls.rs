//! Who is at the other end? TLS 1.3 with certificates at both ends, of one authority.
//!
//! The proxy's certificate must be good for the DNS name of its role, an agent's for clients. Only
//! a host that joins shows none: it says so in its first packet (ALPN), before it is asked for one,
//! and can then do nothing but show its token. Sessions are never resumed: every connection shows
//! its certificate, so that one that is over ends with it.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::Acceptor;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    version,
};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use super::super::refusal::Turned;
use crate::identity::trust::{self, provider, roots};
use crate::identity::{Bundle, Certificate, CertificateFingerprint, Role};

/// What an agent says that it wants.
const CONTROL: &[u8] = b"vnet-control";
/// What a host says that has a token.
const JOIN: &[u8] = b"vnet-join";

/// How an agent shows who it is.
#[derive(Clone, Debug)]
pub struct AgentTls(Arc<ClientConfig>);

impl AgentTls {
    /// With this proof of who it is.
    ///
    /// # Errors
    ///
    /// TLS cannot use it.
    pub fn new(bundle: &Bundle) -> Result<Self, Error> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(roots(bundle.authority())?)
            .with_client_auth_cert(bundle.chain(), bundle.key())?;
        config.alpn_protocols = vec![CONTROL.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// As a host that has nothing but a token: it believes the authority of this fingerprint.
    ///
    /// # Errors
    ///
    /// TLS does not do it.
    pub fn joining(authority: CertificateFingerprint) -> Result<Self, Error> {
        let verifier = Arc::new(Pinned { authority });
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![JOIN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Makes a connection to the proxy at an address such as `10.0.0.1:6082`.
    ///
    /// # Errors
    ///
    /// Nobody is there, or it is not the proxy.
    pub async fn dial(&self, proxy: &str) -> io::Result<client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(proxy).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(Role::Proxy.server_name()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0))
            .connect(name, stream)
            .await
    }
}

/// How the proxy shows who it is, and whom it lets in.
#[derive(Clone, Debug)]
pub struct ProxyTls {
    members: Arc<ServerConfig>,
    strangers: Arc<ServerConfig>,
}

/// Who came.
#[derive(Debug)]
pub enum Came {
    /// Somebody with a certificate.
    Member(Box<server::TlsStream<TcpStream>>, Certificate),
    /// Somebody with a token.
    Stranger(Box<server::TlsStream<TcpStream>>),
}

impl ProxyTls {
    /// With this proof of who it is.
    ///
    /// # Errors
    ///
    /// TLS cannot use it.
    pub fn new(bundle: &Bundle) -> Result<Self, Error> {
        let builder = || {
            ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&version::TLS13])
        };
        let chain = || (bundle.chain(), bundle.key());
        let (certificates, key) = chain();
        let mut members = builder()?
            .with_client_cert_verifier(trust::members(bundle.authority())?)
            .with_single_cert(certificates, key)?;
        let (certificates, key) = chain();
        let mut strangers = builder()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        for (config, protocol) in [(&mut members, CONTROL), (&mut strangers, JOIN)] {
            config.alpn_protocols = vec![protocol.to_vec()];
            config.send_tls13_tickets = 0;
            config.max_early_data_size = 0;
        }
        Ok(Self {
            members: Arc::new(members),
            strangers: Arc::new(strangers),
        })
    }

    /// Finds out who came.
    ///
    /// # Errors
    ///
    /// Nobody who may.
    pub async fn accept(&self, stream: TcpStream) -> Result<Came, Turned> {
        stream.set_nodelay(true).map_err(|_| Turned::NoTls)?;
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .map_err(|error| Turned::at_handshake(&error))?;
        let is_stranger = hello
            .client_hello()
            .alpn()
            .is_some_and(|mut wanted| wanted.any(|protocol| protocol == JOIN));
        let config = match is_stranger {
            true => &self.strangers,
            false => &self.members,
        };
        let stream = hello
            .into_stream(Arc::clone(config))
            .await
            .map_err(|error| Turned::at_handshake(&error))?;
        if is_stranger {
            return Ok(Came::Stranger(Box::new(stream)));
        }
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or(Turned::NoCertificate)?;
        let certificate = Certificate::read(shown).map_err(|_| Turned::BadCertificate)?;
        match certificate.role {
            Role::Agent => Ok(Came::Member(Box::new(stream), certificate)),
            Role::Proxy | Role::Operator | Role::Reader => Err(Turned::WrongRole),
        }
    }
}

/// Believes the authority of one fingerprint, which the proxy sends along.
#[derive(Debug)]
struct Pinned {
    authority: CertificateFingerprint,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates
            .iter()
            .find(|der| CertificateFingerprint::of(der) == self.authority)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let roots = roots(&authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
