//! What lies in a map?
//!
//! One file a map: its key, its value, who writes it and who reads it. Every type is `repr(C)`
//! without implicit padding (the derives refuse it), its size is asserted, and numbers that only
//! this host computes are in host order. `xtask abi` prints all of it.

pub mod action;
pub mod admission;
pub mod event;
pub mod flow;
pub mod ledger;
pub mod link;
pub mod near;
pub mod network;
pub mod port;
pub mod rule;
pub mod setting;
pub mod underlay;

/// What every key and value of a map is: plain bytes without holes.
macro_rules! plain {
    ($(#[$meta:meta])* pub struct $name:ident [$size:literal] { $($body:tt)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, zerocopy::FromBytes, zerocopy::IntoBytes,
            zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        pub struct $name { $($body)* }

        const _: () = assert!(size_of::<$name>() == $size);
    };
}
pub(crate) use plain;
