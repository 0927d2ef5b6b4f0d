//! The programs at the XDP door.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use vnet_common::addr::PortId;
use vnet_common::reason::Reason;
use vnet_common::wire::handover::Handover;
use vnet_ebpf::frame::Frame as _;
use vnet_ebpf::frame::xdp::XdpFrame;
use vnet_ebpf::tables::kernel::KernelTables;
use vnet_ebpf::{Outcome, Way};
use vnet_ebpf::{from_agent, from_port, from_underlay};

use crate::program::{MAPS, kind, log, secret};

/// On a VM's device.
#[xdp]
#[inline(always)]
pub fn port_xdp(context: XdpContext) -> u32 {
    let (mut frame, tables) = open(&context);
    let result = from_port::from_port(&mut frame, &tables);
    verdict(&context, &mut frame, result)
}

/// On the device that packets of the overlay come in on.
#[xdp]
#[inline(always)]
pub fn underlay_xdp(context: XdpContext) -> u32 {
    let (mut frame, tables) = open(&context);
    let result = from_underlay::from_underlay(&mut frame, &tables);
    verdict(&context, &mut frame, result)
}

/// On the agent's own tap.
#[xdp]
#[inline(always)]
pub fn agent_xdp(context: XdpContext) -> u32 {
    let (mut frame, tables) = open(&context);
    let result = from_agent::from_agent(&mut frame, &tables);
    verdict(&context, &mut frame, result)
}

/// A question gets the true answer and leaves no trace.
#[inline(always)]
fn open(context: &XdpContext) -> (XdpFrame, KernelTables) {
    // SAFETY: the context is the kernel's, and the frame does not outlive this run.
    let frame = unsafe { XdpFrame::new(context.ctx) };
    let is_dry = kind(frame.handover()) == Some(Handover::QUESTION);
    (frame, KernelTables::new(MAPS, is_dry))
}

#[inline(always)]
fn verdict(context: &XdpContext, frame: &mut XdpFrame, result: Result<Outcome, Reason>) -> u32 {
    log(context, &result);
    let Ok(outcome) = result else { return XDP_DROP };
    match outcome.way() {
        Way::Forwarded | Way::Delivered | Way::Direct | Way::SlowPath | Way::TooBig => {
            redirect(outcome.device())
        }
        Way::Joined => join(frame, outcome.device()),
        // Not XDP_TX: where the other end of a veth has no XDP program, the kernel lets such frames lie
        // until something else wakes that end.
        Way::Answered => redirect(frame.device()),
        Way::Passed => XDP_PASS,
    }
}

/// Up to the kernel's GRO; the TC program of the same device takes it from there. Where the driver
/// carries no metadata, into the port at once.
#[inline(always)]
fn join(frame: &mut XdpFrame, port: u32) -> u32 {
    match frame.hand_over(&Handover::deliver(secret(), PortId(port))) {
        Some(()) => XDP_PASS,
        None => redirect(port),
    }
}

#[inline(always)]
fn redirect(device: u32) -> u32 {
    // SAFETY: takes numbers only; a device that does not exist is refused after the program, where
    // `refused.rs` counts it.
    match unsafe { bpf_redirect(device, 0) } as u32 {
        XDP_REDIRECT => XDP_REDIRECT,
        _ => XDP_ABORTED,
    }
}
