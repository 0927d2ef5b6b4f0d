//! What can be wrong with a configuration or a change of it, where, and what is the cure?
//!
//! Made by `validate` and `edit`; shown by the settings (with line and column) and by the API.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use vnet_common::addr::{Mac, NetworkId};
use vnet_common::rule::{Destination, Source};
use vnet_common::table::port::ADDRESSES_MAX;

use super::link::Transport;
use super::port::{BURST_SECONDS_MAX, BadDeviceName, DEVICE_NAME_BYTES_MAX, DeviceMatch};

/// Something wrong at one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it shows.
    pub at: Place,
    /// The other place that it conflicts with, where there is one.
    pub earlier: Option<Place>,
    /// What it is.
    pub error: ConfigurationError,
}

/// A value in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// In which entry.
    pub item: Item,
    /// Under which key of the settings file; empty for the entry as a whole.
    pub key: &'static str,
    /// At which place of the key's list, where it is one.
    pub element: Option<usize>,
}

impl Place {
    /// The value of a key.
    pub const fn new(item: Item, key: &'static str) -> Self {
        Self {
            item,
            key,
            element: None,
        }
    }

    /// One element of the list that is the value of a key.
    pub const fn element(item: Item, key: &'static str, element: usize) -> Self {
        Self {
            item,
            key,
            element: Some(element),
        }
    }
}

/// An entry of a configuration; the numbers are places in its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the entry of its name")]
pub enum Item {
    Agent,
    Control,
    Underlay,
    Network(usize),
    Port(usize),
    Link(usize),
    Rule(usize),
    Limits,
}

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the noun of its name")]
pub enum Noun {
    Network,
    Port,
    Link,
    Rule,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Port => "port",
            Self::Link => "link",
            Self::Rule => "rule",
        })
    }
}

/// Why an address cannot be an end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUnderlayAddress {
    /// `0.0.0.0` or `::`.
    #[error("is no address")]
    Unspecified,
    /// `127.0.0.0/8` or `::1`.
    #[error("is a loopback address, which never leaves a host")]
    Loopback,
    /// A group of hosts.
    #[error("is a multicast address, and a link has one other end")]
    Multicast,
    /// `255.255.255.255`.
    #[error("is the broadcast address, and a link has one other end")]
    Broadcast,
    /// `::ffff:a.b.c.d`.
    #[error("is an IPv4 address in IPv6 clothes")]
    Mapped(Ipv4Addr),
    /// `fe80::/10`: it means something on one device only.
    #[error("is a link-local address, which says nothing without a device")]
    LinkLocal,
}

/// Why a text cannot be the name of a network or a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`].
    #[error("is longer than {NAME_BYTES_MAX} characters")]
    TooLong,
    /// A character that would have to be quoted somewhere.
    #[error("has the character {0:?}")]
    Character(char),
    /// It would look like an option on a command line.
    #[error("begins with {0:?}")]
    Begins(char),
}

/// The longest name of a network or a link.
pub const NAME_BYTES_MAX: usize = 63;

/// Whether this can be the name of a network or a link.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name.chars().next() {
        None => Err(BadName::Empty),
        Some(_) if name.len() > NAME_BYTES_MAX => Err(BadName::TooLong),
        Some(first) => match name.chars().find(|&c| !plain(c)) {
            Some(character) => Err(BadName::Character(character)),
            None if !first.is_ascii_alphanumeric() => Err(BadName::Begins(first)),
            None => Ok(()),
        },
    }
}

/// Whether an address can be an end of a link.
///
/// # Errors
/// What is wrong with it.
pub fn check_underlay_address(address: IpAddr) -> Result<(), BadUnderlayAddress> {
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(BadUnderlayAddress::Mapped(v4));
    }
    if address.is_unspecified() {
        Err(BadUnderlayAddress::Unspecified)
    } else if address.is_loopback() {
        Err(BadUnderlayAddress::Loopback)
    } else if address.is_multicast() {
        Err(BadUnderlayAddress::Multicast)
    } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Err(BadUnderlayAddress::Broadcast)
    } else if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        Err(BadUnderlayAddress::LinkLocal)
    } else {
        Ok(())
    }
}

