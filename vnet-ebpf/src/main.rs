//! The kernel object: attach point, journey, action. The only file that knows XDP's verdicts.
//!
//! Elsewhere than in the kernel it is a program that says so, so that the workspace builds whole.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {
    println!("This is the kernel side; build it with `cargo xtask build-ebpf`.");
}

#[cfg(target_arch = "bpf")]
mod map;
#[cfg(target_arch = "bpf")]
mod refused;

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
    use aya_ebpf::helpers::bpf_redirect;
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use vnet_common::reason::Reason;
    use vnet_common::wire::handover::Handover;
    use vnet_ebpf::frame::xdp::XdpFrame;
    use vnet_ebpf::tables::kernel::{KernelTables, Maps};
    use vnet_ebpf::{Outcome, Way};
    use vnet_ebpf::{from_agent, from_port, from_underlay};

    use crate::map;

    const MAPS: Maps = Maps {
        ports: &map::PORTS,
        port_states: &map::PORT_STATES,
        underlays: &map::UNDERLAYS,
        networks: &map::NETWORKS,
        rules: &map::RULES,
        flows: &map::FLOWS,
        links: &map::LINKS,
        admissions: &map::ADMISSIONS,
        senders: &map::SENDERS,
        ledgers: &map::LEDGERS,
        events: &map::EVENTS,
        settings: &map::SETTINGS,
    };

    /// On a VM's device.
    #[xdp]
    #[inline(always)]
    pub fn port_xdp(context: XdpContext) -> u32 {
        let (mut frame, tables) = open(&context);
        verdict(&context, from_port::from_port(&mut frame, &tables))
    }

    /// On the device that packets of the overlay come in on.
    #[xdp]
    #[inline(always)]
    pub fn underlay_xdp(context: XdpContext) -> u32 {
        let (mut frame, tables) = open(&context);
        verdict(&context, from_underlay::from_underlay(&mut frame, &tables))
    }

    /// On the agent's own tap.
    #[xdp]
    #[inline(always)]
    pub fn agent_xdp(context: XdpContext) -> u32 {
        let (mut frame, tables) = open(&context);
        verdict(&context, from_agent::from_agent(&mut frame, &tables))
    }

    /// A question gets the true answer and leaves no trace.
    #[inline(always)]
    fn open(context: &XdpContext) -> (XdpFrame, KernelTables) {
        // SAFETY: the context is the kernel's, and the frame does not outlive this run.
        let frame = unsafe { XdpFrame::new(context.ctx) };
        let is_dry = frame.handover().is_some_and(is_question);
        (frame, KernelTables::new(MAPS, is_dry))
    }

    #[inline(always)]
    fn is_question(handover: Handover) -> bool {
        map::SETTINGS
            .get(0)
            .is_some_and(|setting| handover.kind(setting.secret) == Some(Handover::QUESTION))
    }

    #[inline(always)]
    fn verdict(context: &XdpContext, result: Result<Outcome, Reason>) -> u32 {
        log(context, &result);
        let Ok(outcome) = result else { return XDP_DROP };
        match outcome.way() {
            Way::Forwarded | Way::Delivered | Way::SlowPath => redirect(outcome.device()),
            Way::Answered => XDP_TX,
            Way::Passed => XDP_PASS,
        }
    }

    /// What became of each frame, for a developer's build: reasons and counters are the log of all
    /// others.
    #[inline(always)]
    fn log(context: &XdpContext, result: &Result<Outcome, Reason>) {
        #[cfg(feature = "log")]
        match result {
            Ok(outcome) => aya_log_ebpf::debug!(
                context,
                "way {} by device {}",
                outcome.way() as u32,
                outcome.device()
            ),
            Err(reason) => aya_log_ebpf::debug!(context, "dropped: reason {}", reason.number()),
        }
        #[cfg(not(feature = "log"))]
        let _ = (context, result);
    }

    #[inline(always)]
    fn redirect(device: u32) -> u32 {
        // SAFETY: takes numbers only; a device that does not exist is refused after the program,
        // where the tracepoints count it.
        match unsafe { bpf_redirect(device, 0) } as u32 {
            XDP_REDIRECT => XDP_REDIRECT,
            _ => XDP_ABORTED,
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// MIT as the rest; GPL beside it, because the kernel lends some helpers to GPL programs only.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
