//! How are the frames counted that the kernel refuses after a redirect?
//!
//! The data plane says which way this kernel allows; `status` shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How refused frames are counted. Both ways are exact.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "counted", rename_all = "snake_case")]
pub enum Counting {
    /// When they are refused: frames that arrive pay nothing for it.
    WhenRefused,
    /// By a look at every batch that a device is handed.
    AtEveryBatch {
        /// Why not the cheaper way.
        why: String,
    },
    /// Not at all.
    Not {
        /// Why not; nothing where nobody wishes for it.
        why: Option<String>,
    },
}

impl Counting {
    /// Whether they are counted at all.
    pub const fn is_on(&self) -> bool {
        !matches!(self, Self::Not { .. })
    }
}
