//! Figures: this data plane beside its peers.
//!
//! How fast is it, next to what Linux gives for nothing and to what this kernel can do at most?
//! Everything that is compared is measured in the same run, in interleaved rounds, by the same
//! sender and receiver ([`traffic`]) over the same kind of cable ([`bed`]); what a figure is worth
//! is the median of the rounds with their spread ([`figure`]). How to read the result, and what it
//! does not say, is in `docs/benchmarks.md`.

pub mod bed;
pub mod bpf;
pub mod cores;
pub mod cost;
pub mod datapath;
pub mod figure;
pub mod frame;
pub mod memory;
pub mod path;
pub mod report;
pub mod traffic;
