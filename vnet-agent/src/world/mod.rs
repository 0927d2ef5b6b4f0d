//! The doors to the outside, other than bpf: what the kernel says about devices, addresses and
//! neighbours, and the few things that the agent asks of it.
//!
//! Everything here does I/O; what it finds out leaves as plain values of [`crate::model`]. All of
//! it works in whatever network namespace the calling thread is in when it opens a door, so one
//! thread must open them all (a current-thread runtime does).

pub mod bpffs;
pub mod joiner;
pub mod lock;
pub mod netlink;
pub mod notify;
pub mod process;
pub mod tap;
