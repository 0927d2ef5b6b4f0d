//! Which edges to other agents are there, and how are they added and deleted?

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{ArgGroup, Subcommand, ValueEnum};
use vnet_agent::api::{Change, LinkStatus, NewLink};
use vnet_agent::model::{Flooding, Transport};
use vnet_common::addr::Cookie;

use crate::client::{Client, path};
use crate::number;
use crate::screen::{self, Screen};
use crate::table::{Side, Table, or_empty};
use crate::text::{paragraph, printable};

/// A cookie file holds a line.
const COOKIE_FILE_BYTES_MAX: u64 = 4096;

/// What can be done with links.
#[derive(Subcommand)]
pub enum Verb {
    /// Lists the links.
    List,
    /// Adds a link: this host's end of it. The other end needs the same networks and cookie.
    Add(Add),
    /// Deletes a link.
    #[command(visible_alias = "remove")]
    Delete(Delete),
}

/// What `link add` takes.
#[derive(clap::Args)]
#[command(
    group = ArgGroup::new("secret").required(true).args(["cookie", "cookie_file", "plain"]),
    after_help = "\
A cookie on the command line can be seen by every user of this host (ps); --cookie-file
keeps it to those who can read the file, and - reads it from standard input.

Examples:
  openssl rand -hex 8 > cookie && chmod 600 cookie
  vnetctl link add to-two --remote 10.0.0.2 --network blue --cookie-file cookie
  ssh one cat cookie | vnetctl link add to-one --remote 10.0.0.1 --network blue --cookie-file -
  vnetctl link add to-switch --remote fd00::9 --network blue,green --plain --flood always"
)]
pub struct Add {
    /// Its name, unique on this host.
    name: String,
    /// The underlay address of the other end.
    #[arg(long, value_name = "ADDRESS")]
    remote: IpAddr,
    /// The networks whose frames may cross.
    #[arg(
        long = "network",
        value_name = "NAME[,NAME]",
        value_delimiter = ',',
        required = true
    )]
    networks: Vec<String>,
    /// The secret both ends share: 16 hexadecimal digits.
    #[arg(long, value_name = "HEX")]
    cookie: Option<Cookie>,
    /// The file that the cookie is in; - is standard input.
    #[arg(long, value_name = "FILE")]
    cookie_file: Option<PathBuf>,
    /// Bare Geneve without a cookie, for an endpoint that is not ours.
    #[arg(long)]
    plain: bool,
    /// Which broadcasts and unknown destinations cross it.
    #[arg(long, value_enum, default_value = "from-ports")]
    flood: Flood,
    /// The link that its frames take while nobody answers at its other end.
    #[arg(long, value_name = "LINK")]
    fallback: Option<String>,
    /// What its frames travel in; the same at both ends.
    #[arg(long, value_enum, default_value = "udp")]
    kind: Kind,
    /// Never open the connection of a tcp or tls link from this end.
    #[arg(long)]
    listen_only: bool,
}

/// The words for [`Transport`].
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Geneve over UDP, in the kernel.
    Udp,
    /// A TCP connection between the agents: for networks that are trusted.
    Tcp,
    /// The same, encrypted.
    Tls,
}

impl From<Kind> for Transport {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Udp => Self::Udp,
            Kind::Tcp => Self::Tcp,
            Kind::Tls => Self::Tls,
        }
    }
}

/// The words for [`Flooding`].
#[derive(Clone, Copy, ValueEnum)]
enum Flood {
    /// Those of this host's own ports: right for a full mesh.
    FromPorts,
    /// Those of other links too: right for a star or a tree, wrong for a ring.
    Always,
    /// None.
    Never,
}

impl From<Flood> for Flooding {
    fn from(flood: Flood) -> Self {
        match flood {
            Flood::FromPorts => Self::FromPorts,
            Flood::Always => Self::Always,
            Flood::Never => Self::Never,
        }
    }
}

/// What `link delete` takes.
#[derive(clap::Args)]
pub struct Delete {
    /// Its name.
    name: String,
    /// Even where rules lead over it; they are deleted with it.
    #[arg(long)]
    force: bool,
}

