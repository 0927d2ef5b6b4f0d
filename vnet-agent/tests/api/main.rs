//! Do the server, its socket and `vnetctl` keep the promises of the API?
//!
//! A fake agent answers behind a real Unix socket; requests are bytes written by hand, or the real
//! `vnetctl`. No root needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod events;
mod fake_agent;
mod metrics;
mod openapi;
mod remote;
mod requests;
mod topology;
mod vnetctl;
