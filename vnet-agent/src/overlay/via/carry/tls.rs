//! A connection over TLS 1.3, with a certificate of the overlay's authority at either end.
//!
//! Any host of the overlay may be there: which of them it is for a link, the cookie proves inside. So
//! certificates are checked for their authority, their time and that they are a host's, and not for a
//! name. Sessions are never resumed: every connection shows its certificate.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme, version};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::connection::{Ended, Stream};
use crate::identity::{Bundle, Certificate, CertificateFingerprint, Role, trust};

/// What TLS begins with: the type of a handshake record.
pub const FIRST_BYTE: u8 = 0x16;
/// What these connections are for: neither end takes one that is for something else.
const PURPOSE: &[u8] = b"vnet-carrier";

/// Who this host is to others, ready for use.
#[derive(Clone)]
pub struct Certificates {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    mark: CertificateFingerprint,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({:?})", self.mark)
    }
}

impl PartialEq for Certificates {
    fn eq(&self, other: &Self) -> bool {
        self.mark == other.mark
    }
}

impl Certificates {
    /// Of a host's bundle.
    ///
    /// # Errors
    ///
    /// The bundle will not do for TLS.
    pub fn new(bundle: &Bundle) -> Result<Self, Error> {
        let ours = trust::members(bundle.authority())?;
        let versions = &[&version::TLS13];
        let mut server = ServerConfig::builder_with_provider(trust::provider())
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(ours.clone())
            .with_single_cert(bundle.chain(), bundle.key())?;
        server.alpn_protocols = vec![PURPOSE.to_vec()];
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(trust::provider())
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyHost(ours)))
            .with_client_auth_cert(bundle.chain(), bundle.key())?;
        client.alpn_protocols = vec![PURPOSE.to_vec()];
        client.resumption = Resumption::disabled();
        let chain = bundle.chain();
        let own = chain.first().ok_or(Error::NoCertificatesPresented)?;
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
            mark: CertificateFingerprint::of(own),
        })
    }

    /// Puts TLS on a connection that this end opened.
    ///
    /// # Errors
    ///
    /// [`Ended::Tls`].
    pub(super) async fn connect(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Ended> {
        let name = ServerName::try_from(Role::Agent.server_name());
        let name = name.map_err(|error| Ended::Tls(error.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(&self.client));
        match connector.connect(name, stream).await {
            Ok(stream) => {
                check_host(stream.get_ref().1.peer_certificates())?;
                Ok(Box::new(stream))
            }
            Err(error) => Err(Ended::Tls(error.to_string())),
        }
    }

    /// Puts TLS on a connection that another opened.
    ///
    /// # Errors
    ///
    /// [`Ended::Tls`].
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<Box<dyn Stream>, Ended> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.server));
        match acceptor.accept(stream).await {
            Ok(stream) => {
                check_host(stream.get_ref().1.peer_certificates())?;
                Ok(Box::new(stream))
            }
            Err(error) => Err(Ended::Tls(error.to_string())),
        }
    }
}

/// That a host is at the other end: the authority vouches for people too.
fn check_host(shown: Option<&[CertificateDer<'_>]>) -> Result<(), Ended> {
    let shown = shown.and_then(<[_]>::first);
    let says = shown.and_then(|shown| Certificate::read(shown).ok());
    match says {
        Some(says) if says.role.is_host() => Ok(()),
        _ => Err(Ended::Tls("the certificate is not a host's".to_owned())),
    }
}

/// Believes whoever shows a certificate that is good for a host of the overlay.
#[derive(Debug)]
struct AnyHost(Arc<dyn ClientCertVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_client_cert(own, between, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
