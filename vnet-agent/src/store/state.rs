//! What configuration did the API leave behind?
//!
//! `configuration.json` in the state directory: the whole configuration, with the fingerprint of
//! the settings file that it began as. It is replaced whole, so that a crash at any moment leaves
//! the old or the new one; what cannot be understood is set aside and never in the way.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Fingerprint;
use crate::model::problem::Problem;
use crate::model::{Configuration, ConfigurationError};

/// The directory that holds the state of this agent, and of no other (its lock is elsewhere).
#[derive(Clone, Debug)]
pub struct StateStore {
    pub(super) directory: PathBuf,
}

const FILE: &str = "configuration.json";
/// What is being written; left over by a crash, it is replaced.
const NEW_FILE: &str = "configuration.json.new";
/// What belonged to another text of the settings file.
const OLD_FILE: &str = "configuration.json.old";
/// What could not be understood, for somebody to look at.
const BAD_FILE: &str = "configuration.json.bad";

/// The number of the file's form. Raise it when a new agent's file means something else to an old
/// one, and read the older forms.
const VERSION: u32 = 1;

/// What was found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// Nothing: no client has changed anything yet.
    Nothing,
    /// A configuration that began as the settings file as it still is: use it.
    Changed(Box<Configuration>),
    /// One that began as another text: the file has been edited since, and wins. It has been set
    /// aside, so that undoing the edit does not bring it back.
    Outdated {
        /// Where it is now.
        to: PathBuf,
    },
    /// Something that cannot be used; it has been set aside, and the settings file wins.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source} ({})", path.display(), cure(source))]
pub struct StoreError {
    /// What was tried.
    pub what: &'static str,
    /// With which file or directory.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there; nothing has changed"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "the agent must be able to write there: see state_directory under [agent]"
        }
        _ => "see state_directory under [agent]",
    }
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It makes no sense.
    #[error(transparent)]
    Refused(#[from] ConfigurationError),
    /// It could not be made to last.
    #[error(transparent)]
    NotStored(#[from] StoreError),
}

/// The form of the file.
#[derive(Serialize)]
struct Stored<'a> {
    version: u32,
    settings: Fingerprint,
    configuration: &'a Configuration,
}

/// The part that every form has.
#[derive(Deserialize)]
struct StoredVersion {
    version: u32,
}

/// The rest, read once the version is known.
#[derive(Deserialize)]
struct StoredBody {
    settings: Fingerprint,
    configuration: Configuration,
}

impl StateStore {
    /// Opens the state directory, and makes it (for root only) where it is not there.
    ///
    /// # Errors
    /// It cannot be made, or is no directory.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|source| failure("make the directory", directory, source))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// What the last agent left behind, given the settings file of today.
    ///
    /// # Errors
    /// The system refuses to read it, or to set aside what is no good.
    pub fn load(&self, settings: Fingerprint) -> Result<Loaded, StoreError> {
        self.load_checked(settings, Configuration::problems)
    }

