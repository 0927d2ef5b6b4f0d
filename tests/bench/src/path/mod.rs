//! Which ways from guest to guest are compared?
//!
//! Each is laid in a fresh [`Bed`] and lasts as long as what laying it returned.

mod bridge_vxlan;
mod direct;
mod ovs;
mod redirect;
mod tinc;
pub mod vnet;

use std::any::Any;

use anyhow::Result;

use crate::bed::Bed;
use crate::packages::Packages;
use vnet::Setup;

/// A way from guest to guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// The guests themselves are at the ends of the cable.
    Direct,
    /// An XDP program that redirects every frame unseen: the most that this way of forwarding can
    /// give on this kernel.
    Redirect,
    /// The same at TC, and into the guest's end of its veth: the most that socket buffers can give.
    RedirectTc,
    /// A Linux bridge and the kernel's VXLAN device on each host.
    BridgeVxlan,
    /// Open vSwitch with its datapath in user space, and VXLAN.
    Ovs,
    /// A tunnel between two programs.
    Tinc,
    /// This data plane through the XDP door, with its agents. The frames that the kernel refuses
    /// after a redirect are counted as on two machines (see [`vnet::XDP`]).
    VnetXdp,
    /// The same, and both agents count them, which is twice for each frame where they share a kernel.
    VnetXdpCountedTwice,
    /// The same, and none counts them.
    VnetXdpUncounted,
    /// This data plane through the TC door.
    VnetTc,
    /// The guest's port at the TC door, the cable at the XDP door with TC behind it.
    VnetJoined,
}

/// What guests with an IP stack must be like for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guests {
    /// As they come: checksums and segments are left to the NIC.
    LeaveWorkToTheirNic,
    /// Every frame is finished: what forwards them cannot pass on what is still to be done.
    FinishTheirFrames,
    /// There is nothing between them and the cable.
    OnTheCable,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Direct,
        Self::Redirect,
        Self::RedirectTc,
        Self::BridgeVxlan,
        Self::Ovs,
        Self::Tinc,
        Self::VnetXdp,
        Self::VnetXdpCountedTwice,
        Self::VnetXdpUncounted,
        Self::VnetTc,
        Self::VnetJoined,
    ];

    /// The name in the names of figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Redirect => "redirect",
            Self::RedirectTc => "redirect_tc",
            Self::BridgeVxlan => "bridge_vxlan",
            Self::Ovs => "ovs",
            Self::Tinc => "tinc",
            Self::VnetXdp => "vnet_xdp",
            Self::VnetXdpCountedTwice => "vnet_xdp_counted_twice",
            Self::VnetXdpUncounted => "vnet_xdp_uncounted",
            Self::VnetTc => "vnet_tc",
            Self::VnetJoined => "vnet_joined",
        }
    }

    /// The name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct veth",
            Self::Redirect => "bare XDP redirect",
            Self::RedirectTc => "bare TC redirect",
            Self::BridgeVxlan => "bridge + VXLAN",
            Self::Ovs => "Open vSwitch, user space",
            Self::Tinc => "tinc",
            Self::VnetXdp => "vnet, XDP door",
            Self::VnetXdpCountedTwice => "vnet, XDP door, refusals counted by both agents",
            Self::VnetXdpUncounted => "vnet, XDP door, refusals not counted",
            Self::VnetTc => "vnet, TC door",
            Self::VnetJoined => "vnet, TC door behind XDP",
        }
    }

    /// Whether frames from tap to tap are measured this way: not where there is no tap, the guest
    /// must be a veth's, or what is to gain is joined frames.
    #[must_use]
    pub const fn joins_taps(self) -> bool {
        !matches!(self, Self::Direct | Self::RedirectTc | Self::VnetJoined)
    }

    /// Whether TCP and round trips are measured this way: not where the difference to a
    /// neighbour is in single frames.
    #[must_use]
    pub const fn joins_stations(self) -> bool {
        !matches!(self, Self::VnetXdpCountedTwice | Self::VnetXdpUncounted)
    }

    /// Whether programs do the forwarding, which then need the cores themselves.
    #[must_use]
    pub const fn is_in_user_space(self) -> bool {
        matches!(self, Self::Ovs | Self::Tinc)
    }

    /// Whether it is this data plane.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(
            self,
            Self::VnetXdp
                | Self::VnetXdpCountedTwice
                | Self::VnetXdpUncounted
                | Self::VnetTc
                | Self::VnetJoined
        )
    }

    /// What guests with an IP stack must be like.
    #[must_use]
    pub const fn guests(self) -> Guests {
        match self {
            Self::Direct => Guests::OnTheCable,
            Self::RedirectTc | Self::BridgeVxlan | Self::Tinc | Self::VnetTc | Self::VnetJoined => {
                Guests::LeaveWorkToTheirNic
            }
            Self::Redirect
            | Self::Ovs
            | Self::VnetXdp
            | Self::VnetXdpCountedTwice
            | Self::VnetXdpUncounted => Guests::FinishTheirFrames,
        }
    }

    /// The Debian package that it is made of, if it is not of this machine's kernel and ours.
    #[must_use]
    pub const fn package(self) -> Option<&'static str> {
        match self {
            Self::Ovs => Some(ovs::PACKAGE),
            Self::Tinc => Some(tinc::PACKAGE),
            _ => None,
        }
    }

    /// Makes the bed's cable this way. It stays so until the result is dropped.
    ///
    /// # Errors
    ///
    /// The kernel, an agent or another program refuses.
    pub fn lay(self, bed: &Bed, packages: &Packages) -> Result<Box<dyn Any>> {
        Ok(match self {
            Self::Direct => Box::new(direct::lay(bed)?),
            Self::Redirect => Box::new(redirect::lay_xdp(bed)?),
            Self::RedirectTc => Box::new(redirect::lay_tc(bed)?),
            Self::BridgeVxlan => Box::new(bridge_vxlan::lay(bed)?),
            Self::Ovs => Box::new(ovs::lay(bed, &packages.unpacked(ovs::PACKAGE)?)?),
            Self::Tinc => Box::new(tinc::lay(bed, &packages.unpacked(tinc::PACKAGE)?)?),
            Self::VnetXdp => Box::new(vnet::lay(bed, vnet::XDP)?),
            Self::VnetXdpCountedTwice => Box::new(vnet::lay(
                bed,
                Setup {
                    count_refused: [true, true],
                    ..vnet::XDP
                },
            )?),
            Self::VnetXdpUncounted => Box::new(vnet::lay(
                bed,
                Setup {
                    count_refused: [false, false],
                    ..vnet::XDP
                },
            )?),
            Self::VnetTc => Box::new(vnet::lay(bed, vnet::TC)?),
            Self::VnetJoined => Box::new(vnet::lay_joined(bed)?),
        })
    }
}
