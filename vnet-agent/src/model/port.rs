//! What is a port, and which devices does its entry take in?

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Mac;

use super::door::DoorChoice;

/// A device, or a family of devices, that the frames of VMs come in on.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
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
    /// Frames that it may send there at once; at most [`BURST_SECONDS_MAX`] seconds' worth.
    pub slow_path_burst: u32,
    /// By which door its frames come in.
    #[serde(default)]
    pub door: DoorChoice,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            device,
            network,
            addresses,
            set_mtu,
            door,
            ..
        } = self;
        let mtu = if *set_mtu { "" } else { ", MTU left alone" };
        let (rate, burst) = (self.slow_path_rate, self.slow_path_burst);
        write!(
            f,
            "{device} in {network}, addresses {addresses}, slow path {rate}/s and {burst} at once{mtu}"
        )?;
        match door {
            DoorChoice::Auto => Ok(()),
            forced => write!(f, ", door {forced}"),
        }
    }
}

/// Frames a second to the slow path, where the settings say nothing.
pub const SLOW_PATH_RATE_DEFAULT: u32 = 2000;
/// Frames at once to the slow path, where the settings say nothing.
pub const SLOW_PATH_BURST_DEFAULT: u32 = 1000;
/// The largest rate and burst; more than a tap carries.
pub const SLOW_PATH_MAX: u32 = 1_000_000;
/// How many seconds of its rate a burst may be: the program counts the burst in nanoseconds of 32
/// bits, which hold 4.29 s.
pub const BURST_SECONDS_MAX: u32 = 4;

/// Which devices a port entry is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceMatch {
    /// The device of exactly this name.
    Name(String),
    /// Every device whose name matches; `*` stands for any characters, `?` for one.
    Pattern(String),
}

impl DeviceMatch {
    /// Whether the device of this name is meant.
    pub fn matches(&self, device: &str) -> bool {
        match self {
            Self::Name(name) => name == device,
            Self::Pattern(pattern) => glob(pattern, device),
        }
    }

    /// The name or the pattern.
    pub fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Pattern(text) => text,
        }
    }
}

impl fmt::Display for DeviceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Pattern(pattern) => write!(f, "pattern {pattern}"),
        }
    }
}

