//! How do addresses and reasons look in JSON, for those who read a description of it?
//!
//! The forms that `serde` writes and reads, as JSON Schema (draft 2020-12), for the agent's
//! description of its API.

extern crate alloc;
use alloc::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::addr::{Cookie, Mac, NetworkId};
use crate::reason::Reason;
use crate::rule::{Destination, Source};

macro_rules! described {
    ($($type:ident => $schema:expr;)+) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+};
}

described! {
    Mac => json_schema!({
        "description": "An Ethernet address",
        "type": "string",
        "pattern": "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$",
        "examples": ["52:54:00:12:34:56"],
    });
    NetworkId => json_schema!({
        "description": "What the wire calls a network (the VNI of Geneve)",
        "type": "integer",
        "minimum": 1,
        "maximum": NetworkId::MAX,
    });
    Cookie => json_schema!({
        "description": "The secret that both ends of a link share: 16 hexadecimal digits, not all zero",
        "type": "string",
        "pattern": "^[0-9a-fA-F]{16}$",
    });
    Source => json_schema!({
        "description": "Which senders: `any`, an address, or `not` an address",
        "type": "string",
        "pattern": "^(any|(not )?[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5})$",
        "examples": ["any", "not 52:54:00:12:34:56"],
    });
    Destination => json_schema!({
        "description": "Which receivers: `any`, an address, `not` an address, or `none`, the default",
        "type": "string",
        "pattern": "^(any|none|(not )?[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5})$",
        "examples": ["none", "52:54:00:12:34:56"],
    });
    Reason => json_schema!({
        "description": "Why a frame was dropped",
        "type": "string",
        "enum": Reason::ALL.iter().map(|reason| reason.name()).collect::<alloc::vec::Vec<_>>(),
    });
}
