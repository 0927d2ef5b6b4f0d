//! Who is who in every test, diagram and example?
//!
//! ```text
//!  guest_one ─┐                ┌─ guest_two        guest_three ─┐
//!  neighbour ─┴─ host_one ─────┴── host_two          host_three ┘      printer ── proxy
//!               │  links: to_two (IPv4), to_three (IPv6), to_proxy (IPv4),
//!               └─ to_appliance (IPv4), to_appliance_six (IPv6): plain, the other end is not ours
//! ```
//!
//! The tests look at it from `host_one`. Everything here is a constant: the numbers that differ
//! between runs (device indexes and so on) are in [`Stage`](crate::stage::Stage).

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use vnet_common::addr::{Cookie, Mac};

/// A station or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What tests call it.
    pub name: &'static str,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
}

const fn station(name: &'static str, number: u8) -> Actor {
    Actor {
        name,
        mac: Mac([0x52, 0x54, 0, 0, 0, number]),
        ipv4: Ipv4Addr::new(192, 168, 7, number),
        ipv6: Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, number as u16),
    }
}

const fn host(name: &'static str, number: u8) -> Actor {
    Actor {
        name,
        mac: Mac([0x02, 0, 0, 0, 0xa0, number]),
        ipv4: Ipv4Addr::new(10, 0, 0, number),
        ipv6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number as u16),
    }
}

/// A VM on `host_one`.
pub const GUEST_ONE: Actor = station("guest_one", 1);
/// Another VM on `host_one`.
pub const NEIGHBOUR: Actor = station("neighbour", 2);
/// A VM on `host_two`.
pub const GUEST_TWO: Actor = station("guest_two", 3);
/// A VM on `host_three`.
pub const GUEST_THREE: Actor = station("guest_three", 4);
/// On the proxy's LAN.
pub const PRINTER: Actor = station("printer", 5);
/// A station that nobody has told of.
pub const STRANGER: Actor = station("stranger", 99);

/// Where the tests look from.
pub const HOST_ONE: Actor = host("host_one", 1);
/// The host of `guest_two`.
pub const HOST_TWO: Actor = host("host_two", 2);
/// The host of `guest_three`.
pub const HOST_THREE: Actor = host("host_three", 3);
/// The host with the user's LAN.
pub const PROXY: Actor = host("proxy", 4);
/// A Geneve endpoint that is not one of our agents.
pub const APPLIANCE: Actor = host("appliance", 5);
/// A host that no link leads to.
pub const OUTSIDER: Actor = host("outsider", 66);

/// Everybody.
pub const ACTORS: [Actor; 12] = [
    GUEST_ONE,
    NEIGHBOUR,
    GUEST_TWO,
    GUEST_THREE,
    PRINTER,
    STRANGER,
    HOST_ONE,
    HOST_TWO,
    HOST_THREE,
    PROXY,
    APPLIANCE,
    OUTSIDER,
];

/// The devices of `host_one` that can be ports, each called like the station behind it.
pub const PORTS: [&str; 2] = ["guest_one", "neighbour"];
/// The underlay device of `host_one`.
pub const WIRE: &str = "wire";
/// The agent's tap on `host_one`.
pub const AGENT: &str = "agent";

/// A virtual LAN: its name, and its number where nothing else is said.
pub const NETWORKS: [(&str, u32); 2] = [("blue", 7), ("red", 8)];

/// A link of `host_one`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkActor {
    /// What tests call it.
    pub name: &'static str,
    /// The other end.
    pub far: Actor,
    /// IPv6 outside, or else IPv4.
    pub is_ipv6: bool,
    /// The cookie; [`Cookie::NONE`] on a plain link.
    pub cookie: Cookie,
}

/// Every link of `host_one`.
pub const LINKS: [LinkActor; 5] = [
    LinkActor {
        name: "to_two",
        far: HOST_TWO,
        is_ipv6: false,
        cookie: Cookie(0x0123_4567_89ab_cdef),
    },
    LinkActor {
        name: "to_three",
        far: HOST_THREE,
        is_ipv6: true,
        cookie: Cookie(0x3333_3333_3333_3333),
    },
    LinkActor {
        name: "to_proxy",
        far: PROXY,
        is_ipv6: false,
        cookie: Cookie(0xfeed_face_cafe_beef),
    },
    LinkActor {
        name: "to_appliance",
        far: APPLIANCE,
        is_ipv6: false,
        cookie: Cookie::NONE,
    },
    LinkActor {
        name: "to_appliance_six",
        far: APPLIANCE,
        is_ipv6: true,
        cookie: Cookie::NONE,
    },
];

/// The link of this name.
///
/// # Errors
///
/// There is none.
pub fn link(name: &str) -> Result<&'static LinkActor> {
    LINKS
        .iter()
        .find(|link| link.name == name)
        .with_context(|| format!("no link is called `{name}`"))
}

/// The actor of this name.
///
/// # Errors
///
/// There is none.
pub fn actor(name: &str) -> Result<&'static Actor> {
    ACTORS
        .iter()
        .find(|actor| actor.name == name)
        .with_context(|| format!("nobody is called `{name}`"))
}

/// Addresses that nobody has.
const SPECIAL: [(&str, Mac); 3] = [
    ("broadcast", Mac::BROADCAST),
    ("multicast", Mac([0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb])),
    ("zero", Mac::ZERO),
];

/// The Ethernet address that this word means: an actor's, a special one's, or the address itself.
///
/// # Errors
///
/// It means none.
pub fn mac(word: &str) -> Result<Mac> {
    if let Some((_, mac)) = SPECIAL.iter().find(|(name, _)| *name == word) {
        return Ok(*mac);
    }
    match word.parse() {
        Ok(mac) => Ok(mac),
        Err(_) => actor(word).map(|actor| actor.mac),
    }
}

/// The word for an Ethernet address: what [`mac`] reads.
pub fn name_of(mac: Mac) -> String {
    let special = SPECIAL.iter().find(|(_, special)| *special == mac);
    let actor = ACTORS.iter().find(|actor| actor.mac == mac);
    match (special, actor) {
        (Some((name, _)), _) => (*name).to_owned(),
        (None, Some(actor)) => actor.name.to_owned(),
        (None, None) => mac.to_string(),
    }
}

/// The IPv4 address that this word means: an actor's, or the address itself.
///
/// # Errors
///
/// It means none.
pub fn ipv4(word: &str) -> Result<Ipv4Addr> {
    match word.parse() {
        Ok(address) => Ok(address),
        Err(_) => actor(word).map(|actor| actor.ipv4),
    }
}

/// The IPv6 address, likewise.
///
/// # Errors
///
/// It means none.
pub fn ipv6(word: &str) -> Result<Ipv6Addr> {
    match word.parse() {
        Ok(address) => Ok(address),
        Err(_) => actor(word).map(|actor| actor.ipv6),
    }
}
