//! How many frames did the kernel refuse after a program had redirected them?
//!
//! No device counts these, so the kernel's XDP tracepoints are asked (6.18,
//! `include/trace/events/xdp.h`). They fire for the whole machine: a frame is ours when its device
//! is in our network namespace and in our tables. Where structures keep their fields differs from
//! kernel to kernel; the agent reads it from the kernel's type information (BTF) and sets it here
//! before loading.

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::XDP_TX;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use vnet_common::table::ledger::Ledger;
use vnet_common::table::underlay::UnderlayEntry;

use crate::map;

/// `net_device.ifindex`.
#[unsafe(no_mangle)]
static OFFSET_IFINDEX: Global<u32> = Global::new(0);
/// `net_device.nd_net.net`.
#[unsafe(no_mangle)]
static OFFSET_NET: Global<u32> = Global::new(0);
/// `net.ns.inum`.
#[unsafe(no_mangle)]
static OFFSET_INUM: Global<u32> = Global::new(0);

/// `xdp_redirect_err(dev, xdp, tgt, err, map_type, map_id, index)`: the redirect was refused
/// before any device saw the frame. For `bpf_redirect`, `index` is the device it was meant for.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
pub fn redirect_error(context: RawTracePointContext) -> i32 {
    let map_type: u64 = context.arg(4);
    // Ours name a device, not a place in a map.
    if map_type as u32 == 0 {
        let target: u64 = context.arg(6);
        refuse(context.arg(0), Some(target as u32), 1);
    }
    0
}

/// `xdp_devmap_xmit(from_dev, to_dev, sent, drops, err)`: the device took only some of a batch.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub fn device_refused(context: RawTracePointContext) -> i32 {
    let drops = context.arg::<u64>(3) as i32;
    if drops > 0 {
        refuse(
            context.arg(0),
            read_u32(context.arg(1), OFFSET_IFINDEX.load()),
            drops as u64,
        );
    }
    0
}

/// `xdp_exception(dev, xdp, act)`: a device that runs programs the slow, generic way refused a
/// frame, or could not turn one around. Drivers fire it for a refused redirect too, which the other
/// two have counted by then.
#[raw_tracepoint(tracepoint = "xdp_exception")]
pub fn generic_refused(context: RawTracePointContext) -> i32 {
    let device: u64 = context.arg(0);
    let action: u64 = context.arg(2);
    if action as u32 == XDP_TX {
        refuse(device, read_u32(device, OFFSET_IFINDEX.load()), 1);
    }
    0
}

#[inline(always)]
fn in_our_namespace(device: u64) -> bool {
    let Some(setting) = map::SETTINGS.get(0) else {
        return false;
    };
    read_u64(device, OFFSET_NET.load())
        .and_then(|net| read_u32(net, OFFSET_INUM.load()))
        .is_some_and(|inode| inode == setting.namespace)
}

/// Counts at the device that did not get the frames: a port, an underlay device, or the agent's
/// tap; where it is none of these any more, the agent's ledger has them. Frames that came in on
/// others' devices are not ours.
#[inline(always)]
fn refuse(from: u64, target: Option<u32>, frames: u64) {
    if !in_our_namespace(from) {
        return;
    }
    if read_u32(from, OFFSET_IFINDEX.load())
        .and_then(ledger_of)
        .is_none()
    {
        return;
    }
    let slot = target.and_then(ledger_of).unwrap_or(Ledger::AGENT);
    if let Some(ledger) = map::LEDGERS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own value; tracepoints run where the program ran, after it.
        let ledger = unsafe { &mut *ledger };
        ledger.refused = ledger.refused.wrapping_add(frames);
    }
}

/// The ledger of a device of ours.
#[inline(always)]
fn ledger_of(ifindex: u32) -> Option<u32> {
    // SAFETY: entries are only read; they stay readable until the program ends (RCU).
    if let Some(port) = unsafe { map::PORTS.get(ifindex) } {
        return Some(port.ledger);
    }
    let mut slot = 0;
    while slot < UnderlayEntry::SLOTS {
        let underlay = map::UNDERLAYS.get(slot)?;
        if underlay.device == ifindex {
            return Some(underlay.ledger);
        }
        slot = slot.wrapping_add(1);
    }
    let setting = map::SETTINGS.get(0)?;
    if setting.slow_path_device == ifindex {
        Some(Ledger::AGENT)
    } else {
        None
    }
}

#[inline(always)]
fn read_u32(base: u64, offset: u32) -> Option<u32> {
    // SAFETY: the helper checks the address and fails where it cannot be read.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(u64::from(offset)) as *const u32) }.ok()
}

#[inline(always)]
fn read_u64(base: u64, offset: u32) -> Option<u64> {
    // SAFETY: as in `read_u32`.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(u64::from(offset)) as *const u64) }.ok()
}
