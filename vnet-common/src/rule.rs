//! Which rule is the strongest?
//!
//! Input: the qualifiers of rules and the two addresses of a frame. Output: one total order, used
//! by the kernel's sequence of lookups, by the compiler of rule tables, and by everything that
//! explains a decision.
//!
//! Source: thesis proposal, section 3.1 and figure 2. The strongest match wins: exact over `not`
//! over `any`, the destination before the source, `none` (the default rule) below all; among
//! equals the newer.

use core::fmt;
use core::str::FromStr;

use crate::addr::{Mac, ParseError};

/// Which senders a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Every sender.
    Any,
    /// Every sender but this one.
    Not(Mac),
    /// This sender.
    Is(Mac),
}

/// Which receivers a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Every receiver, as the default: whatever else matches is stronger.
    None,
    /// Every receiver.
    Any,
    /// Every receiver but this one.
    Not(Mac),
    /// This receiver.
    Is(Mac),
}

impl Source {
    /// Whether a frame from this address is meant.
    #[inline(always)]
    pub fn matches(self, source: Mac) -> bool {
        match self {
            Self::Any => true,
            Self::Not(mac) => mac != source,
            Self::Is(mac) => mac == source,
        }
    }
}

impl Destination {
    /// Whether a frame to this address is meant.
    #[inline(always)]
    pub fn matches(self, destination: Mac) -> bool {
        match self {
            Self::None | Self::Any => true,
            Self::Not(mac) => mac != destination,
            Self::Is(mac) => mac == destination,
        }
    }
}

/// The kind of a rule, without its addresses: twelve of them, one lookup each.
///
/// The number is the strength: a higher shape beats a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(u8);

impl Shape {
    /// How many shapes there are.
    pub const COUNT: u8 = 12;

    /// The shape with this strength, or nothing where there is none.
    #[inline(always)]
    pub const fn new(strength: u8) -> Option<Self> {
        if strength < Self::COUNT {
            Some(Self(strength))
        } else {
            None
        }
    }

    /// The shape of a rule with these two sides.
    pub const fn of(source: Source, destination: Destination) -> Self {
        let by_source = match source {
            Source::Any => 0,
            Source::Not(_) => 1,
            Source::Is(_) => 2,
        };
        let by_destination = match destination {
            Destination::None => 0,
            Destination::Any => 3,
            Destination::Not(_) => 6,
            Destination::Is(_) => 9,
        };
        Self(by_destination + by_source)
    }

    /// 0 (weakest) to 11 (strongest).
    #[inline(always)]
    pub const fn strength(self) -> u8 {
        self.0
    }

    /// This shape's place in a set of shapes, one bit each.
    #[inline(always)]
    pub const fn bit(self) -> u32 {
        1u32.wrapping_shl(self.0 as u32)
    }

    /// Whether the source is exact, so that it is part of the key of the lookup.
    #[inline(always)]
    pub const fn has_exact_source(self) -> bool {
        matches!(self.0, 2 | 5 | 8 | 11)
    }

    /// Whether the destination is exact, so that it is part of the key of the lookup.
    #[inline(always)]
    pub const fn has_exact_destination(self) -> bool {
        self.0 >= 9
    }

    /// The two sides of a rule of this shape, given the addresses that it names (ignored where
    /// the shape names none).
    pub const fn sides(self, source: Mac, destination: Mac) -> (Source, Destination) {
        let from = match self.0 % 3 {
            0 => Source::Any,
            1 => Source::Not(source),
            _ => Source::Is(source),
        };
        let to = match self.0 / 3 {
            0 => Destination::None,
            1 => Destination::Any,
            2 => Destination::Not(destination),
            _ => Destination::Is(destination),
        };
        (from, to)
    }
}

/// The address that a qualifier names, or [`Mac::ZERO`] where it names none.
const fn named(source: Source) -> Mac {
    match source {
        Source::Any => Mac::ZERO,
        Source::Not(mac) | Source::Is(mac) => mac,
    }
}

impl Source {
    /// The address it names, or [`Mac::ZERO`].
    pub const fn address(self) -> Mac {
        named(self)
    }