/// Does it.
pub async fn run(verb: Verb, client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List => {
            let answer = client.get(&path(&["links"], &[])).await?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
            let now_unix_ms = now.and_then(|since| u64::try_from(since.as_millis()).ok());
            screen.show(&answer, |links: &Vec<LinkStatus>, columns| {
                render(links, now_unix_ms, columns)
            })?;
        }
        Verb::Add(add) => {
            let answer = client.post(&path(&["links"], &[]), &new_link(add)?).await?;
            screen.show(&answer, render_change)?;
        }
        Verb::Delete(Delete { name, force }) => {
            let force = force.then(|| "true".to_owned());
            let answer = client
                .delete(&path(&["links", &name], &[("force", force)]))
                .await?;
            screen.show(&answer, render_change)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new_link(add: Add) -> anyhow::Result<NewLink> {
    let Add {
        name,
        remote,
        networks,
        cookie,
        cookie_file,
        plain,
        flood,
        fallback,
        kind,
        listen_only,
    } = add;
    let cookie = match cookie_file {
        Some(file) => Some(read_cookie(&file)?),
        None => cookie,
    };
    Ok(NewLink {
        name,
        remote,
        networks,
        cookie,
        plain,
        flood: flood.into(),
        fallback,
        kind: kind.into(),
        listen_only,
    })
}

fn read_cookie(file: &Path) -> anyhow::Result<Cookie> {
    if file.as_os_str() == "-" {
        return cookie_in(io::stdin().lock()).context("standard input has no cookie");
    }
    let name = file.display();
    let opened = File::open(file).with_context(|| format!("cannot open the cookie file {name}"))?;
    let mode = opened
        .metadata()
        .map_or(0, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        screen::complain(&format!(
            "vnetctl: warning: others may read the cookie in {name} (mode {:04o}); chmod 600 {name}",
            mode & 0o7777
        ))?;
    }
    cookie_in(opened).with_context(|| format!("the file {name} has no cookie"))
}

fn cookie_in(source: impl Read) -> anyhow::Result<Cookie> {
    let mut text = String::new();
    source
        .take(COOKIE_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > COOKIE_FILE_BYTES_MAX {
        bail!("more than {COOKIE_FILE_BYTES_MAX} bytes, and a cookie is one line");
    }
    Ok(text.trim().parse()?)
}

/// What a change did, and what its asker should know.
pub fn render_change(change: &Change, columns: Option<usize>) -> String {
    let Change {
        outcome,
        subject,
        notes,
    } = change;
    let mut text = paragraph(&format!("{outcome}: "), subject, columns);
    for note in notes {
        text.push_str(&paragraph("note: ", note, columns));
    }
    text
}

fn render(links: &[LinkStatus], now_unix_ms: Option<u64>, columns: Option<usize>) -> String {
    if links.is_empty() {
        return "No links.\n".into();
    }
    let mut table = Table::new([
        ("NAME", Side::Left),
        ("REMOTE", Side::Left),
        ("NETWORKS", Side::Left),
        ("STATE", Side::Left),
        ("DEVICE", Side::Left),
        ("MTU", Side::Left),
        ("GUEST MTU", Side::Right),
        ("SENT", Side::Right),
        ("RECEIVED", Side::Right),
        ("FLOOD", Side::Left),
        ("KIND", Side::Left),
    ]);
    for link in links {
        table.row([
            link.name.clone(),
            link.remote.to_string(),
            link.networks.join(","),
            link.state.to_string(),
            or_empty(link.device.as_ref()),
            or_empty(link.mtu.map(|mtu| format!("{} {}", mtu.bytes, mtu.source))),
            or_empty(link.guest_mtu_bytes),
            number::short(link.sent_packets),
            number::short(link.received_packets),
            link.flood.to_string(),
            match &link.rung_of {
                _ if link.plain => "plain".into(),
                Some(whole) => format!("{}, a rung of {whole}", link.kind),
                None => link.kind.to_string(),
            },
        ]);
    }
    let mut text = table.render(columns);
    for link in links {
        let notes = link
            .note
            .clone()
            .into_iter()
            .chain(narrow(link, now_unix_ms));
        let name = format!("{}: ", printable(&link.name));
        notes.for_each(|note| text.push_str(&paragraph(&name, &note, columns)));
    }
    text
}

/// What there is to say of a link that carries less than its device sends.
fn narrow(link: &LinkStatus, now_unix_ms: Option<u64>) -> Option<String> {
    let mtu = link.mtu.filter(|mtu| mtu.bytes < mtu.device_bytes)?;
    let since = match (mtu.since_unix_ms, now_unix_ms) {
        (Some(since), Some(now)) => {
            let age = number::duration(now.saturating_sub(since) / 1000);
            format!("; so for {age}")
        }
        _ => String::new(),
    };
    let (bytes, device_bytes) = (mtu.bytes, mtu.device_bytes);
    Some(format!(
        "{bytes} of the {device_bytes} bytes that could be sent arrive{since}"
    ))
}

#[cfg(test)]
mod tests {
    use vnet_agent::api::{ChangeOutcome, LinkMtu, LinkRung, LinkState, MtuSource};

    use super::*;

    #[test]
    fn every_link_says_whether_it_works() {
        let two = LinkStatus {
            name: "to-two".into(),
            id: 0,
            remote: "10.0.0.2".parse().unwrap(),
            networks: vec!["blue".into(), "green".into()],
            kind: Transport::Udp,
            plain: false,
            flood: Flooding::FromPorts,
            state: LinkState::Up,
            note: None,
            device: Some("eth0".into()),
            next_hop_mac: None,
            source: None,
            fallback: None,
            instead: None,
            rung_of: None,
            rung: LinkRung {
                kind: Transport::Udp,
                why: "its other end answers over udp".into(),
                since_unix_ms: None,
            },
            since_unix_ms: None,
            guest_mtu_bytes: Some(1330),
            mtu: Some(LinkMtu {
                bytes: 1400,
                device_bytes: 1500,
                source: MtuSource::Probed,
                since_unix_ms: Some(1_000_000),
            }),
            sent_packets: 12_345,
            sent_bytes: 1_234_567,
            received_packets: 1_234_567,
            received_bytes: 1,
            connection: None,
        };
        let three = LinkStatus {
            name: "to-three".into(),
            remote: "fd00::3".parse().unwrap(),
            networks: vec!["blue".into()],
            plain: true,
            flood: Flooding::Never,
            state: LinkState::Unresolved,
            note: Some("no route to fd00::3".into()),
            device: None,
            guest_mtu_bytes: None,
            mtu: None,
            ..two.clone()
        };
        let expected = "\
NAME      REMOTE    NETWORKS    STATE       DEVICE  MTU          GUEST MTU    SENT  RECEIVED  FLOOD       KIND
to-two    10.0.0.2  blue,green  up          eth0    1400 probed       1330  12,345     1.23M  from-ports  udp
to-three  fd00::3   blue        unresolved                                  12,345     1.23M  never       plain
to-two: 1400 of the 1500 bytes that could be sent arrive; so for 5 min
to-three: no route to fd00::3
";
        assert_eq!(render(&[two, three], Some(1_300_000), Some(120)), expected);
        assert_eq!(render(&[], None, None), "No links.\n");
    }

    #[test]
    fn a_change_says_what_it_did() {
        let change = Change {
            outcome: ChangeOutcome::Added,
            subject: "link to-two to 10.0.0.2 for blue".into(),
            notes: vec!["its next hop is not known yet".into()],
        };
        assert_eq!(
            render_change(&change, None),
            "added: link to-two to 10.0.0.2 for blue\nnote: its next hop is not known yet\n"
        );
    }

    #[test]
    fn a_cookie_is_read_without_its_line_end() {
        assert_eq!(
            cookie_in(&b" 0123456789abcdef\n"[..]).unwrap(),
            Cookie(0x0123_4567_89ab_cdef)
        );
        for bytes in [
            &b""[..],
            b"0123456789abcdef 0123456789abcdef",
            b"\xff",
            &[b'0'; 5000],
        ] {
            assert!(cookie_in(bytes).is_err());
        }
    }
}
