//! The kernel's tables, typed: written as reconciliation says, read as they are. Flows are read in
//! `flows.rs`.

use aya::maps::{
    Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues, RingBuf,
};
use aya::{Ebpf, Pod};
use vnet_common::name;
use vnet_common::table::admission::{AdmissionEntry, AdmissionKey};
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::ledger::Ledger;
use vnet_common::table::link::LinkEntry;
use vnet_common::table::near::{Epoch, NearFlows};
use vnet_common::table::network::NetworkEntry;
use vnet_common::table::port::{PortEntry, PortState};
use vnet_common::table::rule::{RuleEntry, RuleKey};
use vnet_common::table::setting::Setting;
use vnet_common::table::underlay::UnderlayEntry;
use zerocopy::{FromBytes, IntoBytes};

use super::error::{DataPlaneError, os_error};
use super::pin::Pins;

/// A value that may be copied to and from the kernel as it lies in memory.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Plain<T>(pub T);

// SAFETY: every pattern of bytes is a `T` (FromBytes), and a `T` has no byte that is not
// initialised (IntoBytes); the wrapper is transparent.
unsafe impl<T: Copy + FromBytes + IntoBytes + 'static> Pod for Plain<T> {}

type Hash<K, V> = HashMap<MapData, Plain<K>, Plain<V>>;
type Slots<V> = Array<MapData, Plain<V>>;

/// Every table of the data plane.
pub struct KernelTables {
    ports: Hash<u32, PortEntry>,
    port_states: Hash<u32, PortState>,
    underlays: Slots<UnderlayEntry>,
    networks: Slots<NetworkEntry>,
    rules: Hash<RuleKey, RuleEntry>,
    pub(super) flows: PerCpuHashMap<MapData, Plain<FlowKey>, Plain<FlowEntry>>,
    pub(super) near_flows: PerCpuArray<MapData, Plain<NearFlows>>,
    epochs: Slots<Epoch>,
    links: Slots<LinkEntry>,
    admissions: Hash<AdmissionKey, AdmissionEntry>,
    ledgers: PerCpuArray<MapData, Plain<Ledger>>,
    settings: Slots<Setting>,
    events: Option<RingBuf<MapData>>,
    cpus: usize,
}

fn taken<M: TryFrom<Map, Error = MapError>>(
    object: &mut Ebpf,
    map: &'static str,
) -> Result<M, DataPlaneError> {
    let untyped = object.take_map(map).ok_or(DataPlaneError::Object(map))?;
    M::try_from(untyped).map_err(|source| failed("opening the table", map)(source))
}

pub(super) fn failed(
    doing: &'static str,
    map: &'static str,
) -> impl Fn(MapError) -> DataPlaneError {
    move |source| {
        let limit = match map {
            name::PORTS | name::PORT_STATES => "ports",
            name::LINKS | name::ADMISSIONS => "links",
            name::NETWORKS => "networks",
            _ => "rules",
        };
        match os_error(&source) {
            Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM) => DataPlaneError::Full { map, limit },
            _ => DataPlaneError::Map {
                doing,
                map,
                source: Box::new(source),
            },
        }
    }
}

/// Nothing where the key is not there.
pub(super) fn present<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

// Where the programs keep copies of the entries, `then` makes those old.
macro_rules! hash_table {
    ($all:ident, $set:ident, $remove:ident, $field:ident, $map:expr, $key:ty, $value:ty, $what:literal $(, $then:ident)?) => {
        #[doc = concat!("All ", $what, ".\n\n# Errors\n\nThe kernel refuses.")]
        pub fn $all(&self) -> Result<Vec<($key, $value)>, DataPlaneError> {
            self.$field
                .iter()
                .map(|entry| entry.map(|(key, value)| (key.0, value.0)))
                .collect::<Result<_, _>>()
                .map_err(failed("reading", $map))
        }

        #[doc = concat!("Writes one of the ", $what, ".\n\n# Errors\n\nThe table is full.")]
        pub fn $set(&mut self, key: &$key, value: &$value) -> Result<(), DataPlaneError> {
            self.$field.insert(Plain(*key), Plain(*value), 0).map_err(failed("writing", $map))?;
            $(self.$then()?;)?
            Ok(())
        }

        #[doc = concat!("Removes one of the ", $what, ", if it is there.\n\n# Errors\n\nThe kernel refuses.")]
        pub fn $remove(&mut self, key: &$key) -> Result<(), DataPlaneError> {
            present(self.$field.remove(&Plain(*key))).map_err(failed("removing", $map))?;
            $(self.$then()?;)?
            Ok(())
        }
    };
}

