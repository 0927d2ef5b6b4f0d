//! Which ways from tap to tap are compared?
//!
//! Each is laid in a fresh [`Bed`] and lasts as long as what laying it returned.

mod bridge_vxlan;
mod redirect;
mod vnet;

use std::any::Any;

use anyhow::{Context, Result};

use crate::bed::Bed;

/// A way from tap to tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// This data plane, with its agents, as it comes.
    Vnet,
    /// The same, but only one of the agents counts the frames that the kernel refuses after a
    /// redirect. It watches the whole kernel, so both watch both hosts where they share one: this
    /// is what the two would pay on machines of their own.
    VnetCountedOnce,
    /// The same, and none counts them.
    VnetUncounted,
    /// A Linux bridge and the kernel's VXLAN device on each host.
    BridgeVxlan,
    /// An XDP program that redirects every frame unseen: the most that this way of forwarding can
    /// give on this kernel.
    Redirect,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Vnet,
        Self::VnetCountedOnce,
        Self::VnetUncounted,
        Self::BridgeVxlan,
        Self::Redirect,
    ];

    /// The name in the names of figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vnet => "vnet",
            Self::VnetCountedOnce => "vnet_counted_once",
            Self::VnetUncounted => "vnet_uncounted",
            Self::BridgeVxlan => "bridge_vxlan",
            Self::Redirect => "redirect",
        }
    }

    /// The name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Vnet => "this data plane",
            Self::VnetCountedOnce => "this data plane, refusals counted once",
            Self::VnetUncounted => "this data plane, refusals not counted",
            Self::BridgeVxlan => "Linux bridge + kernel VXLAN",
            Self::Redirect => "bare XDP redirect (the limit)",
        }
    }

    /// Makes the bed's cable this way. It stays so until the result is dropped.
    ///
    /// # Errors
    ///
    /// The kernel or an agent refuses, or frames do not pass.
    pub fn lay(self, bed: &Bed) -> Result<Box<dyn Any>> {
        let held: Box<dyn Any> = match self {
            Self::Vnet => Box::new(vnet::lay(bed, [true, true])?),
            Self::VnetCountedOnce => Box::new(vnet::lay(bed, [true, false])?),
            Self::VnetUncounted => Box::new(vnet::lay(bed, [false, false])?),
            Self::BridgeVxlan => {
                bridge_vxlan::lay(bed)?;
                Box::new(())
            }
            Self::Redirect => Box::new(redirect::lay(bed)?),
        };
        bed.prove()
            .with_context(|| format!("{} does not work", self.title()))?;
        Ok(held)
    }
}
