//! Which kernel object does this agent carry?
//!
//! The one that the repository's own builder makes of `vnet-ebpf` as it is now, with the feature
//! `log` if this crate has it. Its path is in `VNET_EBPF_OBJECT` at compile time, for
//! `aya::include_bytes_aligned!`.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result};
use xtask::build_ebpf;

fn main() -> Result<()> {
    for input in build_ebpf::inputs() {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    for name in build_ebpf::ENVIRONMENT {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let has_log = env::var_os("CARGO_FEATURE_LOG").is_some();
    let built = build_ebpf::build(if has_log { &["log"] } else { &[] })?;
    println!("built with {}", built.toolchain);

    // A copy, so that an agent being compiled never sees an object that another build replaces.
    let out_directory = env::var_os("OUT_DIR").context("cargo sets OUT_DIR for build scripts")?;
    let embedded = PathBuf::from(out_directory).join("vnet-ebpf.o");
    fs::copy(&built.object, &embedded)
        .with_context(|| format!("copying {} for embedding", built.object.display()))?;
    println!("cargo::rustc-env=VNET_EBPF_OBJECT={}", embedded.display());
    Ok(())
}
