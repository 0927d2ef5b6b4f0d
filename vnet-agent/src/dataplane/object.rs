//! How do the programs get into the kernel? The object that this agent carries, with the maps'
//! sizes from the limits, and the maps themselves from their pins where those are ours.

use std::fs;

use aya::maps::MapType;
use aya::programs::{Program, ProgramError, ProgramType, RawTracePoint, SchedClassifier, Xdp};
use aya::sys::is_program_supported;
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use tracing::warn;
use vnet_common::name;
use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::event::Event;
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::{LinkEntry, Sender};
use vnet_common::table::near::{Epoch, NearAdmission, NearFlow, NearFlows, NearPort};
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::{PortEntry, PortState};
use vnet_common::table::rule::{RuleEntry, RuleKey};
use vnet_common::table::setting::Setting;
use vnet_common::table::underlay::UnderlayEntry;

use super::btf::Btf;
use super::error::{DataPlaneError, os_error};
use super::pin::{Pins, Shape};
use crate::model::configuration::Limits;

/// The kernel object, as the build made it.
pub static OBJECT: &[u8] = include_bytes_aligned!(env!("VNET_EBPF_OBJECT"));

/// The map's memory follows its entries (`include/uapi/linux/bpf.h`).
const NO_PREALLOC: u32 = 1;

/// Every pinned map as these limits make it.
pub fn shapes(limits: &Limits) -> Vec<Shape> {
    /// `limit` is where `entries` comes from.
    fn shape<K, V>(
        name: &'static str,
        kind: MapType,
        entries: u32,
        limit: Option<&'static str>,
    ) -> Shape {
        let key_bytes = u32::try_from(size_of::<K>()).unwrap_or(u32::MAX);
        let value_bytes = u32::try_from(size_of::<V>()).unwrap_or(u32::MAX);
        Shape {
            name,
            kind,
            key_bytes,
            value_bytes,
            entries,
            flags: 0,
            limit,
        }
    }
    let Limits {
        ports,
        links,
        networks,
        rules,
        flows,
    } = *limits;
    let ledgers = ledger_slots(limits);
    vec![
        shape::<u32, PortEntry>(name::PORTS, MapType::Hash, ports, Some("ports")),
        shape::<u32, PortState>(name::PORT_STATES, MapType::Hash, ports, Some("ports")),
        shape::<u32, UnderlayEntry>(name::UNDERLAYS, MapType::Array, UnderlayEntry::SLOTS, None),
        shape::<u32, NetworkEntry>(name::NETWORKS, MapType::Array, networks, Some("networks")),
        Shape {
            flags: NO_PREALLOC,
            ..shape::<RuleKey, RuleEntry>(name::RULES, MapType::Hash, rules, Some("rules"))
        },
        shape::<FlowKey, FlowEntry>(name::FLOWS, MapType::LruPerCpuHash, flows, Some("flows")),
        shape::<u32, LinkEntry>(name::LINKS, MapType::Array, links, Some("links")),
        shape::<AdmissionKey, AdmissionEntry>(
            name::ADMISSIONS,
            MapType::Hash,
            admissions(limits),
            Some("links"),
        ),
        shape::<u32, Sender>(name::SENDERS, MapType::PerCpuArray, links, Some("links")),
        shape::<u32, Ledger>(name::LEDGERS, MapType::PerCpuArray, ledgers, Some("ports")),
        shape::<u32, NearPort>(
            name::NEAR_PORTS,
            MapType::PerCpuArray,
            NearPort::PLACES,
            None,
        ),
        shape::<u32, NearAdmission>(
            name::NEAR_ADMISSIONS,
            MapType::PerCpuArray,
            NearAdmission::PLACES,
            None,
        ),
        shape::<u32, NearFlows>(
            name::NEAR_FLOWS,
            MapType::PerCpuArray,
            NearFlow::ENTRIES,
            None,
        ),
        shape::<u32, Epoch>(name::EPOCHS, MapType::Array, 1, None),
        shape::<(), ()>(name::EVENTS, MapType::RingBuf, Event::RING_BYTES, None),
        shape::<u32, Setting>(name::SETTINGS, MapType::Array, 1, None),
    ]
}

/// Ledgers: the agent's, and one for each port, link and underlay device.
pub fn ledger_slots(limits: &Limits) -> u32 {
    limits
        .ports
        .saturating_add(limits.links)
        .saturating_add(UnderlayEntry::SLOTS)
        .saturating_add(1)
}

/// A link is admitted once for each network that it carries: room for four on average.
fn admissions(limits: &Limits) -> u32 {
    limits.links.saturating_mul(4)
}

