//! Figures: this data plane beside its peers.
//!
//! How fast is it, next to what Linux gives for nothing and to what this kernel can do at most?
//! Everything that is compared is measured in the same run, in interleaved rounds, by the same
//! sender and receiver over the same kind of cable ([`bed`]); what a figure is worth is the median
//! of the rounds ([`rounds`]) with their spread ([`figure`]). How to read the result, and what it
//! does not say, is in `docs/benchmarks.md`.
//!
//! [`plan`] says how much is measured, each [`part`] does it with what the [`workshop`] has, over
//! each [`path`]; [`report`] shows the figures.

pub mod ask;
pub mod bed;
pub mod bpf;
pub mod busy;
pub mod chart;
pub mod constellation;
pub mod cores;
pub mod figure;
pub mod frame;
pub mod iperf;
pub mod machine;
pub mod paced;
pub mod packages;
pub mod part;
pub mod path;
pub mod plan;
pub mod report;
pub mod round_trips;
pub mod rounds;
pub mod stations;
pub mod svg;
pub mod taps;
pub mod traffic;
pub mod workshop;
