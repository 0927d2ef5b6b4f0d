//! The promise: whatever changes under the overlay, links follow by themselves: the other end's
//! card, this host's address, the route, the device going down and up, the device not being there.
//! What cannot be sent meanwhile is dropped under its own reason, and `status` says so.

use anyhow::{Context, Result};
use e2e::frame::{expect, expect_nothing, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Site, Stage, mesh_settings};
use e2e::{ask, books};
use lab::{Mac, UnderlaySettings, in_lab, try_eventually};
use vnet_agent::api::LinkState;
use vnet_common::reason::Reason;

/// A frame from one to two, and one back.
fn both_ways(one: &Site, two: &Site, number: u64) -> Result<()> {
    for (from, to) in [(one, two), (two, one)] {
        let frame = numbered(from.guest.mac(), to.guest.mac(), number, 200);
        from.guest.send(&frame)?;
        expect(&to.guest, &[frame])?;
    }
    Ok(())
}

fn on(site: &Site, line: &str) -> Result<()> {
    site.host.run(line.split(' ')).map(drop)
}

#[test]
fn the_card_at_the_other_end_is_replaced() {
    in_lab("card", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        both_ways(one, two, 1)?;
        let card = Mac([2, 0, 0, 0, 0, 0x99]);
        on(two, "sysctl -q -w net.ipv4.conf.eth0.arp_notify=1")?;
        on(one, "sysctl -q -w net.ipv4.neigh.eth0.locktime=0")?;
        on(two, "ip link set eth0 down")?;
        on(two, &format!("ip link set eth0 address {card}"))?;
        on(two, "ip link set eth0 up")?;
        try_eventually("the link leads to the new card", || {
            let link = ask::link(&one.host, "to-two")?;
            Ok((link.next_hop_mac == Some(card)).then_some(()))
        })?;
        ask::until_link(&two.host, "to-one", LinkState::Up)?;
        both_ways(one, two, 2)
    });
}

#[test]
fn the_underlay_device_goes_down_and_comes_up() {
    in_lab("down", |lab| {
        for family in [Family::Ipv4, Family::Ipv6] {
            down_and_up(lab, family)?;
        }
        Ok(())
    });
}

fn down_and_up(lab: &lab::Lab, family: Family) -> Result<()> {
    let name = |own: u8| format!("{family:?}-{own}");
    let underlay = lab.underlay(UnderlaySettings::default())?;
    let mut sites = Vec::new();
    for own in [1, 2] {
        let host = lab.host(&name(own))?;
        underlay.connect(&host, "eth0")?;
        sites.push(host);
    }
    let uplinks = [sites[0].uplink()?, sites[1].uplink()?];
    let addresses = uplinks.map(|uplink| match family {
        Family::Ipv4 => uplink.ipv4.map(std::net::IpAddr::from),
        Family::Ipv6 => uplink.ipv6.map(std::net::IpAddr::from),
    });
    let mut made = Vec::new();
    for (own, host) in (1..).zip(sites) {
        let other: u8 = 3 - own;
        let remote = addresses[usize::from(other) - 1]
            .context("it has an address")?
            .to_string();
        let settings = Settings::new()
            .port(PORT, guest(own))
            .link("link", &remote)
            .way(guest(other), "link");
        let guest = host.tap_guest(PORT, guest(own))?;
        let agent = host.agent(&settings.text())?;
        made.push(Site { agent, guest, host });
    }
    let [one, two] = &made[..] else {
        unreachable!("two sites")
    };
    for site in [one, two] {
        ask::until_healthy(&site.host)?;
    }
    both_ways(one, two, 1)?;

    on(one, "ip link set eth0 down")?;
    ask::until_link(&one.host, "link", LinkState::Unresolved)?;
    let status = one.host.attempt_vnetctl(["status"])?;
    assert_eq!(status.status, 3, "{}", status.stdout);
    assert!(status.stdout.contains("eth0 is down"), "{}", status.stdout);
    one.guest.send(&numbered(guest(1), guest(2), 2, 100))?;
    let stats = books::check_host(&one.host)?;
    assert_eq!(
        books::dropped(books::port(&stats, PORT)?, Reason::LinkUnresolved),
        1
    );

    on(one, "ip link set eth0 up")?;
    if family == Family::Ipv6 {
        // The kernel takes IPv6 addresses off a device that goes down.
        let address = addresses[0].context("it has an address")?;
        on(one, &format!("ip address add {address}/64 dev eth0 nodad"))?;
    }
    for site in [one, two] {
        ask::until_healthy(&site.host)?;
    }
    both_ways(one, two, 3)
}

