//! How does a frame get from a guest to a guest?
//!
//! In the order in which a frame meets it: a journey ([`from_port`], [`from_underlay`],
//! [`from_agent`]) is made of steps ([`step`]); a step takes the frame and values and returns a
//! value or a reason. Who holds the frame ([`frame`]) and the tables ([`tables`]) is open, so that
//! the same code runs in the kernel, in tests without privileges and in `vnetctl trace`.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        internal_features,
        reason = "the one volatile move that needs no alignment is internal"
    )
)]
#![deny(unsafe_code)]

#[cfg(not(target_arch = "bpf"))]
extern crate std;

pub mod frame;
pub mod from_agent;
pub mod from_port;
pub mod from_underlay;
pub mod step;
pub mod tables;

/// Where a frame went, in one word: the kind in the high half, the device in the low one.
///
/// Not an enum: the compiler leaves the fields of the other variants undefined and may save such a
/// register on the stack, which the verifier (6.18) takes for reading one that was never written.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(u64);

/// The kinds of [`Outcome`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out over a link, by its underlay device.
    Forwarded = 1,
    /// Into a port of this host, which is the device.
    Delivered = 2,
    /// Up to the agent, by its tap.
    SlowPath = 3,
    /// A probe, on its way back by the device it came on.
    Answered = 4,
    /// Not ours: the host's own stack has it.
    Passed = 5,
    /// Into a port of this host, by way of the kernel's GRO, which joins it with others.
    Joined = 6,
    /// Into a port of this host, whose other end gets it at once.
    Direct = 7,
    /// Larger than its way carries, so it ends here; its beginning goes up to the agent, by its tap,
    /// for an answer to whoever sent it.
    TooBig = 8,
}

impl Outcome {
    /// Not ours.
    pub const PASSED: Self = Self::new(Way::Passed, 0);
    /// A probe answered.
    pub const ANSWERED: Self = Self::new(Way::Answered, 0);

    /// This way, by this device (0 where there is none).
    #[inline(always)]
    pub const fn new(way: Way, device: u32) -> Self {
        Self((way as u64).wrapping_shl(32) | device as u64)
    }

    /// The device that the entry point redirects to.
    #[inline(always)]
    pub const fn device(self) -> u32 {
        self.0 as u32
    }

    /// Which way.
    #[inline(always)]
    pub const fn way(self) -> Way {
        match self.0.wrapping_shr(32) {
            1 => Way::Forwarded,
            2 => Way::Delivered,
            3 => Way::SlowPath,
            4 => Way::Answered,
            6 => Way::Joined,
            7 => Way::Direct,
            8 => Way::TooBig,
            _ => Way::Passed,
        }
    }
}