    /// The same, where something else than the configuration alone must make sense.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_checked(
        &self,
        settings: Fingerprint,
        problems: impl Fn(&Configuration) -> Vec<Problem>,
    ) -> Result<Loaded, StoreError> {
        let path = self.directory.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Nothing),
            Err(source) => return Err(failure("read", &path, source)),
        };
        match understand(&bytes, problems) {
            Ok(body) if body.settings == settings => {
                Ok(Loaded::Changed(Box::new(body.configuration)))
            }
            Ok(_) => Ok(Loaded::Outdated {
                to: self.set_aside(OLD_FILE)?,
            }),
            Err(why) => Ok(Loaded::SetAside {
                to: self.set_aside(BAD_FILE)?,
                why,
            }),
        }
    }

    fn set_aside(&self, name: &str) -> Result<PathBuf, StoreError> {
        let (path, to) = (self.directory.join(FILE), self.directory.join(name));
        match std::fs::rename(&path, &to) {
            Ok(()) => Ok(to),
            Err(source) => Err(failure("set aside", &path, source)),
        }
    }

    /// Changes a configuration and makes the change last: either both happen or neither.
    ///
    /// # Errors
    /// `change` refuses, or the disk does; the configuration is then what it was.
    pub fn change<T>(
        &self,
        settings: Fingerprint,
        configuration: &mut Configuration,
        change: impl FnOnce(&mut Configuration) -> Result<T, ConfigurationError>,
    ) -> Result<T, ChangeError> {
        let mut changed = configuration.clone();
        let outcome = change(&mut changed)?;
        self.save(settings, &changed)?;
        *configuration = changed;
        Ok(outcome)
    }

    /// Replaces what is stored. Once it returns, a crash of the machine does not undo it.
    ///
    /// # Errors
    /// The system refuses (a full disk, say); what was stored before is still there, unless only
    /// the last step failed, which makes the replacement survive a loss of power.
    pub fn save(
        &self,
        settings: Fingerprint,
        configuration: &Configuration,
    ) -> Result<(), StoreError> {
        let stored = Stored {
            version: VERSION,
            settings,
            configuration,
        };
        self.write(FILE, NEW_FILE, &stored)
    }

    /// Replaces a file with a value, in one step.
    pub(super) fn write(
        &self,
        file: &str,
        new_file: &str,
        value: &impl Serialize,
    ) -> Result<(), StoreError> {
        let (new, path) = (self.directory.join(new_file), self.directory.join(file));
        let text = serde_json::to_vec(value).map_err(io::Error::from);
        let written = text.and_then(|text| write_new(&new, &text));
        if let Err(source) = written {
            // What is half written only takes the room that is missing.
            drop(std::fs::remove_file(&new));
            return Err(failure("write", &new, source));
        }
        std::fs::rename(&new, &path).map_err(|source| failure("replace", &path, source))?;
        let directory = File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(|source| failure("write", &self.directory, source))
    }

    /// Forgets what is stored: the settings file counts again.
    ///
    /// # Errors
    /// The system refuses.
    pub fn forget(&self) -> Result<(), StoreError> {
        let path = self.directory.join(FILE);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(failure("remove", &path, source))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn failure(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError {
        what,
        path: path.to_owned(),
        source,
    }
}

fn understand(
    bytes: &[u8],
    problems: impl Fn(&Configuration) -> Vec<Problem>,
) -> Result<StoredBody, String> {
    let StoredVersion { version } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!(
            "it has form {version}, this agent knows form {VERSION}"
        ));
    }
    let body: StoredBody = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match problems(&body.configuration).first() {
        None => Ok(body),
        Some(problem) => Err(problem.error.to_string()),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // It has cookies in it: for root only from the first moment on.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;
    use vnet_common::rule::{Destination, Source};

    use super::*;
    use crate::model::sample;

    const SETTINGS: &[u8] = b"[underlay]";

    fn store() -> (tempfile::TempDir, StateStore, Fingerprint) {
        let directory = tempfile::tempdir().unwrap();
        let store = StateStore::open(&directory.path().join("state/vnet")).unwrap();
        (directory, store, Fingerprint::of(SETTINGS))
    }

    #[test]
    fn what_is_saved_is_loaded_while_the_settings_stay_the_same() {
        let (_directory, store, settings) = store();
        assert_eq!(store.load(settings).unwrap(), Loaded::Nothing);
        let configuration = sample::host_one();
        store.save(settings, &configuration).unwrap();
        let loaded = store.load(settings).unwrap();
        assert_eq!(loaded, Loaded::Changed(Box::new(configuration)));
        store.forget().unwrap();
        store.forget().unwrap();
        assert_eq!(store.load(settings).unwrap(), Loaded::Nothing);
    }

    #[test]
    fn edited_settings_win_and_stay_the_winner_when_the_edit_is_undone() {
        let (_directory, store, settings) = store();
        store.save(settings, &sample::host_one()).unwrap();
        let edited = store.load(Fingerprint::of(b"other")).unwrap();
        assert_eq!(
            edited,
            Loaded::Outdated {
                to: store.directory.join(OLD_FILE)
            }
        );
        assert_eq!(store.load(settings).unwrap(), Loaded::Nothing);
    }

    #[test]
    fn only_root_can_read_the_cookies() {
        let (_directory, store, settings) = store();
        store.save(settings, &sample::host_one()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.directory.join(FILE)), 0o600);
        assert_eq!(mode(&store.directory), 0o700);
    }

    #[test]
    fn what_cannot_be_understood_is_set_aside_with_the_reason() {
        let (_directory, store, settings) = store();
        let mut wrong = sample::host_one();
        wrong.rules[0].network = "red".into();
        let stored = Stored {
            version: VERSION,
            settings,
            configuration: &wrong,
        };
        let newer = Stored {
            version: VERSION + 1,
            settings,
            configuration: &sample::host_one(),
        };
        for (content, why) in [
            (Vec::new(), "EOF while parsing a value at line 1 column 0"),
            (
                b"{\"version\": 1, \"set".to_vec(),
                "EOF while parsing a string at line 1 column 19",
            ),
            (
                serde_json::to_vec(&stored).unwrap(),
                "there is no network \"red\"",
            ),
            (
                serde_json::to_vec(&newer).unwrap(),
                "it has form 2, this agent knows form 1",
            ),
        ] {
            std::fs::write(store.directory.join(FILE), &content).unwrap();
            let to = store.directory.join(BAD_FILE);
            let expected = Loaded::SetAside {
                to: to.clone(),
                why: why.into(),
            };
            assert_eq!(store.load(settings).unwrap(), expected);
            assert_eq!(std::fs::read(to).unwrap(), content);
            assert_eq!(store.load(settings).unwrap(), Loaded::Nothing);
        }
    }

    #[test]
    fn a_crash_in_the_middle_of_writing_leaves_the_old_one() {
        let (_directory, store, settings) = store();
        store.save(settings, &sample::host_one()).unwrap();
        std::fs::write(store.directory.join(NEW_FILE), b"{\"vers").unwrap();
        assert!(matches!(store.load(settings).unwrap(), Loaded::Changed(_)));
        store.save(settings, &sample::host_one()).unwrap();
        assert!(!store.directory.join(NEW_FILE).exists());
    }

    #[test]
    fn a_change_that_cannot_be_stored_does_not_happen() {
        let (_directory, store, settings) = store();
        let mut configuration = sample::host_one();
        store.save(settings, &configuration).unwrap();
        // A directory in the way of the new file: what even root cannot write over.
        std::fs::create_dir(store.directory.join(NEW_FILE)).unwrap();
        let error = store
            .change(settings, &mut configuration, |configuration| {
                configuration.delete_rule("blue", Source::Any, Destination::None)
            })
            .unwrap_err();
        assert!(matches!(error, ChangeError::NotStored(_)), "{error}");
        assert_eq!(configuration, sample::host_one());
        let loaded = store.load(settings).unwrap();
        assert_eq!(loaded, Loaded::Changed(Box::new(sample::host_one())));
    }

    #[test]
    fn a_refused_change_is_not_stored() {
        let (_directory, store, settings) = store();
        let mut configuration = sample::host_one();
        let refused = store.change(settings, &mut configuration, |configuration| {
            configuration.delete_link("to-two", false)
        });
        assert!(matches!(refused, Err(ChangeError::Refused(_))));
        assert_eq!(store.load(settings).unwrap(), Loaded::Nothing);
        let done = store.change(settings, &mut configuration, |configuration| {
            configuration.delete_link("to-two", true)
        });
        assert_eq!(done.unwrap().link.name, "to-two");
        assert_eq!(
            store.load(settings).unwrap(),
            Loaded::Changed(Box::new(configuration))
        );
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let error = failure(
            "write",
            Path::new("/var/lib/vnet/configuration.json.new"),
            source,
        );
        assert_eq!(
            error.to_string(),
            "cannot write /var/lib/vnet/configuration.json.new: no storage space \
             (make room there; nothing has changed)"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_file_the_agent_starts(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let (_directory, store, settings) = store();
            std::fs::write(store.directory.join(FILE), &content).unwrap();
            let loaded = store.load(settings).unwrap();
            let aside = matches!(loaded, Loaded::SetAside { .. });
            prop_assert!(aside);
        }

        #[test]
        fn every_configuration_survives_the_disk(configuration in sample::some_configuration()) {
            let text = serde_json::to_vec(&configuration).unwrap();
            let back: Configuration = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(back, configuration);
        }
    }
}
