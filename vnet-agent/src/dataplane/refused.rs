//! How are refused frames counted on this kernel, and by what?
//!
//! Input: the kernel's own type information (BTF), and for kernels before 6.11 its symbols. Output:
//! what the counting programs (`vnet-ebpf/src/refused.rs`, where the ways are told) must know of the
//! kernel's structures, and these programs in their places, pinned.

use std::fs;

use anyhow::bail;
use aya::programs::links::FdLink;
use aya::programs::{FEntry, RawTracePoint};
use aya::{Ebpf, EbpfLoader};
use tracing::{info, warn};
use vnet_common::name;

use super::btf::Btf;
use super::error::{DataPlaneError, chain, os_error};
use super::object::program;
use super::pin::{Pins, remove_file};
use crate::model::counting::Counting;

/// What gives a refused frame back.
const GIVES_BACK: &str = "xdp_return_frame_rx_napi";
/// What a queue must have room for (`DEV_MAP_BULK_SIZE` pointers): its first member.
const QUEUE_BYTES: u32 = 128;

const QUEUES_DIFFER: &str =
    "this kernel keeps redirected frames in another way than 5.15 to 6.18 do";
const NO_SYMBOLS: &str = "before Linux 6.11, where redirected frames are kept is told only to \
                          programs that may read addresses in /proc/kallsyms (CAP_SYSLOG)";

/// The programs on tracepoints that are passed by refused frames only.
const TRACEPOINTS: [(&str, &str); 2] = [
    (name::REDIRECT_ERROR, "xdp_redirect_err"),
    (name::GENERIC_REFUSED, "xdp_exception"),
];
/// The one that is passed by every batch.
const EVERY_BATCH: (&str, &str) = (name::DEVICE_REFUSED, "xdp_devmap_xmit");
/// Every program that counts.
const COUNTERS: [&str; 4] = [
    name::REDIRECT_ERROR,
    name::GENERIC_REFUSED,
    name::FRAME_REFUSED,
    name::DEVICE_REFUSED,
];

/// Where this kernel keeps what the counting programs read; what it does not have is 0.
#[derive(Default)]
pub(super) struct Layout {
    known: Known,
    ifindex: u32,
    net: u32,
    inum: u32,
    queue: Queue,
    list: List,
}

/// How much is known of it.
#[derive(Clone, Copy, Default)]
enum Known {
    #[default]
    Nothing,
    /// What devices are, but not the queues of redirected frames, and why not those.
    Devices(&'static str),
    All,
}

/// A queue of redirected frames for one device.
#[derive(Clone, Copy, Default)]
struct Queue {
    flush_node: u32,
    count: u32,
    from: u32,
    to: u32,
}

/// The list of the queues that a CPU has to empty.
#[derive(Clone, Copy, Default)]
struct List {
    /// From 6.11 on: the running task leads to it.
    context: u32,
    flush_list: u32,
    /// Before: a variable of each CPU.
    flush_list_of_cpu: u64,
    cpu_offsets: u64,
}

impl Layout {
    pub(super) fn of_this_kernel() -> Self {
        let bytes = fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
        Self::told_by(&bytes).unwrap_or_default()
    }

    fn told_by(type_information: &[u8]) -> Option<Self> {
        let found = Btf::parse(type_information)?.members(&[
            ("net_device", "ifindex"),
            ("net_device", "nd_net"),
            ("net", "ns"),
            ("ns_common", "inum"),
            ("xdp_dev_bulk_queue", "q"),
            ("xdp_dev_bulk_queue", "flush_node"),
            ("xdp_dev_bulk_queue", "count"),
            ("xdp_dev_bulk_queue", "dev_rx"),
            ("xdp_dev_bulk_queue", "dev"),
            ("task_struct", "bpf_net_context"),
            ("bpf_net_context", "dev_map_flush_list"),
        ]);
        let offset = |of, member| found.get(&(of, member)).map(|member| member.offset);
        let mut layout = Self {
            known: Known::All,
            ifindex: offset("net_device", "ifindex")?,
            // `possible_net_t` holds the pointer and nothing else.
            net: offset("net_device", "nd_net")?,
            inum: offset("net", "ns")?.checked_add(offset("ns_common", "inum")?)?,
            ..Self::default()
        };
        let queue = || {
            let member = |member| offset("xdp_dev_bulk_queue", member);
            let is_as_expected = member("q")? == 0 && member("flush_node")? == QUEUE_BYTES;
            is_as_expected.then_some(Queue {
                flush_node: member("flush_node")?,
                count: member("count")?,
                from: member("dev_rx")?,
                to: member("dev")?,
            })
        };
        let of_task = || {
            Some(List {
                context: offset("task_struct", "bpf_net_context")?,
                flush_list: offset("bpf_net_context", "dev_map_flush_list")?,
                ..List::default()
            })
        };
        match (queue(), of_task().or_else(List::of_cpus)) {
            (Some(queue), Some(list)) => (layout.queue, layout.list) = (queue, list),
            (None, _) => layout.known = Known::Devices(QUEUES_DIFFER),
            (Some(_), None) => layout.known = Known::Devices(NO_SYMBOLS),
        }
        Some(layout)
    }

