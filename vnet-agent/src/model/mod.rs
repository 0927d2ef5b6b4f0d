//! The nouns: what is wanted of this host, as plain values.
//!
//! Input: the settings file and the API, both validated. Output: what reconciliation compares
//! with the kernel's tables. Nothing here does I/O.

pub mod attachment;
pub mod configuration;
pub mod counting;
pub mod diff;
pub mod door;
mod edit;
mod edit_many;
mod effective;
pub(crate) mod excerpt;
pub mod frame;
pub mod host;
pub mod link;
pub mod mtu;
pub mod network;
pub mod next_hop;
pub mod offload;
pub mod part;
pub mod place;
pub mod port;
pub mod problem;
pub(crate) mod ranking;
pub mod rule;
#[cfg(test)]
pub(crate) mod sample;
pub mod suggest;
pub mod topology;
pub mod validate;
pub mod wanted;

pub use configuration::Configuration;
pub use edit::DeletedLink;
pub use edit_many::ChangedRules;
pub use link::{Flooding, Link, Transport};
pub use network::Network;
pub use part::{Part, Secrets};
pub use port::{Addresses, DeviceMatch, Port, PortDevice};
pub use problem::{ConfigurationError, ErrorKind};
pub use rule::{Rule, RuleName, RuleOrigin, Target};
