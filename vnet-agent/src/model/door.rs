//! By which door do a device's frames come to us: XDP or TC?
//!
//! XDP is the faster for frames that are complete, and the wrong one for any other: a frame whose
//! checksum or segmentation is left to the device loses that on its way. TC is right for all.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A door. XDP comes first on the way of a frame: with a program at either, the first handles it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// Before the kernel makes anything of the frame.
    Xdp,
    /// With all that the kernel knows of it.
    Tc,
}

impl Door {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Xdp, Self::Tc];

    /// Its name in settings, pins and texts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What the settings say about a door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoorChoice {
    /// The agent finds out which is right.
    #[default]
    Auto,
    /// XDP, as long as it breaks no frames.
    Xdp,
    /// TC.
    Tc,
}

impl fmt::Display for DoorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Xdp => Door::Xdp.word(),
            Self::Tc => Door::Tc.word(),
        })
    }
}

/// Which door it is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The door.
    pub door: Door,
    /// A port: frames from the wire are joined for it, on their way between two programs. An underlay
    /// at XDP: there is a port for which they are, so its TC program sits behind its XDP program. An
    /// underlay at TC: the kernel joins them all, before its program.
    pub joins: bool,
    /// A veth whose other end can be handed frames at once.
    pub direct: bool,
    /// Why, in words.
    pub why: String,
    /// Why it is not what the settings say, where it is not.
    pub refusal: Option<Refusal>,
}

impl Pick {
    /// This door, for this reason, and nothing else.
    pub fn new(door: Door, why: impl Into<String>) -> Self {
        Self {
            door,
            joins: false,
            direct: false,
            why: why.into(),
            refusal: None,
        }
    }
}

/// The doors of all devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picks {
    /// The underlay's; none while there is no such device.
    pub underlay: Option<Pick>,
    /// The ports', by device.
    pub ports: BTreeMap<u32, Pick>,
    /// That of the agent's own tap.
    pub agent: Option<Door>,
}

/// Why a door that the settings name is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What would happen.
    pub message: String,
    /// What to do.
    pub cure: String,
}
