//! What does a tunnel between two programs give?
//!
//! tinc as a switch, its tap and the guest's port in a Linux bridge. It neither encrypts nor
//! authenticates frames here, since none of the others does; they go over UDP from the first one
//! on. Its programs run in the hosts, with all their files in the hosts' directories, and end with
//! the path.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use lab::{Host, Process};

use crate::bed::{ADDRESSES, Bed};
use crate::packages::Unpacked;

/// Where the program comes from.
pub(super) const PACKAGE: &str = "tinc";

/// The names that the programs have for each other.
const NAMES: [&str; 2] = ["one", "two"];
/// The device that tinc makes.
const DEVICE: &str = "tinc0";

/// What each knows of the other, above the key.
const TERMS: &str = "Cipher = none\nDigest = none\nCompression = 0\nPMTUDiscovery = no\n";

pub(super) fn lay(bed: &Bed, package: &Unpacked) -> Result<[Process; 2]> {
    let [one, two] = bed.hosts().map(|host| host.directory().join("tinc"));
    let program = package.program("/usr/sbin/tincd");
    for ((host, place), (own, other)) in bed
        .hosts()
        .into_iter()
        .zip([&one, &two])
        .zip([(0, 1), (1, 0)])
    {
        write_settings(place, own, other)?;
        let keys = [
            format!("--config={}", place.display()),
            "--generate-keys=1024".to_owned(),
        ];
        host.run(program.iter().chain(&keys))?;
    }
    // Each has written its own key, and needs the other's.
    fs::copy(one.join("hosts/one"), two.join("hosts/one"))?;
    fs::copy(two.join("hosts/two"), one.join("hosts/two"))?;
    let start = |host: &Host, place: &PathBuf| -> Result<Process> {
        let file = |name| place.join(name).display().to_string();
        let words = [
            format!("--config={}", place.display()),
            "--no-detach".to_owned(),
            format!("--pidfile={}", file("pid")),
        ];
        let process = host.start("tinc.log", program.iter().chain(&words))?;
        lab::try_eventually("tinc has its device", || {
            let output = host.attempt(["ip", "link", "show", DEVICE])?;
            Ok(output.success().then_some(()))
        })?;
        host.sysctl(&format!("net/ipv6/conf/{DEVICE}/disable_ipv6"), "1")?;
        host.bridge("bridge0", &[bed.port, DEVICE])?;
        Ok(process)
    };
    Ok([start(&bed.one, &one)?, start(&bed.two, &two)?])
}

fn write_settings(place: &Path, own: usize, other: usize) -> Result<()> {
    let name = |index: usize| NAMES.get(index).copied().unwrap_or_default();
    let address = |index: usize| ADDRESSES.get(index).copied().unwrap_or_default();
    fs::create_dir_all(place.join("hosts"))?;
    let settings = format!(
        "Name = {}\nConnectTo = {}\nMode = switch\nDeviceType = tap\nInterface = {DEVICE}\n\
         AddressFamily = ipv4\nProcessPriority = normal\n",
        name(own),
        name(other),
    );
    fs::write(place.join("tinc.conf"), settings)?;
    let own_file = place.join("hosts").join(name(own));
    fs::write(own_file, format!("Address = {}\n{TERMS}", address(own)))?;
    Ok(())
}