/// Why a configuration, or a change of it, is refused. The text says what is wrong;
/// [`ConfigurationError::cure`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each is, the fields are their parts"
)]
pub enum ConfigurationError {
    #[error("the {noun} name {name:?} {why}")]
    BadName {
        noun: Noun,
        name: String,
        why: BadName,
    },
    #[error("a second {noun} is called {name:?}")]
    DuplicateName { noun: Noun, name: String },
    #[error("network id {id} is the id of network {other:?} already")]
    DuplicateNetworkId { id: NetworkId, other: String },
    #[error("the device name {name:?} {why}")]
    BadDevice { name: String, why: BadDeviceName },
    #[error("the pattern {pattern:?} {why}")]
    BadPattern { pattern: String, why: BadDeviceName },
    #[error("a second port entry is about {device}")]
    DuplicateDevice { device: DeviceMatch },
    #[error("{device} is the {role}, and cannot be a port too")]
    DeviceTaken { device: String, role: &'static str },
    #[error("the pattern {pattern:?} takes in {device}, the {role}")]
    PatternTakesIn {
        pattern: String,
        device: String,
        role: &'static str,
    },
    #[error("there is no {noun} {name:?}")]
    Unknown {
        noun: Noun,
        name: String,
        meant: Option<String>,
        known: Vec<String>,
    },
    #[error("port {device} belongs to network {port_network:?}, the rule to {rule_network:?}")]
    PortInOtherNetwork {
        device: String,
        port_network: String,
        rule_network: String,
    },
    #[error("link {link:?} does not carry network {network:?}")]
    LinkWithoutNetwork { link: String, network: String },
    #[error("a port without addresses can send nothing")]
    NoAddresses,
    #[error("{count} addresses are more than a port may list, {ADDRESSES_MAX}")]
    TooManyAddresses { count: usize },
    #[error("{address} is a group address, which is never a sender's")]
    GroupAddress { address: Mac },
    #[error("{address} is no station's address")]
    ZeroAddress { address: Mac },
    #[error("{address} is listed twice")]
    RepeatedAddress { address: Mac },
    #[error("{address} is an address of {other} in network {network:?} already")]
    AddressTaken {
        address: Mac,
        network: String,
        other: DeviceMatch,
    },
    #[error("{address} {why}")]
    BadAddress {
        address: IpAddr,
        why: BadUnderlayAddress,
    },
    #[error("{address} is this host's own underlay address: a link to oneself")]
    LinkToOneself { address: IpAddr },
    #[error("{remote} is {}, this host's underlay address {local} is {}", family(*remote), family(*local))]
    OtherFamily { remote: IpAddr, local: IpAddr },
    #[error("link {other:?} goes to {remote} for network {network:?} already")]
    SharedRemote {
        remote: IpAddr,
        network: String,
        other: String,
    },
    #[error("a link cannot fall back to itself")]
    FallbackToItself,
    #[error("link {other:?} does not carry network {network:?}")]
    FallbackCarriesLess { other: String, network: String },
    #[error("a link of kind {kind} needs a cookie: both ends prove by it who they are")]
    CarriedPlain { kind: Transport },
    #[error("link {other:?} has the same cookie")]
    SharedCookie { other: String },
    #[error("a link without networks carries nothing")]
    NoNetworks,
    #[error("network {network:?} is listed twice")]
    RepeatedNetwork { network: String },
    #[error("{value} is out of range")]
    OutOfRange { value: u64, least: u64, most: u64 },
    #[error("a burst of {burst} frames lasts longer than {BURST_SECONDS_MAX} s at {rate} frames/s")]
    BurstTooLong { burst: u32, rate: u32 },
    #[error("{count} {noun}s are more than the limit, {limit}")]
    TooMany {
        noun: Noun,
        count: usize,
        limit: u32,
    },
    #[error("a second rule in network {network:?} is about {from} -> {to}")]
    DuplicateRule {
        network: String,
        from: Source,
        to: Destination,
    },
    #[error("the origin `port` is for rules that the agent makes itself")]
    ReservedOrigin,
    #[error("link {link:?} is the target of {}", listed(.rules))]
    LinkInUse { link: String, rules: Vec<String> },
    #[error("there is no rule {from} -> {to} in network {network:?}")]
    NoSuchRule {
        network: String,
        from: Source,
        to: Destination,
    },
    #[error("the rule {rule} follows from the port's addresses, and cannot be deleted")]
    ImpliedRule { rule: String },
    #[error("{noun} {what} is the proxy's, not this host's")]
    DealtByProxy { noun: Noun, what: String },
}

const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// How many things a message names before it only counts them.
const NAMED_MAX: usize = 8;

fn listed(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(NAMED_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    let more = names.len().saturating_sub(NAMED_MAX);
    let plural = if names.len() == 1 { "" } else { "s" };
    let rest = if more == 0 {
        String::new()
    } else {
        format!("; and {more} more")
    };
    format!("{} rule{plural} ({shown}{rest})", names.len())
}

/// What kind of refusal an error is: what an HTTP status is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The value itself is wrong.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// It is in the way of something that is there.
    Conflict,
}

impl ConfigurationError {
    /// What kind of refusal it is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } | Self::NoSuchRule { .. } => ErrorKind::NotFound,
            Self::DuplicateName { .. }
            | Self::DuplicateNetworkId { .. }
            | Self::DuplicateDevice { .. }
            | Self::DuplicateRule { .. }
            | Self::AddressTaken { .. }
            | Self::SharedRemote { .. }
            | Self::SharedCookie { .. }
            | Self::TooMany { .. }
            | Self::LinkInUse { .. }
            | Self::ImpliedRule { .. }
            | Self::DealtByProxy { .. } => ErrorKind::Conflict,
            _ => ErrorKind::Invalid,
        }
    }

    /// What to do about it, as an instruction.
    pub fn cure(&self) -> String {
        self.fixed_cure()
            .map_or_else(|| self.cure_with_values(), str::to_owned)
    }

    const fn fixed_cure(&self) -> Option<&'static str> {
        Some(match self {
            Self::BadName { .. } => {
                "a name has 1 to 63 letters, digits, '-', '_' and '.', and begins with a letter or digit"
            }
            Self::DuplicateNetworkId { .. } => {
                "give each network an id of its own, the same on every host"
            }
            Self::DuplicateDevice { .. } => "keep one of them: a device belongs to one network",
            Self::DeviceTaken { .. } => "name the device that a guest is on",
            Self::PatternTakesIn { .. } => {
                "make the pattern narrower, so that it matches the devices of guests only"
            }
            Self::NoAddresses => {
                "list the guest's address, or write \"learn\" (its first) or \"any\" (all)"
            }
            Self::TooManyAddresses { .. } => {
                "a guest with so many is a router or a bridge: write \"any\", and add rules to it"
            }
            Self::GroupAddress { .. } => {
                "write the address of one station (its first byte is even, such as 52)"
            }
            Self::ZeroAddress { .. } => "write the guest's own address, such as 52:54:00:12:34:56",
            Self::RepeatedAddress { .. } | Self::RepeatedNetwork { .. } => "remove one of them",
            Self::AddressTaken { .. } => {
                "give each guest an address of its own; addresses are unique within a network"
            }
            Self::LinkToOneself { .. } => "write the underlay address of the other host",
            Self::SharedRemote { .. } => {
                "packets are told apart by sender and network: take the network out of one link"
            }
            Self::FallbackToItself => "name another link, or leave the fall-back out",
            Self::FallbackCarriesLess { .. } => {
                "let the other link carry the network too, or take it out of this one"
            }
            Self::CarriedPlain { .. } => "write a cookie instead of plain, or kind = \"udp\"",
            Self::SharedCookie { .. } => {
                "links over tcp and tls are told apart by their cookies: make one of its own for each"
            }
            Self::NoNetworks => "list the networks whose frames may cross",
            Self::TooMany { .. } => "raise it under [limits], or remove some",
            Self::DuplicateRule { .. } => "keep one: the second would silently replace the first",
            Self::ReservedOrigin => "leave the origin out",
            Self::LinkInUse { .. } => {
                "delete those rules or point them elsewhere first, or force it: that deletes them too"
            }
            Self::NoSuchRule { .. } => {
                "see `vnetctl rule list`: a rule is named by its network, source and destination"
            }
            Self::ImpliedRule { .. } => {
                "add a rule with the same source and destination: it takes this one's place"
            }
            Self::DealtByProxy { .. } => "change it at the proxy: it deals it to this host",
            _ => return None,
        })
    }

    fn cure_with_values(&self) -> String {
        match self {
            Self::DuplicateName { noun, .. } => format!("give each {noun} a name of its own"),
            Self::BadDevice {
                why: BadDeviceName::Wildcard(_),
                ..
            } => "write pattern = instead of name = to take in several devices".to_owned(),
            Self::BadDevice { .. } | Self::BadPattern { .. } => format!(
                "a device name has 1 to {DEVICE_NAME_BYTES_MAX} letters, digits, '-', '_' and '.'"
            ),
            Self::Unknown {
                meant: Some(meant), ..
            } => format!("did you mean {meant:?}?"),
            Self::Unknown { noun, known, .. } if known.is_empty() => {
                format!("there are no {noun}s: add one first")
            }
            Self::Unknown { noun, known, .. } => {
                let shown = known.iter().take(NAMED_MAX).map(|name| format!("{name:?}"));
                let more = if known.len() > NAMED_MAX { ", ..." } else { "" };
                let shown = shown.collect::<Vec<_>>().join(", ");
                format!("add it first, or name one of the {noun}s that are there: {shown}{more}")
            }
            Self::PortInOtherNetwork { port_network, .. } => {
                format!("a rule delivers within its own network: write network = {port_network:?}")
            }
            Self::LinkWithoutNetwork { network, .. } => {
                format!("add {network:?} to the link's networks, here and at its other end")
            }
            Self::BadAddress {
                why: BadUnderlayAddress::Mapped(v4),
                ..
            } => format!("write {v4}"),
            Self::BadAddress { .. } => {
                "write the address that the host has on the underlay, such as 10.0.0.2".to_owned()
            }
            Self::OtherFamily { local, .. } => {
                format!("write the other host's {} address", family(*local))
            }
            Self::OutOfRange { least, most, .. } => {
                format!("write a number from {least} to {most}")
            }
            Self::BurstTooLong { rate, .. } => {
                format!("write at most {}", rate.saturating_mul(BURST_SECONDS_MAX))
            }
            _ => String::new(),
        }
    }
}
