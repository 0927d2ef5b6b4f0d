//! What must a program know of a network? Map `NETWORKS`, by slot.

use super::plain;

plain! {
    /// Written by the agent, read by the programs for every frame.
    pub struct NetworkEntry[16] {
        /// The network's id; 0 where the slot is free.
        pub id: u32,
        /// Rises whenever rules or what ports may do change: flows decided under an older one are
        /// decided anew. Never 0 in a slot that is used.
        pub generation: u32,
        /// The shapes that have rules, one bit each: the others need no lookup.
        pub shapes: u32,
        /// Zero.
        pub _pad: u32,
    }
}
