//! Single values for the whole data plane. Map `SETTINGS`, one entry.

use super::plain;

plain! {
    /// Written by the agent, read by the programs.
    pub struct Setting[16] {
        /// The agent's tap; 0 where there is none, and then nothing takes the slow path.
        pub slow_path_device: u32,
        /// The inode of the network namespace that the device indexes belong to, so that the
        /// counting programs, which see the whole kernel, tell our devices from those of others.
        pub namespace: u32,
        /// What only the agent and the programs know: who writes it in front of a frame is one of
        /// them (see [`Handover`](crate::wire::handover::Handover)). Random, never zero, and kept
        /// over restarts, because frames are on their way between programs.
        pub secret: u64,
    }
}
