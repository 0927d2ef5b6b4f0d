//! The nouns: what is wanted of this host, as plain values.
//!
//! Input: the settings file and the API, both validated. Output: what reconciliation compares
//! with the kernel's tables. Nothing here does I/O.

pub mod configuration;
pub mod link;
pub mod network;
pub mod port;
pub mod rule;

pub use configuration::Configuration;
pub use link::{Flooding, Link};
pub use network::Network;
pub use port::{Addresses, DeviceMatch, Port};
pub use rule::{Rule, RuleOrigin, Target};
