//! How does a frame get from a guest to a guest?
//!
//! In the order in which a frame meets it: a journey ([`from_port`], [`from_underlay`],
//! [`from_agent`]) is made of steps ([`step`]); a step takes the frame and values and returns a
//! value or a reason. Who holds the frame ([`frame`]) and the tables ([`tables`]) is open, so that
//! the same code runs in the kernel, in tests without privileges and in `vnetctl trace`.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![deny(unsafe_code)]

#[cfg(not(target_arch = "bpf"))]
extern crate std;

pub mod frame;
pub mod from_agent;
pub mod from_port;
pub mod from_underlay;
pub mod step;
pub mod tables;

use vnet_common::addr::{LinkId, PortId};

/// Where a frame went. The device is the index that the entry point redirects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Out over a link, by this device.
    Forwarded {
        /// The link.
        link: LinkId,
        /// Its underlay device.
        device: u32,
    },
    /// Into a port of this host.
    Delivered {
        /// The port, which is its device.
        port: PortId,
    },
    /// Up to the agent, by its tap.
    SlowPath {
        /// The tap.
        device: u32,
    },
    /// A probe, on its way back by the device it came on.
    Answered,
    /// Not ours: the host's own stack has it.
    Passed,
}
