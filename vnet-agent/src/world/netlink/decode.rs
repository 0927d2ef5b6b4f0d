//! What does a netlink message mean, in our words?
//!
//! Input: messages as `netlink-packet-route` has taken them apart. Output: values of
//! [`crate::model`]. Pure: attributes that are missing or unknown make a value poorer or absent,
//! never an error.

use std::net::IpAddr;

use netlink_packet_core::Nla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoTun, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    LinkXdp, XdpAttached,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage,
    NeighbourState as Nud,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteType, RouteVia,
};
use vnet_common::addr::Mac;

use crate::model::host::{Abilities, Address, Device, DeviceKind, Scope, Xdp};
use crate::model::next_hop::{Neighbour, NeighbourKey, NeighbourState, Route};

/// The number in a neighbour's `protocol` field (kernel 5.0) that says that we keep it fresh.
/// Neither the kernel nor the registry of iproute2 (`rt_protos`) gives it another meaning.
pub(super) const OUR_PROTOCOL: RouteProtocol = RouteProtocol::Other(118);

/// `IFLA_TUN_TYPE` (linux/if_link.h) and its value for a tap.
const TUN_TYPE: u16 = 3;
const TUN_TYPE_TAP: u8 = 2;
/// `IFLA_TUN_VNET_HDR` (linux/if_link.h).
const TUN_VNET_HEADER: u16 = 5;

/// A device; none where the message is about something else, such as a bridge's view of a port.
pub(super) fn device(message: &LinkMessage) -> Option<Device> {
    let header = &message.header;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let ethernet = header.link_layer_type == LinkLayerType::Ether;
    let mut device = Device {
        index: header.index,
        name: String::new(),
        up: header.flags.contains(LinkFlags::Up),
        running: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mtu: 0,
        mtu_max: None,
        mac: None,
        kind: DeviceKind::Hardware,
        master: None,
        xdp: None,
        abilities: Abilities::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::MaxMtu(max) => device.mtu_max = (*max != 0).then_some(*max),
            LinkAttribute::Address(bytes) if ethernet => device.mac = mac(bytes),
            LinkAttribute::Controller(index) => device.master = (*index != 0).then_some(*index),
            LinkAttribute::LinkInfo(infos) => {
                device.kind = kind(infos);
                device.abilities.vnet_header = is_of_tun(infos, TUN_VNET_HEADER, 1);
            }
            // The kernel names the other end's namespace where it is not this one.
            LinkAttribute::LinkNetNsId(_) => device.abilities.is_elsewhere = true,
            LinkAttribute::Xdp(attributes) => device.xdp = xdp(attributes),
            _ => {}
        }
    }
    if header.flags.contains(LinkFlags::Loopback) {
        device.kind = DeviceKind::Loopback;
    }
    (!device.name.is_empty()).then_some(device)
}

fn kind(infos: &[LinkInfo]) -> DeviceKind {
    let mut kind = DeviceKind::Hardware;
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Tun) => kind = DeviceKind::Tun,
            LinkInfo::Kind(InfoKind::Veth) => kind = DeviceKind::Veth,
            LinkInfo::Kind(InfoKind::Bridge) => kind = DeviceKind::Bridge,
            LinkInfo::Kind(other) => kind = DeviceKind::Other(other.to_string()),
            _ => {}
        }
    }
    if kind == DeviceKind::Tun && is_of_tun(infos, TUN_TYPE, TUN_TYPE_TAP) {
        DeviceKind::Tap
    } else {
        kind
    }
}

/// Whether the tun driver says this of the device.
fn is_of_tun(infos: &[LinkInfo], wanted: u16, expected: u8) -> bool {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Tun(data)) => Some(data),
        _ => None,
    });
    data.into_iter().flatten().any(|attribute| {
        let InfoTun::Other(attribute) = attribute else {
            return false;
        };
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        attribute.kind() == wanted && value == [expected]
    })
}

