//! What lies on the wire?
//!
//! One file a header: its bytes as drawn in its RFC, as a `repr(C)` type of byte arrays in the
//! order of the wire, so that there is no alignment and no endianness at any place of use.

pub mod ethernet;
pub mod geneve;
pub mod handover;
pub mod ipv4;
pub mod ipv6;
pub mod link_option;
pub mod probe;
pub mod slow;
pub mod udp;

/// What every header is: bytes without alignment or holes.
macro_rules! header {
    ($(#[$meta:meta])* pub struct $name:ident [$size:literal] { $($body:tt)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes,
            zerocopy::Immutable, zerocopy::KnownLayout, zerocopy::Unaligned,
        )]
        pub struct $name { $($body)* }

        const _: () = assert!(size_of::<$name>() == $size);

        impl $name {
            /// Bytes of this header.
            pub const BYTES: usize = $size;
        }
    };
}
pub(crate) use header;
