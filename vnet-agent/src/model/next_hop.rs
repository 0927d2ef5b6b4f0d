//! Where does a packet to a destination go first, and by which Ethernet address?
//!
//! Input: the kernel's answer to "which route", the devices, and the neighbours. Output: one
//! [`NextHop`] for each destination, or the reason why there is none.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use vnet_common::addr::Mac;

use super::host::{Device, DeviceKind};

/// The first step towards a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NextHop {
    /// The device that packets leave by.
    pub ifindex: u32,
    /// The source address that the kernel would give them.
    pub source: IpAddr,
    /// The Ethernet address that they are sent to: the gateway's, or the destination's own.
    pub mac: Mac,
    /// The router on the way, where the destination is not on the device's own subnet. It may be
    /// of the other family (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// The largest packet that goes that way, in bytes with its IP header: the device's MTU, or
    /// the route's where that is smaller.
    pub mtu: u32,
}

/// Why there is no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoNextHop {
    /// No route, or one that says that packets are to be dropped.
    NoRoute,
    /// The kernel is asking for the neighbour's Ethernet address. Whoever has an older next hop
    /// may go on using it: mostly the answer is the same.
    Resolving,
    /// The neighbour does not answer. The kernel goes on asking.
    Failed,
    /// The way leads over a device without Ethernet addresses: a tunnel, a point-to-point
    /// device, or the loopback device, if the destination is an address of this host.
    NoLinkLayer,
}

impl fmt::Display for NoNextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "no route",
            Self::Resolving => "waiting for the neighbour's Ethernet address",
            Self::Failed => "the neighbour does not answer",
            Self::NoLinkLayer => "the way there leads over no Ethernet device",
        })
    }
}

/// The kernel's answer to "how do I get to this destination", if it is a way at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The device that packets leave by.
    pub ifindex: u32,
    /// The router on the way.
    pub gateway: Option<IpAddr>,
    /// The source address; none where the kernel found no fitting one.
    pub source: Option<IpAddr>,
    /// The route's own limit on the size of packets.
    pub mtu: Option<u32>,
    /// Whether the destination is this host itself.
    pub local: bool,
}

/// Which neighbour: the device's index, and the address on that device's subnet.
pub type NeighbourKey = (u32, IpAddr);

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Whether it can be used.
    pub state: NeighbourState,
    /// Whether an administrator wrote it, or the device needs no resolution: never to be touched.
    pub fixed: bool,
    /// Whether the kernel has been told to keep it fresh, by us or by somebody else.
    pub managed: bool,
    /// Whether it carries our mark.
    pub ours: bool,
}

/// Whether a neighbour can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// No answer yet.
    Resolving,
    /// No answer to the last round of questions.
    Failed,
    /// It has this address; none if it is not an Ethernet address.
    Usable(Option<Mac>),
}

impl Neighbour {
    /// Whether packets can be sent to it now.
    pub const fn is_usable(&self) -> bool {
        matches!(self.state, NeighbourState::Usable(_))
    }

    /// The state to remember when the kernel says `self` after it said `before`.
    ///
    /// The kernel asks a neighbour that it keeps fresh again and again, and is "resolving" each
    /// time; one that failed stays failed until it answers, so that nobody sees it flap.
    pub fn after(mut self, before: Option<&Self>) -> Self {
        let failed = before.is_some_and(|entry| entry.state == NeighbourState::Failed);
        if failed && self.state == NeighbourState::Resolving {
            self.state = NeighbourState::Failed;
        }
        self
    }
}

/// The neighbour whose Ethernet address decides about packets to `destination`; none where no
/// address is needed or possible.
pub fn neighbour_of(
    destination: IpAddr,
    route: &Route,
    devices: &BTreeMap<u32, Device>,
) -> Option<NeighbourKey> {
    let device = devices.get(&route.ifindex)?;
    let on_ethernet = device.mac.is_some() && device.kind != DeviceKind::Loopback && !route.local;
    on_ethernet.then_some((route.ifindex, route.gateway.unwrap_or(destination)))
}

