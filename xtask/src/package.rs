//! What does a host get installed?
//!
//! Input: the built agent and client, and what lies in `scripts`. Output: one Debian package with the
//! programs, the unit for systemd, the settings' example, and completions. What is done at an upgrade
//! and at a removal is in `scripts/package`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{clean_command, output, run};
use crate::root;

/// The programs that a package is made of.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The daemon.
    pub agent: PathBuf,
    /// The client.
    pub vnetctl: PathBuf,
}

/// A file of the repository, where a host gets it, and its mode.
const FILES: [(&str, &str, u32); 8] = [
    (
        "scripts/vnet-agent.service",
        "lib/systemd/system/vnet-agent.service",
        0o644,
    ),
    (
        "scripts/vnet-agent.toml.example",
        "usr/share/doc/vnet/examples/agent.toml",
        0o644,
    ),
    ("README.md", "usr/share/doc/vnet/README.md", 0o644),
    (
        "docs/language.md",
        "usr/share/doc/vnet/docs/language.md",
        0o644,
    ),
    ("LICENSE-MIT", "usr/share/doc/vnet/copyright", 0o644),
    ("scripts/package/postinst", "DEBIAN/postinst", 0o755),
    ("scripts/package/prerm", "DEBIAN/prerm", 0o755),
    ("scripts/package/postrm", "DEBIAN/postrm", 0o755),
];
/// Secrets lie there.
const SETTINGS_DIRECTORY: (&str, u32) = ("etc/vnet", 0o700);

/// Makes the package, in this directory, and says which file it is.
///
/// # Errors
/// A file is missing or cannot be written, or one of Debian's tools (`dpkg`, `dpkg-deb`, `strip`) fails.
pub fn build(programs: &Programs, version: &str, into: &Path) -> Result<PathBuf> {
    let architecture = output(clean_command("dpkg").arg("--print-architecture"))?;
    let tree = into.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
    }
    lay_out(programs, &tree)?;
    let control = control(version, &architecture, &c_library()?);
    write(&tree.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    let package = into.join(format!("vnet_{version}_{architecture}.deb"));
    let mut pack = clean_command("dpkg-deb");
    pack.args(["--root-owner-group", "--build"]);
    output(pack.args([&tree, &package]))?;
    fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
    Ok(package)
}

fn lay_out(programs: &Programs, tree: &Path) -> Result<()> {
    for (from, to, mode) in FILES {
        let from = root().join(from);
        let bytes = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
        write(&tree.join(to), &bytes, mode)?;
    }
    let (settings, mode) = SETTINGS_DIRECTORY;
    let settings = tree.join(settings);
    fs::create_dir_all(&settings).with_context(|| format!("making {}", settings.display()))?;
    fs::set_permissions(&settings, Permissions::from_mode(mode))?;
    install_program(&programs.agent, &tree.join("usr/sbin/vnet-agent"))?;
    install_program(&programs.vnetctl, &tree.join("usr/bin/vnetctl"))?;
    let words = ["completions", "bash"];
    let mut completions = output(Command::new(&programs.vnetctl).args(words))?;
    completions.push('\n');
    let place = tree.join("usr/share/bash-completion/completions/vnetctl");
    write(&place, completions.as_bytes(), 0o644)
}

/// Without what only a debugger reads.
fn install_program(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    let mut strip = clean_command("strip");
    strip.arg("--strip-debug").arg("-o").args([to, from]);
    run(&mut strip)?;
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    Ok(())
}

/// `deb-control(5)`.
fn control(version: &str, architecture: &str, c_library: &str) -> String {
    format!(
        "Package: vnet\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: the vnet developers <vnet@localhost>\n\
         Section: net\n\
         Priority: optional\n\
         Depends: libc6 (>= {c_library}), libgcc-s1\n\
         Description: overlay network for virtual machines\n \
         VMs on many hosts see one Ethernet LAN. The forwarding core is eBPF in the kernel of\n \
         every host; the agent loads it, tells it what to do, and tells what it did.\n"
    )
}

/// The version of the C library that was built against, which a host's must not be older than.
fn c_library() -> Result<String> {
    let said = output(clean_command("getconf").arg("GNU_LIBC_VERSION"))?;
    let version = said.strip_prefix("glibc ");
    Ok(version
        .with_context(|| format!("the C library says it is {said:?}"))?
        .to_owned())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    make_parent(path)?;
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(())
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))
}
