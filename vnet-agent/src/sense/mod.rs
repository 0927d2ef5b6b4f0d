//! What can be found out about the network and the guests by looking?

pub mod liveness;
pub mod path_mtu;
