//! The kernel side, seen from here: the only part of the agent that knows aya.
//!
//! Input: what reconciliation wants written, attached and read. Output: tables, programs on
//! devices, counters. Everything is pinned, so that it goes on without the agent and the next one
//! finds it; [`open`](DataPlane::open) adopts what is there after checking that it is ours.

pub mod attach;
pub mod btf;
mod clsact;
pub mod error;
pub mod events;
pub mod figures;
mod flows;
mod log;
pub mod object;
pub mod pin;
mod refused;
mod succession;
pub mod tables;
pub mod test_run;

use std::collections::BTreeSet;
use std::path::Path;

pub use crate::model::attachment::{Attachment, Role};
pub use crate::model::door::Door;
pub use error::DataPlaneError;
pub use figures::ProgramFigures;
pub use tables::KernelTables;
pub use test_run::{Answer, Fate};

use crate::model::configuration::Limits;
use crate::model::counting::Counting;

/// The data plane of this host.
pub struct DataPlane {
    object: aya::Ebpf,
    pins: pin::Pins,
    tables: KernelTables,
    counting: Counting,
    /// An agent of another schema has left something.
    has_others: bool,
}

impl DataPlane {
    /// Loads the programs, adopting pinned maps where they are ours and making them where they
    /// are not there. Nothing is attached yet, so what ran before runs on, whatever happens here.
    ///
    /// # Errors
    ///
    /// The directory holds maps of other sizes or somebody else's, the kernel lacks something, or
    /// privileges are missing: each with its cure.
    pub fn open(
        pin_directory: &Path,
        limits: &Limits,
        count_refused: bool,
    ) -> Result<Self, DataPlaneError> {
        Self::open_object(object::OBJECT, pin_directory, limits, count_refused)
    }

    /// The same with an object of another build, for benchmarks.
    ///
    /// # Errors
    ///
    /// As for [`DataPlane::open`].
    pub fn open_object(
        bytes: &[u8],
        pin_directory: &Path,
        limits: &Limits,
        count_refused: bool,
    ) -> Result<Self, DataPlaneError> {
        let pins = pin::Pins::new(pin_directory);
        pins.prepare()?;
        let made = pins.missing_maps();
        let loaded = pins
            .share(&object::shapes(limits))
            .and_then(|()| object::load(bytes, &pins, limits, count_refused));
        match loaded {
            Ok((mut object, counting)) => {
                let mut tables = KernelTables::new(&mut object)?;
                let has_others = pins.has_others()?;
                if has_others {
                    pins.convert_states(&mut tables)?;
                }
                Ok(Self {
                    object,
                    pins,
                    tables,
                    counting,
                    has_others,
                })
            }
            Err(error) => {
                pins.remove_maps(&made);
                Err(error)
            }
        }
    }

    /// Removes what agents of other schemas left, as far as no device in `waiting` depends on it.
    /// Returns whether that was the last of it.
    ///
    /// # Errors
    ///
    /// A pin could not be removed.
    pub fn retire_others(&mut self, waiting: &BTreeSet<u32>) -> Result<bool, DataPlaneError> {
        if !self.has_others {
            return Ok(false);
        }
        let is_done = self.pins.retire(waiting)?;
        self.has_others = !is_done;
        Ok(is_done)
    }

    /// The tables.
    pub fn tables(&self) -> &KernelTables {
        &self.tables
    }

    /// The tables, to be written.
    pub fn tables_mut(&mut self) -> &mut KernelTables {
        &mut self.tables
    }

    /// Joins the log lines of a developer's build to the agent's log. Within a tokio runtime.
    pub fn follow_log(&mut self) {
        log::follow(&mut self.object);
    }

    /// How frames are counted that the kernel refuses after a redirect.
    pub fn counting(&self) -> &Counting {
        &self.counting
    }

    /// The MTUs that devices had before the agent set them, by index: what a teardown puts back.
    /// Empty where there is no data plane of this schema.
    pub fn earlier_mtus(pin_directory: &Path) -> Vec<(u32, u32)> {
        let pins = pin::Pins::new(pin_directory);
        let ports = tables::pinned_ports(&pins).unwrap_or_default();
        let set = ports.into_iter().filter(|(_, port)| port.mtu_before != 0);
        set.map(|(index, port)| (index, port.mtu_before)).collect()
    }

    /// Removes everything that is pinned: programs leave their devices, maps vanish.
    ///
    /// # Errors
    ///
    /// A pin could not be removed.
    pub fn remove(pin_directory: &Path) -> Result<pin::Removed, DataPlaneError> {
        let pins = pin::Pins::new(pin_directory);
        // Those of other schemas hang on links of theirs, or came before there was this door.
        for attachment in pins.attachments()? {
            clsact::release(&pins, attachment)?;
        }
        pins.remove_all()
    }
}