fn xdp(attributes: &[LinkXdp]) -> Option<Xdp> {
    let mut attached = XdpAttached::None;
    let (mut any, mut driver, mut generic) = (None, None, None);
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(how) => attached = *how,
            LinkXdp::ProgId(id) => any = Some(*id),
            LinkXdp::DrvProgId(id) => driver = Some(*id),
            LinkXdp::SkbProgId(id) => generic = Some(*id),
            _ => {}
        }
    }
    let native = match attached {
        XdpAttached::None => return None,
        XdpAttached::SocketBuffer => false,
        _ => true,
    };
    // With programs in several modes there is no id for "the" program; the driver's runs first.
    let program = any.or(driver).or(generic)?;
    Some(Xdp { program, native })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}

/// An address and the index of its device.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, Address)> {
    let header = &message.header;
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let own = local.or(address)?;
    let address = Address {
        address: own,
        prefix_length: header.prefix_len,
        // `IFA_ADDRESS` is the other end where it differs from `IFA_LOCAL`.
        peer: address.filter(|peer| *peer != own),
        scope: match header.scope {
            AddressScope::Universe => Scope::Global,
            AddressScope::Link => Scope::Link,
            AddressScope::Host => Scope::Host,
            AddressScope::Nowhere => Scope::Nowhere,
            other => Scope::Narrower(other.into()),
        },
        secondary: flags.contains(AddressFlags::Secondary),
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
    };
    Some((header.index, address))
}

