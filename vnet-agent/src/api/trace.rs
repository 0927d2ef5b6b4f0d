//! Which way does one frame go on this host, and why?

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use vnet_common::reason::Reason;

use super::{LinkRung, Place, RuleStatus};
use crate::model::Target;
use crate::model::door::Door;

/// A frame to be followed.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Where it comes in. A port: the frame of a guest. A link: the inner frame, as if the other
    /// end had sent it; the agent puts the outer headers on. An underlay: a whole outer packet.
    /// Nothing: the port that the source address belongs to.
    #[serde(default)]
    pub from: Option<Place>,
    /// The network, where `from` is a link that carries several.
    #[serde(default)]
    pub network: Option<String>,
    /// The frame, from its Ethernet header on, without a frame check sequence.
    pub frame: FrameBytes,
}

/// Bytes of a frame; in JSON two hexadecimal digits each, nothing between them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FrameBytes(pub Vec<u8>);

impl fmt::Display for FrameBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FrameBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for FrameBytes {
    fn schema_name() -> Cow<'static, str> {
        "FrameBytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes of a frame, two hexadecimal digits each",
            "type": "string",
            "pattern": "^([0-9a-fA-F]{2})*$",
        })
    }
}

impl Serialize for FrameBytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FrameBytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        };
        text.as_bytes()
            .chunks(2)
            .map(|pair| match *pair {
                [high, low] => Some((nibble(high)? << 4) | nibble(low)?),
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()
            .map(Self)
            .ok_or_else(|| D::Error::custom("a frame is an even number of hexadecimal digits"))
    }
}

/// How a frame ends on this host.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It leaves over a link.
    Forwarded,
    /// It leaves into a port.
    Delivered,
    /// It goes up to the agent, which copies it to everyone concerned.
    SlowPath,
    /// A probe, answered.
    Answered,
    /// Left to the host's own stack: not ours.
    Passed,
    /// It ends here, and is counted.
    Dropped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forwarded => "forwarded",
            Self::Delivered => "delivered",
            Self::SlowPath => "slow path",
            Self::Answered => "answered",
            Self::Passed => "passed",
            Self::Dropped => "dropped",
        })
    }
}

/// What happens to a frame, found by running the loaded program over it and explained by running
/// the same steps on the host.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TraceReport {
    /// Where it comes in.
    pub from: Place,
    /// Its network; nothing where it did not get that far.
    pub network: Option<String>,
    /// What is found out about it, in order.
    pub steps: Vec<TraceStep>,
    /// How it ends: the kernel's word where the kernel was asked, else the host's.
    pub verdict: Verdict,
    /// Why, where it is dropped.
    pub reason: Option<Reason>,
    /// The link or port that it goes to, where it does.
    pub target: Option<Target>,
    /// Whom the agent copies it to, where it goes up to the agent.
    #[serde(default)]
    pub copies: Vec<Target>,
    /// The links that it, or its copies, leave by.
    #[serde(default)]
    pub links: Vec<TraceLink>,
    /// The door at which it meets our program; nothing where none is there.
    #[serde(default)]
    pub door: Option<Door>,
    /// The rule that decides, where one does.
    pub rule: Option<RuleStatus>,
    /// Whether the flow table knows the flow already, so that the rules are not asked.
    pub flow_cached: bool,
    /// What the loaded program did; nothing where it could not be run (the note in the steps says
    /// why).
    pub kernel: Option<KernelRun>,
    /// What the same steps did on the host.
    pub host: HostRun,
    /// Whether the two agree, in action and bytes; nothing where the program was not run.
    pub agree: Option<bool>,
    /// The outer headers, in words, where it gets some.
    pub outer: Option<String>,
    /// What there is to say about its size.
    pub mtu_note: Option<String>,
}

/// A link that a frame leaves by, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TraceLink {
    /// The link that was decided on.
    pub name: String,
    /// The other link that its frames take meanwhile, as nothing gets over that one.
    pub over: Option<String>,
    /// The underlay address of the end that they arrive at.
    pub remote: IpAddr,
    /// What they travel in now, and why.
    pub rung: LinkRung,
    /// The MTU that it leaves to guests.
    pub guest_mtu_bytes: Option<u32>,
}

/// One thing found out about a frame.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TraceStep {
    /// The step of the frame path (`parse`, `resolve`, `encap`, …).
    pub step: String,
    /// What it came to.
    pub outcome: String,
}

/// What the loaded program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct KernelRun {
    /// The program's return value by name (`XDP_REDIRECT`).
    pub action: String,
    /// How long the frame was afterwards.
    pub output_bytes: u32,
    /// Its bytes afterwards.
    pub output_hex: FrameBytes,
}

/// What the same steps did on the host.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct HostRun {
    /// How it ends.
    pub verdict: Verdict,
    /// Its bytes afterwards.
    pub output_hex: FrameBytes,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{FrameBytes, TraceRequest};

    proptest! {
        #[test]
        fn a_frame_is_what_it_prints(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let frame = FrameBytes(bytes);
            let text = serde_json::to_string(&frame).unwrap();
            prop_assert_eq!(serde_json::from_str::<FrameBytes>(&text).unwrap(), frame);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            let json = serde_json::to_string(&text).unwrap();
            let _ = serde_json::from_str::<FrameBytes>(&json);
        }
    }

    #[test]
    fn half_a_byte_and_other_letters_are_refused() {
        for text in [r#""0""#, r#""0g""#, r#"" 1""#, r#""0x12""#, r#""éa""#] {
            assert!(serde_json::from_str::<FrameBytes>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_may_leave_the_origin_to_the_agent() {
        let request: TraceRequest = serde_json::from_str(r#"{"frame": "00ff"}"#).unwrap();
        assert_eq!((request.from, request.frame.0), (None, vec![0, 255]));
        let request: TraceRequest =
            serde_json::from_str(r#"{"from": "link to-two", "frame": ""}"#).unwrap();
        assert_eq!(request.from.unwrap().to_string(), "link to-two");
    }
}
