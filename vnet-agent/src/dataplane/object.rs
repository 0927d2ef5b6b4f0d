//! How do the programs get into the kernel? The object that this agent carries, with the maps'
//! sizes from the limits, and the maps themselves from their pins where those are ours.

use aya::maps::MapType;
use aya::programs::{Program, ProgramError, ProgramType, SchedClassifier, Xdp};
use aya::sys::is_program_supported;
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
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

use super::error::{DataPlaneError, os_error};
use super::pin::{Pins, Shape};
use super::refused::{self, Layout};
use crate::model::configuration::Limits;
use crate::model::counting::Counting;

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

/// Loads an object. Returns it with how frames are counted that the kernel refuses.
pub fn load(
    bytes: &[u8],
    pins: &Pins,
    limits: &Limits,
    count_refused: bool,
) -> Result<(Ebpf, Counting), DataPlaneError> {
    must_be_permitted()?;
    let shapes = shapes(limits);
    for shape in &shapes {
        pins.check(shape)?;
    }
    let layout = count_refused
        .then(Layout::of_this_kernel)
        .unwrap_or_default();
    let mut loader = EbpfLoader::new();
    layout.tell(&mut loader);
    for shape in &shapes {
        loader.map_max_entries(shape.name, shape.entries);
        loader.map_pin_path(shape.name, pins.map(shape.name));
    }
    let mut object = loader.load(bytes).map_err(load_error)?;
    for name in [name::PORT_XDP, name::UNDERLAY_XDP, name::AGENT_XDP] {
        let loaded = program::<Xdp>(&mut object, name)?.load();
        loaded.map_err(|source| not_taken(name, source))?;
    }
    for name in [name::PORT_TC, name::UNDERLAY_TC, name::AGENT_TC] {
        let loaded = program::<SchedClassifier>(&mut object, name)?.load();
        loaded.map_err(|source| not_taken(name, source))?;
    }
    let counting = match count_refused {
        true => refused::count(&mut object, pins, &layout),
        false => refused::count_nothing(pins),
    }?;
    Ok((object, counting))
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

fn load_error(error: EbpfError) -> DataPlaneError {
    match os_error(&error) {
        Some(libc::EPERM) => DataPlaneError::NotPermitted,
        _ => DataPlaneError::Load(Box::new(error)),
    }
}

fn not_taken(program: &'static str, source: ProgramError) -> DataPlaneError {
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
