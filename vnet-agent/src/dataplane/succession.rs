//! What has an agent of another schema left here, and how does this one take its place?
//!
//! Its directory is beside ours. A device's program is replaced in place, as within a schema, and
//! only then does its pin move: whoever dies in between leaves a data plane that works, and a
//! successor that goes on. Tables come before that, so that no frame meets an empty one. Where all
//! devices have moved, what is left of the other schema is removed.
//!
//! What its tables hold is kept where this agent knows the schema ([`SHARED`]). It cannot know those
//! that came later: after a downgrade, counters, flows and learned addresses begin anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData};
use tracing::{info, warn};
use vnet_common::table::port::PortState;
use vnet_common::{SCHEMA, name};

use super::clsact;
use super::error::DataPlaneError;
use super::pin::{Pins, Shape, entries, remove_directory, remove_file, remove_files};
use super::tables::{KernelTables, Plain};
use crate::model::attachment::Attachment;

/// Older schemas, each with the tables that have been the same since, bit by bit and in what they
/// mean. They are shared, not copied: what is counted while one data plane takes the other's place
/// is counted once.
const SHARED: [(u32, [&str; 10]); 1] = [(
    1,
    [
        name::PORTS,
        name::UNDERLAYS,
        name::NETWORKS,
        name::RULES,
        name::FLOWS,
        name::LINKS,
        name::ADMISSIONS,
        name::SENDERS,
        name::LEDGERS,
        name::EVENTS,
    ],
)];

/// `PORT_STATES` of schema 1: all but the last eight bytes.
const PORT_STATE_BYTES_OF_1: usize = 24;

/// The directory of another schema.
struct Other {
    schema: u32,
    path: PathBuf,
}

impl Other {
    fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    fn maps(&self) -> PathBuf {
        self.path.join("maps")
    }

    /// The pins that hold programs on devices.
    fn holds(&self) -> Result<Vec<(Attachment, PathBuf)>, DataPlaneError> {
        let pins = entries(&self.links())?.into_iter();
        let held = |path: PathBuf| {
            let name = path.file_name()?.to_str()?;
            // Schema 1 had one door, and did not name it.
            let attachment = name.parse().or_else(|()| format!("{name}-xdp").parse());
            Some((attachment.ok()?, path))
        };
        Ok(pins.filter_map(held).collect())
    }
}

impl Pins {
    /// The directories of other schemas, the latest first.
    fn others(&self) -> Result<Vec<Other>, DataPlaneError> {
        let mut others: Vec<Other> = self
            .schemas()?
            .into_iter()
            .filter(|(schema, _)| *schema != SCHEMA)
            .map(|(schema, path)| Other { schema, path })
            .collect();
        others.sort_by_key(|other| std::cmp::Reverse(other.schema));
        Ok(others)
    }

    /// Whether there are any.
    pub(super) fn has_others(&self) -> Result<bool, DataPlaneError> {
        Ok(!self.others()?.is_empty())
    }

