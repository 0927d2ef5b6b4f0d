//! What lies between the hosts?
//!
//! A namespace with a Linux bridge, and a veth pair from it to every host. The bridge is there
//! for two hosts as well: a frame that an XDP program redirects into a veth becomes visible to
//! packet sockets (and so to tcpdump) only where a side without XDP program receives it, and a
//! plain veth pair between two agents has no such side. Here every frame between two hosts is
//! received by a bridge port, whatever programs the hosts run.
//!
//! The bridge's ends have GRO on, which gives them NAPI: without it (or a program of their own)
//! the frames that XDP redirects to them would be lost, uncounted. Their transmit offloads are
//! off, so that what reaches a host is what a wire would bring: no frame larger than the MTU,
//! and no checksum left to be filled in. With [`UnderlaySettings::offloads`] they stay on: then
//! frames cross that a NIC with every offload would only cut at its far side.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};
use vnet_common::addr::Mac;

use crate::bridge::{self, words};
use crate::capture::Capture;
use crate::host::Host;
use crate::laboratory::Estate;
use crate::namespace::Namespace;

/// The bridge, in the underlay's namespace.
pub(crate) const BRIDGE: &str = "bridge";
/// What the bridge's end of each cable does, in the words of ethtool.
const WIRE_FEATURES: &str = "gro on tx off tso off gso off txvlan off \
    tx-udp-segmentation off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off";
/// The same where the cable carries frames that are many, and unfinished ones.
const OFFLOADING_FEATURES: &str = "gro on txvlan off";

/// What an underlay offers.
#[derive(Clone, Copy, Debug)]
pub struct UnderlaySettings {
    /// Largest IP packet in bytes, the same on every device.
    pub mtu: u32,
    /// Whether hosts get an IPv4 address.
    pub ipv4: bool,
    /// Whether hosts get an IPv6 address.
    pub ipv6: bool,
    /// Whether frames cross it as they leave a host, however large and unfinished.
    pub offloads: bool,
}

impl Default for UnderlaySettings {
    /// 1500 bytes, both families, as on a wire.
    fn default() -> Self {
        Self {
            mtu: 1500,
            ipv4: true,
            ipv6: true,
            offloads: false,
        }
    }
}

/// A network that joins hosts. Commands run in it see every port of the bridge.
#[derive(Debug)]
pub struct Underlay {
    namespace: Namespace,
    estate: Arc<Estate>,
    settings: UnderlaySettings,
    number: u8,
    stations: AtomicU8,
}

/// One host's place on an underlay.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// The device in the host.
    pub device: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IPv4 address, in a network of 24 bits.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address, in a network of 64 bits.
    pub ipv6: Option<Ipv6Addr>,
    /// The bridge's end of the cable, a device in the underlay's namespace.
    pub bridge_port: String,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
}

impl Underlay {
    pub(crate) fn new(
        namespace: Namespace,
        estate: Arc<Estate>,
        number: u8,
        settings: UnderlaySettings,
    ) -> Result<Self> {
        // Nobody speaks on the cables but the hosts.
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        bridge::make(&namespace, BRIDGE, settings.mtu)?;
        Ok(Self {
            namespace,
            estate,
            settings,
            number,
            stations: AtomicU8::new(0),
        })
    }

    /// Lays a cable from the bridge to a new device of the host, with the next free addresses.
    pub fn connect(&self, host: &Host, device: &str) -> Result<Uplink> {
        let station = self.stations.fetch_add(1, Ordering::Relaxed) + 1;
        ensure!(station < u8::MAX, "an underlay has room for 254 stations");
        let Self {
            number, settings, ..
        } = self;
        let uplink = Uplink {
            device: device.to_owned(),
            mac: Mac([0x02, 0, 0x0a, 0, *number, station]),
            ipv4: settings
                .ipv4
                .then_some(Ipv4Addr::new(10, 0, *number, station)),
            ipv6: settings.ipv6.then_some(Ipv6Addr::new(
                0xfd00,
                0,
                0,
                u16::from(*number),
                0,
                0,
                0,
                u16::from(station),
            )),
            bridge_port: format!("port{station}"),
            mtu: settings.mtu,
        };
        self.lay_cable(host, &uplink)
            .with_context(|| format!("cannot connect `{}` to {}", host.name(), self.name()))?;
        host.add_uplink(uplink.clone());
        Ok(uplink)
    }

    /// Takes the cable of a host away, or puts it back.
    pub fn set_connected(&self, uplink: &Uplink, connected: bool) -> Result<()> {
        let state = if connected { "up" } else { "down" };
        self.run(["ip", "link", "set", &uplink.bridge_port, state])?;
        if connected {
            bridge::wait_until_forwarding(self, &uplink.bridge_port)
        } else {
            Ok(())
        }
    }

    /// Cuts the paths between these hosts, and only those, without a sign that they could see; or
    /// mends them.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_apart(&self, uplinks: &[&Uplink], apart: bool) -> Result<()> {
        let state = if apart { "on" } else { "off" };
        for uplink in uplinks {
            let port = &uplink.bridge_port;
            self.run(words(&format!(
                "bridge link set dev {port} isolated {state}"
            )))?;
        }
        Ok(())
    }

    /// Records what passes between the bridge and one host. The filter is tcpdump's.
    pub fn capture_at(&self, uplink: &Uplink, filter: &str) -> Result<Capture> {
        Capture::start(&self.namespace, &self.estate, &uplink.bridge_port, filter)
    }

    /// Records what passes over the bridge, each frame once. The filter is tcpdump's.
    pub fn capture(&self, filter: &str) -> Result<Capture> {
        Capture::start(&self.namespace, &self.estate, BRIDGE, filter)
    }

    fn lay_cable(&self, host: &Host, uplink: &Uplink) -> Result<()> {
        let Uplink {
            device,
            mac,
            bridge_port: port,
            mtu,
            ..
        } = uplink;
        let target = host.path();
        self.run(words(&format!(
            "ip link add {port} mtu {mtu} type veth \
             peer name {device} address {mac} mtu {mtu} netns {}",
            target.display()
        )))?;
        bridge::add_port(self, BRIDGE, port)?;
        let features = if self.settings.offloads {
            OFFLOADING_FEATURES
        } else {
            WIRE_FEATURES
        };
        self.run(words(&format!("ethtool -K {port} {features}")))?;
        host.run(["ip", "link", "set", device, "up"])?;
        if let Some(address) = uplink.ipv4 {
            host.run(words(&format!("ip address add {address}/24 dev {device}")))?;
        }
        match uplink.ipv6 {
            Some(address) => {
                host.run(words(&format!(
                    "ip address add {address}/64 dev {device} nodad"
                )))?;
            }
            None => host.silence(device)?,
        }
        bridge::wait_until_forwarding(self, port)
    }
}

/// An underlay is first of all a namespace, and can do whatever that can.
impl Deref for Underlay {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}
