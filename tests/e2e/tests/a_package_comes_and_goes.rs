//! A host gets everything by one package, and nothing of it is left when that is removed, but what
//! cannot be made again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::Binaries;
use xtask::package::{self, Programs};

/// Debian's installer, for another root than this machine's: the scripts run outside of it.
fn dpkg(root: &Path, words: &[&str], what: &Path) -> Result<()> {
    let output = Command::new("dpkg")
        .arg(format!("--root={}", root.display()))
        .args(["--force-script-chrootless", "--force-depends"])
        .args(words)
        .arg(what)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "dpkg {words:?}: {said}");
    Ok(())
}

/// Every file and directory below, with its mode, the installer's own books left out.
fn found(root: &Path) -> Result<Vec<(PathBuf, u32)>> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let relative = path.strip_prefix(root)?.to_owned();
            if relative.starts_with("var/lib/dpkg") {
                continue;
            }
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                left.push(path);
            }
            found.push((relative, metadata.permissions().mode() & 0o7777));
        }
    }
    Ok(found)
}

fn says(program: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output();
    let output = output.with_context(|| program.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", program.display());
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_package_comes_and_goes() -> Result<()> {
    let binaries = Binaries::find()?;
    let programs = Programs {
        agent: binaries.agent,
        vnetctl: binaries.vnetctl,
    };
    let work = tempfile::tempdir()?;
    let package = package::build(&programs, "9.8.7", work.path())?;
    let root = work.path().join("root");
    for directory in ["info", "updates", "triggers"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(directory))?;
    }
    for book in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(book), "")?;
    }

    dpkg(&root, &["--install"], &package)?;
    let installed = found(&root)?;
    for (path, mode) in [
        ("usr/sbin/vnet-agent", 0o755),
        ("usr/bin/vnetctl", 0o755),
        ("lib/systemd/system/vnet-agent.service", 0o644),
        ("etc/vnet", 0o700),
        ("usr/share/doc/vnet/examples/agent.toml", 0o644),
        ("usr/share/bash-completion/completions/vnetctl", 0o644),
    ] {
        let is_there = installed.contains(&(PathBuf::from(path), mode));
        ensure!(is_there, "no {path} with mode {mode:o} in {installed:?}");
    }

    // What the unit starts is what the package brings, and it takes the example's settings.
    let unit = fs::read_to_string(root.join("lib/systemd/system/vnet-agent.service"))?;
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/"));
    let agent = start.and_then(|start| start.split(' ').next());
    let agent = root.join(agent.context("the unit starts nothing")?);
    let example = root.join("usr/share/doc/vnet/examples/agent.toml");
    let settings = root.join("etc/vnet/agent.toml");
    fs::copy(&example, &settings)?;
    fs::set_permissions(&settings, fs::Permissions::from_mode(0o600))?;
    says(&agent, &["check", "--config", &settings.to_string_lossy()])?;
    says(&root.join("usr/bin/vnetctl"), &["--version"])?;

    // A second one over the first, as an upgrade does.
    dpkg(&root, &["--install"], &package)?;
    let state = root.join("var/lib/vnet");
    fs::create_dir_all(&state)?;
    dpkg(&root, &["--remove"], Path::new("vnet"))?;
    ensure!(state.exists(), "what an agent remembers outlives a removal");
    dpkg(&root, &["--purge"], Path::new("vnet"))?;
    ensure!(!state.exists(), "what an agent remembers outlives a purge");
    ensure!(settings.exists(), "settings, with what is secret, are gone");
    let left = found(&root)?;
    let of_ours = |path: &Path| path.to_string_lossy().contains("vnet");
    let left: Vec<_> = left.iter().filter(|(path, _)| of_ours(path)).collect();
    let kept = [Path::new("etc/vnet"), Path::new("etc/vnet/agent.toml")];
    let are_kept = left.iter().all(|(path, _)| kept.contains(&path.as_path()));
    ensure!(are_kept, "left behind: {left:?}");
    Ok(())
}
