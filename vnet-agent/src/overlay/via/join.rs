//! One connection of a host that has a token and wants a certificate.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::timeout;

use super::super::message::{Join, JoinAnswer, STRANGER_BYTES_MAX, VERSION};
use super::control_tls::AgentTls;
use super::line::{Heard, Line};
use crate::identity::{Bundle, KeyAndRequest, Token};

/// For all of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A host that has joined.
#[derive(Debug)]
pub struct Joined {
    /// Its proof of who it is.
    pub bundle: Bundle,
    /// The address that it reached the proxy from.
    pub address: std::net::IpAddr,
}

/// Shows the token to the proxy, and gets what it is good for.
///
/// # Errors
///
/// The proxy is not there, is not the one that made the token, or refuses it.
pub async fn join(token: &Token) -> Result<Joined> {
    let request = KeyAndRequest::new(&token.host)?;
    let asked = ask(token, request.request());
    let (answer, address) = timeout(PATIENCE, asked)
        .await
        .with_context(|| format!("the proxy at {} does not answer", token.proxy))??;
    match answer {
        JoinAnswer::Joined {
            certificate,
            authority,
        } => {
            let bundle = request.with(certificate, authority)?;
            if bundle.authority_fingerprint() != token.authority {
                bail!("the proxy's answer is signed by another authority than the token's");
            }
            Ok(Joined { bundle, address })
        }
        JoinAnswer::Refused { why } => bail!("the proxy refuses: {why}"),
    }
}

async fn ask(token: &Token, request: &[u8]) -> Result<(JoinAnswer, std::net::IpAddr)> {
    let tls = AgentTls::joining(token.authority)?;
    let stream = tls
        .dial(&token.proxy)
        .await
        .with_context(|| format!("cannot reach the proxy at {}", token.proxy))?;
    let address = stream.get_ref().0.local_addr()?.ip();
    let mut line = Line::new(stream, STRANGER_BYTES_MAX);
    line.say(&Join {
        version: VERSION,
        secret: token.secret.to_vec(),
        request: request.to_vec(),
    })?;
    loop {
        if let Heard::Message(answer) = line.heard().await? {
            return Ok((answer, address));
        }
    }
}
