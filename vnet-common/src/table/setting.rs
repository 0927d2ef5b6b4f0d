//! Single values for the whole data plane. Map `SETTINGS`, one entry.

use super::plain;

plain! {
    /// Written by the agent, read by the programs.
    pub struct Setting[8] {
        /// The agent's tap; 0 where there is none, and then nothing takes the slow path.
        pub slow_path_device: u32,
        /// The inode of the network namespace that the device indexes belong to, so that the
        /// kernel-wide tracepoints tell our devices from those of others.
        pub namespace: u32,
    }
}