#[test]
fn a_neighbour_that_does_not_answer_is_waited_for() {
    in_lab("silent", |lab| {
        let stage = Stage::start(lab, 2, |own| match own {
            // 10.0.0.9 is nobody yet.
            1 => Settings::new()
                .port(PORT, guest(1))
                .link("to-two", "10.0.0.9")
                .way(guest(2), "to-two"),
            _ => mesh_settings(Family::Ipv4, 2, 2),
        })?;
        let (one, two) = stage.two()?;
        let status = ask::until(&one.host, "it is known that nobody answers", |status| {
            !status.healthy
                && status
                    .problems
                    .iter()
                    .any(|problem| problem.message.contains("does not answer"))
        })?;
        let problem = status
            .problems
            .iter()
            .find(|problem| problem.subject == "link to-two");
        let problem = problem.with_context(|| format!("{status:?}"))?;
        assert!(
            problem
                .cure
                .as_deref()
                .is_some_and(|cure| cure.contains("ip neighbour show 10.0.0.9"))
        );
        assert_eq!(one.host.attempt_vnetctl(["status"])?.status, 3);
        one.guest.send(&numbered(guest(1), guest(2), 1, 100))?;
        let stats = books::check_host(&one.host)?;
        assert_eq!(
            books::dropped(books::port(&stats, PORT)?, Reason::LinkUnresolved),
            1
        );

        // Host two becomes that address, and sends from it.
        on(two, "ip address flush dev eth0")?;
        on(two, "ip address add 10.0.0.9/24 dev eth0")?;
        for site in [one, two] {
            ask::until_healthy(&site.host)?;
        }
        assert_eq!(one.host.attempt_vnetctl(["status"])?.status, 0);
        both_ways(one, two, 2)
    });
}

#[test]
fn this_hosts_address_changes() {
    in_lab("address", |lab| {
        // Nobody has host one's later address yet, so host two complains; that is fine.
        let stage = Stage::start(lab, 2, |own| match own {
            2 => mesh_settings(Family::Ipv4, 2, 2).link("to-one-later", "10.0.0.8"),
            _ => mesh_settings(Family::Ipv4, 1, 2),
        })?;
        let (one, two) = stage.two()?;
        ask::until_healthy(&one.host)?;
        ask::until_link(&two.host, "to-one", LinkState::Up)?;
        both_ways(one, two, 1)?;
        on(one, "ip address delete 10.0.0.1/24 dev eth0")?;
        ask::until_link(&one.host, "to-two", LinkState::Unresolved)?;
        on(one, "ip address add 10.0.0.8/24 dev eth0")?;
        try_eventually("the link leaves from the new address", || {
            let link = ask::link(&one.host, "to-two")?;
            let source = link.source.map(|source| source.to_string());
            Ok(
                (link.state == LinkState::Up && source.as_deref() == Some("10.0.0.8"))
                    .then_some(()),
            )
        })?;
        let frame = numbered(guest(1), guest(2), 2, 200);
        one.guest.send(&frame)?;
        expect(&two.guest, &[frame])?;
        ask::change(
            &two.host,
            &format!(
                "rule add --network blue --to {} --link to-one-later",
                guest(1)
            ),
        )?;
        ask::until_link(&two.host, "to-one-later", LinkState::Up)?;
        let back = numbered(guest(2), guest(1), 3, 200);
        two.guest.send(&back)?;
        expect(&one.guest, &[back])
    });
}

