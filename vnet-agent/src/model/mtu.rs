//! How large a packet may a guest send so that it fits through the underlay?

use std::net::IpAddr;

use super::Link;

/// The smallest MTU that IPv6 works with (RFC 8200, section 5): below, guests have IPv4 only.
pub const IPV6_MTU_MIN: u32 = 1280;

const OUTER_IPV4: u16 = 20;
const OUTER_IPV6: u16 = 40;
const UDP: u16 = 8;
const GENEVE: u16 = 8;
const LINK_OPTION: u16 = 28;
const INNER_ETHERNET: u16 = 14;

/// Bytes of an underlay packet that are not the guest's IP packet: everything that must fit in
/// the underlay's MTU besides it. The outer Ethernet header is not in an MTU, the inner one is.
///
/// 78 over IPv4 and 98 over IPv6; 28 less on a `plain` link, which carries no option.
pub const fn overhead(remote: IpAddr, plain: bool) -> u16 {
    let outer = match remote {
        IpAddr::V4(_) => OUTER_IPV4,
        IpAddr::V6(_) => OUTER_IPV6,
    };
    let option = if plain { 0 } else { LINK_OPTION };
    outer + UDP + GENEVE + option + INNER_ETHERNET
}

impl Link {
    /// Bytes that this link adds to a guest's IP packet (see [`overhead`]).
    ///
    /// One that the agent carries adds nothing: TCP cuts as the way needs it. Guests there keep the
    /// underlay's MTU, which is what their applications expect.
    pub fn overhead(&self) -> u16 {
        if self.kind.is_carried() {
            return 0;
        }
        overhead(self.remote, self.is_plain())
    }
}

/// The MTU of every port of a network, in bytes: what its most demanding link leaves of the
/// underlay's MTU (of the device that the link leaves by). Nothing where no link carries the
/// network: such a port keeps its own MTU.
///
/// 0 where the underlay's MTU is smaller than the headers.
pub fn port_mtu<'a>(
    network: &str,
    links: impl IntoIterator<Item = &'a Link>,
    underlay_mtu: impl Fn(&Link) -> u32,
) -> Option<u32> {
    links
        .into_iter()
        .filter(|link| link.carries(network))
        .map(|link| underlay_mtu(link).saturating_sub(u32::from(link.overhead())))
        .min()
}

#[cfg(test)]
mod tests {
    use vnet_common::addr::Cookie;

    use super::*;
    use crate::model::{Flooding, Transport};

    fn link(remote: &str, networks: &[&str], plain: bool) -> Link {
        Link {
            name: "to-two".into(),
            remote: remote.parse().unwrap(),
            networks: networks.iter().map(ToString::to_string).collect(),
            cookie: (!plain).then_some(Cookie(1)),
            flood: Flooding::FromPorts,
            fallback: None,
            kind: Transport::Udp,
            listen_only: false,
            rung_of: None,
        }
    }

    #[test]
    fn a_guest_keeps_1422_bytes_over_ipv4_and_1402_over_ipv6() {
        for (remote, plain, mtu) in [
            ("10.0.0.2", false, 1422),
            ("10.0.0.2", true, 1450),
            ("fd00::2", false, 1402),
            ("fd00::2", true, 1430),
        ] {
            let links = [link(remote, &["blue"], plain)];
            assert_eq!(
                port_mtu("blue", &links, |_| 1500),
                Some(mtu),
                "{remote} {plain}"
            );
        }
    }

    #[test]
    fn a_guest_keeps_all_of_it_over_a_link_that_the_agent_carries() {
        let carried = Link {
            kind: Transport::Tls,
            ..link("10.0.0.2", &["blue"], false)
        };
        let direct = link("10.0.0.3", &["blue"], false);
        assert_eq!(port_mtu("blue", [&carried], |_| 1500), Some(1500));
        assert_eq!(port_mtu("blue", [&carried, &direct], |_| 1500), Some(1422));
    }

    #[test]
    fn the_most_demanding_link_of_the_network_decides() {
        let links = [
            link("10.0.0.2", &["blue", "green"], false),
            link("fd00::2", &["blue"], false),
            link("fd00::3", &["red"], false),
        ];
        assert_eq!(port_mtu("blue", &links, |_| 1500), Some(1402));
        assert_eq!(port_mtu("green", &links, |_| 1500), Some(1422));
        assert_eq!(port_mtu("white", &links, |_| 1500), None);
        assert_eq!(port_mtu("blue", &links, |_| 60), Some(0));
        let by_route = |link: &Link| if link.remote.is_ipv4() { 1400 } else { 9000 };
        assert_eq!(port_mtu("blue", &links, by_route), Some(1322));
    }
}
