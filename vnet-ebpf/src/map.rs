//! The kernel's maps. Their names, keys and values come from `vnet-common`; the sizes here are
//! the least that loads, and the agent sets the real ones from its limits.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruPerCpuHashMap, PerCpuArray, RingBuf};
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

#[map]
pub static PORTS: HashMap<u32, PortEntry> = HashMap::with_max_entries(1, 0);

#[map]
pub static PORT_STATES: HashMap<u32, PortState> = HashMap::with_max_entries(1, 0);

#[map]
pub static UNDERLAYS: Array<UnderlayEntry> = Array::with_max_entries(UnderlayEntry::SLOTS, 0);

#[map]
pub static NETWORKS: Array<NetworkEntry> = Array::with_max_entries(1, 0);

// Memory for the rules there are, not for those there may be: only the agent adds any.
#[map]
pub static RULES: HashMap<RuleKey, RuleEntry> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

#[map]
pub static FLOWS: LruPerCpuHashMap<FlowKey, FlowEntry> = LruPerCpuHashMap::with_max_entries(1, 0);

#[map]
pub static LINKS: Array<LinkEntry> = Array::with_max_entries(1, 0);

#[map]
pub static ADMISSIONS: HashMap<AdmissionKey, AdmissionEntry> = HashMap::with_max_entries(1, 0);

#[map]
pub static SENDERS: PerCpuArray<Sender> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static LEDGERS: PerCpuArray<Ledger> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static NEAR_PORTS: PerCpuArray<NearPort> = PerCpuArray::with_max_entries(NearPort::PLACES, 0);

#[map]
pub static NEAR_ADMISSIONS: PerCpuArray<NearAdmission> =
    PerCpuArray::with_max_entries(NearAdmission::PLACES, 0);

#[map]
pub static NEAR_FLOWS: PerCpuArray<NearFlows> = PerCpuArray::with_max_entries(NearFlow::ENTRIES, 0);

#[map]
pub static EPOCHS: Array<Epoch> = Array::with_max_entries(1, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(Event::RING_BYTES, 0);

#[map]
pub static SETTINGS: Array<Setting> = Array::with_max_entries(1, 0);
