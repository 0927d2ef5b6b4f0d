//! Who is at the other end? TLS 1.3 with certificates at both ends, of one authority.
//!
//! An operator believes a host's certificate, an agent's or a proxy's, by the DNS name of that role;
//! the host lets in whoever the authority vouches for, and the role is asked for once TLS is there, so
//! that a wrong one can be told so in words. The protocol inside is HTTP and says so (ALPN): any client
//! that speaks TLS and has the files can ask. Sessions are never resumed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::identity::trust::{self, provider, roots};
use crate::identity::{Bundle, Certificate, Role};
use crate::overlay::refusal::Turned;

/// What is spoken inside.
const HTTP: &[u8] = b"http/1.1";
/// For somebody who was refused to hear why.
const LINGER: Duration = Duration::from_secs(1);
/// What he may have said meanwhile, in bytes.
const UNHEARD_BYTES_MAX: usize = 64 << 10;

/// How a host shows who it is, and whom it lets in.
#[derive(Clone, Debug)]
pub struct HostTls(Arc<ServerConfig>);

impl HostTls {
    /// With this proof of who it is.
    ///
    /// # Errors
    ///
    /// TLS cannot use it.
    pub fn new(bundle: &Bundle) -> Result<Self, Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(trust::members(bundle.authority())?)
            .with_single_cert(bundle.chain(), bundle.key())?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self(Arc::new(config)))
    }

    /// Finds out who came. Where nobody did, the connection is given back: the reason is on its way.
    ///
    /// # Errors
    ///
    /// Nobody whom the authority vouches for.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(server::TlsStream<TcpStream>, Certificate), (Turned, Option<TcpStream>)> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.0));
        let stream = acceptor
            .accept(stream)
            .into_fallible()
            .await
            .map_err(|(error, stream)| (Turned::at_handshake(&error), Some(stream)))?;
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or((Turned::NoCertificate, None))?;
        match Certificate::read(shown) {
            Ok(certificate) => Ok((stream, certificate)),
            Err(_) => Err((Turned::BadCertificate, None)),
        }
    }
}

/// Waits until somebody has heard why he was refused. Closed with words of his unread, a connection
/// would take back what it was told.
pub(super) async fn linger(mut stream: TcpStream) {
    let heard = async {
        stream.shutdown().await?;
        let mut unheard = [0; 1024];
        let mut left = UNHEARD_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut unheard).await? {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        io::Result::Ok(())
    };
    // It has broken, or the time is up: nothing more can be done.
    let _ = timeout(LINGER, heard).await;
}

/// How an operator shows who he is.
#[derive(Clone, Debug)]
pub struct OperatorTls(Arc<ClientConfig>);

impl OperatorTls {
    /// With this proof of who he is.
    ///
    /// # Errors
    ///
    /// TLS cannot use it.
    pub fn new(bundle: &Bundle) -> Result<Self, Error> {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots(bundle.authority())?, provider())
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OfHosts(verifier)))
            .with_client_auth_cert(bundle.chain(), bundle.key())?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Puts TLS on a connection to a host; which host that is, its certificate says.
    ///
    /// # Errors
    ///
    /// It breaks, or no host of the overlay is there.
    pub async fn greet(
        &self,
        stream: TcpStream,
    ) -> io::Result<(client::TlsStream<TcpStream>, Certificate)> {
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(Role::Agent.server_name()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.0));
        let stream = connector.connect(name, stream).await?;
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or_else(|| io::Error::other(Error::NoCertificatesPresented))?;
        let certificate = Certificate::read(shown).map_err(io::Error::other)?;
        Ok((stream, certificate))
    }
}

/// Believes hosts of the overlay: who has the DNS name of an agent, or of a proxy.
#[derive(Debug)]
struct OfHosts(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for OfHosts {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let proxy = ServerName::try_from(Role::Proxy.server_name())
            .map_err(|error| Error::General(error.to_string()))?;
        self.0
            .verify_server_cert(own, between, &proxy, ocsp, now)
            .or_else(|_| self.0.verify_server_cert(own, between, asked, ocsp, now))
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
