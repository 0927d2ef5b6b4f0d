//! The overlay's certificate authority: made once, signs hosts, and people who ask them from elsewhere.
//!
//! `init` and `issue` work on files and ask no agent; `invite` asks the proxy.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use vnet_agent::api::{Invited, NewInvite};
use vnet_agent::identity::life::{AUTHORITY_LIFE, HOST_LIFE, parse_length};
use vnet_agent::identity::revoked::Revoked;
use vnet_agent::identity::{Authority, IdentityError, Role};
use vnet_agent::store::secret;

use crate::client::{Client, path};
use crate::screen::{self, Format, Screen};

/// What to do with the authority.
#[derive(Subcommand)]
pub enum Verb {
    /// Make a new authority: its certificate (ca.pem) and its key (ca.key). Keep the key where few
    /// can read it: the proxy needs it for hosts that join by a token, and to renew certificates.
    Init {
        /// Where to put them.
        directory: PathBuf,
        /// What its certificate calls it.
        #[arg(long, default_value = "vnet")]
        name: String,
        /// How long it is good: 90d, 12h, …
        #[arg(long, value_parser = parse_length, value_name = "TIME")]
        valid: Option<Duration>,
    },
    /// Make a key and a certificate in one file: for a host, what its settings call `identity`; for
    /// people, what `vnetctl --credentials` takes.
    Issue {
        /// The host's name in the overlay, or who somebody is.
        host: String,
        /// The authority's directory.
        #[arg(long, default_value = ".", value_name = "DIRECTORY")]
        ca: PathBuf,
        /// What the host will be, or what somebody may.
        #[arg(long, value_enum, default_value_t)]
        role: RoleArgument,
        /// How long the certificate is good: 90d, 12h, …; a host's is renewed after two thirds of that.
        #[arg(long, value_parser = parse_length, value_name = "TIME")]
        valid: Option<Duration>,
        /// Where to put it; NAME.pem otherwise.
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
    },
    /// Have all certificates of a name that were made until now count no more, on the API and the
    /// control channel. A proxy with this authority goes by it at once, and living connections end; to
    /// other hosts the list is copied, and named there: revoked under [agent].
    Revoke {
        /// The host, or who somebody is.
        name: String,
        /// The authority's directory; the list there is called `revoked`.
        #[arg(long, default_value = ".", value_name = "DIRECTORY")]
        ca: PathBuf,
    },
    /// Make a token for a host, good for one `vnetctl join` there. Asks the agent of this host, which
    /// must be the proxy and have the authority's key.
    Invite {
        /// What the host will be called.
        host: String,
        /// For how long the token is good: 1h, 30m, …
        #[arg(long, value_parser = parse_length, value_name = "TIME", default_value = "1h")]
        expires: Duration,
        /// Where the host finds the proxy, where the proxy itself does not know it: 10.0.0.1:6082.
        #[arg(long, value_name = "ADDRESS")]
        address: Option<String>,
    },
}

/// What the holder of a certificate is in the overlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RoleArgument {
    /// Dials the proxy.
    #[default]
    Agent,
    /// Is dialled.
    Proxy,
    /// Somebody who may ask any agent for anything, over TLS.
    Operator,
    /// Somebody who may ask questions, and for plans.
    Reader,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Agent => Self::Agent,
            RoleArgument::Proxy => Self::Proxy,
            RoleArgument::Operator => Self::Operator,
            RoleArgument::Reader => Self::Reader,
        }
    }
}

/// Does it.
pub async fn run(verb: Verb, client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Invite {
            host,
            expires,
            address,
        } => {
            let wanted = NewInvite {
                host,
                expires_s: expires.as_secs(),
                address,
            };
            let answer = client.post(&path(&["invites"], &[]), &wanted).await?;
            screen.show(&answer, |invited: &Invited, _| {
                format!("{}\n", invited.token)
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Init {
            directory,
            name,
            valid,
        } => {
            let life = valid.unwrap_or(AUTHORITY_LIFE);
            let authority = Authority::create(&name, now_unix_s()?, life)?;
            secret::write_authority(&directory, &authority)?;
            let fingerprint = authority.fingerprint();
            say(
                screen,
                &format!(
                    "{}: a new authority, fingerprint {fingerprint}\n",
                    directory.display()
                ),
                &json!({ "directory": directory, "fingerprint": fingerprint }),
            )
        }
        Verb::Revoke { name, ca } => revoke(&name, &ca, screen),
        Verb::Issue {
            host,
            ca,
            role,
            valid,
            out,
        } => issue(&host, &ca, role.into(), valid, out, screen),
    }
}

fn revoke(name: &str, ca: &std::path::Path, screen: &Screen) -> anyhow::Result<ExitCode> {
    // Whoever may revoke holds the authority.
    secret::read_authority(ca)?;
    let path = ca.join(secret::REVOKED);
    let mut list = match path.exists() {
        true => secret::read_revoked(&path)?,
        false => Revoked::default(),
    };
    let now = now_unix_s()?;
    list.add(name, now)?;
    secret::replace(&path, &list.to_string())?;
    say(
        screen,
        &format!(
            "{}: certificates of {name} that were made until now count no more\n  a host's links stay \
             until the proxy forgets it: vnetctl agents forget {name}\n",
            path.display()
        ),
        &json!({ "file": path, "name": name, "until_unix_s": now }),
    )
}

fn issue(
    host: &str,
    ca: &std::path::Path,
    role: Role,
    valid: Option<Duration>,
    out: Option<PathBuf>,
    screen: &Screen,
) -> anyhow::Result<ExitCode> {
    let authority = secret::read_authority(ca)?;
    let life = valid.unwrap_or(HOST_LIFE);
    let bundle = authority.issue(host, role, now_unix_s()?, life)?;
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{host}.pem")));
    secret::write_new(&out, &bundle.to_text())?;
    let until = bundle.says().life.to_unix_s;
    say(
        screen,
        &format!(
            "{}: key and certificate of {role} {host}, good for {} h\n",
            out.display(),
            life.as_secs() / 3600
        ),
        &json!({ "file": out, "host": host, "role": role, "expires_unix_s": until }),
    )
}

/// Seconds since 1970.
pub fn now_unix_s() -> Result<u64, IdentityError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .map(|since| since.as_secs())
        .map_err(|_| IdentityError::BeyondCalendar)
}

/// Says what was done.
pub fn say(screen: &Screen, text: &str, value: &serde_json::Value) -> anyhow::Result<ExitCode> {
    match screen.format {
        Format::Table => screen::write(text.as_bytes()),
        Format::Json => screen::write(format!("{value:#}\n").as_bytes()),
    }
    .context("cannot write the answer")?;
    Ok(ExitCode::SUCCESS)
}
