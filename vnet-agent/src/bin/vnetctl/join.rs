//! How does a new host come into the overlay? One command, with a token from the proxy.
//!
//! It gets the host's identity from the proxy, and writes settings where the host has none yet.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;
use vnet_agent::identity::Token;
use vnet_agent::overlay::via::join::{Joined, join};
use vnet_agent::store::secret;

use crate::ca::{now_unix_s, say};
use crate::screen::Screen;

/// What `join` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// What `vnetctl ca invite` on the proxy's host has printed.
    token: String,
    /// Where to put the host's identity.
    #[arg(long, value_name = "PATH", default_value = "/etc/vnet/identity.pem")]
    identity: PathBuf,
    /// The agent's settings: written where there are none.
    #[arg(
        short,
        long,
        value_name = "PATH",
        env = "VNET_CONFIG",
        default_value = "/etc/vnet/agent.toml"
    )]
    config: PathBuf,
}

/// Joins.
pub async fn run(arguments: &Arguments, screen: &Screen) -> anyhow::Result<ExitCode> {
    let token = Token::parse(&arguments.token)?;
    if token.expires_unix_s <= now_unix_s()? {
        bail!("the token has expired: make another one on the proxy's host");
    }
    let identity = std::path::absolute(&arguments.identity)?;
    // Before the token is used up.
    if identity.exists() {
        bail!(
            "this host has an identity already, {}; remove it to join anew",
            identity.display()
        );
    }
    let directory = identity.parent().unwrap_or(Path::new("/"));
    secret::make_directory(directory)?;
    let joined = join(&token).await?;
    secret::write_new(&identity, &joined.bundle.to_text())?;
    let settings = settings(&token, &identity, &joined);
    let is_new = !arguments.config.exists();
    if is_new {
        let directory = arguments.config.parent().unwrap_or(Path::new("/"));
        secret::make_directory(directory)?;
        secret::write_new(&arguments.config, &settings)
            .context("the host has joined, and has no settings")?;
    }
    let config = arguments.config.display();
    let next = match is_new {
        true => format!("{config}: add the host's ports there, and start vnet-agent\n"),
        false => format!("{config} is there already and stays; it needs this:\n\n{settings}"),
    };
    let (host, expires_unix_s) = (&token.host, joined.bundle.says().life.to_unix_s);
    say(
        screen,
        &format!("{}: this host is {host} now\n{next}", identity.display()),
        &json!({
            "host": host,
            "identity": identity,
            "config": arguments.config,
            "wrote_config": is_new,
            "certificate_expires_unix_s": expires_unix_s,
        }),
    )
}

/// The least that the agent needs to know.
fn settings(token: &Token, identity: &Path, joined: &Joined) -> String {
    format!(
        "[agent]\nname = {:?}\n\n[control]\nrole = \"agent\"\nproxy = {:?}\nidentity = {:?}\n\n\
         # The address that the proxy was reached from.\n[underlay]\naddress = \"{}\"\n\n\
         # The host's ports, such as:\n#[[port]]\n#name = \"tap0\"\n#network = \"blue\"\n\
         #addresses = \"learn\"\n",
        token.host,
        token.proxy,
        identity.display().to_string(),
        joined.address
    )
}
