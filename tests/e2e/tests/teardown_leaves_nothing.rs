//! The promise: `vnet-agent teardown` removes every trace of ours and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use e2e::ask;
use e2e::frame::{BROADCAST, expect, expect_nothing, guest, numbered};
use e2e::stage::{PORT, Stage};
use e2e::stranger::{Program, has_program, mtu_of, pin_map};
use lab::{Host, Station, in_lab};

/// What there is to see of a host that an agent could have changed.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    devices: BTreeSet<String>,
    programs: BTreeSet<String>,
    mtus: Vec<(String, u32)>,
    pins: BTreeSet<String>,
    /// Those that the kernel keeps for us, or for anybody.
    kept_neighbours: BTreeSet<String>,
}

fn pins_under(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return found;
    };
    for entry in entries.flatten() {
        found.insert(entry.path().display().to_string());
        found.extend(pins_under(&entry.path()));
    }
    found
}

fn traces(host: &Host) -> Result<Traces> {
    let devices = host.inside(|| {
        let entries = fs::read_dir("/sys/class/net")?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<BTreeSet<_>>>()
    })??;
    let mut programs = BTreeSet::new();
    let mut mtus = Vec::new();
    for device in &devices {
        if has_program(host, device)? {
            programs.insert(device.clone());
        }
        mtus.push((device.clone(), mtu_of(host, device)?));
    }
    let neighbours = host.run(["ip", "neighbour", "show"])?.stdout;
    let kept = neighbours
        .lines()
        .filter(|line| line.contains("managed") || line.contains("PERMANENT"));
    Ok(Traces {
        programs,
        mtus,
        pins: host.inside(|| pins_under(Path::new("/sys/fs/bpf")))?,
        kept_neighbours: kept.map(str::to_owned).collect(),
        devices,
    })
}

#[test]
fn a_host_is_afterwards_as_it_was_before() {
    in_lab("nothing", |lab| {
        let underlay = lab.underlay(lab::UnderlaySettings::default())?;
        let (one, two) = (lab.host("one")?, lab.host("two")?);
        for host in [&one, &two] {
            underlay.connect(host, "eth0")?;
        }
        let guest_one = one.tap_guest(PORT, guest(1))?;
        let _cable = one.namespace_guest(Station::new("veth1", guest(3)).mtu(1500))?;
        let before = traces(&one)?;
        let settings =
            e2e::stage::mesh_settings(e2e::stage::Family::Ipv4, 1, 2).port("veth1", guest(3));
        let mut agent = one.agent(&settings.text())?;
        ask::until_healthy(&one)?;
        let during = traces(&one)?;
        assert_ne!(during, before);
        assert!(during.devices.contains("vnet-slow"), "{during:?}");
        assert_eq!(during.programs.len(), 4, "{during:?}");
        assert_eq!(during.kept_neighbours.len(), 1, "{during:?}");
        assert_eq!(mtu_of(&one, PORT)?, 1422);

        // Not while it runs.
        let refused = agent.attempt("teardown")?;
        assert_eq!(refused.status, 1);
        let pid = agent.id().context("it runs")?.to_string();
        assert!(
            refused.stderr.contains(&pid),
            "it names the holder: {}",
            refused.stderr
        );
        assert_eq!(traces(&one)?, during);

        agent.terminate()?;
        let done = agent.attempt("teardown")?.successful()?;
        assert!(
            done.stdout.contains(
                "programs, 16 tables, 1 neighbour entries, the agent's tap; put back: 1 MTUs"
            ),
            "{}",
            done.stdout
        );
        let after = traces(&one)?;
        assert_eq!(after, before);
        guest_one.send(&numbered(guest(1), guest(2), 1, 100))?;

        // Once more finds nothing, and says so.
        let again = agent.attempt("teardown")?.successful()?;
        assert!(
            again
                .stdout
                .starts_with("removed: 0 programs, 0 tables, 0 neighbour entries, no tap"),
            "{}",
            again.stdout
        );
        // And a new start begins anew.
        agent.restart()?;
        ask::until_healthy(&one)?;
        assert_eq!(ask::stats(&one)?.ports[0].ledger.received_packets, 0);
        Ok(())
    });
}

#[test]
fn what_is_not_ours_stays() {
    in_lab("foreign", |lab| {
        let mut stage = Stage::pair(lab)?;
        let site = stage.site(1)?;
        let host = site.host.clone();
        host.run("ip link add other type veth peer name far".split(' '))?;
        host.run("ip link set other up".split(' '))?;
        let _theirs = Program::on(&host, "other")?;
        host.run(
            "ip neighbour add 10.0.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent".split(' '),
        )?;
        // In the pin directory, and beside it.
        for path in ["/sys/fs/bpf/vnet/theirs", "/sys/fs/bpf/theirs"] {
            pin_map(&host, path)?;
        }
        host.run("ip tuntap add vnet-other mode tap".split(' '))?;
        site.agent.terminate()?;
        let done = site.agent.attempt("teardown")?;
        assert_eq!(done.status, 1, "{}{}", done.stdout, done.stderr);
        assert!(
            done.stderr
                .contains("/sys/fs/bpf/vnet has something in it that is not ours"),
            "{}",
            done.stderr
        );

        let after = traces(&host)?;
        assert_eq!(after.programs, BTreeSet::from(["other".to_owned()]));
        assert!(
            after.devices.contains("vnet-other") && !after.devices.contains("vnet-slow"),
            "{after:?}"
        );
        let left = [
            // The kernel's own.
            "/sys/fs/bpf/maps.debug",
            "/sys/fs/bpf/progs.debug",
            "/sys/fs/bpf/theirs",
            "/sys/fs/bpf/vnet",
            "/sys/fs/bpf/vnet/theirs",
        ];
        assert_eq!(after.pins, left.map(str::to_owned).into());
        assert_eq!(after.kept_neighbours.len(), 1, "{after:?}");
        assert!(
            after
                .kept_neighbours
                .iter()
                .all(|line| line.starts_with("10.0.0.77 ")),
            "{after:?}"
        );

        // What is left of theirs does not keep a new agent from starting.
        site.agent.restart()?;
        ask::until_healthy(&host)?;
        Ok(())
    });
}

#[test]
fn frames_end_with_the_data_plane_and_begin_with_the_next() {
    in_lab("begin", |lab| {
        let mut stage = Stage::pair(lab)?;
        let frame = numbered(guest(1), guest(2), 1, 100);
        let site = stage.site(1)?;
        site.agent.kill();
        site.agent.attempt("teardown")?.successful()?;
        let (one, two) = stage.two()?;
        one.guest.send(&frame)?;
        one.guest.send(&numbered(guest(1), BROADCAST, 1, 100))?;
        expect_nothing(&two.guest)?;
        stage.site(1)?.agent.restart()?;
        let (one, two) = stage.two()?;
        ask::until_healthy(&one.host)?;
        one.guest.send(&frame)?;
        expect(&two.guest, &[frame])
    });
}
