//! What does a path do that is not as wide as the devices at its ends say?
//!
//! A second bridge between the underlay's and one host, behind a cable of its own. A bridge drops a
//! frame that is too large for the device that it would leave by, and tells nobody: so what the
//! cable does not carry falls into a black hole, in both directions, while the hosts' own devices
//! stay as they were.

use anyhow::{Context, Result};

use crate::bridge::{self, words};
use crate::underlay::{BRIDGE, Underlay, Uplink};

/// What the kernel lets pass beyond a device's MTU: the bytes of a VLAN tag, tagged or not.
const TAG_BYTES: u32 = 4;

/// A stretch of the path to one host.
#[derive(Debug)]
pub struct Hop<'a> {
    underlay: &'a Underlay,
    /// The cable's ends: on the underlay's bridge, and on the one before the host.
    ends: [String; 2],
}

impl Underlay {
    /// Lays one more hop before a host.
    ///
    /// # Errors
    ///
    /// There is one already.
    pub fn hop(&self, before: &Uplink) -> Result<Hop<'_>> {
        let port = &before.bridge_port;
        let own_bridge = format!("hop-{port}");
        let ends = [format!("{port}-near"), format!("{port}-far")];
        let [near, far] = &ends;
        let mtu = before.mtu;
        bridge::make(self, &own_bridge, mtu)?;
        self.run(words(&format!(
            "ip link add {near} mtu {mtu} type veth peer name {far} mtu {mtu}"
        )))?;
        bridge::add_port(self, BRIDGE, near)?;
        bridge::add_port(self, &own_bridge, far)?;
        bridge::add_port(self, &own_bridge, port)?;
        for end in [near, far, port] {
            bridge::wait_until_forwarding(self, end)?;
        }
        let underlay = self;
        Ok(Hop { underlay, ends })
    }
}

impl Hop<'_> {
    /// From now on it carries IP packets up to this size, and drops larger ones without a word.
    ///
    /// # Errors
    ///
    /// The kernel refuses the size.
    pub fn carry(&self, bytes: u32) -> Result<()> {
        let mtu = bytes.checked_sub(TAG_BYTES).context("too small a size")?;
        self.set(&format!("mtu {mtu}"))
    }

    fn set(&self, what: &str) -> Result<()> {
        for end in &self.ends {
            self.underlay
                .run(words(&format!("ip link set {end} {what}")))?;
        }
        Ok(())
    }
}
