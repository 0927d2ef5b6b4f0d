//! What does the settings file contain, byte for byte, and who may read it?

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A settings file as it was read, not yet understood.
#[derive(Clone, PartialEq, Eq)]
pub struct SettingsFile {
    /// Where it is, as messages name it.
    pub name: String,
    /// What is in it; it may hold cookies.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
}

/// Why a settings file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFileError {
    /// It is not there.
    #[error("there is no settings file {}: write one (a commented sample is scripts/vnet-agent.toml.example), or name another with --config or VNET_CONFIG", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot read the settings file {}: {source}", path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not text.
    #[error("{}:{line}: the settings file is not UTF-8 text: save it in that encoding", path.display())]
    NotText {
        /// Where it is.
        path: PathBuf,
        /// The first line that is not, from 1.
        line: usize,
    },
    /// It is absurdly large.
    #[error("the settings file {} has {bytes} bytes, more than {BYTES_MAX}: is it the right file?", path.display())]
    TooLarge {
        /// Where it is.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
    },
}

/// The largest settings file: room for half a million rules.
const BYTES_MAX: u64 = 64 << 20;

impl SettingsFile {
    /// Reads a settings file.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is not text.
    pub fn read(path: &Path) -> Result<Self, SettingsFileError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SettingsFileError::Missing {
                path: path.to_owned(),
            },
            _ => SettingsFileError::Unreadable {
                path: path.to_owned(),
                source,
            },
        };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.len() > BYTES_MAX {
            let bytes = metadata.len();
            return Err(SettingsFileError::TooLarge {
                path: path.to_owned(),
                bytes,
            });
        }
        let text = String::from_utf8(std::fs::read(path).map_err(failed)?).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or(&[]);
            let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            SettingsFileError::NotText {
                path: path.to_owned(),
                line,
            }
        })?;
        Ok(Self {
            name: path.display().to_string(),
            text,
            mode: metadata.mode() & 0o7777,
        })
    }

    /// What tells this text from another.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.text.as_bytes())
    }
}

/// Without the text, which may hold cookies.
impl fmt::Debug for SettingsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} bytes, mode {:04o})",
            self.name,
            self.text.len(),
            self.mode
        )
    }
}

/// What tells one text from another: 64 bits of FNV-1a.
///
/// It answers "has somebody edited the file?" and not "has somebody forged it?": who can write the
/// file is root already, so a cryptographic hash would protect nothing. Two different texts share
/// a fingerprint by accident with a probability of 2^-64. Unlike the standard library's hasher it
/// is the same in every version of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        Self(bytes.iter().fold(BASIS, step))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(from)?;
        let number = u64::from_str_radix(&digits, 16);
        number
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a fingerprint is 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_fingerprint_is_the_published_function() {
        assert_eq!(Fingerprint::of(b"").to_string(), "cbf29ce484222325");
        assert_eq!(Fingerprint::of(b"a").to_string(), "af63dc4c8601ec8c");
        assert_eq!(Fingerprint::of(b"foobar").to_string(), "85944171f73967e8");
    }

    #[test]
    fn a_file_is_read_with_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, "[agent]\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let file = SettingsFile::read(&path).unwrap();
        assert_eq!((file.text.as_str(), file.mode), ("[agent]\n", 0o640));
        assert_eq!(file.fingerprint(), Fingerprint::of(b"[agent]\n"));
    }

    #[test]
    fn a_file_that_is_not_there_or_not_text_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        let error = SettingsFile::read(&path).unwrap_err();
        assert!(
            matches!(error, SettingsFileError::Missing { .. }),
            "{error}"
        );
        std::fs::write(&path, b"[agent]\nname = \"\xff\"\n").unwrap();
        let error = SettingsFile::read(&path).unwrap_err();
        assert!(
            matches!(error, SettingsFileError::NotText { line: 2, .. }),
            "{error}"
        );
        let error = SettingsFile::read(directory.path()).unwrap_err();
        assert!(
            matches!(error, SettingsFileError::Unreadable { .. }),
            "{error}"
        );
    }
}
