//! What must hold for whatever bytes come from outside?
//!
//! Input: for each [`target`], inputs that are right, and what an earlier search has found
//! (`corpus/`). Output: an input that breaks a promise, made small; or how deep the inputs got.
//!
//! [`mutate`] makes of inputs other ones, by bytes and by words; [`engine`] keeps those that led to
//! something new, and goes on from there; [`memory`] says what an input costs. The same seed gives
//! the same run. `tests/` runs every target for a second or two; `cargo xtask fuzz` for as long as
//! somebody likes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod engine;
pub mod memory;
pub mod mutate;
pub mod target;

/// What counts memory, in every program that looks for inputs.
#[global_allocator]
static COUNTING: memory::Counting = memory::Counting;

/// Where the finds for a target are kept.
#[must_use]
pub fn corpus(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name)
}

/// What broke a promise of a target once, in order of the files' names.
#[must_use]
pub fn finds(name: &str) -> Vec<Vec<u8>> {
    let Ok(folder) = std::fs::read_dir(corpus(name)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path| std::fs::read(path).unwrap();
    paths.into_iter().map(read).collect()
}
