//! Where does a frame come in, and where is it counted?
//!
//! One text form for both sides of the API and for people: `port tap0`, `link to-two`,
//! `underlay eth0`, `agent`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// One of the places of this host that frames come in at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A port, by its device.
    Port(String),
    /// A link, by its name.
    Link(String),
    /// An underlay device: what arrives there before a link is known, or is not ours.
    Underlay(String),
    /// The agent itself: what it writes to its tap.
    Agent,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(device) => write!(f, "port {device}"),
            Self::Link(name) => write!(f, "link {name}"),
            Self::Underlay(device) => write!(f, "underlay {device}"),
            Self::Agent => f.write_str("agent"),
        }
    }
}

/// A text that names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a place is `port DEVICE`, `link NAME`, `underlay DEVICE` or `agent`")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        if text == "agent" {
            return Ok(Self::Agent);
        }
        match text.split_once(' ') {
            Some((_, "")) | None => Err(NoPlace),
            Some(("port", device)) => Ok(Self::Port(device.to_owned())),
            Some(("link", name)) => Ok(Self::Link(name.to_owned())),
            Some(("underlay", device)) => Ok(Self::Underlay(device.to_owned())),
            Some(_) => Err(NoPlace),
        }
    }
}

impl JsonSchema for Place {
    fn schema_name() -> Cow<'static, str> {
        "Place".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where a frame comes in, and where it is counted",
            "type": "string",
            "pattern": "^(agent|(port|link|underlay) .+)$",
            "examples": ["port tap0", "link to-two", "agent"],
        })
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(from)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{NoPlace, Place};

    #[test]
    fn a_place_is_what_it_prints() {
        for place in [
            Place::Port("tap0".into()),
            Place::Link("to-two".into()),
            Place::Underlay("eth0".into()),
            Place::Agent,
        ] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for text in ["", "port", "port ", "tap0", "agent x", "Port tap0"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text:?}");
        }
    }
}
