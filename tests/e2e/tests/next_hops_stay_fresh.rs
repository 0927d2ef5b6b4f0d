//! The promise: the agent knows the next hop to each destination, by whichever way the kernel
//! would go, and the kernel keeps its Ethernet address fresh though it sees no packet of ours.

mod namespace;

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use namespace::{Elsewhere, alone, run, start, sysctl, until};
use tokio::sync::watch;
use vnet_agent::model::host::Host;
use vnet_agent::model::next_hop::{NextHop, NoNextHop};
use vnet_agent::world::netlink::{Freshness, Options, Watcher, release_neighbours};
use vnet_common::addr::Mac;

const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const MOVED: Mac = Mac([2, 0, 0, 0, 0, 3]);

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// A cable from `here` (10.0.0.1, 2001:db8::1) to `there` (10.0.0.2, 2001:db8::2), in another
/// namespace.
fn cable() -> Elsewhere {
    let elsewhere = Elsewhere::new();
    run("ip link add here type veth peer name there address 02:00:00:00:00:02");
    elsewhere.take("there");
    run("ip addr add 10.0.0.1/24 dev here");
    run("ip addr add 2001:db8::1/64 dev here nodad");
    run("ip link set here up");
    elsewhere.inside(|| {
        // Who changes its Ethernet address says so.
        sysctl("ipv4/conf/there/arp_notify", "1");
        sysctl("ipv6/conf/there/ndisc_notify", "1");
        run("ip addr add 10.0.0.2/24 dev there");
        run("ip addr add 2001:db8::2/64 dev there nodad");
        run("ip link set there up");
    });
    // Such news are believed at once, not only a second after the last.
    sysctl("ipv4/neigh/here/locktime", "0");
    elsewhere
}

async fn until_hop(
    host: &mut watch::Receiver<Arc<Host>>,
    destination: &str,
    is_so: impl Fn(&Result<NextHop, NoNextHop>) -> bool,
) -> Arc<Host> {
    let destination = ip(destination);
    until(host, |host| {
        host.next_hops.get(&destination).is_some_and(&is_so)
    })
    .await
}

fn leads_to(mac: Mac) -> impl Fn(&Result<NextHop, NoNextHop>) -> bool {
    move |hop| hop.is_ok_and(|hop| hop.mac == mac)
}