/// Whether a name matches a pattern of `*` and `?`.
///
/// On a mismatch only the latest `*` takes one more character: an earlier one taking more could
/// not match anything that this does not. So the steps are at most pattern times name, and both
/// are short; there is no pattern that makes it explode.
fn glob(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    let mut retry = None;
    loop {
        let mut rest = pattern.clone();
        match (rest.next(), name.clone().next()) {
            (Some('*'), _) => {
                pattern = rest;
                retry = Some((pattern.clone(), name.clone()));
                continue;
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                pattern = rest;
                name.next();
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((after_star, from)) = &mut retry else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        (pattern, name) = (after_star.clone(), from.clone());
    }
}

/// Port security: the source addresses that a port may use.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
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

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Learn => f.write_str("learn"),
            Self::Any => f.write_str("any"),
            Self::Only(addresses) => {
                for (place, address) in addresses.iter().enumerate() {
                    if place > 0 {
                        f.write_str(", ")?;
                    }
                    address.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

/// A device that is there now and that a port entry has taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDevice {
    /// The kernel's name for it.
    pub name: String,
    /// The place of its entry in [`super::Configuration::ports`].
    pub port: usize,
    /// The address that it has shown, where its entry says [`Addresses::Learn`].
    pub learned: Option<Mac>,
}

/// The longest device name: the kernel's 16 bytes hold a terminating zero too.
pub const DEVICE_NAME_BYTES_MAX: usize = 15;
/// The longest pattern for device names.
pub const PATTERN_BYTES_MAX: usize = 63;

/// Why a text cannot be the name of a device, or a pattern for such names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDeviceName {
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// Longer than the kernel takes.
    #[error("is longer than {DEVICE_NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A pattern that no name is long enough for, or that is absurdly long itself.
    #[error("asks for more than {DEVICE_NAME_BYTES_MAX} bytes, which no device name has")]
    PatternTooLong,
    /// `.` and `..`.
    #[error("is a directory's name")]
    Dots,
    /// A character that the kernel refuses, or that no sane name has.
    #[error("has the character {0:?}")]
    Character(char),
    /// A wildcard where one device is to be named.
    #[error("has the wildcard {0:?}, and names one device only")]
    Wildcard(char),
}

/// Whether the kernel would take this as a device's name.
///
/// # Errors
/// What is wrong with it.
pub fn check_device_name(name: &str) -> Result<(), BadDeviceName> {
    if let Some(wildcard) = name.chars().find(|c| matches!(c, '*' | '?')) {
        return Err(BadDeviceName::Wildcard(wildcard));
    }
    if name.len() > DEVICE_NAME_BYTES_MAX {
        return Err(BadDeviceName::TooLong);
    }
    check_characters(name)
}

/// Whether this is a pattern that some device's name can match.
///
/// # Errors
/// What is wrong with it.
pub fn check_device_pattern(pattern: &str) -> Result<(), BadDeviceName> {
    let least_bytes = pattern
        .chars()
        .filter(|&c| c != '*')
        .map(char::len_utf8)
        .sum::<usize>();
    if least_bytes > DEVICE_NAME_BYTES_MAX || pattern.len() > PATTERN_BYTES_MAX {
        return Err(BadDeviceName::PatternTooLong);
    }
    check_characters(pattern)
}

fn check_characters(text: &str) -> Result<(), BadDeviceName> {
    match text {
        "" => Err(BadDeviceName::Empty),
        "." | ".." => Err(BadDeviceName::Dots),
        // `/`, `:` and white space are the kernel's own prohibitions (dev_valid_name); `%` asks
        // it to number the device; what is not printable ASCII would wreck every listing.
        _ => match text
            .chars()
            .find(|&c| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '%'))
        {
            Some(character) => Err(BadDeviceName::Character(character)),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_stand_for_what_they_say() {
        for (pattern, name, expected) in [
            ("tap-*", "tap-", true),
            ("tap-*", "tap-blue", true),
            ("tap-*", "tap", false),
            ("*-blue", "tap-blue", true),
            ("*-blue", "tap-blue-2", false),
            ("t?p*e", "tap-blue", true),
            ("t?p", "tp", false),
            ("*", "", true),
            ("?", "", false),
            ("**a**b**", "xaxbx", true),
            ("a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaa", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} against {name}");
        }
    }

    /// The textbook definition, which explodes on many stars.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], rest) => rest.is_empty(),
            (['*', after @ ..], rest) => (0..=rest.len()).any(|n| naive(after, &rest[n..])),
            (['?', after @ ..], [_, rest @ ..]) => naive(after, rest),
            ([wanted, after @ ..], [found, rest @ ..]) => wanted == found && naive(after, rest),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_textbook(
            pattern in "[ab*?]{0,8}",
            name in "[ab]{0,10}",
        ) {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(&pattern, &name), naive(&chars(&pattern), &chars(&name)));
        }
    }

    #[test]
    fn a_name_is_what_the_kernel_takes() {
        assert_eq!(check_device_name("tap0"), Ok(()));
        assert_eq!(check_device_name("123456789012345"), Ok(()));
        assert_eq!(
            check_device_name("1234567890123456"),
            Err(BadDeviceName::TooLong)
        );
        assert_eq!(check_device_name(""), Err(BadDeviceName::Empty));
        assert_eq!(check_device_name(".."), Err(BadDeviceName::Dots));
        assert_eq!(check_device_name("a/b"), Err(BadDeviceName::Character('/')));
        assert_eq!(check_device_name("a b"), Err(BadDeviceName::Character(' ')));
        assert_eq!(check_device_name("tap*"), Err(BadDeviceName::Wildcard('*')));
        assert_eq!(
            check_device_pattern("tap-*-123456789012"),
            Err(BadDeviceName::PatternTooLong)
        );
        assert_eq!(check_device_pattern("tap-*-1234567890"), Ok(()));
    }
}
