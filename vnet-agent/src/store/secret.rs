//! How do secrets get onto the disk and back? Keys, and what is signed with them.
//!
//! They are for their owner only from the first moment on, and a file is replaced in one step: who
//! reads it meanwhile has the old or the new.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::identity::revoked::Revoked;
use crate::identity::{Authority, Bundle, IdentityError};

/// Why a file of secrets could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something is there already, and is worth more than what would take its place.
    #[error("{} is there already, and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// Larger than any such file.
    #[error("{} is too large for what it should be", .0.display())]
    TooLarge(PathBuf),
    /// It is not what it should be.
    #[error("{}: {source}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
}

/// A bundle has about 2 KiB.
const BYTES_MAX: u64 = 64 * 1024;

/// The certificate of an authority, in its directory.
pub const AUTHORITY_CERTIFICATE: &str = "ca.pem";
/// The list of those whose certificates it has revoked.
pub const REVOKED: &str = "revoked";
/// Its key.
pub const AUTHORITY_KEY: &str = "ca.key";

fn failure(what: &'static str, path: &Path, source: io::Error) -> SecretError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => SecretError::Exists(path.to_owned()),
        _ => SecretError::File {
            what,
            path: path.to_owned(),
            source,
        },
    }
}

/// Writes a file that is not there yet, for its owner only.
///
/// # Errors
///
/// It is there, or the system refuses.
pub fn write_new(path: &Path, text: &str) -> Result<(), SecretError> {
    let written = open_new(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| failure("write", path, source))
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Writes a file, for its owner only, and puts it in the place of the one that is there.
///
/// # Errors
///
/// The system refuses; what was there is still there then.
pub fn replace(path: &Path, text: &str) -> Result<(), SecretError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // Left over by a crash.
    drop(std::fs::remove_file(&new));
    write_new(&new, text)?;
    std::fs::rename(&new, path).map_err(|source| failure("replace", path, source))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| failure("write", directory, source))
}

/// Makes the directory that a file will be in, for its owner only.
///
/// # Errors
///
/// The system refuses.
pub fn make_directory(directory: &Path) -> Result<(), SecretError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|source| failure("make", directory, source))
}

fn read(path: &Path) -> Result<String, SecretError> {
    let failed = |source| failure("read", path, source);
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > BYTES_MAX {
        return Err(SecretError::TooLarge(path.to_owned()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// When a file was written, and its inode.
pub type FileVersion = (Option<SystemTime>, u64);

/// What tells one state of a file from another: when it was written, and its inode.
///
/// # Errors
///
/// It is not there.
pub fn version(path: &Path) -> Result<FileVersion, SecretError> {
    let found = std::fs::metadata(path).map_err(|source| failure("read", path, source))?;
    Ok((found.modified().ok(), found.ino()))
}

/// Reads a host's proof of who it is.
///
/// # Errors
///
/// The file is not there, or is none.
pub fn read_bundle(path: &Path) -> Result<Bundle, SecretError> {
    Bundle::parse(&read(path)?).map_err(|source| SecretError::Content {
        path: path.to_owned(),
        source,
    })
}

/// Reads a list of those whose certificates are revoked.
///
/// # Errors
///
/// The file is not there, or is none.
pub fn read_revoked(path: &Path) -> Result<Revoked, SecretError> {
    Revoked::parse(&read(path)?).map_err(|source| SecretError::Content {
        path: path.to_owned(),
        source,
    })
}

/// Writes a new authority into a directory.
///
/// # Errors
///
/// There is one already, or the system refuses.
pub fn write_authority(directory: &Path, authority: &Authority) -> Result<(), SecretError> {
    make_directory(directory)?;
    let certificate = directory.join(AUTHORITY_CERTIFICATE);
    if certificate.exists() {
        return Err(SecretError::Exists(certificate));
    }
    write_new(&directory.join(AUTHORITY_KEY), &authority.key_text())?;
    write_new(&certificate, &authority.certificate_text())
}

/// Reads the authority in a directory.
///
/// # Errors
///
/// A file is not there, or not what it should be.
pub fn read_authority(directory: &Path) -> Result<Authority, SecretError> {
    let certificate = read(&directory.join(AUTHORITY_CERTIFICATE))?;
    let key = read(&directory.join(AUTHORITY_KEY))?;
    Authority::parse(&certificate, &key).map_err(|source| SecretError::Content {
        path: directory.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::Role;
    use crate::identity::life::{AUTHORITY_LIFE, HOST_LIFE};

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn an_authority_is_written_once_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("ca");
        let authority = Authority::create("overlay", NOW, AUTHORITY_LIFE).unwrap();
        write_authority(&directory, &authority).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.join(AUTHORITY_KEY)), 0o600);
        assert_eq!(mode(&directory), 0o700);
        let again = read_authority(&directory).unwrap();
        assert_eq!(again.fingerprint(), authority.fingerprint());
        let second = Authority::create("overlay", NOW, AUTHORITY_LIFE).unwrap();
        assert!(matches!(
            write_authority(&directory, &second),
            Err(SecretError::Exists(_))
        ));
        assert_eq!(
            read_authority(&directory).unwrap().fingerprint(),
            authority.fingerprint()
        );
    }

    #[test]
    fn a_bundle_is_replaced_in_one_step() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.pem");
        let authority = Authority::create("overlay", NOW, AUTHORITY_LIFE).unwrap();
        let bundle = |name: &str| authority.issue(name, Role::Agent, NOW, HOST_LIFE).unwrap();
        write_new(&path, &bundle("one").to_text()).unwrap();
        assert!(matches!(write_new(&path, "x"), Err(SecretError::Exists(_))));
        let before = version(&path).unwrap();
        std::fs::write(path.with_file_name("identity.pem.new"), "broken off").unwrap();
        replace(&path, &bundle("two").to_text()).unwrap();
        assert_eq!(read_bundle(&path).unwrap().says().name, "two");
        assert_ne!(version(&path).unwrap(), before);
        let found = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(found, 1);
    }

    #[test]
    fn what_is_no_bundle_is_named_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.pem");
        assert!(matches!(
            read_bundle(&path),
            Err(SecretError::File { what: "read", .. })
        ));
        std::fs::write(&path, "hello").unwrap();
        let said = read_bundle(&path).unwrap_err().to_string();
        assert!(
            said.ends_with("identity.pem: there is no certificate in it"),
            "{said}"
        );
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        assert!(matches!(read_bundle(&path), Err(SecretError::TooLarge(_))));
    }
}