fn neighbours() -> String {
    let child = start(
        Command::new("ip")
            .args(["neigh", "show"])
            .stdout(Stdio::piped()),
    );
    let output = child.wait_with_output().expect("ip");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_neighbour_is_resolved_and_followed_to_another_card() {
    alone(|| async {
        let elsewhere = cable();
        let destinations = [ip("10.0.0.2"), ip("2001:db8::2")];
        let (_watcher, mut host) = Watcher::start(destinations.to_vec()).await.unwrap();
        for (destination, source) in [("10.0.0.2", "10.0.0.1"), ("2001:db8::2", "2001:db8::1")] {
            let seen = until_hop(&mut host, destination, Result::is_ok).await;
            let ifindex = seen.device_named("here").unwrap().index;
            let source = ip(source);
            let hop = NextHop {
                ifindex,
                source,
                mac: OTHER,
                gateway: None,
                mtu: 1500,
            };
            assert_eq!(seen.next_hops[&ip(destination)], Ok(hop));
        }
        elsewhere.run("ip link set there address 02:00:00:00:00:03");
        for destination in ["10.0.0.2", "2001:db8::2"] {
            until_hop(&mut host, destination, leads_to(MOVED)).await;
        }
    });
}

#[test]
fn the_next_hop_follows_the_routes() {
    alone(|| async {
        let elsewhere = cable();
        elsewhere.run("ip addr add 10.0.0.3/24 dev there");
        let far = "192.0.2.1";
        let (_watcher, mut host) = Watcher::start(vec![ip(far)]).await.unwrap();
        assert_eq!(host.borrow().next_hops[&ip(far)], Err(NoNextHop::NoRoute));

        run("ip route add 192.0.2.0/24 via 10.0.0.2 mtu 1300");
        let seen = until_hop(&mut host, far, Result::is_ok).await;
        let hop = seen.next_hops[&ip(far)].unwrap();
        assert_eq!(
            (hop.gateway, hop.mac, hop.mtu),
            (Some(ip("10.0.0.2")), OTHER, 1300)
        );
        assert_eq!(hop.source, ip("10.0.0.1"));

        run("ip addr add 10.9.9.9/32 dev here");
        run("ip route replace 192.0.2.0/24 via 10.0.0.3 src 10.9.9.9");
        let other_way = |hop: &Result<NextHop, _>| {
            hop.is_ok_and(|hop| hop.gateway == Some(ip("10.0.0.3")) && hop.source == ip("10.9.9.9"))
        };
        until_hop(&mut host, far, other_way).await;

        run("ip route replace 192.0.2.0/24 via inet6 2001:db8::2 dev here");
        let by_ipv6 = |hop: &Result<NextHop, _>| {
            hop.is_ok_and(|hop| hop.gateway == Some(ip("2001:db8::2")) && hop.mac == OTHER)
        };
        until_hop(&mut host, far, by_ipv6).await;

        run("ip route replace unreachable 192.0.2.0/24");
        until_hop(&mut host, far, |hop| *hop == Err(NoNextHop::NoRoute)).await;
        run("ip route del unreachable 192.0.2.0/24");
        run("ip route add default via 10.0.0.2");
        until_hop(&mut host, far, Result::is_ok).await;
        run("ip link set here down");
        until_hop(&mut host, far, |hop| *hop == Err(NoNextHop::NoRoute)).await;
        run("ip link set here up");
        run("ip route add default via 10.0.0.2");
        until_hop(&mut host, far, Result::is_ok).await;
    });
}

#[test]
fn the_next_hop_follows_what_changes_without_a_word_about_the_route() {
    alone(|| async {
        let elsewhere = cable();
        elsewhere.run("ip addr add 10.0.0.3/24 dev there");
        let far = "192.0.2.1";
        let by = |gateway: &str| {
            let gateway = Some(ip(gateway));
            move |hop: &Result<NextHop, _>| hop.is_ok_and(|hop| hop.gateway == gateway)
        };
        let (_watcher, mut host) = Watcher::start(vec![ip(far)]).await.unwrap();
        run("ip nexthop add id 1 via 10.0.0.2 dev here");
        run("ip route replace 192.0.2.0/24 nhid 1");
        until_hop(&mut host, far, by("10.0.0.2")).await;
        run("ip nexthop replace id 1 via 10.0.0.3 dev here");
        until_hop(&mut host, far, by("10.0.0.3")).await;
        run("ip rule add to 192.0.2.1 blackhole");
        until_hop(&mut host, far, |hop| *hop == Err(NoNextHop::NoRoute)).await;
        run("ip rule del to 192.0.2.1 blackhole");
        until_hop(&mut host, far, Result::is_ok).await;
    });
}

#[test]
fn each_reason_for_no_next_hop_is_told() {
    alone(|| async {
        let _elsewhere = cable();
        // One question, of a tenth of a second.
        for setting in ["mcast_solicit", "ucast_solicit"] {
            sysctl(&format!("ipv4/neigh/here/{setting}"), "1");
        }
        sysctl("ipv4/neigh/here/retrans_time_ms", "100");
        run("ip tuntap add tunnel mode tun");
        run("ip addr add 10.5.0.1/24 dev tunnel");
        run("ip link set tunnel up");
        let (watcher, mut host) = Watcher::start(vec![ip("10.0.0.77")]).await.unwrap();
        let hops = host.borrow().next_hops.clone();
        assert_eq!(
            hops[&ip("10.0.0.77")],
            Err(NoNextHop::Resolving),
            "there is no such station"
        );
        until_hop(&mut host, "10.0.0.77", |hop| *hop == Err(NoNextHop::Failed)).await;

        watcher.follow([
            ip("10.0.0.1"),
            ip("10.5.0.2"),
            ip("203.0.113.1"),
            ip("10.0.0.2"),
        ]);
        let seen = until_hop(&mut host, "10.0.0.2", Result::is_ok).await;
        assert_eq!(
            seen.next_hops[&ip("10.0.0.1")],
            Err(NoNextHop::NoLinkLayer),
            "this host"
        );
        assert_eq!(
            seen.next_hops[&ip("10.5.0.2")],
            Err(NoNextHop::NoLinkLayer),
            "a tunnel"
        );
        assert_eq!(seen.next_hops[&ip("203.0.113.1")], Err(NoNextHop::NoRoute));
        assert_eq!(
            seen.next_hops.get(&ip("10.0.0.77")),
            None,
            "not followed any more"
        );
        assert!(!neighbours().contains("10.0.0.77"), "nor kept fresh");
    });
}

#[test]
fn a_station_that_answers_late_is_found() {
    alone(|| async {
        let elsewhere = cable();
        for setting in ["mcast_solicit", "ucast_solicit"] {
            sysctl(&format!("ipv4/neigh/here/{setting}"), "1");
        }
        sysctl("ipv4/neigh/here/retrans_time_ms", "100");
        let (_watcher, mut host) = Watcher::start(vec![ip("10.0.0.5")]).await.unwrap();
        until_hop(&mut host, "10.0.0.5", |hop| *hop == Err(NoNextHop::Failed)).await;
        elsewhere.run("ip addr add 10.0.0.5/24 dev there");
        until_hop(&mut host, "10.0.0.5", leads_to(OTHER)).await;
    });
}

#[test]
fn the_kernel_is_told_to_keep_it_fresh_until_it_is_let_go() {
    alone(|| async {
        let _elsewhere = cable();
        run("ip neigh add 10.0.0.8 lladdr 02:00:00:00:00:08 dev here nud permanent");
        run("ip neigh add 10.0.0.9 dev here managed");
        let destinations = ["10.0.0.2", "10.0.0.8", "10.0.0.9"].map(ip);
        let (watcher, mut host) = Watcher::start(destinations.to_vec()).await.unwrap();
        until_hop(&mut host, "10.0.0.2", leads_to(OTHER)).await;
        until_hop(&mut host, "10.0.0.8", leads_to(Mac([2, 0, 0, 0, 0, 8]))).await;
        let ours = |line: &&str| line.contains("managed") && line.contains("proto 118");
        let list = neighbours();
        assert_eq!(list.lines().filter(ours).count(), 1, "{list}");

        // An administrator removes it: it is asked for anew.
        run("ip neigh del 10.0.0.2 dev here");
        until_hop(&mut host, "10.0.0.2", |hop| {
            *hop == Err(NoNextHop::Resolving)
        })
        .await;
        until_hop(&mut host, "10.0.0.2", Result::is_ok).await;

        // The agent ends, the neighbour stays fresh, and the next agent knows it again.
        let requests = watcher.requests().clone();
        drop(watcher);
        let list = neighbours();
        assert_eq!(list.lines().filter(ours).count(), 1, "{list}");
        let (watcher, mut host) = Watcher::start(vec![]).await.unwrap();
        assert_eq!(
            neighbours().lines().filter(ours).count(),
            1,
            "nothing is known to be unwanted"
        );
        watcher.follow([ip("2001:db8::2")]);
        until_hop(&mut host, "2001:db8::2", Result::is_ok).await;
        let list = neighbours();
        assert!(!list.contains("10.0.0.2 "), "{list}");
        assert_eq!(list.lines().filter(ours).count(), 1, "{list}");

        drop(watcher);
        assert_eq!(release_neighbours(&requests).await.unwrap(), 1);
        let list = neighbours();
        assert_eq!(list.lines().filter(ours).count(), 0, "{list}");
        assert!(
            list.lines()
                .any(|l| l.contains("10.0.0.8") && l.contains("PERMANENT")),
            "{list}"
        );
        assert!(
            list.lines()
                .any(|l| l.contains("10.0.0.9") && l.contains("managed")),
            "{list}"
        );
        assert_eq!(release_neighbours(&requests).await.unwrap(), 0);
    });
}

#[test]
fn what_an_administrator_makes_permanent_stays_so() {
    alone(|| async {
        let _elsewhere = cable();
        let (watcher, mut host) = Watcher::start(vec![ip("10.0.0.2")]).await.unwrap();
        until_hop(&mut host, "10.0.0.2", leads_to(OTHER)).await;
        run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:44 dev here nud permanent");
        until_hop(&mut host, "10.0.0.2", leads_to(Mac([2, 0, 0, 0, 0, 0x44]))).await;
        watcher.follow([ip("2001:db8::2")]);
        until_hop(&mut host, "2001:db8::2", Result::is_ok).await;
        release_neighbours(watcher.requests()).await.unwrap();
        let list = neighbours();
        assert!(
            list.contains("10.0.0.2 dev here lladdr 02:00:00:00:00:44 PERMANENT"),
            "{list}"
        );
    });
}

#[test]
fn a_kernel_that_cannot_keep_neighbours_fresh_is_told_that_they_are_used() {
    alone(|| async {
        let elsewhere = cable();
        let options = Options {
            freshness: Freshness::Used,
            ..Options::default()
        };
        let (_watcher, mut host) = Watcher::start_with(options, vec![ip("10.0.0.2")])
            .await
            .unwrap();
        until_hop(&mut host, "10.0.0.2", leads_to(OTHER)).await;
        assert!(!neighbours().contains("managed"));
        elsewhere.run("ip link set there address 02:00:00:00:00:03");
        until_hop(&mut host, "10.0.0.2", leads_to(MOVED)).await;
        run("ip neigh flush dev here");
        until_hop(&mut host, "10.0.0.2", |hop| {
            *hop == Err(NoNextHop::Resolving)
        })
        .await;
        until_hop(&mut host, "10.0.0.2", leads_to(MOVED)).await;
    });
}
