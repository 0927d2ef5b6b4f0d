//! What does the file say about the overlay that this host belongs to? Section `[control]`.
//!
//! Without it the host stands alone: its own file says everything.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::agent::{PATH_MAX, path};
use super::read::{Read, Reader, Section, Wrong, text};
use crate::model::problem::{Item, check_name};

/// The TCP port of the control channel where nobody says otherwise: the one after Geneve's.
pub const PORT_DEFAULT: u16 = 6082;

/// The overlay that this host belongs to, and its place there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlSettings {
    /// The file that proves who this host is: certificate, authority, key.
    pub identity: PathBuf,
    /// What it is there.
    #[serde(flatten)]
    pub role: ControlRole,
}

/// What a host is in the overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum ControlRole {
    /// It dials the proxy.
    Agent {
        /// Where the proxy is: `10.0.0.1:6082`.
        proxy: String,
    },
    /// It is dialled.
    Proxy {
        /// Where it listens.
        listen: SocketAddr,
        /// The directory of the authority, with its key: for hosts that join, and for renewals.
        authority: Option<PathBuf>,
        /// The agents whose users may change the whole overlay from there.
        may_change: BTreeSet<String>,
    },
}

impl ControlSettings {
    /// Whether the host gets what it does not say from a proxy.
    pub const fn is_agent(&self) -> bool {
        matches!(self.role, ControlRole::Agent { .. })
    }
}

pub(super) fn read(document: &DeTable<'_>, reader: &mut Reader) -> Option<ControlSettings> {
    let keys = [
        "role",
        "proxy",
        "listen",
        "identity",
        "authority",
        "may_change",
    ];
    let section = reader.section(document, Item::Control, &keys)?;
    let example = "\"agent\"";
    let is_proxy = reader.read_required(section, "role", example, |value| {
        match text(value, example)? {
            "agent" => Ok(false),
            "proxy" => Ok(true),
            other => Err(Wrong {
                message: format!("{other:?} is no role"),
                cure: "write \"agent\", or \"proxy\" on the one host that the others dial"
                    .to_owned(),
            }),
        }
    });
    let identity = PathBuf::from("/etc/vnet/identity.pem");
    let identity = path(reader, section, "identity", identity, PATH_MAX);
    let role = match is_proxy? {
        false => {
            let of_proxy = ["listen", "authority", "may_change"];
            not_for(reader, section, &of_proxy, "the proxy");
            let example = "\"10.0.0.1:6082\"";
            let proxy = reader.read_required(section, "proxy", example, |value| {
                let text = text(value, example)?;
                dialled(text, PORT_DEFAULT).ok_or_else(|| undialled(text))
            });
            ControlRole::Agent { proxy: proxy? }
        }
        true => {
            not_for(reader, section, &["proxy"], "agents");
            let listen = reader.read(section, "listen", listen);
            let authority = section.value("authority").map(|_| {
                let default = PathBuf::from("/etc/vnet/ca");
                path(reader, section, "authority", default, PATH_MAX)
            });
            let may_change = reader.read(section, "may_change", names);
            let everywhere = SocketAddr::from(([0, 0, 0, 0], PORT_DEFAULT));
            ControlRole::Proxy {
                listen: listen.or(everywhere),
                authority,
                may_change: may_change.or(BTreeSet::new()),
            }
        }
    };
    Some(ControlSettings { identity, role })
}

fn not_for(reader: &mut Reader, section: Section<'_>, keys: &[&'static str], whom: &str) {
    for key in keys {
        if section.value(key).is_none() {
            continue;
        }
        let wrong = Wrong {
            message: format!("{key} is for {whom}"),
            cure: "remove the line, or change the role".to_owned(),
        };
        // It is read, so that the message can point at it.
        let read: Read<()> = reader.read(section, key, |_| Err(wrong));
        debug_assert!(matches!(read, Read::Bad), "what is wrong is bad");
    }
}

fn listen(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let text = text(value, "\"0.0.0.0:6082\"")?;
    text.parse().map_err(|_| Wrong {
        message: format!("{text:?} is no address and port"),
        cure: "write \"0.0.0.0:6082\", \"[::]:6082\", or one address of this host".to_owned(),
    })
}

/// Names of agents.
fn names(value: &DeValue<'_>) -> Result<BTreeSet<String>, Wrong> {
    let example = "[\"one\"]";
    let wrong = |message: String| Wrong {
        message,
        cure: format!("write names of agents, such as {example}"),
    };
    let DeValue::Array(names) = value else {
        return Err(wrong("this is no list".to_owned()));
    };
    let names = names.iter().map(|name| {
        let name = text(name.get_ref(), example)?;
        match check_name(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(why) => Err(wrong(format!("the name {name:?} {why}"))),
        }
    });
    names.collect()
}

fn undialled(text: &str) -> Wrong {
    Wrong {
        message: format!("{text:?} is no address to dial"),
        cure: "write \"10.0.0.1:6082\", \"[fd00::1]:6082\" or \"proxy.example.org:6082\""
            .to_owned(),
    }
}

/// An address or a name to dial, with this port where it says none; nothing where it is neither.
pub fn dialled(text: &str, default: u16) -> Option<String> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(SocketAddr::from((address, default)).to_string());
    }
    if text
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.port() != 0)
    {
        return Some(text.to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_name = !host.is_empty() && host.len() <= 253 && host.chars().all(plain);
    (is_name && port != 0).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dialled_has_a_port_in_the_end() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:6082"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("fd00::1", "[fd00::1]:6082"),
            ("[fd00::1]:7", "[fd00::1]:7"),
            ("proxy.example.org", "proxy.example.org:6082"),
            ("proxy:7", "proxy:7"),
        ] {
            assert_eq!(dialled(text, PORT_DEFAULT).as_deref(), Some(expected));
        }
        for text in [
            "",
            ":",
            "a b",
            "10.0.0.1:0",
            "10.0.0.1:x",
            "a:99999",
            "[fd00::1]",
            "-:0",
        ] {
            assert_eq!(dialled(text, PORT_DEFAULT), None, "{text:?}");
        }
    }
}
