//! Who gets a certificate of the proxy, or a token for one?

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::super::overlay::now_unix_s;
use super::Proxy;
use crate::api::{Invited, NewInvite, Refusal};
use crate::identity::life::HOST_LIFE;
use crate::identity::{Authority, Bundle, Certificate, Role, Token};
use crate::overlay::message::{Join, JoinAnswer, VERSION};
use crate::overlay::via::control_tls::ProxyTls;
use crate::overlay::via::listen::Signed;
use crate::store::{StateStore, secret};

/// The longest that a token may be good for.
const INVITE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Proxy {
    /// Looks after its own identity; with an authority it renews it itself.
    pub(in super::super) fn look(&mut self) {
        if let Some(bundle) = self.identity.replaced() {
            self.show(&bundle);
        }
        let says = self.identity.says().clone();
        if self.authority.is_none() || !says.life.is_ageing(now_unix_s()) {
            return;
        }
        let renewed = self.authority().and_then(|authority| {
            let life = says.life.length();
            let bundle = authority.issue(&says.name, Role::Proxy, now_unix_s(), life)?;
            self.identity.replace(&bundle)?;
            Ok(bundle)
        });
        match renewed {
            Ok(bundle) => self.show(&bundle),
            Err(error) => warn!("the proxy's certificate is not renewed: {error:#}"),
        }
    }

    fn show(&self, bundle: &Bundle) {
        match ProxyTls::new(bundle) {
            Ok(tls) => {
                self.tls.send_replace(tls);
            }
            Err(error) => warn!("TLS cannot use the identity: {error}"),
        }
    }

    fn authority(&self) -> Result<Authority> {
        let directory = self.authority.as_ref().context(
            "this proxy has no authority's key: set authority under [control], or use `vnetctl ca \
             issue` where the key is",
        )?;
        Ok(secret::read_authority(directory)?)
    }

    pub(super) fn sign(
        &mut self,
        session: u64,
        asker: &Certificate,
        request: &[u8],
    ) -> Result<Signed> {
        let authority = self.authority()?;
        let life = asker.life.length();
        let now = now_unix_s();
        let certificate = authority.sign(request, &asker.name, Role::Agent, now, life)?;
        let expires_unix_s = Certificate::read(&certificate)?.life.to_unix_s;
        self.roll.renewed(session, expires_unix_s);
        let good_for = Duration::from_secs(expires_unix_s.saturating_sub(now));
        Ok((certificate, authority.certificate().to_vec(), good_for))
    }

    pub(super) fn redeem(&mut self, join: &Join, store: &StateStore) -> Result<JoinAnswer> {
        anyhow::ensure!(
            join.version == VERSION,
            "it speaks version {} of the control channel, this proxy version {VERSION}",
            join.version
        );
        let authority = self.authority()?;
        let before = self.invites.clone();
        let now = now_unix_s();
        let answer = self
            .invites
            .redeem(&join.secret, now)
            .map_err(anyhow::Error::from)
            .and_then(|invite| {
                let request = join.request.as_slice();
                let signed = authority.sign(request, &invite.host, invite.role, now, HOST_LIFE);
                let certificate = signed.inspect_err(|_| self.invites = before.clone())?;
                info!(host = invite.host, "a host has joined by its token");
                Ok(JoinAnswer::Joined {
                    certificate,
                    authority: authority.certificate().to_vec(),
                })
            });
        // Used means used, whatever happens to this process next.
        if self.invites != before {
            self.store(store).map_err(anyhow::Error::msg)?;
        }
        answer
    }

    pub(super) fn invite(
        &mut self,
        wanted: &NewInvite,
        store: &StateStore,
    ) -> Result<Invited, Refusal> {
        let invalid = |error: &dyn std::fmt::Display| Refusal::invalid(error.to_string());
        let life = Duration::from_secs(wanted.expires_s);
        if life.is_zero() || life > INVITE_MAX {
            return Err(invalid(&"a token is good for 1 s to 30 days"));
        }
        let authority = self
            .authority()
            .map_err(|error| Refusal::conflict(format!("{error:#}")))?;
        let proxy = match &wanted.address {
            Some(address) => address.clone(),
            None => self.own_address().ok_or_else(|| {
                Refusal::invalid("this proxy does not know where hosts find it")
                    .cure("say it: --address 10.0.0.1:6082")
            })?,
        };
        if proxy.len() > 255 {
            return Err(invalid(&"the address is longer than 255 characters"));
        }
        let now = now_unix_s();
        let expires_unix_s = now.saturating_add(wanted.expires_s);
        let before = self.invites.clone();
        let added = self
            .invites
            .add(&wanted.host, Role::Agent, expires_unix_s, now);
        let secret = added.map_err(|error| invalid(&error))?;
        if let Err(why) = self.store(store) {
            self.invites = before;
            return Err(Refusal::unavailable(why));
        }
        let token = Token {
            secret,
            authority: authority.fingerprint(),
            proxy: proxy.clone(),
            host: wanted.host.clone(),
            expires_unix_s,
        };
        info!(host = wanted.host, "a token is made");
        Ok(Invited {
            host: wanted.host.clone(),
            token: token.to_text(),
            proxy,
            expires_unix_s,
        })
    }

    /// Where hosts find it, as far as it knows: the address that it listens on, or its underlay's.
    fn own_address(&self) -> Option<String> {
        let ip = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => *self.introduction.underlay.first()?,
        };
        Some(SocketAddr::from((ip, self.address.port())).to_string())
    }
}