#[test]
fn the_way_leads_over_a_gateway_and_the_route_comes_and_goes() {
    in_lab("gateway", |lab| {
        let (near, far) = (
            lab.underlay(UnderlaySettings::default())?,
            lab.underlay(UnderlaySettings::default())?,
        );
        let (one, two, router) = (lab.host("one")?, lab.host("two")?, lab.host("router")?);
        near.connect(&one, "eth0")?;
        far.connect(&two, "eth0")?;
        let (left, right) = (
            near.connect(&router, "eth0")?,
            far.connect(&router, "eth1")?,
        );
        router.sysctl("net/ipv4/ip_forward", "1")?;
        let route = |host: &lab::Host,
                     verb: &str,
                     to: &str,
                     by: Option<std::net::Ipv4Addr>|
         -> Result<()> {
            let by = by.context("the router has addresses")?;
            host.run(format!("ip route {verb} {to}/24 via {by}").split(' '))
                .map(drop)
        };
        route(&two, "add", "10.0.0.0", right.ipv4)?;

        let mut sites = Vec::new();
        for (own, host, remote) in [(1, one, "10.0.1.1"), (2, two, "10.0.0.1")] {
            let settings = Settings::new()
                .port(PORT, guest(own))
                .link("link", remote)
                .way(guest(3 - own), "link");
            let guest = host.tap_guest(PORT, guest(own))?;
            let agent = host.agent(&settings.text())?;
            sites.push(Site { agent, guest, host });
        }
        let [one, two] = &sites[..] else {
            unreachable!("two sites")
        };
        let status = ask::status(&one.host)?;
        assert!(
            status
                .problems
                .iter()
                .any(|problem| problem.message.contains("no route")),
            "{status:?}"
        );
        one.guest.send(&numbered(guest(1), guest(2), 1, 100))?;
        expect_nothing(&two.guest)?;

        for number in 2..4 {
            route(&one.host, "add", "10.0.1.0", left.ipv4)?;
            for site in [one, two] {
                ask::until_healthy(&site.host)?;
            }
            let link = ask::link(&one.host, "link")?;
            assert_eq!(link.next_hop_mac, Some(left.mac), "the router's");
            both_ways(one, two, number)?;
            route(&one.host, "delete", "10.0.1.0", left.ipv4)?;
            ask::until_link(&one.host, "link", LinkState::Unresolved)?;
        }
        // A route with a smaller MTU leaves less to the guests.
        let by = left.ipv4.context("the router has addresses")?;
        one.host
            .run(format!("ip route add 10.0.1.0/24 via {by} mtu 1300").split(' '))?;
        ask::until(&one.host, "guests have less room", |status| {
            status
                .networks
                .iter()
                .all(|network| network.mtu_bytes == Some(1222))
        })?;
        one.guest.send(&numbered(guest(1), guest(2), 4, 1237))?;
        expect_nothing(&two.guest)?;
        let fits = numbered(guest(1), guest(2), 5, 1236);
        one.guest.send(&fits)?;
        expect(&two.guest, &[fits])
    });
}

#[test]
fn the_underlay_device_appears_later_vanishes_and_returns() {
    in_lab("later", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        both_ways(one, two, 1)?;
        let uplink = one.host.uplink()?;
        on(one, "ip link delete eth0")?;
        ask::until_link(&one.host, "to-two", LinkState::Unresolved)?;
        let status = ask::status(&one.host)?;
        assert!(status.underlay.is_none());
        assert!(
            status
                .problems
                .iter()
                .any(|problem| problem.message.contains("there is no device eth0")),
            "{status:?}"
        );
        one.guest.send(&numbered(guest(1), guest(2), 2, 100))?;
        // Local things go on meanwhile, and so does host two.
        assert_eq!(status.ports, 1);

        // A new card under the old name; the bridge's end went with the old one.
        let device = stage.underlay.connect(&one.host, "eth0")?;
        let address =
            |ip: Option<std::net::Ipv4Addr>| ip.map(|ip| ip.to_string()).context("it has one");
        on(
            one,
            &format!("ip address delete {}/24 dev eth0", address(device.ipv4)?),
        )?;
        on(
            one,
            &format!("ip address add {}/24 dev eth0", address(uplink.ipv4)?),
        )?;
        ask::until_link(&one.host, "to-two", LinkState::Up)?;
        // Host two still asks for the old card, for as long as the kernel believes in it.
        on(two, "ip neighbour flush dev eth0")?;
        let _ = two
            .host
            .attempt(["ping", "-c", "1", "-W", "1", "10.0.0.1"])?;
        try_eventually("host two knows the new card", || {
            let link = ask::link(&two.host, "to-one")?;
            Ok((link.next_hop_mac == Some(device.mac)).then_some(()))
        })?;
        both_ways(one, two, 3)?;
        assert!(ask::status(&one.host)?.healthy);
        Ok(())
    });
}
