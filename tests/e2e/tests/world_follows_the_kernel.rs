//! The promise: what the agent knows of devices and addresses is what the kernel knows, soon
//! after it has changed, and also after events were lost.

mod namespace;

use std::time::Duration;

use namespace::{Elsewhere, alone, batch, run, sysctl, until, until_true};
use vnet_agent::model::host::{DeviceKind, Host};
use vnet_agent::world::netlink::{Options, Requests, Watcher};
use vnet_common::addr::Mac;

#[test]
fn a_device_appears_changes_and_vanishes() {
    alone(|| async {
        let (_watcher, mut host) = Watcher::start(vec![]).await.unwrap();
        assert_eq!(
            host.borrow().device_named("lo").unwrap().kind,
            DeviceKind::Loopback
        );

        run("ip link add one type veth peer name two");
        let seen = until(&mut host, |host| host.device_named("two").is_some()).await;
        let one = seen.device_named("one").unwrap();
        assert_eq!(
            (one.kind.clone(), one.up, one.mtu),
            (DeviceKind::Veth, false, 1500)
        );
        let index = one.index;

        run("ip link set one mtu 1400 address 02:00:00:00:00:07 up");
        run("ip link set two up");
        let seen = until(&mut host, |host| host.devices[&index].running).await;
        let one = &seen.devices[&index];
        assert_eq!((one.up, one.mtu), (true, 1400));
        assert_eq!(one.mac, Some(Mac([2, 0, 0, 0, 0, 7])));

        run("ip link set two down");
        until(&mut host, |host| !host.devices[&index].running).await;
        run("ip link set one down");
        run("ip link set one name renamed");
        let seen = until(&mut host, |host| host.device_named("renamed").is_some()).await;
        assert_eq!(seen.device_named("renamed").unwrap().index, index);
        assert!(seen.device_named("one").is_none());

        run("ip link del renamed");
        until(&mut host, |host| !host.devices.contains_key(&index)).await;
        until_true(&mut host).await;
    });
}

#[test]
fn a_device_that_leaves_a_bridge_is_still_there() {
    alone(|| async {
        let (_watcher, mut host) = Watcher::start(vec![]).await.unwrap();
        run("ip link add bridge type bridge");
        run("ip link add one type veth peer name two");
        run("ip link set one master bridge");
        let has_master = |host: &Host| host.device_named("one").is_some_and(|d| d.master.is_some());
        let seen = until(&mut host, has_master).await;
        let bridge = seen.device_named("bridge").unwrap();
        assert_eq!(bridge.kind, DeviceKind::Bridge);
        assert_eq!(seen.device_named("one").unwrap().master, Some(bridge.index));
        run("ip link set one nomaster");
        let seen = until(&mut host, |host| !has_master(host)).await;
        assert!(seen.device_named("one").is_some());
        until_true(&mut host).await;
    });
}

#[test]
fn a_device_that_moves_to_another_namespace_is_gone() {
    alone(|| async {
        let (_watcher, mut host) = Watcher::start(vec![]).await.unwrap();
        run("ip link add one type veth peer name two");
        until(&mut host, |host| host.device_named("two").is_some()).await;
        let elsewhere = Elsewhere::new();
        elsewhere.take("two");
        let seen = until(&mut host, |host| host.device_named("two").is_none()).await;
        assert!(seen.device_named("one").is_some());
    });
}

