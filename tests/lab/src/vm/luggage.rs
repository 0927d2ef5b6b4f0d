//! What does a machine carry beside its shell?
//!
//! Input: programs and files of this machine. Output: the same in the archive that the other one
//! boots: programs in `/programs`, first in its `PATH`, without what they have for debuggers; the
//! libraries that they are linked with where they are here; files where they are here, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::binaries::Binaries;
use crate::namespace::path_with_system_programs;
use crate::process::attempt;

use super::initramfs::Initramfs;

/// Where programs are in the machine.
pub(super) const PROGRAMS: &str = "/programs";

/// Programs and files to take along.
#[derive(Clone, Debug, Default)]
pub struct Luggage {
    programs: BTreeMap<String, PathBuf>,
    files: BTreeSet<PathBuf>,
}

impl Luggage {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a lab needs, and the agent and its client.
    ///
    /// # Errors
    ///
    /// Something of it is not here.
    pub fn for_a_lab() -> Result<Self> {
        let Binaries { agent, vnetctl } = Binaries::find()?;
        Ok(Self::new()
            .tool("ip")?
            .tool("ethtool")?
            .program("vnet-agent", &agent)
            .program("vnetctl", &vnetctl))
    }

    /// With a program, under this name.
    #[must_use]
    pub fn program(mut self, name: &str, path: &Path) -> Self {
        self.programs.insert(name.to_owned(), path.to_owned());
        self
    }

    /// With a program of this machine's `PATH`.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub fn tool(self, name: &str) -> Result<Self> {
        let places = path_with_system_programs();
        let found = std::env::split_paths(&places)
            .map(|place| place.join(name))
            .find(|path| path.is_file());
        let path = found.with_context(|| format!("{name} is not installed"))?;
        Ok(self.program(name, &path))
    }

    /// With a file, or a directory and all that is in it, at the same path.
    #[must_use]
    pub fn files(mut self, path: &Path) -> Self {
        self.files.insert(path.to_owned());
        self
    }

    /// Everything, put into the archive.
    pub(super) fn pack(&self, mut archive: Initramfs) -> Result<Initramfs> {
        let mut libraries = BTreeSet::new();
        for (name, path) in &self.programs {
            libraries.extend(libraries_of(path)?);
            let content = for_users(path)?;
            archive = archive.program(inner(Path::new(&format!("{PROGRAMS}/{name}")))?, &content);
        }
        for path in &libraries {
            let content = fs::read(path).with_context(|| cannot_read(path))?;
            // The loader is a program, and the others do not mind.
            archive = archive.program(inner(path)?, &content);
        }
        self.files
            .iter()
            .try_fold(archive, |archive, path| pack_files(archive, path))
    }
}

fn pack_files(archive: Initramfs, path: &Path) -> Result<Initramfs> {
    if !path.is_dir() {
        let content = fs::read(path).with_context(|| cannot_read(path))?;
        return Ok(archive.data(inner(path)?, &content));
    }
    let entries = fs::read_dir(path).with_context(|| cannot_read(path))?;
    let mut entries = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    entries.sort();
    entries
        .iter()
        .try_fold(archive, |archive, path| pack_files(archive, path))
}

/// A path as the archive has it.
fn inner(path: &Path) -> Result<&str> {
    let path = path.strip_prefix("/").ok().and_then(Path::to_str);
    path.context("what is taken along needs a path from the root, in UTF-8")
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

/// The program without what only debuggers read, which is most of a developer's build.
fn for_users(path: &Path) -> Result<Vec<u8>> {
    let stripped = tempfile::NamedTempFile::new()?;
    let mut strip = Command::new("strip");
    attempt(strip.arg("-o").arg(stripped.path()).arg(path))
        .context("is binutils installed?")?
        .successful()?;
    fs::read(stripped.path()).with_context(|| cannot_read(stripped.path()))
}

/// The libraries that the program is linked with, its loader among them.
fn libraries_of(path: &Path) -> Result<Vec<PathBuf>> {
    let output = attempt(Command::new("ldd").env("LC_ALL", "C").arg(path))?;
    let text = format!("{}{}", output.stdout, output.stderr);
    if text.contains("not a dynamic executable") || text.contains("statically linked") {
        return Ok(Vec::new());
    }
    Ok(libraries(&output.successful()?.stdout))
}

/// What ldd lists: `NAME => PATH (ADDRESS)`, and `PATH (ADDRESS)` for the loader.
fn libraries(list: &str) -> Vec<PathBuf> {
    list.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldds_list_is_understood() {
        let list = "\tlinux-vdso.so.1 (0x00007ffc1)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(libraries(list), expected.map(PathBuf::from));
    }

    #[test]
    fn a_program_is_packed_with_its_libraries() {
        let luggage = Luggage::new().tool("ip").unwrap();
        let archive = luggage.pack(Initramfs::default()).unwrap().finish();
        let holds = |name: &[u8]| archive.windows(name.len()).any(|bytes| bytes == name);
        assert!(holds(b"programs/ip\0") && holds(b"libc.so.6\0"));
    }
}
