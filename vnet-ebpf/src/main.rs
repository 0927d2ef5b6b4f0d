//! The kernel object: attach point, journey, action. Only `xdp.rs` and `tc.rs` know the kernel's
//! verdicts.
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
mod tc;
#[cfg(target_arch = "bpf")]
mod xdp;

#[cfg(target_arch = "bpf")]
mod program {
    use vnet_common::wire::handover::Handover;
    use vnet_ebpf::Outcome;
    use vnet_ebpf::tables::kernel::Maps;

    use vnet_common::addr::{NetworkId, Stations};
    use vnet_common::reason::Reason;
    use vnet_common::table::action::Action;
    use vnet_common::table::flow::FlowKey;
    use vnet_ebpf::step::rules;
    use vnet_ebpf::tables::kernel::KernelTables;
    use vnet_ebpf::tables::near;

    use crate::map;

    pub const MAPS: Maps = Maps {
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
        near_ports: &map::NEAR_PORTS,
        near_admissions: &map::NEAR_ADMISSIONS,
        near_flows: &map::NEAR_FLOWS,
        epochs: &map::EPOCHS,
        events: &map::EVENTS,
        settings: &map::SETTINGS,
        strongest: vnet_strongest,
        settle_flow: vnet_settle_flow,
    };

    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn vnet_strongest(network: u32, shapes: u32, a: u32, b: u32, c: u32) -> u64 {
        let action = match NetworkId::new(network) {
            Some(network) => {
                let tables = KernelTables::new(MAPS, false);
                rules::strongest(&tables, network, shapes, Stations::of_words([a, b, c]))
            }
            None => Action::NONE,
        };
        action.to_bits()
    }

    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn vnet_settle_flow(network: u32, a: u32, b: u32, c: u32) -> u32 {
        if let Some(network) = NetworkId::new(network) {
            let stations = Stations::of_words([a, b, c]);
            near::settle(&MAPS, &FlowKey { network, stations });
        }
        0
    }

    /// What proves that metadata or a mark is from one of us; 0 where nothing can yet.
    #[inline(always)]
    pub fn secret() -> u64 {
        map::SETTINGS.get(0).map_or(0, |setting| setting.secret)
    }

    /// The kind of what is written in front of a frame, where one of us wrote it.
    #[inline(always)]
    pub fn kind(handover: Option<Handover>) -> Option<u32> {
        handover.and_then(|handover| handover.kind(secret()))
    }

    /// What became of each frame, for a developer's build: reasons and counters are the log of all
    /// others.
    #[inline(always)]
    pub fn log<C: aya_ebpf::EbpfContext>(context: &C, result: &Result<Outcome, Reason>) {
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

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// MIT as the rest; GPL beside it, because the kernel lends some helpers to GPL programs only.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
