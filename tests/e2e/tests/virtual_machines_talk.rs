//! The promise that all others serve: two virtual machines on two hosts share an Ethernet. They
//! find each other, a file crosses unchanged, and between the hosts all of it is Geneve.

use anyhow::{Context, Result};
use e2e::frame::guest;
use e2e::settings::BLUE_ID;
use e2e::stage::{DEVICE, Family, PORT, mesh_settings, name};
use e2e::{ask, books};
use lab::{Host, Station, UnderlaySettings, VmGuest, in_lab};

/// The underlay's 1500 bytes less IPv4 20, UDP 8, Geneve 8 with option 28, Ethernet 14.
const MTU: u32 = 1422;
const BYTES: u64 = 16 << 20;

fn boot(host: &Host, number: u8) -> Result<VmGuest> {
    let station = Station::new(PORT, guest(number)).mtu(MTU);
    host.vm_guest(station.address(&format!("10.9.0.{number}/24")))
}

#[test]
fn a_ping_and_a_file_cross_between_two_hosts() {
    in_lab("vms", |lab| {
        let underlay = lab.underlay(UnderlaySettings::default())?;
        let (one, two) = (lab.host(name(1))?, lab.host(name(2))?);
        let mut agents = Vec::new();
        for (own, host) in [(1, &one), (2, &two)] {
            underlay.connect(host, DEVICE)?;
            agents.push(host.agent(&mesh_settings(Family::Ipv4, own, 2).text())?);
        }
        let (vm_one, vm_two) = std::thread::scope(|scope| {
            let first = scope.spawn(|| boot(&one, 1));
            let second = boot(&two, 2);
            first.join().map(|first| (first, second))
        })
        .ok()
        .context("booting panicked")?;
        let (vm_one, vm_two) = (vm_one?, vm_two?);
        for host in [&one, &two] {
            ask::until(host, "its machine's port forwards", |status| {
                status.healthy && status.ports == 1
            })?;
        }

        let capture = underlay.capture_at(&one.uplink()?, "udp port 6081")?;
        vm_one.run("ping -c 3 -W 10 10.9.0.2")?;
        // As long as the guests' MTU allows, without fragments.
        vm_two.run(&format!("ping -c 3 -W 10 -s {} 10.9.0.1", MTU - 28))?;
        let text = capture.stop()?.decode(&["-nn", "-v", "-t"])?;
        for words in [
            "Geneve".to_owned(),
            format!("vni {BLUE_ID:#x}"),
            "10.0.0.1.".to_owned(),
            "ICMP echo request".to_owned(),
            "ARP, Ethernet".to_owned(),
        ] {
            assert!(text.contains(&words), "`{words}` is not in: {text}");
        }
        let neighbours = vm_one.run("ip neigh show dev eth0")?.stdout;
        assert!(neighbours.contains(&guest(2).to_string()), "{neighbours}");

        let there = vm_one.send_file(&vm_two, "10.9.0.2", BYTES)?;
        assert_eq!(there.bytes, BYTES);
        // And back, while the agent of one host is killed and started again.
        agents[0].kill();
        let back = vm_two.send_file(&vm_one, "10.9.0.1", BYTES)?;
        assert_eq!(back.bytes, BYTES);
        agents[0].restart()?;
        vm_one.run("ping -c 1 -W 10 10.9.0.2")?;

        let (at_one, at_two) = (books::settled(&one)?, books::settled(&two)?);
        books::check_pair(&at_one, "to-two", &at_two, "to-one")?;
        books::check_pair(&at_two, "to-one", &at_one, "to-two")
    });
}
