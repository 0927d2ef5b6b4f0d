//! How large a packet does the underlay carry to the other end of each link?

pub mod runtime;
pub mod search;