    /// The one address that it is about, where it is about one.
    pub const fn exact(self) -> Option<Mac> {
        match self {
            Self::Is(mac) => Some(mac),
            Self::Any | Self::Not(_) => None,
        }
    }
}

impl Destination {
    /// The address it names, or [`Mac::ZERO`].
    pub const fn address(self) -> Mac {
        match self {
            Self::None | Self::Any => Mac::ZERO,
            Self::Not(mac) | Self::Is(mac) => mac,
        }
    }

    /// The one address that it is about, where it is about one.
    pub const fn exact(self) -> Option<Mac> {
        match self {
            Self::Is(mac) => Some(mac),
            Self::None | Self::Any | Self::Not(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Not(mac) => write!(f, "not {mac}"),
            Self::Is(mac) => mac.fmt(f),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Any => f.write_str("any"),
            Self::Not(mac) => write!(f, "not {mac}"),
            Self::Is(mac) => mac.fmt(f),
        }
    }
}

impl FromStr for Source {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.trim() {
            "any" => Ok(Self::Any),
            text => match text.strip_prefix("not ") {
                Some(mac) => mac.trim().parse().map(Self::Not),
                None => text.parse().map(Self::Is),
            },
        }
    }
}

impl FromStr for Destination {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.trim() {
            "none" => Ok(Self::None),
            "any" => Ok(Self::Any),
            text => match text.strip_prefix("not ") {
                Some(mac) => mac.trim().parse().map(Self::Not),
                None => text.parse().map(Self::Is),
            },
        }
    }
}

#[cfg(feature = "serde")]
mod as_text {
    extern crate alloc;
    use alloc::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::{Destination, Source};

    macro_rules! as_text {
        ($($qualifier:ty, $expected:literal);+) => {$(
            impl Serialize for $qualifier {
                fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    to.collect_str(self)
                }
            }

            impl<'de> Deserialize<'de> for $qualifier {
                fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    Cow::<str>::deserialize(from)?.parse().map_err(|_| D::Error::custom($expected))
                }
            }
        )+};
    }

    as_text!(
        Source, "a source is `any`, an address (52:54:00:12:34:56) or `not` an address";
        Destination, "a destination is `any`, `none`, an address (52:54:00:12:34:56) or `not` an address"
    );
}

#[cfg(test)]
mod tests {
    use super::{Destination, Shape, Source};
    use crate::addr::Mac;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn the_order_is_the_one_of_the_thesis_proposal() {
        let strongest_first = [
            (Source::Is(A), Destination::Is(B)),
            (Source::Not(A), Destination::Is(B)),
            (Source::Any, Destination::Is(B)),
            (Source::Is(A), Destination::Not(B)),
            (Source::Not(A), Destination::Not(B)),
            (Source::Any, Destination::Not(B)),
            (Source::Is(A), Destination::Any),
            (Source::Not(A), Destination::Any),
            (Source::Any, Destination::Any),
            (Source::Is(A), Destination::None),
            (Source::Not(A), Destination::None),
            (Source::Any, Destination::None),
        ];
        for (place, &(source, destination)) in strongest_first.iter().enumerate() {
            let shape = Shape::of(source, destination);
            assert_eq!(usize::from(shape.strength()), 11 - place);
            assert_eq!(shape.sides(A, B), (source, destination));
            assert_eq!(shape.has_exact_source(), matches!(source, Source::Is(_)));
            assert_eq!(
                shape.has_exact_destination(),
                matches!(destination, Destination::Is(_))
            );
        }
    }

    #[test]
    fn a_qualifier_is_what_it_prints() {
        extern crate std;
        use std::string::ToString;
        for source in [Source::Any, Source::Not(A), Source::Is(B)] {
            assert_eq!(source.to_string().parse(), Ok(source));
        }
        for to in [
            Destination::None,
            Destination::Any,
            Destination::Not(A),
            Destination::Is(B),
        ] {
            assert_eq!(to.to_string().parse(), Ok(to));
        }
        assert!("none".parse::<Source>().is_err());
        assert!("not any".parse::<Destination>().is_err());
    }
}
