//! How does a test use a whole IP stack as a guest, without booting one?
//!
//! A namespace with `eth0`, whose other end is a port in the host. Its offloads are off unless its
//! station says otherwise, since frames that XDP redirects lose what an offload left undone; GRO
//! is on, since a veth takes redirected frames only where its peer has NAPI.

use std::fs;
use std::ops::Deref;

use anyhow::{Context, Result};

use crate::bridge::words;
use crate::host::Host;
use crate::namespace::Namespace;
use crate::station::Station;

/// What a NIC could do for the guest: each leaves work in metadata that an XDP program cannot pass
/// on.
const OFFLOADS_OFF: &str = "tx off sg off tso off gso off txvlan off rxvlan off";

/// A guest that is a network namespace. Commands run in it are the guest's.
#[derive(Debug)]
pub struct NamespaceGuest {
    station: Station,
    namespace: Namespace,
    host: Host,
}

impl NamespaceGuest {
    pub(crate) fn new(host: &Host, station: Station) -> Result<Self> {
        let name = format!("{}-guest-{}", host.name(), station.port);
        let directory = host.directory().join(format!("guest-{}", station.port));
        fs::create_dir(&directory).with_context(|| {
            format!("`{}` has a guest on {} already", host.name(), station.port)
        })?;
        let namespace = Namespace::new(&name, directory)?;
        let Station { port, mac, mtu, .. } = &station;
        // The host's end takes what the overlay carries; the guest's end says what it sends.
        host.run(words(&format!(
            "ip link add {port} mtu {mtu} type veth peer name eth0 address {mac} mtu {mtu} netns {}",
            namespace.path().display()
        )))?;
        host.silence(port)?;
        let offloads = if station.offloads { "" } else { OFFLOADS_OFF };
        namespace.run(words(&format!("ethtool -K eth0 gro on {offloads}")))?;
        for address in &station.addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            namespace.run(words(&format!("ip address add {address} dev eth0 {nodad}")))?;
        }
        namespace.run(["ip", "link", "set", "eth0", "up"])?;
        host.run(["ip", "link", "set", port, "up"])?;
        Ok(Self {
            station,
            namespace,
            host: host.clone(),
        })
    }

    /// The guest's port and addresses.
    #[must_use]
    pub fn station(&self) -> &Station {
        &self.station
    }
}

impl Drop for NamespaceGuest {
    fn drop(&mut self) {
        // The kernel would take the port away too, but at some later moment. It may be gone
        // already, if the test was about that.
        let _ = self
            .host
            .attempt(["ip", "link", "delete", &self.station.port]);
        let _ = fs::remove_dir_all(self.namespace.directory());
    }
}

/// The guest is first of all a namespace, and can do whatever that can.
impl Deref for NamespaceGuest {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}
