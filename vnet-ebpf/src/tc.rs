//! The programs at the TC door.

use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_peer, bpf_skb_change_type};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use vnet_common::reason::Reason;
use vnet_common::table::port::PortEntry;
use vnet_common::wire::handover::Handover;
use vnet_ebpf::frame::Frame;
use vnet_ebpf::frame::tc::TcFrame;
use vnet_ebpf::tables::Tables;
use vnet_ebpf::tables::kernel::KernelTables;
use vnet_ebpf::{Outcome, Way};
use vnet_ebpf::{from_agent, from_port, from_underlay};

use crate::program::{MAPS, kind, log, secret};

/// What the programs want to read of a frame: Ethernet, IPv4, TCP. The kernel's own senders keep
/// at least these together.
const INNER_BYTES: u32 = 54;
/// The outer headers of a link over IPv4 with its option, and an Ethernet and an IPv4 header: more
/// would have to be copied out of the payload of bulk TCP, for nothing.
const UNDERLAY_BYTES: u32 = 112;
/// The agent's header, and a frame's.
const AGENT_BYTES: u32 = 86;
/// `PACKET_HOST` (Linux, `include/uapi/linux/if_packet.h`).
const TO_US: u32 = 0;

/// On a VM's device.
#[classifier]
#[inline(always)]
pub fn port_tc(context: TcContext) -> i32 {
    let (mut frame, tables) = open(&context, INNER_BYTES);
    let result = from_port::from_port(&mut frame, &tables);
    verdict(&context, &frame, result)
}

/// On the device that packets of the overlay come in on: alone, or behind the XDP program, from
/// which it takes what was passed up to be joined.
#[classifier]
#[inline(always)]
pub fn underlay_tc(context: TcContext) -> i32 {
    // SAFETY: as in `open`.
    let early = unsafe { TcFrame::new(context.skb.skb, 0) };
    if let Some(handover) = early.handover()
        && kind(Some(handover)) == Some(Handover::DELIVER)
    {
        let (frame, tables) = open(&context, 14);
        let port = handover.port().0;
        let flags = tables.port(port).map_or(0, |port| port.flags);
        return if flags & PortEntry::DIRECT != 0 {
            direct(&context, &frame, port)
        } else {
            redirect(port)
        };
    }
    // Ours are not tagged; of one that is, the tag lies beside the bytes, where nobody would see it.
    if early.has_tag() {
        return TC_ACT_UNSPEC;
    }
    let (mut frame, tables) = open(&context, UNDERLAY_BYTES);
    let result = from_underlay::from_underlay(&mut frame, &tables);
    verdict(&context, &frame, result)
}

/// On the agent's own tap.
#[classifier]
#[inline(always)]
pub fn agent_tc(context: TcContext) -> i32 {
    let (mut frame, tables) = open(&context, AGENT_BYTES);
    let result = from_agent::from_agent(&mut frame, &tables);
    verdict(&context, &frame, result)
}

/// A question gets the true answer and leaves no trace.
#[inline(always)]
fn open(context: &TcContext, headers_bytes: u32) -> (TcFrame, KernelTables) {
    // SAFETY: the context is the kernel's, and the frame does not outlive this run.
    let frame = unsafe { TcFrame::new(context.skb.skb, headers_bytes) };
    let mark = frame.mark();
    let is_dry = mark != 0 && mark == secret() as u32;
    (frame, KernelTables::new(MAPS, is_dry))
}

#[inline(always)]
fn verdict(context: &TcContext, frame: &TcFrame, result: Result<Outcome, Reason>) -> i32 {
    log(context, &result);
    let Ok(outcome) = result else {
        return TC_ACT_SHOT;
    };
    match outcome.way() {
        Way::Forwarded | Way::Delivered | Way::Joined | Way::SlowPath | Way::TooBig => {
            redirect(outcome.device())
        }
        Way::Direct => direct(context, frame, outcome.device()),
        Way::Answered => redirect(frame.device()),
        Way::Passed => TC_ACT_UNSPEC,
    }
}

/// To the other end of a veth, as if it came in there. Its stack sees the frame as the kernel's
/// notes describe it, so they must be right: for one station, and of the type that stands in it.
#[inline(always)]
fn direct(context: &TcContext, frame: &TcFrame, device: u32) -> i32 {
    if !frame.knows_its_type() {
        return redirect(device);
    }
    // SAFETY: both take numbers; a device that does not exist is refused after the program.
    unsafe {
        if bpf_skb_change_type(context.skb.skb, TO_US) != 0 {
            return redirect(device);
        }
        bpf_redirect_peer(device, 0) as i32
    }
}

#[inline(always)]
fn redirect(device: u32) -> i32 {
    // SAFETY: takes numbers only; a device that does not exist is refused after the program.
    match unsafe { bpf_redirect(device, 0) } as i32 {
        TC_ACT_REDIRECT => TC_ACT_REDIRECT,
        _ => TC_ACT_SHOT,
    }
}
