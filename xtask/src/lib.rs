//! How do the kernel object and the package for hosts come to be?
//!
//! The half of `xtask` that others may call: `vnet-agent/build.rs` embeds the object that
//! [`build_ebpf::build`] makes, so that a plain `cargo build` is right, and a test installs what
//! [`package::build`] makes. The verbs themselves are in the binary.

pub mod build_ebpf;
pub mod package;
pub mod process;
pub mod toolchain;

use std::path::Path;

/// The root of the repository: the folder of the workspace's manifest.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}
