//! What is a port?

use serde::{Deserialize, Serialize};
use vnet_common::addr::Mac;

/// A device, or a family of devices, that the frames of VMs come in on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Which devices this is about.
    pub device: DeviceMatch,
    /// The network that those devices belong to, by name.
    pub network: String,
    /// Which source addresses a device may use.
    pub addresses: Addresses,
    /// Whether the agent sets the device's MTU (and puts back the old one when it lets go).
    pub set_mtu: bool,
    /// Frames a second that one such device may send to the slow path (broadcast, multicast,
    /// unknown destinations).
    pub slow_path_rate: u32,
    /// Frames that it may send there at once.
    pub slow_path_burst: u32,
}

/// Which devices a port entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceMatch {
    /// The device of exactly this name.
    Name(String),
    /// Every device whose name matches; `*` stands for any characters, `?` for one.
    Pattern(String),
}

/// Port security: the source addresses that a port may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addresses {
    /// Exactly these (1 to [`vnet_common::table::port::ADDRESSES_MAX`]).
    Only(Vec<Mac>),
    /// The source of the first frame, and from then on no other.
    Learn,
    /// Any: for guests that are routers or bridges themselves. Nothing is delivered to such a
    /// port without a rule that says so.
    Any,
}
