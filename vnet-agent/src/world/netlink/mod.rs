//! What does the kernel say about devices, addresses, routes and neighbours, and how do we ask?
//!
//! Two sockets, each with one task. [`Requests`] asks and is answered; nothing else arrives on
//! its socket, so that no storm of events can cost an answer. The socket of events belongs to the
//! [`Watcher`], which turns what it hears into snapshots of the host ([`crate::model::host`]).

mod abilities;
mod decode;
mod events;
mod neighbours;
mod request;
mod view;
mod watcher;

pub use neighbours::release_neighbours;
pub use request::{NetlinkError, Requests};
pub use watcher::{Counts, Freshness, Options, Watcher};
