//! What are the names of things, as the kernel and the agent write them down?
//!
//! Newtypes for every number that crosses the border, so that a link cannot be passed where a
//! port is meant. None of them converts from a bare integer by `From`: a caller says which kind
//! of number it holds.

use core::fmt;
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An Ethernet address (IEEE 802-2014, section 8), in the order of the wire.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that every station listens to.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// No address: never valid as a source, and the filler in keys that leave an address open.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the address names a group (multicast or broadcast) instead of one station.
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }

    /// The address in the low 48 bits, for maps that keep it in one atomic word.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The inverse of [`Mac::to_bits`]; the high 16 bits are ignored.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

/// The two addresses that a frame begins with, as the twelve bytes of the wire in three words:
/// a program copies them from frame to key in three moves.
#[repr(transparent)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Stations([u32; 3]);

impl Stations {
    /// From `source` to `destination`.
    #[inline(always)]
    pub const fn new(source: Mac, destination: Mac) -> Self {
        let [a, b, c, d, e, f] = destination.0;
        let [g, h, i, j, k, l] = source.0;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
        ])
    }

    /// Who sends.
    #[inline(always)]
    pub const fn source(self) -> Mac {
        let [_, middle, last] = self.0;
        let [_, _, g, h] = middle.to_ne_bytes();
        let [i, j, k, l] = last.to_ne_bytes();
        Mac([g, h, i, j, k, l])
    }

    /// Who receives.
    #[inline(always)]
    pub const fn destination(self) -> Mac {
        let [first, middle, _] = self.0;
        let [a, b, c, d] = first.to_ne_bytes();
        let [e, f, _, _] = middle.to_ne_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// The way back.
    #[inline(always)]
    #[must_use]
    pub const fn swapped(self) -> Self {
        let [first, middle, last] = self.0;
        let [a, b, c, d] = first.to_ne_bytes();
        let [e, f, g, h] = middle.to_ne_bytes();
        let [i, j, k, l] = last.to_ne_bytes();
        Self([
            u32::from_ne_bytes([g, h, i, j]),
            u32::from_ne_bytes([k, l, a, b]),
            u32::from_ne_bytes([c, d, e, f]),
        ])
    }

    /// The words, for mixing.
    #[inline(always)]
    pub const fn words(self) -> [u32; 3] {
        self.0
    }

    /// Those with these words.
    #[inline(always)]
    pub const fn of_words(words: [u32; 3]) -> Self {
        Self(words)
    }

    /// The same, with zero in place of what is not kept.
    #[inline(always)]
    #[must_use]
    pub const fn keep(self, source: bool, destination: bool) -> Self {
        let [first, middle, last] = self.0;
        let to = if destination { u32::MAX } else { 0 };
        let from = if source { u32::MAX } else { 0 };
        let [a, b, _, _] = to.to_ne_bytes();
        let [c, d, _, _] = from.to_ne_bytes();
        Self([
            first & to,
            middle & u32::from_ne_bytes([a, b, c, d]),
            last & from,
        ])
    }

    /// Whether the receiver is a group.
    #[inline(always)]
    pub const fn is_to_group(self) -> bool {
        let [first, _, _] = self.0;
        let [a, _, _, _] = first.to_ne_bytes();
        a & 1 == 1
    }

    /// Whether the sender is a group or nobody, which no station is.
    #[inline(always)]
    pub const fn is_from_nobody(self) -> bool {
        let [_, middle, last] = self.0;
        let [_, _, g, h] = middle.to_ne_bytes();
        g & 1 == 1 || (u16::from_ne_bytes([g, h]) as u32 | last) == 0
    }
}

impl fmt::Debug for Stations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source(), self.destination())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an address, a network id or a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not six two-digit hexadecimal numbers with colons (or hyphens) between them.
    Mac,
    /// Not a number from 1 to 16,777,215.
    NetworkId,
    /// Not sixteen hexadecimal digits, or all of them zero.
    Cookie,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mac => "an Ethernet address looks like 52:54:00:12:34:56",
            Self::NetworkId => "a network id is a number from 1 to 16777215",
            Self::Cookie => {
                "a cookie is 16 hexadecimal digits, not all zero (make one: openssl rand -hex 8)"
            }
        })
    }
}

impl core::error::Error for ParseError {}

impl FromStr for Mac {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or(ParseError::Mac)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(ParseError::Mac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseError::Mac)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(ParseError::Mac),
        }
    }
}

/// A user's virtual LAN: the Geneve virtual network identifier, 1 to 2^24 - 1.
///
/// 0 is not a network: it is what a zeroed map entry holds.
#[repr(transparent)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NetworkId(u32);

impl NetworkId {
    /// The largest id that 24 bits hold.
    pub const MAX: u32 = 0x00ff_ffff;

