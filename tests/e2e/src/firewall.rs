//! What does a site let pass? The firewall stands before the site, on the underlay: what the agent's
//! programs send never meets one on its own host.

use std::fs;

use anyhow::Result;
use lab::{Underlay, Uplink};

/// What one lets pass, of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Everything.
    Everything,
    /// Everything but UDP.
    NoUdp,
    /// TCP that is opened from inside, and nothing else.
    OutgoingTcp,
}

/// Puts a firewall before a site, or another one.
///
/// # Errors
///
/// `nft` does not.
pub fn set(underlay: &Underlay, site: &Uplink, passes: Passes) -> Result<()> {
    let port = &site.bridge_port;
    let table = format!("before_{port}");
    let rules: &[&str] = match passes {
        Passes::Everything => &[],
        Passes::NoUdp => &["meta l4proto udp counter drop"],
        Passes::OutgoingTcp => &[
            "ether type ip ip protocol != tcp counter drop",
            "ether type ip6 meta l4proto udp counter drop",
        ],
    };
    let mut text = format!(
        "table bridge {table} {{}}\ndelete table bridge {table}\ntable bridge {table} {{\n\
         chain forward {{\ntype filter hook forward priority 0;\n"
    );
    for rule in rules {
        text.push_str(&format!("iifname {port} {rule}\noifname {port} {rule}\n"));
    }
    if passes == Passes::OutgoingTcp {
        let opening = "tcp flags & (syn | ack) == syn";
        text.push_str(&format!("oifname {port} {opening} counter drop\n"));
    }
    text.push_str("}\n}\n");
    let path = underlay.directory().join(format!("{table}.nft"));
    fs::write(&path, text)?;
    let path = path.display().to_string();
    underlay.run(["nft", "-f", &path]).map(drop)
}