macro_rules! slot_table {
    ($all:ident, $set:ident, $field:ident, $map:expr, $value:ty, $is_used:expr, $what:literal) => {
        #[doc = concat!("The ", $what, " by slot, those in use.\n\n# Errors\n\nThe kernel refuses.")]
        pub fn $all(&self) -> Result<Vec<(u32, $value)>, DataPlaneError> {
            let is_used: fn(&$value) -> bool = $is_used;
            let mut used = Vec::new();
            for slot in 0..self.$field.len() {
                let value = self
                    .$field
                    .get(&slot, 0)
                    .map_err(failed("reading", $map))?
                    .0;
                if is_used(&value) {
                    used.push((slot, value));
                }
            }
            Ok(used)
        }

        #[doc = concat!("Writes one of the ", $what, ".\n\n# Errors\n\nThere is no such slot.")]
        pub fn $set(&mut self, slot: u32, value: &$value) -> Result<(), DataPlaneError> {
            self.$field
                .set(slot, Plain(*value), 0)
                .map_err(failed("writing", $map))
        }
    };
}

impl KernelTables {
    /// Takes the maps out of the loaded object.
    pub(super) fn new(object: &mut Ebpf) -> Result<Self, DataPlaneError> {
        let cpus = aya::util::nr_cpus().map_err(|(path, source)| DataPlaneError::Pin {
            doing: "counting the CPUs in",
            path: path.into(),
            source,
        })?;
        let mut tables = Self {
            ports: taken(object, name::PORTS)?,
            port_states: taken(object, name::PORT_STATES)?,
            underlays: taken(object, name::UNDERLAYS)?,
            networks: taken(object, name::NETWORKS)?,
            rules: taken(object, name::RULES)?,
            flows: taken(object, name::FLOWS)?,
            near_flows: taken(object, name::NEAR_FLOWS)?,
            epochs: taken(object, name::EPOCHS)?,
            links: taken(object, name::LINKS)?,
            admissions: taken(object, name::ADMISSIONS)?,
            ledgers: taken(object, name::LEDGERS)?,
            settings: taken(object, name::SETTINGS)?,
            events: Some(taken(object, name::EVENTS)?),
            cpus,
        };
        // Whoever was here before may have died between a change and this.
        tables.raise_epoch()?;
        Ok(tables)
    }

    /// Makes the copies old that the programs keep of ports and admissions.
    fn raise_epoch(&mut self) -> Result<(), DataPlaneError> {
        let Plain(Epoch { number }) = self
            .epochs
            .get(&0, 0)
            .map_err(failed("reading", name::EPOCHS))?;
        let number = number.wrapping_add(1);
        self.epochs
            .set(0, Plain(Epoch { number }), 0)
            .map_err(failed("writing", name::EPOCHS))
    }

    hash_table!(
        ports,
        set_port,
        remove_port,
        ports,
        name::PORTS,
        u32,
        PortEntry,
        "ports",
        raise_epoch
    );
    hash_table!(
        rules,
        set_rule,
        remove_rule,
        rules,
        name::RULES,
        RuleKey,
        RuleEntry,
        "rules"
    );
    hash_table!(
        admissions,
        set_admission,
        remove_admission,
        admissions,
        name::ADMISSIONS,
        AdmissionKey,
        AdmissionEntry,
        "admissions",
        raise_epoch
    );
    slot_table!(
        networks,
        set_network,
        networks,
        name::NETWORKS,
        NetworkEntry,
        |network| network.id != 0,
        "networks"
    );
    slot_table!(
        links,
        set_link,
        links,
        name::LINKS,
        LinkEntry,
        |link| link.flags & LinkEntry::UP != 0,
        "links"
    );

