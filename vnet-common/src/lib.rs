//! What must the kernel side and the agent agree on?
//!
//! Names, layouts, reasons, rule strength and wire formats, each written once and compiled into
//! both. Nothing here does I/O, allocates or knows of aya.
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod checksum;
pub mod entropy;
pub mod name;
pub mod reason;
pub mod rule;
#[cfg(feature = "schema")]
mod schema;
pub mod table;
pub mod wire;

/// The number of the layouts in [`table`], the names in [`name`] and the reasons in [`reason`].
///
/// It is part of the pin directory's name. Raise it whenever one of them changes: an agent
/// adopts maps of another schema only where it was told which of them are the same.
pub const SCHEMA: u32 = 2;
