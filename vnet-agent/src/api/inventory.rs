//! Which interfaces, links and rules are there, and do they do their work?

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Mac;
use vnet_common::rule::{Destination, Source};

use crate::model::{Addresses, Flooding, RuleOrigin, Target, Transport};

/// A device that is a port, should be one, or could be.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Interface {
    /// The device's name.
    pub name: String,
    /// The kernel's number of it; nothing where there is no such device now.
    pub ifindex: Option<u32>,
    /// The network it belongs to; nothing where no port entry takes it in.
    pub network: Option<String>,
    /// The source addresses that its entry allows.
    pub addresses: Option<Addresses>,
    /// The address that was learned, where the entry says so and a frame has come.
    pub learned: Option<Mac>,
    /// Which program takes its frames, and how (`xdp (native)`, `tc`).
    pub door: Option<String>,
    /// Why its frames come in by that door; nothing where it is no port and no underlay.
    #[serde(default)]
    pub door_why: Option<String>,
    /// The device's MTU.
    pub mtu_bytes: Option<u32>,
    /// The MTU that the guest must use; nothing where nothing limits it.
    pub guest_mtu_bytes: Option<u32>,
    /// Whether the device is up; nothing where there is none.
    pub up: Option<bool>,
    /// What it does.
    pub state: InterfaceState,
    /// Why it is in that state, or what to do about it.
    pub note: Option<String>,
}

/// What a device does for the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceState {
    /// It is a port and its frames are forwarded.
    Forwarding,
    /// It is a port, and the device is down.
    Down,
    /// A port entry names it, and there is no such device.
    Absent,
    /// A port entry takes it in, and that did not work.
    Failed,
    /// No port entry takes it in.
    Free,
    /// Overlay packets enter and leave by it.
    Underlay,
}

impl fmt::Display for InterfaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forwarding => "forwarding",
            Self::Down => "down",
            Self::Absent => "absent",
            Self::Failed => "failed",
            Self::Free => "free",
            Self::Underlay => "underlay",
        })
    }
}

/// A link, as it is now. Its cookie is not shown.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// Its place in the agent's tables.
    pub id: u32,
    /// The underlay address of the other end.
    pub remote: IpAddr,
    /// The networks that may cross, by name.
    pub networks: Vec<String>,
    /// What its frames travel in.
    #[serde(default)]
    pub kind: Transport,
    /// Bare Geneve, without a cookie.
    pub plain: bool,
    /// Which frames for many it takes.
    pub flood: Flooding,
    /// Whether frames can leave over it.
    pub state: LinkState,
    /// Why it is in that state.
    pub note: Option<String>,
    /// The device that its packets leave by.
    pub device: Option<String>,
    /// Whom that device hands them to.
    pub next_hop_mac: Option<Mac>,
    /// The underlay address of this end.
    pub source: Option<IpAddr>,
    /// The MTU that it leaves to guests.
    pub guest_mtu_bytes: Option<u32>,
    /// The link that its frames take while nobody answers at its other end.
    #[serde(default)]
    pub fallback: Option<String>,
    /// The link that they take now.
    #[serde(default)]
    pub instead: Option<String>,
    /// The link whose frames it carries while the path of that one is dead.
    #[serde(default)]
    pub rung_of: Option<String>,
    /// What its frames travel in now, why, and since when.
    pub rung: LinkRung,
    /// Since when its other end answers, or does not; nothing where nobody asks.
    #[serde(default)]
    pub since_unix_ms: Option<u64>,
    /// How large its packets may be; nothing while it has no way.
    #[serde(default)]
    pub mtu: Option<LinkMtu>,
    /// Frames sent.
    pub sent_packets: u64,
    /// Their bytes, outer headers not included.
    pub sent_bytes: u64,
    /// Frames received.
    pub received_packets: u64,
    /// Their bytes, outer headers not included.
    pub received_bytes: u64,
    /// Its connection, where it is one that the agent carries.
    #[serde(default)]
    pub connection: Option<LinkConnection>,
}

/// The rung of the ladder that a link is on: UDP where it passes, else a connection, where it has one.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LinkRung {
    /// What its frames travel in.
    pub kind: Transport,
    /// Why.
    pub why: String,
    /// Since when; nothing where nobody has found it out yet.
    #[serde(default)]
    pub since_unix_ms: Option<u64>,
}

/// The connection of a link that the agent carries, and what became of its frames since the agent
/// started. Sent over the link by programs = sent + queue_full + lost + waiting, and what the kernel
/// refused on the way up; received = arrived.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LinkConnection {
    /// Whom it is with; nothing while there is none.
    pub peer: Option<SocketAddr>,
    /// Whether this end opened it.
    pub opened_here: bool,
    /// Since when there is one, or none: seconds since 1970.
    pub since_unix_s: u64,
    /// How many there have been.
    pub connections: u64,
    /// Frames handed to a connection.
    pub sent: u64,
    /// Frames that found the queue full.
    pub queue_full: u64,
    /// Frames that waited, or were half sent, when a connection ended, or came when there was none.
    pub lost: u64,
    /// Frames that came over it and were handed to the kernel.
    pub arrived: u64,
    /// Frames that came over it and were refused: of a network that does not cross it, or not what
    /// they said they were.
    pub refused: u64,
}

/// How large the packets of a link may be, outer headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkMtu {
    /// What is sent at the most.
    pub bytes: u32,
    /// What the device and the route would take.
    pub device_bytes: u32,
    /// Who says so.
    pub source: MtuSource,
    /// Since when; nothing where nobody asks the path.
    pub since_unix_ms: Option<u64>,
}

/// How it is known what a link's path carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MtuSource {
    /// Nobody asked: the device says what may be sent.
    Device,
    /// It is being found out; until then what is known holds, or else the device's word.
    Searching,
    /// Probes of this size arrive, and none above.
    Probed,
    /// Nobody answers probes; what was known holds, or else the device's word.
    Silent,
}

impl fmt::Display for MtuSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Searching => "searching",
            Self::Probed => "probed",
            Self::Silent => "silent",
        })
    }
}

/// Whether frames can leave over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Its next hop is known.
    Up,
    /// No route, no device, or a neighbour that does not answer.
    Unresolved,
    /// Its other end does not answer, and there is no other link to take.
    Down,
    /// Its other end does not answer: its frames take another link.
    FallenBack,
    /// The agent carries it, and has no connection.
    Unconnected,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Unresolved => "unresolved",
            Self::Down => "down",
            Self::FallenBack => "fallen-back",
            Self::Unconnected => "unconnected",
        })
    }
}

/// A rule, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its network.
    pub network: String,
    /// Which senders it is about.
    pub source: Source,
    /// Which receivers it is about.
    pub destination: Destination,
    /// Where such frames go.
    pub to: Target,
    /// Who wants it.
    pub origin: RuleOrigin,
    /// 0 (weakest) to 11 (strongest).
    pub strength: u8,
    /// Whether it can do what it says now.
    pub resolved: bool,
    /// Why it cannot (its port is absent, its link unresolved).
    pub note: Option<String>,
}
