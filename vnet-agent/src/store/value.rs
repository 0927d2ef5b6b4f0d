//! What else must outlive the agent? Values with a file each in the state directory: the part of the
//! overlay that a host goes by, and what the proxy knows of all.
//!
//! A value is replaced whole, as the configuration is; one that cannot be understood is set aside.

use std::io;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::state::{StateStore, StoreError, failure};

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// There is none.
    Nothing,
    /// A value.
    Value(T),
    /// Something that is none; it has been set aside.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl StateStore {
    /// Keeps a value in a file of this name. Once it returns, a crash of the machine does not undo it.
    ///
    /// # Errors
    /// The system refuses; what was kept before is still there.
    pub fn keep(&self, file: &str, value: &impl Serialize) -> Result<(), StoreError> {
        self.write(file, &format!("{file}.new"), value)
    }

    /// The value in a file of this name.
    ///
    /// # Errors
    /// The system refuses to read it, or to set aside what is no good.
    pub fn kept<T: DeserializeOwned>(&self, file: &str) -> Result<Found<T>, StoreError> {
        let path = self.directory.join(file);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(source) => return Err(failure("read", &path, source)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Found::Value(value)),
            Err(error) => {
                let to = self.directory.join(format!("{file}.bad"));
                std::fs::rename(&path, &to)
                    .map_err(|source| failure("set aside", &path, source))?;
                let why = error.to_string();
                Ok(Found::SetAside { to, why })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_again_and_what_is_none_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let store = StateStore::open(directory.path()).unwrap();
        assert_eq!(store.kept::<u32>("a.json").unwrap(), Found::Nothing);
        store.keep("a.json", &7_u32).unwrap();
        store.keep("a.json", &8_u32).unwrap();
        assert_eq!(store.kept::<u32>("a.json").unwrap(), Found::Value(8));
        let found = store.kept::<String>("a.json").unwrap();
        let Found::SetAside { to, why } = found else {
            panic!("{found:?}");
        };
        assert_eq!(to, directory.path().join("a.json.bad"));
        assert!(why.contains("invalid type"), "{why}");
        assert_eq!(store.kept::<String>("a.json").unwrap(), Found::Nothing);
    }
}
