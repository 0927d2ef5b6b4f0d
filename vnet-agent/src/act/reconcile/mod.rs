//! From what is wanted to what the kernel holds.
//!
//! Pure but for [`runtime`]: the configuration and the host ([`desired`]) become an [`image`] of
//! everything that the agent writes into the kernel; [`order`] compares it with the image of what
//! is there and says which steps lead from one to the other, make before break; the runtime takes
//! them. The same image twice gives no steps.

pub mod carried;
pub mod desired;
pub mod header;
pub mod image;
pub mod links;
pub mod order;
mod ports;
pub mod rules;
pub mod runtime;
pub mod slots;
#[cfg(test)]
mod tests;

pub use desired::{Desired, Surroundings, desired};
pub use image::Image;
pub use order::{Step, steps};
