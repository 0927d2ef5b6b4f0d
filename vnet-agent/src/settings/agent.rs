//! What does the file say about the agent itself? Section `[agent]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::read::{Reader, Section, Wrong, text, truth};
use crate::model::problem::{Item, check_name};

/// What concerns the agent itself and not the networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentSettings {
    /// What people call this agent; by default the host's name.
    pub name: String,
    /// Where clients find it: a Unix socket.
    pub socket: PathBuf,
    /// Whose members may use the socket, besides root.
    pub socket_group: Option<String>,
    /// Where Prometheus may read `/metrics` over TCP, without a key; nobody else is served there.
    pub metrics: Option<SocketAddr>,
    /// Where the API is served over TLS, to operators and readers of the overlay's authority.
    pub api: Option<SocketAddr>,
    /// Where the data plane is pinned; on a bpf file system.
    pub pin_directory: PathBuf,
    /// Where the agent keeps what changed at run time.
    pub state_directory: PathBuf,
    /// The tap that the slow path goes through; the agent makes it.
    pub slow_path_device: String,
    /// Whether frames that the kernel refuses after a redirect are counted.
    pub count_refused: bool,
    /// Whether links are probed for the largest packet that arrives.
    pub probe_mtu: bool,
    /// Whether links are asked, again and again, if their other ends answer.
    pub watch_links: bool,
    /// The list of those whose certificates it believes no more.
    pub revoked: Option<PathBuf>,
    /// What this host proves who it is with: a file with its certificate, the authority's, and its
    /// key.
    pub identity: Option<PathBuf>,
}

/// The largest path of a Unix socket: the kernel's 108 bytes hold a terminating zero too.
const SOCKET_BYTES_MAX: usize = 107;

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            name: host_name(),
            socket: "/run/vnet/agent.sock".into(),
            socket_group: None,
            metrics: None,
            api: None,
            pin_directory: "/sys/fs/bpf/vnet".into(),
            state_directory: "/var/lib/vnet".into(),
            slow_path_device: "vnet-slow".to_owned(),
            count_refused: true,
            probe_mtu: true,
            watch_links: true,
            revoked: None,
            identity: None,
        }
    }
}

/// The host's name, or a filler where it has none that will do.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if check_name(name).is_ok() {
        name
    } else {
        "localhost"
    }
    .to_owned()
}

pub(super) fn read(document: &DeTable<'_>, reader: &mut Reader) -> AgentSettings {
    let keys = [
        "name",
        "socket",
        "socket_group",
        "metrics",
        "api",
        "pin_directory",
        "state_directory",
        "slow_path_device",
        "count_refused",
        "probe_mtu",
        "watch_links",
        "revoked",
        "identity",
    ];
    let default = AgentSettings::default();
    let Some(section) = reader.section(document, Item::Agent, &keys) else {
        return default;
    };
    let name = reader.read(section, "name", |value| {
        plain_name(text(value, "\"host-one\"")?, "an agent's name")
    });
    let socket_group = reader.read(section, "socket_group", |value| {
        plain_name(text(value, "\"vnet\"")?, "a group's name").map(Some)
    });
    let metrics = reader.read(section, "metrics", |value| {
        socket_address(value, "127.0.0.1:9472", "[::1]:9472")
    });
    let has_identity = section.value("identity").is_some() || document.get("control").is_some();
    let api = reader.read(section, "api", |value| {
        let address = socket_address(value, "0.0.0.0:6083", "[::]:6083")?;
        match has_identity {
            true => Ok(address),
            false => Err(Wrong {
                message: "who asks over TLS wants to see a certificate, and this host has none"
                    .to_owned(),
                cure: "make one (`vnetctl ca issue`), and name its file: identity under [agent]"
                    .to_owned(),
            }),
        }
    });
    let count_refused = reader.read(section, "count_refused", truth);
    let probe_mtu = reader.read(section, "probe_mtu", truth);
    let watch_links = reader.read(section, "watch_links", truth);
    let device = reader.read(section, "slow_path_device", |value| {
        text(value, "\"vnet-slow\"").map(str::to_owned)
    });
    let example = PathBuf::from("/etc/vnet/revoked");
    let revoked = section
        .value("revoked")
        .map(|_| path(reader, section, "revoked", example, PATH_MAX));
    let example = PathBuf::from("/etc/vnet/identity.pem");
    let identity = section
        .value("identity")
        .map(|_| path(reader, section, "identity", example, PATH_MAX));
    AgentSettings {
        name: name.or(default.name),
        socket: path(reader, section, "socket", default.socket, SOCKET_BYTES_MAX),
        socket_group: socket_group.or(None),
        metrics: metrics.or(None),
        api: api.or(None),
        pin_directory: path(
            reader,
            section,
            "pin_directory",
            default.pin_directory,
            PATH_MAX,
        ),
        state_directory: path(
            reader,
            section,
            "state_directory",
            default.state_directory,
            PATH_MAX,
        ),
        slow_path_device: device.or(default.slow_path_device),
        count_refused: count_refused.or(default.count_refused),
        probe_mtu: probe_mtu.or(default.probe_mtu),
        watch_links: watch_links.or(default.watch_links),
        revoked,
        identity,
    }
}

fn socket_address(
    value: &DeValue<'_>,
    ipv4: &str,
    ipv6: &str,
) -> Result<Option<SocketAddr>, Wrong> {
    let text = text(value, &format!("{ipv4:?}"))?;
    match text.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(Wrong {
            message: format!("{text:?} is no address with a port"),
            cure: format!("write an IP address and a port, such as {ipv4:?} or {ipv6:?}"),
        }),
    }
}

/// Shorter than the kernel's 4,096 bytes by room for the names of what lies in a directory.
pub(super) const PATH_MAX: usize = 3072;

fn plain_name(name: &str, what: &str) -> Result<String, Wrong> {
    match check_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(why) => Err(Wrong {
            message: format!("{name:?} {why}"),
            cure: format!(
                "{what} has 1 to 63 letters, digits, '-', '_' and '.', and begins with a letter or digit"
            ),
        }),
    }
}

pub(super) fn path(
    reader: &mut Reader,
    section: Section<'_>,
    key: &'static str,
    default: PathBuf,
    bytes_max: usize,
) -> PathBuf {
    let parse = |value: &DeValue<'_>| {
        let example = format!("\"{}\"", default.display());
        let path = text(value, &example)?;
        let wrong = |message: String, cure: String| Err(Wrong { message, cure });
        if !Path::new(path).is_absolute() {
            wrong(
                format!("{path:?} is no absolute path"),
                format!("write it like this: {example}"),
            )
        } else if path.contains('\0') {
            wrong(
                "a path cannot have a zero character".to_owned(),
                "remove it".to_owned(),
            )
        } else if path.len() > bytes_max {
            let message = format!("the path is longer than {bytes_max} bytes");
            wrong(message, "choose a shorter one".to_owned())
        } else {
            Ok(PathBuf::from(path))
        }
    };
    let read = reader.read(section, key, parse);
    read.or(default)
}