#[test]
fn addresses_come_and_go_in_the_order_of_the_kernel() {
    alone(|| async {
        run("ip link add one type veth peer name two");
        run("ip link set one up");
        run("ip link set two up");
        let (_watcher, mut host) = Watcher::start(vec![]).await.unwrap();
        // A walk through additions and removals that is the same each time: primaries and
        // secondaries of three subnets, two scopes, IPv6 among them.
        let mut state = 1_u64;
        let mut choose = |among: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % among
        };
        for round in 0..30 {
            sysctl(
                "ipv4/conf/all/promote_secondaries",
                if round % 2 == 0 { "0" } else { "1" },
            );
            let commands: Vec<_> = (0..8)
                .map(|_| {
                    let (verb, device) = (
                        ["add", "add", "del"][choose(3) as usize],
                        ["one", "two"][choose(2) as usize],
                    );
                    let (subnet, station) = (choose(3), choose(4) + 1);
                    let scope = ["global", "link"][(subnet % 2) as usize];
                    match choose(3) {
                        0 => format!(
                            "addr {verb} 2001:db8:{subnet}::{station}/64 dev {device} nodad"
                        ),
                        1 => format!("addr {verb} fe80::{subnet}:{station}/64 dev {device} nodad"),
                        _ => format!(
                            "addr {verb} 10.0.{subnet}.{station}/24 dev {device} scope {scope}"
                        ),
                    }
                })
                .collect();
            // Some add what is there or remove what is not; the kernel refuses, which is fine.
            batch(&commands);
            until_true(&mut host).await;
        }
        run("ip link del one");
        until(&mut host, |host| host.device_named("one").is_none()).await;
        until_true(&mut host).await;
    });
}

#[test]
fn nothing_is_lost_for_good_when_events_are() {
    alone(|| async {
        let options = Options {
            receive_buffer_bytes: 4096,
            resync_interval: Duration::from_millis(100),
            ..Options::default()
        };
        let (watcher, mut host) = Watcher::start_with(options, vec![]).await.unwrap();
        let mut commands = Vec::new();
        for device in 0..100 {
            commands.push(format!(
                "link add left{device} type veth peer name right{device}"
            ));
            commands.push(format!("addr add 10.1.{device}.1/24 dev left{device}"));
            commands.push(format!(
                "neigh add 10.1.{device}.2 lladdr 02:00:00:00:00:02 dev left{device}"
            ));
        }
        // On, off, renamed, and every other one gone again: thousands of events, while the
        // watcher does not run because this thread waits for `ip`.
        for device in 0..100 {
            for _ in 0..5 {
                commands.push(format!("link set left{device} up"));
                commands.push(format!("link set right{device} up"));
                commands.push(format!("link set left{device} down"));
            }
            if device % 2 == 0 {
                commands.push(format!("link del left{device}"));
            } else {
                commands.push(format!("link set left{device} name kept{device}"));
            }
        }
        assert!(batch(&commands));
        assert_eq!(until_true(&mut host).await.devices.len(), 101);
        let counts = watcher.counts();
        assert!(counts.overruns > 0, "the buffer was to be too small");
        assert!(counts.resyncs > 0);

        run("ip link del kept1");
        until(&mut host, |host| host.device_named("kept1").is_none()).await;
    });
}

#[test]
fn a_large_buffer_holds_a_storm() {
    alone(|| async {
        let (watcher, mut host) = Watcher::start(vec![]).await.unwrap();
        run("ip link add one type veth peer name two");
        let commands: Vec<_> = (0..2000)
            .map(|mtu| format!("link set one mtu {}", 1300 + mtu % 100))
            .chain(["link set one mtu 1234".to_owned()])
            .collect();
        assert!(batch(&commands));
        until(&mut host, |host| {
            host.device_named("one").is_some_and(|d| d.mtu == 1234)
        })
        .await;
        assert_eq!(watcher.counts().overruns, 0);
    });
}

#[test]
fn the_mtu_is_set_or_the_kernel_says_why_not() {
    alone(|| async {
        run("ip link add one type veth peer name two");
        let requests = Requests::open().unwrap();
        let one = requests.device_named("one").await.unwrap().unwrap();
        assert!(!one.up);
        requests.set_mtu(one.index, 1430).await.unwrap();
        requests.set_up(one.index).await.unwrap();
        let now = requests.device(one.index).await.unwrap().unwrap();
        assert_eq!((now.mtu, now.up), (1430, true));

        let error = requests.set_mtu(one.index, 10).await.unwrap_err();
        assert_eq!(error.errno(), Some(nix::libc::EINVAL));
        assert!(
            error.to_string().contains("mtu less than device minimum"),
            "{error}"
        );
        let error = requests.set_mtu(9999, 1430).await.unwrap_err();
        assert_eq!(error.errno(), Some(nix::libc::ENODEV), "{error}");
        assert!(requests.device(9999).await.unwrap().is_none());
        assert!(requests.device_named("three").await.unwrap().is_none());
    });
}
