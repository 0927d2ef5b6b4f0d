//! Where is the data plane kept, and is what lies there ours?
//!
//! `<pin directory>/v<schema>/maps/<NAME>` and `.../links/<role>-<ifindex>-<door>`: a directory for
//! each schema, so that agents of different schemas never touch each other's maps.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::maps::{MapInfo, MapType};
use vnet_common::{SCHEMA, name};

use super::error::DataPlaneError;
use crate::model::attachment::Attachment;

/// The places of pins.
pub struct Pins {
    root: PathBuf,
    schema: PathBuf,
}

/// What a teardown removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Programs taken off devices (and counting ones).
    pub links: usize,
    /// Maps.
    pub maps: usize,
}

/// A map as this agent makes it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value.
    pub value_bytes: u32,
    /// Entries.
    pub entries: u32,
    /// Flags.
    pub flags: u32,
    /// The limit of the settings that `entries` comes from, if one does.
    pub limit: Option<&'static str>,
}

impl Pins {
    /// The pins under this directory.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            schema: root.join(format!("v{SCHEMA}")),
        }
    }

    /// Where a map is.
    pub fn map(&self, name: &str) -> PathBuf {
        self.schema.join("maps").join(name)
    }

    /// Where a program's hold on a device is.
    pub fn link(&self, attachment: Attachment) -> PathBuf {
        self.schema.join("links").join(attachment.to_string())
    }

    /// Where a counting program's hold on its place in the kernel is.
    pub(super) fn counter(&self, program: &str) -> PathBuf {
        self.schema.join("links").join(program)
    }

    /// Where it is noted which devices' `clsact` disciplines an agent has made. For all schemas:
    /// whoever takes the last filter off removes the discipline.
    pub(super) fn disciplines(&self) -> PathBuf {
        self.root.join("clsact")
    }

    /// Makes the directories, for root only.
    pub fn prepare(&self) -> Result<(), DataPlaneError> {
        for directory in ["maps", "links"] {
            let path = self.schema.join(directory);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| DataPlaneError::Pin {
                    doing: "making the directory",
                    path,
                    source,
                })?;
        }
        Ok(())
    }

    /// The names of maps that are not pinned (yet).
    pub fn missing_maps(&self) -> Vec<&'static str> {
        name::PINNED_MAPS
            .into_iter()
            .filter(|name| !self.map(name).exists())
            .collect()
    }

    /// Removes the pins of these maps, as far as they exist.
    pub fn remove_maps(&self, names: &[&str]) {
        for name in names {
            // A pin that was never made needs no removal; any other failure shows next time.
            let _ = fs::remove_file(self.map(name));
        }
    }

    /// Takes these counting programs out of their places, as far as they are in any.
    pub(super) fn remove_counters(&self, programs: &[&str]) -> Result<(), DataPlaneError> {
        for program in programs {
            remove_file(&self.counter(program))?;
        }
        Ok(())
    }

    /// Every device that a program is pinned to.
    pub fn attachments(&self) -> Result<Vec<Attachment>, DataPlaneError> {
        let names = entries(&self.schema.join("links"))?;
        Ok(names
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .collect())
    }

    /// Whether a pinned map is as this agent makes it. aya 0.14 takes a pin as it is and would
    /// then read and write values of the wrong size.
    pub fn check(&self, shape: &Shape) -> Result<(), DataPlaneError> {
        let path = self.map(shape.name);
        if path.exists() {
            self.check_at(&path, shape)
        } else {
            Ok(())
        }
    }

    /// The same of a map that is pinned here.
    pub(super) fn check_at(&self, path: &Path, shape: &Shape) -> Result<(), DataPlaneError> {
        let info = MapInfo::from_pin(path).map_err(|source| DataPlaneError::Map {
            doing: "reading the pin",
            map: shape.name,
            source: Box::new(source),
        })?;
        let kind = info.map_type().map_or(u32::MAX, |kind| kind as u32);
        let differs = [
            ("type", kind, shape.kind as u32),
            ("key size", info.key_size(), shape.key_bytes),
            ("value size", info.value_size(), shape.value_bytes),
            ("flags", info.map_flags(), shape.flags),
            ("capacity", info.max_entries(), shape.entries),
        ];
        for (what, found, expected) in differs {
            if found != expected {
                let cure = match (what, shape.limit) {
                    ("capacity", Some(limit)) => format!(
                        "Put limits.{limit} back, or run `vnet-agent teardown` and start the \
                         agent again (frames are not forwarded in between)"
                    ),
                    _ => "The data plane was left as it is. Run `vnet-agent teardown` to remove \
                          it, or name another pin_directory"
                        .to_owned(),
                };
                return Err(DataPlaneError::ForeignMap {
                    path: path.to_owned(),
                    what,
                    found,
                    expected,
                    cure,
                });
            }
        }
        Ok(())
    }

    /// The directories of schemas, with their numbers.
    pub(super) fn schemas(&self) -> Result<Vec<(u32, PathBuf)>, DataPlaneError> {
        let number = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix('v')?.parse().ok()
        };
        let all = entries(&self.root)?.into_iter();
        Ok(all
            .filter_map(|path| Some((number(&path)?, path)))
            .collect())
    }

    /// Removes every pin of every schema, links first, so that no program runs on without its
    /// maps; then the directories. Files that are not pins of ours stay, and so does their
    /// directory.
    pub fn remove_all(&self) -> Result<Removed, DataPlaneError> {
        let mut removed = Removed::default();
        for (_, schema) in self.schemas()? {
            removed.links += remove_files(&schema.join("links"))?;
            removed.maps += remove_files(&schema.join("maps"))?;
            remove_directory(&schema.join("links"))?;
            remove_directory(&schema.join("maps"))?;
            remove_directory(&schema)?;
        }
        remove_directory(&self.root)?;
        Ok(removed)
    }
}

/// The paths in a directory; none where it does not exist.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, DataPlaneError> {
    let fail = |source| DataPlaneError::Pin {
        doing: "listing",
        path: directory.to_owned(),
        source,
    };
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(fail),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(fail(error)),
    }
}

/// Removes a pin, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), DataPlaneError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(DataPlaneError::Pin {
            doing: "removing the pin",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

pub(super) fn remove_files(directory: &Path) -> Result<usize, DataPlaneError> {
    let mut removed = 0;
    for path in entries(directory)? {
        // We make none here: it is somebody else's, and stays.
        if path.is_dir() {
            continue;
        }
        remove_file(&path)?;
        removed += 1;
    }
    Ok(removed)
}

pub(super) fn remove_directory(path: &Path) -> Result<(), DataPlaneError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        // Not there, or there is something of somebody else's in it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        Err(source) => Err(DataPlaneError::Pin {
            doing: "removing the directory",
            path: path.to_owned(),
            source,
        }),
    }
}