    /// A network id, or nothing where the number is 0 or needs more than 24 bits.
    #[inline(always)]
    pub const fn new(id: u32) -> Option<Self> {
        if id == 0 || id > Self::MAX {
            None
        } else {
            Some(Self(id))
        }
    }

    /// The id as a number.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network {}", self.0)
    }
}

impl FromStr for NetworkId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .ok_or(ParseError::NetworkId)
    }
}

/// A link's place in the agent's tables: an index, dealt by the agent, meaningless elsewhere.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct LinkId(pub u32);

/// A port's device, by the kernel's index of it. 0 is no device.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct PortId(pub u32);

/// The secret that says that a packet comes from the other end of a link (RFC 3931, section 4.1,
/// uses the same device): 64 random bits, checked before anything else is believed.
///
/// Its `Debug` form is masked, so that it does not end in a log.
#[repr(transparent)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Cookie(pub u64);

impl Cookie {
    /// No cookie: the link is `plain`.
    pub const NONE: Self = Self(0);
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == 0 {
            "no cookie"
        } else {
            "cookie ****"
        })
    }
}

impl FromStr for Cookie {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.len() != 16 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(ParseError::Cookie);
        }
        match u64::from_str_radix(digits, 16) {
            Ok(bits) if bits != 0 => Ok(Self(bits)),
            _ => Err(ParseError::Cookie),
        }
    }
}

#[cfg(feature = "serde")]
mod as_text {
    //! Addresses and cookies are text in JSON and TOML; network ids are numbers.

    extern crate alloc;
    use alloc::{borrow::Cow, format};

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::{Cookie, Mac, NetworkId, ParseError};

    impl Serialize for Mac {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for Mac {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Cow::<str>::deserialize(from)?
                .parse()
                .map_err(D::Error::custom)
        }
    }

    impl Serialize for NetworkId {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_u32(self.get())
        }
    }

    impl<'de> Deserialize<'de> for NetworkId {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Self::new(u32::deserialize(from)?)
                .ok_or_else(|| D::Error::custom(ParseError::NetworkId))
        }
    }

    impl Serialize for Cookie {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_str(&format!("{:016x}", self.0))
        }
    }

    impl<'de> Deserialize<'de> for Cookie {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Cow::<str>::deserialize(from)?
                .parse()
                .map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::{Cookie, Mac, NetworkId, ParseError, Stations};

    #[test]
    fn an_address_is_what_it_prints() {
        let mac: Mac = "52:54:00:ab:CD:01".parse().unwrap();
        assert_eq!(mac, Mac([0x52, 0x54, 0, 0xab, 0xcd, 1]));
        assert_eq!(Mac::from_bits(mac.to_bits()), mac);
        assert!(!mac.is_group());
        assert!(Mac::BROADCAST.is_group());
    }

    #[test]
    fn stations_are_the_first_twelve_bytes_of_a_frame() {
        let (source, destination) = (Mac([2, 1, 2, 3, 4, 5]), Mac([3, 9, 8, 7, 6, 5]));
        let stations = Stations::new(source, destination);
        assert_eq!(stations.as_bytes(), [3, 9, 8, 7, 6, 5, 2, 1, 2, 3, 4, 5]);
        assert_eq!(
            (stations.source(), stations.destination()),
            (source, destination)
        );
        assert!(stations.is_to_group() && !stations.is_from_nobody());
        assert_eq!(stations.swapped(), Stations::new(destination, source));
        assert_eq!(stations.keep(true, false), Stations::new(source, Mac::ZERO));
        assert_eq!(
            stations.keep(false, true),
            Stations::new(Mac::ZERO, destination)
        );
        assert!(Stations::new(Mac::ZERO, source).is_from_nobody());
        assert!(Stations::new(destination, source).is_from_nobody());
        assert!(!Stations::new(Mac([0, 0, 0, 0, 0, 1]), source).is_from_nobody());
        assert!(!Stations::new(Mac([2, 0, 0, 0, 0, 0]), source).is_from_nobody());
    }

    #[test]
    fn a_text_that_is_no_address_is_refused() {
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:5g",
            "+1:0:0:0:0:0",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(ParseError::Mac), "{text}");
        }
    }

    #[test]
    fn a_network_id_has_24_bits_and_is_not_zero() {
        assert_eq!(NetworkId::new(0), None);
        assert_eq!(NetworkId::new(0x0100_0000), None);
        assert_eq!(
            NetworkId::new(0x00ff_ffff).map(NetworkId::get),
            Some(0x00ff_ffff)
        );
    }

    #[test]
    fn a_cookie_is_sixteen_digits_and_not_zero() {
        assert_eq!(
            "0123456789abcdef".parse(),
            Ok(Cookie(0x0123_4567_89ab_cdef))
        );
        assert_eq!(
            "0000000000000000".parse::<Cookie>(),
            Err(ParseError::Cookie)
        );
        assert_eq!("123".parse::<Cookie>(), Err(ParseError::Cookie));
    }
}
