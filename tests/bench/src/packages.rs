//! Where do the peers' programs come from?
//!
//! From Debian packages, downloaded and unpacked into a directory of ours, not installed: nothing
//! starts a daemon on this machine, and nothing of it changes. With a package come those libraries
//! that it needs and the machine lacks. A package's directory is there whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lab::{Output, attempt};

/// Unpacked packages.
#[derive(Clone, Debug)]
pub struct Packages {
    directory: PathBuf,
}

/// One package, unpacked with its libraries.
#[derive(Clone, Debug)]
pub struct Unpacked {
    root: PathBuf,
}

impl Packages {
    /// Packages are unpacked below this directory, which need not be there.
    #[must_use]
    pub const fn below(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Whether the package was unpacked before.
    #[must_use]
    pub fn has(&self, package: &str) -> bool {
        self.directory.join(package).is_dir()
    }

    /// The package, unpacked before or now.
    ///
    /// # Errors
    ///
    /// It cannot be downloaded: no Debian, no network, no package lists.
    pub fn unpacked(&self, package: &str) -> Result<Unpacked> {
        let root = self.directory.join(package);
        if !self.has(package) {
            let cure = "it is a Debian package; is there a network?";
            self.unpack(package, &root)
                .with_context(|| format!("cannot get {package} ({cure})"))?;
        }
        Ok(Unpacked {
            root: root.canonicalize()?,
        })
    }

    fn unpack(&self, package: &str, root: &Path) -> Result<()> {
        let workplace = self.directory.join(format!("{package}.part"));
        // What an attempt left that was broken off.
        let _ = fs::remove_dir_all(&workplace);
        let unpacked = workplace.join("root");
        fs::create_dir_all(&unpacked)?;
        let names = match wanted(package) {
            Ok(names) => names,
            // The lists are missing or too old: packages that they name are gone.
            Err(_) => {
                apt(["update"])?.successful()?;
                wanted(package)?
            }
        };
        let download = || {
            let mut command = apt_get();
            command.arg("download").args(&names).current_dir(&workplace);
            attempt(&mut command)
        };
        if !download()?.success() {
            apt(["update"])?.successful()?;
            download()?.successful()?;
        }
        for entry in fs::read_dir(&workplace)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                attempt(Command::new("dpkg").arg("-x").arg(&path).arg(&unpacked))?.successful()?;
            }
        }
        fs::rename(&unpacked, root)?;
        fs::remove_dir_all(&workplace)?;
        Ok(())
    }
}

impl Unpacked {
    /// The words that run a program of the package, for example `/usr/sbin/tincd`.
    #[must_use]
    pub fn program(&self, path: &str) -> Vec<String> {
        let libraries: Vec<String> = ["usr/lib", "lib"]
            .iter()
            .map(|place| self.root.join(place).join(machine()))
            .map(|place| place.display().to_string())
            .collect();
        vec![
            "env".to_owned(),
            format!("LD_LIBRARY_PATH={}", libraries.join(":")),
            self.file(path).display().to_string(),
        ]
    }

    /// Where a file of the package lies.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// What Debian calls this kind of machine in the names of directories.
fn machine() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// The package itself and the libraries and parts of it that this machine does not have.
fn wanted(package: &str) -> Result<Vec<String>> {
    let plan = apt(["--simulate", "--no-install-recommends", "install", package])?;
    let mut names = lacking(&plan.successful()?.stdout, package);
    // Installed as it is, it is unpacked nevertheless: the same program on every machine.
    if !names.iter().any(|name| name == package) {
        names.push(package.to_owned());
    }
    Ok(names)
}

/// Of a plan to install, what we need: no scripts in other languages, nothing that would start
/// with the machine, no newer versions (`Inst name [version] (newer …)`) of what is there.
fn lacking(plan: &str, package: &str) -> Vec<String> {
    // openvswitch-switch and openvswitch-common are one.
    let family = package.split('-').next().unwrap_or(package);
    let name = |line: &str| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace();
        let name = words.next()?;
        let is_new = words.next()?.starts_with('(');
        let is_ours = name.starts_with("lib") || name.starts_with(family);
        (is_new && is_ours).then(|| name.to_owned())
    };
    plan.lines().filter_map(name).collect()
}

fn apt<const N: usize>(words: [&str; N]) -> Result<Output> {
    attempt(apt_get().args(words))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // The user that apt would download as cannot write where we are.
    command
        .args(["-q", "-o", "APT::Sandbox::User=root"])
        .args(["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_libraries_and_parts_of_the_package_are_needed_and_nothing_else() {
        let plan = "Reading package lists...\n\
            Inst libsystemd0 [252.38-1] (252.39-1 Debian:12/oldstable [amd64])\n\
            Inst libxdp1 (1.3.1-1 Debian:12/oldstable [amd64])\n\
            Inst openvswitch-common (3.1.0-2 Debian:12/oldstable [amd64])\n\
            Inst python3-openvswitch (3.1.0-2 Debian:12/oldstable [amd64])\n\
            Inst openvswitch-switch (3.1.0-2 Debian:12/oldstable [amd64])\n\
            Conf libxdp1 (1.3.1-1 Debian:12/oldstable [amd64])\n";
        assert_eq!(
            lacking(plan, "openvswitch-switch"),
            ["libxdp1", "openvswitch-common", "openvswitch-switch"]
        );
    }

    #[test]
    fn a_program_finds_the_libraries_that_came_with_it() {
        let unpacked = Unpacked {
            root: "/there".into(),
        };
        let places = format!("/there/usr/lib/{0}:/there/lib/{0}", machine());
        let libraries = format!("LD_LIBRARY_PATH={places}");
        assert_eq!(
            unpacked.program("/usr/sbin/tincd"),
            ["env", &libraries, "/there/usr/sbin/tincd"]
        );
    }
}