/// The next hop to `destination`, by the route that the kernel chose for it.
pub fn next_hop(
    destination: IpAddr,
    route: Option<&Route>,
    devices: &BTreeMap<u32, Device>,
    neighbours: &BTreeMap<NeighbourKey, Neighbour>,
) -> Result<NextHop, NoNextHop> {
    let route = route.ok_or(NoNextHop::NoRoute)?;
    let device = devices.get(&route.ifindex).ok_or(NoNextHop::NoRoute)?;
    let key = neighbour_of(destination, route, devices).ok_or(NoNextHop::NoLinkLayer)?;
    let source = route.source.ok_or(NoNextHop::NoRoute)?;
    let mac = match neighbours.get(&key).map(|neighbour| neighbour.state) {
        None | Some(NeighbourState::Resolving) => return Err(NoNextHop::Resolving),
        Some(NeighbourState::Failed) => return Err(NoNextHop::Failed),
        Some(NeighbourState::Usable(mac)) => mac.ok_or(NoNextHop::NoLinkLayer)?,
    };
    Ok(NextHop {
        ifindex: route.ifindex,
        source,
        mac,
        gateway: route.gateway,
        mtu: route.mtu.map_or(device.mtu, |mtu| mtu.min(device.mtu)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host::Abilities;

    const THERE: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn devices() -> BTreeMap<u32, Device> {
        let ethernet = Device {
            index: 2,
            name: "eth0".to_owned(),
            up: true,
            running: true,
            mtu: 1500,
            mtu_max: None,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            kind: DeviceKind::Hardware,
            master: None,
            xdp: None,
            abilities: Abilities::default(),
        };
        let loopback = Device {
            index: 1,
            kind: DeviceKind::Loopback,
            mac: None,
            ..ethernet.clone()
        };
        let tunnel = Device {
            index: 3,
            kind: DeviceKind::Tun,
            mac: None,
            ..ethernet.clone()
        };
        [loopback, ethernet, tunnel]
            .map(|device| (device.index, device))
            .into()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(ifindex: u32, gateway: Option<&str>) -> Route {
        let source = Some(ip("10.0.0.1"));
        Route {
            ifindex,
            gateway: gateway.map(ip),
            source,
            mtu: None,
            local: false,
        }
    }

    fn neighbour(state: NeighbourState) -> Neighbour {
        Neighbour {
            state,
            fixed: false,
            managed: true,
            ours: true,
        }
    }

    fn ask(
        route: Option<Route>,
        neighbours: &[(&str, NeighbourState)],
    ) -> Result<NextHop, NoNextHop> {
        let neighbours = neighbours
            .iter()
            .map(|(at, state)| ((2, ip(at)), neighbour(*state)))
            .collect();
        next_hop(ip("10.0.0.2"), route.as_ref(), &devices(), &neighbours)
    }

    #[test]
    fn a_neighbour_on_the_subnet_is_its_own_next_hop() {
        let hop = ask(
            Some(route(2, None)),
            &[("10.0.0.2", NeighbourState::Usable(Some(THERE)))],
        );
        let expected = NextHop {
            ifindex: 2,
            source: ip("10.0.0.1"),
            mac: THERE,
            gateway: None,
            mtu: 1500,
        };
        assert_eq!(hop, Ok(expected));
    }

    #[test]
    fn behind_a_gateway_the_gateways_address_counts() {
        let states = [
            ("10.0.0.254", NeighbourState::Usable(Some(THERE))),
            ("10.0.0.2", NeighbourState::Failed),
        ];
        let hop = ask(
            Some(Route {
                mtu: Some(1400),
                ..route(2, Some("10.0.0.254"))
            }),
            &states,
        );
        assert_eq!(
            hop.map(|hop| (hop.mac, hop.gateway)),
            Ok((THERE, Some(ip("10.0.0.254"))))
        );
        assert_eq!(hop.map(|hop| hop.mtu), Ok(1400));
    }

    #[test]
    fn an_ipv4_destination_may_lie_behind_an_ipv6_gateway() {
        let hop = ask(
            Some(route(2, Some("fe80::1"))),
            &[("fe80::1", NeighbourState::Usable(Some(THERE)))],
        );
        assert_eq!(hop.map(|hop| hop.mac), Ok(THERE));
    }

    #[test]
    fn each_way_to_have_no_next_hop_has_its_reason() {
        assert_eq!(ask(None, &[]), Err(NoNextHop::NoRoute));
        assert_eq!(ask(Some(route(77, None)), &[]), Err(NoNextHop::NoRoute));
        assert_eq!(
            ask(
                Some(Route {
                    source: None,
                    ..route(2, None)
                }),
                &[]
            ),
            Err(NoNextHop::NoRoute)
        );
        assert_eq!(ask(Some(route(2, None)), &[]), Err(NoNextHop::Resolving));
        for (state, reason) in [
            (NeighbourState::Resolving, NoNextHop::Resolving),
            (NeighbourState::Failed, NoNextHop::Failed),
            (NeighbourState::Usable(None), NoNextHop::NoLinkLayer),
        ] {
            assert_eq!(
                ask(Some(route(2, None)), &[("10.0.0.2", state)]),
                Err(reason)
            );
        }
        assert_eq!(
            ask(Some(route(3, None)), &[]),
            Err(NoNextHop::NoLinkLayer),
            "a tun"
        );
        assert_eq!(
            ask(Some(route(1, None)), &[]),
            Err(NoNextHop::NoLinkLayer),
            "loopback"
        );
        let own = Route {
            local: true,
            ..route(2, None)
        };
        assert_eq!(
            ask(Some(own), &[]),
            Err(NoNextHop::NoLinkLayer),
            "an address of this host"
        );
    }

    #[test]
    fn a_neighbour_that_failed_stays_failed_until_it_answers() {
        let failed = neighbour(NeighbourState::Failed);
        let asking = neighbour(NeighbourState::Resolving);
        let there = neighbour(NeighbourState::Usable(Some(THERE)));
        assert_eq!(asking.after(None), asking);
        assert_eq!(asking.after(Some(&failed)), failed);
        assert_eq!(there.after(Some(&failed)), there);
        assert_eq!(asking.after(Some(&there)), asking);
    }
}