    /// The underlay devices.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn underlays(&self) -> Result<Vec<(u32, UnderlayEntry)>, DataPlaneError> {
        let used = self
            .underlay_slots()?
            .into_iter()
            .filter(|entry| entry.device != 0);
        Ok(used.map(|entry| (entry.device, entry)).collect())
    }

    fn underlay_slots(&self) -> Result<Vec<UnderlayEntry>, DataPlaneError> {
        let slots = (0..UnderlayEntry::SLOTS).map(|slot| self.underlays.get(&slot, 0));
        let slots = slots.map(|entry| entry.map(|entry| entry.0));
        slots
            .collect::<Result<_, _>>()
            .map_err(failed("reading", name::UNDERLAYS))
    }

    /// Writes an underlay device: over the entry that it has, or into a free one.
    ///
    /// # Errors
    ///
    /// No slot is free.
    pub fn set_underlay(&mut self, entry: &UnderlayEntry) -> Result<(), DataPlaneError> {
        self.write_underlay(entry.device, entry)
    }

    /// Removes an underlay device, if it is there.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn remove_underlay(&mut self, device: u32) -> Result<(), DataPlaneError> {
        let is_there = self
            .underlay_slots()?
            .iter()
            .any(|entry| entry.device == device);
        if is_there {
            self.write_underlay(device, &UnderlayEntry::NONE)
        } else {
            Ok(())
        }
    }

    fn write_underlay(&mut self, device: u32, entry: &UnderlayEntry) -> Result<(), DataPlaneError> {
        let slots = self.underlay_slots()?;
        let with = |device| {
            slots
                .iter()
                .position(|entry: &UnderlayEntry| entry.device == device)
        };
        let full = DataPlaneError::Full {
            map: name::UNDERLAYS,
            limit: "ports",
        };
        let slot = with(device).or_else(|| with(0)).ok_or(full)?;
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        self.underlays
            .set(slot, Plain(*entry), 0)
            .map_err(failed("writing", name::UNDERLAYS))
    }

    /// The highest generation in any slot, those included that are free again.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn generation(&self) -> Result<u32, DataPlaneError> {
        let slots = (0..self.networks.len()).map(|slot| self.networks.get(&slot, 0));
        slots
            .map(|entry| entry.map(|entry| entry.0.generation))
            .try_fold(0, |highest, generation| {
                generation.map(|generation| highest.max(generation))
            })
            .map_err(failed("reading", name::NETWORKS))
    }

    /// What the programs keep for a port.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn port_state(&self, ifindex: u32) -> Result<Option<PortState>, DataPlaneError> {
        present(self.port_states.get(&Plain(ifindex), 0))
            .map(|state| state.map(|state| state.0))
            .map_err(failed("reading", name::PORT_STATES))
    }

    /// Makes an empty state for a port that has none.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub fn add_port_state(&mut self, ifindex: u32) -> Result<(), DataPlaneError> {
        self.add_port_state_as(ifindex, &PortState::NEW)
    }

    /// Makes this state for a port that has none.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub fn add_port_state_as(
        &mut self,
        ifindex: u32,
        state: &PortState,
    ) -> Result<(), DataPlaneError> {
        const NEW_ONLY: u64 = 1;
        match self
            .port_states
            .insert(Plain(ifindex), Plain(*state), NEW_ONLY)
        {
            Err(error) if os_error(&error) == Some(libc::EEXIST) => Ok(()),
            other => other.map_err(failed("writing", name::PORT_STATES)),
        }
    }

    /// Forgets what a port's frames have shown, if there is a state. What the programs write into
    /// it between reading and writing here, a moment, is forgotten with it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn forget_shown(&mut self, ifindex: u32) -> Result<(), DataPlaneError> {
        const EXISTING_ONLY: u64 = 2;
        let state = match self.port_state(ifindex)? {
            Some(state) if state.shown != 0 => PortState { shown: 0, ..state },
            _ => return Ok(()),
        };
        match self
            .port_states
            .insert(Plain(ifindex), Plain(state), EXISTING_ONLY)
        {
            Err(error) if os_error(&error) == Some(libc::ENOENT) => Ok(()),
            other => other.map_err(failed("writing", name::PORT_STATES)),
        }
    }

    /// Forgets a port's state.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn remove_port_state(&mut self, ifindex: u32) -> Result<(), DataPlaneError> {
        present(self.port_states.remove(&Plain(ifindex)))
            .map(|_| ())
            .map_err(failed("removing", name::PORT_STATES))
    }

    /// The setting.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn setting(&self) -> Result<Setting, DataPlaneError> {
        self.settings
            .get(&0, 0)
            .map(|setting| setting.0)
            .map_err(failed("reading", name::SETTINGS))
    }

    /// Writes the setting.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_setting(&mut self, setting: &Setting) -> Result<(), DataPlaneError> {
        self.settings
            .set(0, Plain(*setting), 0)
            .map_err(failed("writing", name::SETTINGS))
    }

    /// A ledger, all CPUs together.
    ///
    /// # Errors
    ///
    /// There is no such slot.
    pub fn ledger(&self, slot: u32) -> Result<Ledger, DataPlaneError> {
        let cpus = self
            .ledgers
            .get(&slot, 0)
            .map_err(failed("reading", name::LEDGERS))?;
        let mut total = Ledger::ZERO;
        for cpu in cpus.iter() {
            total.merge(&cpu.0);
        }
        Ok(total)
    }

    /// Starts a ledger anew.
    ///
    /// # Errors
    ///
    /// There is no such slot.
    pub fn zero_ledger(&mut self, slot: u32) -> Result<(), DataPlaneError> {
        let zero = PerCpuValues::try_from(vec![Plain(Ledger::ZERO); self.cpus])
            .map_err(|source| failed("writing", name::LEDGERS)(MapError::from(source)))?;
        self.ledgers
            .set(slot, zero, 0)
            .map_err(failed("writing", name::LEDGERS))
    }

    /// The ring of events; only the first caller gets it.
    pub fn take_events(&mut self) -> Option<RingBuf<MapData>> {
        self.events.take()
    }
}

/// The ports of a data plane that is not loaded, as far as they can be read.
pub(super) fn pinned_ports(pins: &Pins) -> Option<Vec<(u32, PortEntry)>> {
    let data = MapData::from_pin(pins.map(name::PORTS)).ok()?;
    let info = data.info().ok()?;
    let is_ours = usize::try_from(info.value_size()) == Ok(size_of::<PortEntry>());
    let ports: Hash<u32, PortEntry> = Map::HashMap(data).try_into().ok().filter(|_| is_ours)?;
    ports
        .iter()
        .map(|entry| entry.map(|(key, value)| (key.0, value.0)).ok())
        .collect()
}