    /// Has the programs know it.
    pub(super) fn tell<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, value) in [
            ("OFFSET_IFINDEX", &self.ifindex),
            ("OFFSET_NET", &self.net),
            ("OFFSET_INUM", &self.inum),
            ("OFFSET_FLUSH_NODE", &self.queue.flush_node),
            ("OFFSET_COUNT", &self.queue.count),
            ("OFFSET_FROM", &self.queue.from),
            ("OFFSET_TO", &self.queue.to),
            ("OFFSET_CONTEXT", &self.list.context),
            ("OFFSET_FLUSH_LIST", &self.list.flush_list),
        ] {
            loader.override_global(name, value, true);
        }
        loader
            .override_global("FLUSH_LIST_OF_CPU", &self.list.flush_list_of_cpu, true)
            .override_global("CPU_OFFSETS", &self.list.cpu_offsets, true);
    }
}

impl List {
    /// Nothing where the kernel hides its addresses.
    fn of_cpus() -> Option<Self> {
        let symbols = fs::read_to_string("/proc/kallsyms").ok()?;
        let address = |wanted: &str| {
            let mut lines = symbols.lines().map(str::split_ascii_whitespace);
            let mut words = lines.find(|words| words.clone().nth(2) == Some(wanted))?;
            u64::from_str_radix(words.next()?, 16)
                .ok()
                .filter(|&address| address != 0)
        };
        Some(Self {
            flush_list_of_cpu: address("dev_flush_list")?,
            cpu_offsets: address("__per_cpu_offset")?,
            ..Self::default()
        })
    }
}

/// Puts the counting programs in their places, instead of an earlier agent's. Without them
/// everything works, but what the kernel refuses goes uncounted.
pub(super) fn count(
    object: &mut Ebpf,
    pins: &Pins,
    layout: &Layout,
) -> Result<Counting, DataPlaneError> {
    let counting = attach(object, pins, layout.known).unwrap_or_else(|error| {
        let why = chain(error.as_ref());
        warn!("frames that the kernel refuses are not counted: {why}");
        Counting::Not { why: Some(why) }
    });
    let idle: &[&str] = match &counting {
        Counting::WhenRefused => &[name::DEVICE_REFUSED],
        Counting::AtEveryBatch { why } => {
            info!("frames that the kernel refuses are counted at every batch: {why}");
            &[name::FRAME_REFUSED]
        }
        Counting::Not { .. } => &COUNTERS,
    };
    pins.remove_counters(idle)?;
    Ok(counting)
}

/// Nobody wishes for it.
pub(super) fn count_nothing(pins: &Pins) -> Result<Counting, DataPlaneError> {
    pins.remove_counters(&COUNTERS)?;
    Ok(Counting::Not { why: None })
}

fn attach(object: &mut Ebpf, pins: &Pins, known: Known) -> anyhow::Result<Counting> {
    if let Known::Nothing = known {
        bail!("the kernel does not tell its structures in /sys/kernel/btf/vmlinux");
    }
    for (name, tracepoint) in TRACEPOINTS {
        at_tracepoint(object, pins, name, tracepoint)?;
    }
    let cheap = match known {
        Known::All => when_given_back(object, pins).map_err(|error| why_not(error.as_ref())),
        Known::Nothing => Ok(()),
        Known::Devices(why) => Err(why.to_owned()),
    };
    let Err(why) = cheap else {
        return Ok(Counting::WhenRefused);
    };
    let (name, tracepoint) = EVERY_BATCH;
    at_tracepoint(object, pins, name, tracepoint)?;
    Ok(Counting::AtEveryBatch { why })
}

fn at_tracepoint(
    object: &mut Ebpf,
    pins: &Pins,
    name: &'static str,
    tracepoint: &str,
) -> anyhow::Result<()> {
    let raw: &mut RawTracePoint = program(object, name)?;
    raw.load()?;
    let id = raw.attach(tracepoint)?;
    let link = raw.take_link(id)?;
    pin(pins, name, link.into())
}

fn when_given_back(object: &mut Ebpf, pins: &Pins) -> anyhow::Result<()> {
    let entry: &mut FEntry = program(object, name::FRAME_REFUSED)?;
    entry.load(GIVES_BACK, &aya::Btf::from_sys_fs()?)?;
    let id = entry.attach()?;
    let link = entry.take_link(id)?;
    pin(pins, name::FRAME_REFUSED, link.into())
}

/// In one line: what a verifier has to say goes on for screens.
fn why_not(error: &(dyn std::error::Error + 'static)) -> String {
    let text = chain(error);
    let line = text.lines().next().unwrap_or_default();
    match os_error(error) {
        Some(libc::EPERM) => "the kernel permits no programs at its functions".to_owned(),
        _ => format!("at {GIVES_BACK}: {line}"),
    }
}

/// The program is in its place before the old one goes: for a moment both count, and a frame that
/// is refused in that moment counts twice, which is better than not at all.
fn pin(pins: &Pins, program: &str, link: FdLink) -> anyhow::Result<()> {
    let pin = pins.counter(program);
    remove_file(&pin)?;
    link.pin(&pin)?;
    Ok(())
}
