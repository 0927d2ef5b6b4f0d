//! What are the maps and programs called, in the object, on the pins and in messages?
//!
//! Written once: the kernel's names are truncated to 15 bytes, so none of these is longer.

/// Ports by device index.
pub const PORTS: &str = "PORTS";
/// What the programs themselves keep for a port: learned address, token bucket.
pub const PORT_STATES: &str = "PORT_STATES";
/// Underlay devices by slot.
pub const UNDERLAYS: &str = "UNDERLAYS";
/// Networks by slot.
pub const NETWORKS: &str = "NETWORKS";
/// Rules by shape and addresses.
pub const RULES: &str = "RULES";
/// Flows by network and addresses.
pub const FLOWS: &str = "FLOWS";
/// Links to send on, by link id.
pub const LINKS: &str = "LINKS";
/// Links to receive on, by source address and network.
pub const ADMISSIONS: &str = "ADMISSIONS";
/// What a link's sender counts, by link id.
pub const SENDERS: &str = "SENDERS";
/// Counters by ledger slot.
pub const LEDGERS: &str = "LEDGERS";
/// Copies of ports by CPU and place.
pub const NEAR_PORTS: &str = "NEAR_PORTS";
/// Copies of admissions by CPU and place.
pub const NEAR_ADMISSIONS: &str = "NEAR_ADMISSIONS";
/// Flows that are counted in place, by CPU and place.
pub const NEAR_FLOWS: &str = "NEAR_FLOWS";
/// Which copies are good.
pub const EPOCHS: &str = "EPOCHS";
/// What the agent is told without asking.
pub const EVENTS: &str = "EVENTS";
/// Single values for the whole data plane.
pub const SETTINGS: &str = "SETTINGS";

/// Every map that is pinned.
pub const PINNED_MAPS: [&str; 16] = [
    PORTS,
    PORT_STATES,
    UNDERLAYS,
    NETWORKS,
    RULES,
    FLOWS,
    LINKS,
    ADMISSIONS,
    SENDERS,
    LEDGERS,
    NEAR_PORTS,
    NEAR_ADMISSIONS,
    NEAR_FLOWS,
    EPOCHS,
    EVENTS,
    SETTINGS,
];

/// The XDP program of a port.
pub const PORT_XDP: &str = "port_xdp";
/// The XDP program of an underlay device.
pub const UNDERLAY_XDP: &str = "underlay_xdp";
/// The XDP program of the agent's own tap.
pub const AGENT_XDP: &str = "agent_xdp";
/// The TC program of a port.
pub const PORT_TC: &str = "port_tc";
/// The TC program of an underlay device.
pub const UNDERLAY_TC: &str = "underlay_tc";
/// The TC program of the agent's own tap.
pub const AGENT_TC: &str = "agent_tc";
/// Counts frames that the kernel refused to redirect.
pub const REDIRECT_ERROR: &str = "redirect_error";
/// Counts frames that a device refused to take, when they are given back.
pub const FRAME_REFUSED: &str = "frame_refused";
/// Counts the same, by looking at every batch.
pub const DEVICE_REFUSED: &str = "device_refused";
/// Counts frames that a device with generic XDP refused.
pub const GENERIC_REFUSED: &str = "generic_refused";