/// Loads an object. Returns it with whether refused redirects are counted.
pub fn load(
    bytes: &[u8],
    pins: &Pins,
    limits: &Limits,
    count_refused: bool,
) -> Result<(Ebpf, bool), DataPlaneError> {
    must_be_permitted()?;
    let shapes = shapes(limits);
    for shape in &shapes {
        pins.check(shape)?;
    }
    let offsets = Offsets::of_this_kernel();
    let zero = 0u32;
    let given = offsets.as_ref();
    let mut loader = EbpfLoader::new();
    loader
        .override_global("OFFSET_IFINDEX", given.map_or(&zero, |o| &o.ifindex), true)
        .override_global("OFFSET_NET", given.map_or(&zero, |o| &o.net), true)
        .override_global("OFFSET_INUM", given.map_or(&zero, |o| &o.inum), true);
    for shape in &shapes {
        loader.map_max_entries(shape.name, shape.entries);
        loader.map_pin_path(shape.name, pins.map(shape.name));
    }
    let mut object = loader.load(bytes).map_err(load_error)?;
    for name in [name::PORT_XDP, name::UNDERLAY_XDP, name::AGENT_XDP] {
        let loaded = program::<Xdp>(&mut object, name)?.load();
        loaded.map_err(|source| refused(name, source))?;
    }
    for name in [name::PORT_TC, name::UNDERLAY_TC, name::AGENT_TC] {
        let loaded = program::<SchedClassifier>(&mut object, name)?.load();
        loaded.map_err(|source| refused(name, source))?;
    }
    let counts_refused = count_refused && offsets.is_some() && attach_counters(&mut object, pins);
    if !counts_refused {
        pins.remove_tracepoints(&TRACEPOINTS.map(|(program, _)| program))?;
    }
    Ok((object, counts_refused))
}

/// Asked first: where it may not load programs, aya takes the kernel for one that cannot hold global
/// data, leaves that out, and fails over what is missing then.
fn must_be_permitted() -> Result<(), DataPlaneError> {
    match is_program_supported(ProgramType::Xdp) {
        Err(error) if os_error(&error) == Some(libc::EPERM) => Err(DataPlaneError::NotPermitted),
        // Anything else shows when the programs themselves are loaded, with more to say.
        _ => Ok(()),
    }
}

/// One of the programs, as what it is.
pub fn program<'a, P>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, DataPlaneError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    object
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(DataPlaneError::Object(name))
}

/// The counting programs and their tracepoints.
const TRACEPOINTS: [(&str, &str); 3] = [
    (name::REDIRECT_ERROR, "xdp_redirect_err"),
    (name::DEVICE_REFUSED, "xdp_devmap_xmit"),
    (name::GENERIC_REFUSED, "xdp_exception"),
];

/// Puts the counting programs on the kernel's tracepoints, in place of an earlier agent's.
/// Without them everything works, but what the kernel refuses goes uncounted, which `status` says.
fn attach_counters(object: &mut Ebpf, pins: &Pins) -> bool {
    TRACEPOINTS.into_iter().all(|(program, tracepoint)| {
        match count_at(object, pins, program, tracepoint) {
            Ok(()) => true,
            Err(error) => {
                warn!(tracepoint, %error, "frames that the kernel refuses are not counted");
                false
            }
        }
    })
}

fn count_at(
    object: &mut Ebpf,
    pins: &Pins,
    program: &'static str,
    tracepoint: &str,
) -> anyhow::Result<()> {
    let pin = pins.tracepoint(program);
    let raw: &mut RawTracePoint = self::program(object, program)?;
    raw.load()?;
    // Attached before the old one goes: for a moment both count, and a frame that is refused in
    // that moment counts twice, which is better than not at all.
    let id = raw.attach(tracepoint)?;
    let link = raw.take_link(id)?;
    let link = aya::programs::links::FdLink::from(link);
    match fs::remove_file(&pin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    link.pin(&pin)?;
    Ok(())
}

fn load_error(error: EbpfError) -> DataPlaneError {
    match os_error(&error) {
        Some(libc::EPERM) => DataPlaneError::NotPermitted,
        _ => DataPlaneError::Load(Box::new(error)),
    }
}

fn refused(program: &'static str, source: ProgramError) -> DataPlaneError {
    let cure = match os_error(&source) {
        Some(libc::EPERM) => return DataPlaneError::NotPermitted,
        Some(libc::EINVAL | libc::ENOTSUP) => {
            "Linux 5.15 or later is needed; `uname -r` says what runs"
        }
        _ => "Please report this with the text above and the output of `uname -a`",
    };
    DataPlaneError::Refused {
        program,
        source: Box::new(source),
        cure,
    }
}

/// Where this kernel keeps what the tracepoint programs read.
struct Offsets {
    ifindex: u32,
    net: u32,
    inum: u32,
}

impl Offsets {
    fn of_this_kernel() -> Option<Self> {
        let bytes = fs::read("/sys/kernel/btf/vmlinux").ok()?;
        let wanted = [
            ("net_device", "ifindex"),
            ("net_device", "nd_net"),
            ("net", "ns"),
            ("ns_common", "inum"),
        ];
        let found = Btf::parse(&bytes)?.members(&wanted);
        let offset = |pair| found.get(&pair).map(|member| member.offset);
        Some(Self {
            ifindex: offset(("net_device", "ifindex"))?,
            // `possible_net_t` holds the pointer and nothing else.
            net: offset(("net_device", "nd_net"))?,
            inum: offset(("net", "ns"))?.checked_add(offset(("ns_common", "inum"))?)?,
        })
    }
}