/// A neighbour of an IP address; none for entries of bridges and other tables.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    let header = &message.header;
    let (mut at, mut link_layer, mut extended, mut ours) =
        (None, None, NeighbourExtFlags::empty(), false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                at = Some(IpAddr::V4(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                at = Some(IpAddr::V6(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => link_layer = mac(bytes),
            NeighbourAttribute::ExtFlags(flags) => extended = *flags,
            NeighbourAttribute::Protocol(protocol) => ours = *protocol == OUR_PROTOCOL,
            _ => {}
        }
    }
    let state = match header.state {
        Nud::None | Nud::Incomplete => NeighbourState::Resolving,
        Nud::Failed => NeighbourState::Failed,
        _ => NeighbourState::Usable(link_layer.filter(|mac| *mac != Mac::ZERO)),
    };
    let neighbour = Neighbour {
        state,
        fixed: matches!(header.state, Nud::Permanent | Nud::Noarp),
        managed: extended.contains(NeighbourExtFlags::Managed),
        ours,
    };
    Some(((header.ifindex, at?), neighbour))
}

/// A route that leads somewhere; none for those that drop, refuse, or address a group.
pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let local = match message.header.kind {
        RouteType::Unicast => false,
        RouteType::Local | RouteType::Anycast => true,
        _ => return None,
    };
    let (mut ifindex, mut gateway, mut source, mut mtu) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Route {
        ifindex: ifindex?,
        gateway,
        source,
        mtu,
        local,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;
    use netlink_packet_route::address::AddressHeaderFlags;
    use netlink_packet_route::neighbour::NeighbourHeader;

    use super::*;

    fn link(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = vec![LinkAttribute::IfName("tap0".to_owned())];
        message.attributes.extend(attributes);
        message
    }

    #[test]
    fn a_tap_is_told_from_a_tun() {
        let info = |kind: u8| {
            let data = InfoTun::Other(DefaultNla::new(TUN_TYPE, vec![kind]));
            let infos = vec![
                LinkInfo::Kind(InfoKind::Tun),
                LinkInfo::Data(InfoData::Tun(vec![data])),
            ];
            device(&link(vec![LinkAttribute::LinkInfo(infos)])).map(|device| device.kind)
        };
        assert_eq!(info(TUN_TYPE_TAP), Some(DeviceKind::Tap));
        assert_eq!(info(1), Some(DeviceKind::Tun));
    }

    #[test]
    fn what_a_guest_may_ask_for_and_where_a_cable_ends_are_told() {
        let tun = |kind: u16, value: u8| {
            let data = InfoTun::Other(DefaultNla::new(kind, vec![value]));
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Tun),
                LinkInfo::Data(InfoData::Tun(vec![data])),
            ])
        };
        let abilities = |attribute| device(&link(vec![attribute])).unwrap().abilities;
        assert!(abilities(tun(TUN_VNET_HEADER, 1)).vnet_header);
        assert!(!abilities(tun(TUN_VNET_HEADER, 0)).vnet_header);
        assert!(!abilities(tun(TUN_TYPE, 1)).vnet_header);
        assert!(abilities(LinkAttribute::LinkNetNsId(0)).is_elsewhere);
    }

    #[test]
    fn a_bridges_view_of_a_port_is_no_device() {
        let mut message = link(vec![]);
        assert!(device(&message).is_some());
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(device(&message), None);
    }

    #[test]
    fn a_device_without_ethernet_has_no_ethernet_address() {
        let mut message = link(vec![LinkAttribute::Address(vec![0; 6])]);
        message.header.link_layer_type = LinkLayerType::Loopback;
        assert_eq!(device(&message).and_then(|device| device.mac), None);
    }

    #[test]
    fn an_xdp_program_is_seen_with_its_mode() {
        let with = |attributes| {
            device(&link(vec![LinkAttribute::Xdp(attributes)])).and_then(|device| device.xdp)
        };
        assert_eq!(with(vec![LinkXdp::Attached(XdpAttached::None)]), None);
        assert_eq!(
            with(vec![
                LinkXdp::Attached(XdpAttached::SocketBuffer),
                LinkXdp::ProgId(5)
            ]),
            Some(Xdp {
                program: 5,
                native: false
            })
        );
        assert_eq!(
            with(vec![
                LinkXdp::Attached(XdpAttached::Multiple),
                LinkXdp::SkbProgId(5),
                LinkXdp::DrvProgId(6)
            ]),
            Some(Xdp {
                program: 6,
                native: true
            })
        );
    }

    #[test]
    fn the_wide_flags_of_an_address_win_over_the_narrow_ones() {
        let mut message = AddressMessage::default();
        message.header.index = 2;
        message.header.flags = AddressHeaderFlags::empty();
        message.attributes = vec![
            AddressAttribute::Address("10.0.0.2".parse().unwrap()),
            AddressAttribute::Local("10.0.0.1".parse().unwrap()),
            AddressAttribute::Flags(AddressFlags::Dadfailed | AddressFlags::Deprecated),
        ];
        let (index, address) = address(&message).unwrap();
        assert_eq!(index, 2);
        assert_eq!(address.address, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(address.peer, Some("10.0.0.2".parse().unwrap()));
        assert!(address.tentative && address.deprecated && !address.secondary);
    }

    #[test]
    fn a_neighbour_with_our_mark_is_known_again() {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader {
            ifindex: 4,
            state: Nud::Stale,
            ..NeighbourHeader::default()
        };
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 2].into())),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 9]),
            NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(OUR_PROTOCOL),
        ];
        let (key, entry) = neighbour(&message).unwrap();
        assert_eq!(key, (4, "10.0.0.2".parse().unwrap()));
        assert_eq!(
            entry.state,
            NeighbourState::Usable(Some(Mac([2, 0, 0, 0, 0, 9])))
        );
        assert!(entry.ours && entry.managed && !entry.fixed);
        message.header.state = Nud::Permanent;
        assert!(neighbour(&message).unwrap().1.fixed);
    }

    #[test]
    fn a_route_that_drops_is_no_route() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Oif(3),
            RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())),
            RouteAttribute::PrefSource(RouteAddress::Inet([10, 0, 0, 1].into())),
        ];
        let found = route(&message).unwrap();
        assert_eq!(found.gateway, Some("fe80::1".parse().unwrap()));
        assert_eq!(found.source, Some("10.0.0.1".parse().unwrap()));
        message.header.kind = RouteType::BlackHole;
        assert_eq!(route(&message), None);
    }
}
