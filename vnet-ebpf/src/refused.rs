//! How many frames did the kernel refuse after a program had redirected them?
//!
//! Devices' own counters do not say: a tap counts one frame of each batch that it takes only a part
//! of (since 5.13), and a batch that is refused whole, since nobody is at the other end, is counted
//! by none. A frame is refused in one of three places, and each has a program that runs only then,
//! so that frames which arrive pay nothing:
//!
//! * Before any device saw it: the tracepoint `xdp_redirect_err`.
//! * By its device, out of a batch: the kernel then gives the frame back
//!   (`xdp_return_frame_rx_napi`), while its batch still stands in a queue of this CPU
//!   (`kernel/bpf/devmap.c`, 5.15 to 6.18). The queue says which device the frame came from and
//!   which one did not take it. Where a kernel does not show its queues, the tracepoint
//!   `xdp_devmap_xmit` says the same, but it is passed by every batch.
//! * By a device that runs programs the slow, generic way: the tracepoint `xdp_exception`.
//!
//! All of them run for the whole machine: a frame is ours when its device is in our network
//! namespace and in our tables. Where structures keep their fields differs from kernel to kernel;
//! the agent reads it from the kernel's type information (BTF) and sets it here before loading.

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::XDP_TX;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_get_smp_processor_id, bpf_probe_read_kernel};
use aya_ebpf::macros::{fentry, raw_tracepoint};
use aya_ebpf::programs::{FEntryContext, RawTracePointContext};
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
/// `task_struct.bpf_net_context` (6.11 and later).
#[unsafe(no_mangle)]
static OFFSET_CONTEXT: Global<u32> = Global::new(0);
/// `bpf_net_context.dev_map_flush_list`.
#[unsafe(no_mangle)]
static OFFSET_FLUSH_LIST: Global<u32> = Global::new(0);
/// `xdp_dev_bulk_queue.flush_node`.
#[unsafe(no_mangle)]
static OFFSET_FLUSH_NODE: Global<u32> = Global::new(0);
/// `xdp_dev_bulk_queue.count`.
#[unsafe(no_mangle)]
static OFFSET_COUNT: Global<u32> = Global::new(0);
/// `xdp_dev_bulk_queue.dev_rx`.
#[unsafe(no_mangle)]
static OFFSET_FROM: Global<u32> = Global::new(0);
/// `xdp_dev_bulk_queue.dev`.
#[unsafe(no_mangle)]
static OFFSET_TO: Global<u32> = Global::new(0);
/// `dev_flush_list`, of the CPU whose own variables begin at 0 (before 6.11), or 0.
#[unsafe(no_mangle)]
static FLUSH_LIST_OF_CPU: Global<u64> = Global::new(0);
/// `__per_cpu_offset`: where each CPU's own variables begin.
#[unsafe(no_mangle)]
static CPU_OFFSETS: Global<u64> = Global::new(0);

/// `DEV_MAP_BULK_SIZE`: frames in a queue, the first member of `xdp_dev_bulk_queue`.
const QUEUE_FRAMES: usize = 16;
/// Queues that are looked at. The one that is being emptied is the first or one of the next, and a
/// CPU's turn fills no more than it may take frames.
const QUEUES_MAX: usize = 64;

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

/// `xdp_return_frame_rx_napi(frame)`: whoever has a frame of another device gives it back. Drivers
/// also do so with frames that they have sent, and those are in no queue any more.
#[fentry(function = "xdp_return_frame_rx_napi")]
pub fn frame_refused(context: FEntryContext) -> i32 {
    let frame: u64 = context.arg(0);
    if let Some(queue) = flush_list().and_then(|list| queue_with(frame, list))
        && let Some(from) = read_u64(queue, OFFSET_FROM.load())
        && let Some(to) = read_u64(queue, OFFSET_TO.load())
    {
        refuse(from, read_u32(to, OFFSET_IFINDEX.load()), 1);
    }
    0
}

/// The head of the list of queues that this CPU has to empty.
#[inline(always)]
fn flush_list() -> Option<u64> {
    let offset = FLUSH_LIST_OF_CPU.load();
    if offset != 0 {
        // SAFETY: takes nothing and cannot fail.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        return read_u64(CPU_OFFSETS.load(), cpu.wrapping_mul(8))
            .map(|base| base.wrapping_add(offset));
    }
    // SAFETY: takes nothing and cannot fail.
    let task = unsafe { bpf_get_current_task() };
    let context = read_u64(task, OFFSET_CONTEXT.load()).filter(|&context| context != 0)?;
    Some(context.wrapping_add(u64::from(OFFSET_FLUSH_LIST.load())))
}

/// The queue that this frame waits in.
#[inline(always)]
fn queue_with(frame: u64, list: u64) -> Option<u64> {
    let mut node = read_u64(list, 0)?;
    for _ in 0..QUEUES_MAX {
        if node == list {
            return None;
        }
        let queue = node.wrapping_sub(u64::from(OFFSET_FLUSH_NODE.load()));
        if has(queue, frame)? {
            return Some(queue);
        }
        node = read_u64(node, 0)?;
    }
    None
}

/// Whether the frame is one of those that the queue holds. What stands behind them is left from
/// earlier batches.
#[inline(always)]
fn has(queue: u64, frame: u64) -> Option<bool> {
    let count = read_u32(queue, OFFSET_COUNT.load())? as usize;
    // SAFETY: as in `read_u32`.
    let frames = unsafe { bpf_probe_read_kernel(queue as *const [u64; QUEUE_FRAMES]) }.ok()?;
    let mut waiting = frames.iter().take(count);
    Some(waiting.any(|&waiting| waiting == frame))
}

/// `xdp_devmap_xmit(from_dev, to_dev, sent, drops, err)`: the device took only some of a batch. In
/// place of `frame_refused`.
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
