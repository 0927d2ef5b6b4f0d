//! How does one make a Linux bridge that is nothing but a cable with many ends?
//!
//! Used for underlays, and by [`crate::Host::bridge`].

use std::path::Path;

use anyhow::Result;

use crate::namespace::Namespace;
use crate::patience::eventually;

/// `brport/state` of a port that forwards.
const FORWARDING: &str = "3";

/// Makes a bridge that learns addresses and does nothing else: no spanning tree, no waiting, no
/// looking into multicast (which would make it speak itself), no packet filter.
pub(crate) fn make(namespace: &Namespace, bridge: &str, mtu: u32) -> Result<()> {
    let kind = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
    namespace.run(words(&format!("ip link add {bridge} {kind}")))?;
    namespace.silence(bridge)?;
    namespace.run(words(&format!("ip link set {bridge} mtu {mtu} up")))?;
    for table in ["iptables", "ip6tables", "arptables"] {
        let setting = format!("net/bridge/bridge-nf-call-{table}");
        if namespace.inside(|| Path::new("/proc/sys").join(&setting).exists())? {
            namespace.sysctl(&setting, "0")?;
        }
    }
    Ok(())
}

/// Makes a device a port of the bridge.
pub(crate) fn add_port(namespace: &Namespace, bridge: &str, device: &str) -> Result<()> {
    namespace.run(["ip", "link", "set", device, "master", bridge, "up"])?;
    Ok(())
}

/// Waits until what comes in on a port of a bridge goes out on the others.
pub(crate) fn wait_until_forwarding(namespace: &Namespace, port: &str) -> Result<()> {
    let path = format!("/sys/class/net/{port}/brport/state");
    namespace.inside(|| {
        eventually(&format!("the bridge forwards on {port}"), || {
            let state = std::fs::read_to_string(&path).ok()?;
            (state.trim() == FORWARDING).then_some(())
        })
    })?
}

/// The words of a command line without quotes in it.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