    /// The pin that holds the device's program: ours, or else one that an agent of another schema
    /// left, in whichever role it had the device.
    pub(super) fn held(&self, to: Attachment) -> Result<Option<PathBuf>, DataPlaneError> {
        let own = self.link(to);
        if own.exists() {
            return Ok(Some(own));
        }
        for other in self.others()? {
            let mut holds = other.holds()?.into_iter();
            if let Some((_, path)) =
                holds.find(|(held, _)| (held.ifindex, held.door) == (to.ifindex, to.door))
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Whether a program of ours is on the same device at the same door.
    fn holds_in_any_role(&self, other: Attachment) -> Result<bool, DataPlaneError> {
        let own = self.attachments()?;
        let place = (other.ifindex, other.door);
        Ok(own.iter().any(|own| (own.ifindex, own.door) == place))
    }

    /// Has this pin, whose program is this agent's now, be where this agent's pins are.
    pub(super) fn settle(&self, to: Attachment, pin: &Path) -> Result<(), DataPlaneError> {
        let own = self.link(to);
        if pin == own {
            return Ok(());
        }
        std::fs::rename(pin, &own).map_err(|source| DataPlaneError::Pin {
            doing: "taking over the pin",
            path: pin.to_owned(),
            source,
        })
    }

    /// Removes what agents of other schemas left, save for devices that `waiting` has: programs
    /// that nobody wants any more, and what belongs to no device once none is left. Returns whether
    /// nothing is left at all.
    pub(super) fn retire(&self, waiting: &BTreeSet<u32>) -> Result<bool, DataPlaneError> {
        let mut is_done = true;
        for other in self.others()? {
            let (stay, go): (Vec<_>, Vec<_>) = other
                .holds()?
                .into_iter()
                .partition(|(held, _)| waiting.contains(&held.ifindex));
            for (held, path) in go {
                if !self.holds_in_any_role(held)? {
                    clsact::release(self, held)?;
                }
                remove_file(&path)?;
            }
            if !stay.is_empty() {
                is_done = false;
                continue;
            }
            for directory in [other.links(), other.maps()] {
                remove_files(&directory)?;
                remove_directory(&directory)?;
            }
            remove_directory(&other.path)?;
            info!(
                schema = other.schema,
                "the data plane of another schema is replaced"
            );
        }
        Ok(is_done)
    }

    /// Before the first load: pins the tables of an older schema that are as this one's.
    ///
    /// # Errors
    ///
    /// They have other sizes than these limits give.
    pub(super) fn share(&self, shapes: &[Shape]) -> Result<(), DataPlaneError> {
        if self.missing_maps().len() < name::PINNED_MAPS.len() {
            // Somebody has begun, and did not live to see the end.
            return Ok(());
        }
        for other in self.others()? {
            let shared = SHARED.iter().find(|(schema, _)| *schema == other.schema);
            let is_there = |name: &&str| other.maps().join(name).exists();
            let Some((_, names)) = shared.filter(|(_, names)| names.iter().all(is_there)) else {
                warn!(
                    schema = other.schema,
                    "taking over a data plane without its tables: counters, flows and learned \
                     addresses begin anew"
                );
                continue;
            };
            // What the programs have counted of flows is in both, where those programs know both.
            let is_shared = |table: &'static str| {
                names.contains(&table) || (table == name::NEAR_FLOWS && is_there(&table))
            };
            for shape in shapes.iter().filter(|shape| is_shared(shape.name)) {
                self.share_one(shape, &other.maps().join(shape.name))?;
            }
            info!(
                schema = other.schema,
                "taking over a data plane, with its tables"
            );
            return Ok(());
        }
        Ok(())
    }

    fn share_one(&self, shape: &Shape, path: &Path) -> Result<(), DataPlaneError> {
        self.check_at(path, shape)?;
        let map = MapData::from_pin(path).map_err(|source| DataPlaneError::Map {
            doing: "reading the pin",
            map: shape.name,
            source: Box::new(source),
        })?;
        let own = self.map(shape.name);
        map.pin(&own).map_err(|error| DataPlaneError::Pin {
            doing: "pinning",
            path: own,
            source: std::io::Error::other(error),
        })
    }

    /// What schema 1 kept for each port.
    fn port_states_of_1(
        &self,
    ) -> Option<HashMap<MapData, Plain<u32>, [u8; PORT_STATE_BYTES_OF_1]>> {
        let other = self
            .others()
            .ok()?
            .into_iter()
            .find(|other| other.schema == 1)?;
        let data = MapData::from_pin(other.maps().join(name::PORT_STATES)).ok()?;
        let info = data.info().ok()?;
        let fits = (info.key_size(), info.value_size()) == (4, PORT_STATE_BYTES_OF_1 as u32);
        Map::HashMap(data).try_into().ok().filter(|_| fits)
    }

    /// Gives each port that has no state the one that it had, in this schema's layout.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub(super) fn convert_states(&self, tables: &mut KernelTables) -> Result<(), DataPlaneError> {
        let earlier = self.port_states_of_1();
        for (ifindex, _) in tables.ports()? {
            let state = earlier
                .as_ref()
                .and_then(|states| states.get(&Plain(ifindex), 0).ok());
            tables.add_port_state_as(ifindex, &state.map_or(PortState::NEW, from_1))?;
        }
        Ok(())
    }
}

/// The same fields in the same places, and none of the newer ones.
fn from_1(bytes: [u8; PORT_STATE_BYTES_OF_1]) -> PortState {
    let number = |at: usize| {
        let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    PortState {
        learned: number(0),
        slow_path_until_ns: number(8),
        events_lost: number(16),
        ..PortState::NEW
    }
}
