//! Is all well on this host?

use std::net::{Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::NetworkId;

use super::{OverlayStatus, RemoteStatus};
use crate::model::counting::Counting;
use crate::model::door::{Door, DoorChoice};

/// The answer to `status`: one screen about this host.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Status {
    /// The agent's name.
    pub name: String,
    /// The agent's version.
    pub version: String,
    /// The agent's process.
    pub pid: u32,
    /// How long the agent has been running.
    pub uptime_s: u64,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// The number of the data plane's layouts (`vnet_common::SCHEMA`).
    pub schema: u32,
    /// No problem is [`Severity::Degraded`]: everything that the configuration asks for is
    /// forwarded.
    pub healthy: bool,
    /// What is wrong or will be, the worst first.
    pub problems: Vec<Problem>,
    /// Where overlay packets enter and leave; nothing while the device is not there.
    pub underlay: Option<UnderlayStatus>,
    /// The virtual LANs.
    pub networks: Vec<NetworkStatus>,
    /// Ports that are forwarding.
    pub ports: u32,
    /// By which door frames come in: the underlay's first, then the ports'.
    #[serde(default)]
    pub doors: Vec<DoorStatus>,
    /// The links.
    pub links: LinksSummary,
    /// How full the tables of limited size are, flows aside.
    pub tables: Vec<TableFill>,
    /// The flow table. Full is normal for it: the least recently used flow makes room.
    pub flows: EntriesStatus,
    /// Events that the programs could not tell the agent.
    pub events_lost: u64,
    /// How frames are counted that the kernel refuses after a redirect.
    pub redirect_failures: Counting,
    /// The agent's resident memory, without the kernel's tables.
    pub memory_rss_bytes: Option<u64>,
    /// When the configuration last changed, in milliseconds since 1970.
    pub last_change_unix_ms: Option<u64>,
    /// Where the configuration comes from, in words (`/etc/vnet/agent.toml`, and changes made
    /// since).
    pub configuration_source: String,
    /// Its place in the overlay; nothing where it stands alone.
    #[serde(default)]
    pub overlay: Option<OverlayStatus>,
    /// Who asks over the network; nothing where nobody may.
    #[serde(default)]
    pub remote: Option<RemoteStatus>,
}

/// Something an admin should know.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about (`link to-two`, `port tap0`, `table flows`).
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: Option<String>,
}

/// How bad a problem is; the worse is the greater.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Everything works, something deserves a look.
    Warning,
    /// Something that is configured does not work.
    Degraded,
}

/// The network under the overlay, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct UnderlayStatus {
    /// The device.
    pub device: String,
    /// Its MTU.
    pub mtu_bytes: u32,
    /// Its primary IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its primary IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The UDP port of Geneve.
    pub udp_port: u16,
    /// Which programs take its packets, and how (`xdp (native)`, `xdp (generic)`, `tc`,
    /// `xdp (native) and tc`).
    pub door: String,
}

/// By which door a device's frames come in, and why.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct DoorStatus {
    /// The device.
    pub device: String,
    /// What the settings say.
    pub wanted: DoorChoice,
    /// What it is.
    pub door: Door,
    /// Whether frames from the wire are joined: for this port; on an underlay, for any.
    pub joins: bool,
    /// Why it is that door.
    pub why: String,
}

/// A virtual LAN in numbers.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// Its id on the wire.
    pub id: NetworkId,
    /// Ports that are forwarding.
    pub ports: u32,
    /// Links that carry it.
    pub links: u32,
    /// Rules, those implied by ports included.
    pub rules: u32,
    /// The MTU its guests must use; nothing where no link carries it, and so nothing limits it.
    pub mtu_bytes: Option<u32>,
}

/// How many links do their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LinksSummary {
    /// All of them.
    pub total: u32,
    /// Those whose next hop is known.
    pub up: u32,
    /// The others.
    pub unresolved: u32,
}

/// How full a table is.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TableFill {
    /// The name of the limit in the settings (`rules`, `ports`, …).
    pub name: String,
    /// Entries in use.
    pub entries: u64,
    /// Entries that fit.
    pub capacity: u64,
}

/// Entries in use and entries that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct EntriesStatus {
    /// Entries in use.
    pub entries: u64,
    /// Entries that fit.
    pub capacity: u64,
}
