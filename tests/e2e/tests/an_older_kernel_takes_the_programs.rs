//! The promise: on Debian's kernel (6.1 on bookworm) the agent does what it does on this one. Two
//! hosts inside a virtual machine: guests of both kinds reach each other, every frame is accounted
//! for, those that the kernel refuses too, a trace tells the truth, and frames cross while no
//! agent runs. At the TC door too, which has no BPF links there: doors change without loss, and
//! nothing is left in the end.

use std::time::Duration;

use anyhow::Result;
use e2e::frame::{guest, number_of, numbered};
use e2e::stage::{Family, Site, Stage, link_to, mesh_settings};
use e2e::stream::during;
use e2e::{ask, books, signal};
use lab::{Lab, Luggage, Mac, NamespaceGuest, Station, TapGuest, in_lab, on_debians_kernel};
use vnet_agent::api::{TraceReport, Verdict};

/// The port of the guests with an IP stack.
const STACK: &str = "veth0";
const FRAMES: u64 = 100;
/// Frames of a stream after each change of doors.
const FLOW: u64 = 500;
/// Nothing more is on its way when nothing came for this long, on an emulated processor.
const QUIET: Duration = Duration::from_secs(1);

/// The guest with an IP stack on this host.
const fn stack(host: u8) -> Mac {
    guest(10 + host)
}

/// Two hosts, each with a guest on a tap and one with an IP stack.
fn stage(lab: &Lab) -> Result<(Stage, [NamespaceGuest; 2])> {
    let stage = Stage::new(lab, 2, |own| {
        let other = 3 - own;
        mesh_settings(Family::Ipv4, own, 2)
            .port(STACK, stack(own))
            .way(stack(other), &link_to(other))
    })?;
    let (one, two) = stage.two()?;
    let guests = [join(one, 1)?, join(two, 2)?];
    Ok((stage, guests))
}

fn join(site: &Site, host: u8) -> Result<NamespaceGuest> {
    let station = Station::new(STACK, stack(host)).address(&format!("10.9.0.{host}/24"));
    let guest = site.host.namespace_guest(station)?;
    ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
    Ok(guest)
}

fn numbered_frames(from: Mac, to: Mac) -> impl Iterator<Item = Vec<u8>> {
    (0..FRAMES).map(move |number| numbered(from, to, number, 100))
}

fn frames_cross(one: &Site, two: &Site) -> Result<()> {
    for (from, to) in [(&one.guest, &two.guest), (&two.guest, &one.guest)] {
        let frames: Vec<_> = numbered_frames(from.mac(), to.mac()).collect();
        frames.iter().try_for_each(|frame| from.send(frame))?;
        assert_eq!(received(to)?, frames);
    }
    Ok(())
}

/// The numbered frames that wait at the guest or are on their way. It hears more than these: what
/// the guests with an IP stack say to everybody.
fn received(guest: &TapGuest) -> Result<Vec<Vec<u8>>> {
    let mut frames = guest.receive_all_until_quiet(QUIET)?;
    frames.retain(|frame| number_of(frame).is_some());
    Ok(frames)
}

fn all_is_well(site: &Site) -> Result<()> {
    let status = ask::until_healthy(&site.host)?;
    assert!(status.redirect_failures.is_on(), "{status:?}");
    assert_eq!(status.problems, [], "{status:?}");
    Ok(())
}

fn books_add_up(one: &Site, two: &Site) -> Result<()> {
    let stats = [books::check_host(&one.host)?, books::check_host(&two.host)?];
    books::check_pair(&stats[0], "to-two", &stats[1], "to-one")?;
    books::check_pair(&stats[1], "to-one", &stats[0], "to-two")?;
    for stats in &stats {
        let tap = books::port(stats, "tap0")?;
        assert!(
            tap.received_packets >= FRAMES && tap.refused == 0,
            "{tap:?}"
        );
        assert!(
            stats.agent.taken > 0,
            "the ping began with a broadcast: {stats:?}"
        );
    }
    Ok(())
}

/// Frames into a cable whose other end is down.
fn refused_frames_are_counted(site: &Site, host: u8) -> Result<()> {
    let refused = || anyhow::Ok(books::port(&books::check_host(&site.host)?, STACK)?.refused);
    let before = refused()?;
    numbered_frames(guest(host), stack(host)).try_for_each(|frame| site.guest.send(&frame))?;
    assert_eq!(refused()? - before, FRAMES);
    Ok(())
}

fn a_trace_tells_the_truth(site: &Site) -> Result<()> {
    let (source, destination) = (guest(1).to_string(), guest(2).to_string());
    let verb = ["trace", "--source", &source, "--destination", &destination];
    let report: TraceReport = ask::ask(&site.host, &verb)?;
    assert_eq!(report.verdict, Verdict::Forwarded, "{report:?}");
    assert_eq!(report.agree, Some(true), "{report:?}");
    Ok(())
}

const DEVICES: [&str; 3] = ["tap0", "eth0", "vnet-slow"];

/// Those of our devices for which the kernel's answer has these words.
fn devices_with(site: &Site, question: &[&str], words: &str) -> Result<Vec<&'static str>> {
    let is_so = |device: &str| {
        let place = if question.contains(&"filter") {
            &["ingress"][..]
        } else {
            &[]
        };
        let line = [question, &["dev", device], place].concat();
        let output = site.host.attempt(&line)?;
        anyhow::Ok(output.stdout.contains(words))
    };
    let mut found = Vec::new();
    for device in DEVICES {
        if is_so(device)? {
            found.push(device);
        }
    }
    Ok(found)
}

/// The devices with a filter of ours.
fn with_filter(site: &Site) -> Result<Vec<&'static str>> {
    devices_with(site, &["tc", "filter", "show"], "_tc ")
}

/// The devices with anybody's discipline for filters.
fn with_discipline(site: &Site) -> Result<Vec<&'static str>> {
    devices_with(site, &["tc", "qdisc", "show"], "clsact")
}

/// The settings of this host, with all doors like this.
fn with_doors(own: u8, door: &str) -> String {
    let settings = mesh_settings(Family::Ipv4, own, 2).text();
    settings.replace("door = \"xdp\"", &format!("door = \"{door}\""))
}

fn change_doors(own: u8, site: &Site, door: &str) -> Result<()> {
    site.agent.write_settings(&with_doors(own, door))?;
    signal::reload(&site.agent)?;
    ask::until(&site.host, "the doors are as wanted", |status| {
        status.doors.iter().all(|status| status.door.word() == door)
    })?;
    let expected = if door == "tc" { &DEVICES[..] } else { &[] };
    assert_eq!(with_filter(site)?, expected);
    Ok(())
}

fn doors_change(one: &Site, two: &Site) -> Result<()> {
    // Somebody's, before there is one of ours.
    two.host
        .run("tc qdisc add dev tap0 clsact".split_whitespace())?;
    let outcome = during(&one.guest, &two.guest, |stream| {
        for door in ["tc", "xdp", "tc"] {
            change_doors(1, one, door)?;
            change_doors(2, two, door)?;
            stream.flow_on(FLOW)?;
            if door == "xdp" {
                assert_eq!(with_discipline(one)?, [""; 0]);
                assert_eq!(with_discipline(two)?, ["tap0"]);
            }
        }
        Ok(())
    })?;
    outcome.must_be_perfect(3 * FLOW)?;
    Ok(())
}

/// What somebody put on a device of ours stays, and so does what that stands on.
fn teardown(stage: &mut Stage) -> Result<()> {
    let site = stage.site(1)?;
    site.agent.kill();
    // It matches nothing; without it the discipline would be of no use.
    let other = "tc filter add dev eth0 egress bpf bytecode";
    let line: Vec<_> = other.split_whitespace().chain(["1,6 0 0 0,"]).collect();
    site.host.run(line)?;
    site.agent.attempt("teardown")?.successful()?;
    assert_eq!(with_filter(site)?, [""; 0]);
    assert_eq!(with_discipline(site)?, ["eth0"], "somebody needs it");
    let shown = site
        .host
        .run("tc filter show dev eth0 egress".split_whitespace())?;
    assert!(shown.stdout.contains("bytecode"), "{}", shown.stdout);
    Ok(())
}

/// Filters: there are no links for that door.
#[test]
fn doors_at_tc_are_opened_changed_and_closed() {
    let name = "doors_at_tc_are_opened_changed_and_closed";
    let luggage = || Luggage::for_a_lab()?.tool("tc");
    on_debians_kernel(name, luggage, || {
        in_lab("older-tc", |lab| {
            let mut stage = Stage::pair(lab)?;
            let (one, two) = stage.two()?;
            doors_change(one, two)?;
            stage.site(1)?.agent.kill();
            let (one, two) = stage.two()?;
            frames_cross(one, two)?;
            stage.site(1)?.agent.restart()?;
            let (one, two) = stage.two()?;
            frames_cross(one, two)?;
            assert_eq!(with_filter(one)?, DEVICES, "taken over, not doubled");
            teardown(&mut stage)
        });
        Ok(())
    });
}

#[test]
fn two_hosts_forward_and_count() {
    on_debians_kernel("two_hosts_forward_and_count", Luggage::for_a_lab, || {
        in_lab("older", |lab| {
            let (mut stage, [stack_one, stack_two]) = stage(lab)?;
            let (one, two) = stage.two()?;
            stack_one.run(["ping", "-c", "3", "-W", "5", "10.9.0.2"])?;
            stack_two.run(["ping", "-c", "3", "-W", "5", "10.9.0.1"])?;
            frames_cross(one, two)?;
            for site in [one, two] {
                all_is_well(site)?;
            }
            // Their stacks speak when they like, and books are compared while nothing moves.
            for stack in [&stack_one, &stack_two] {
                stack.run(["ip", "link", "set", "eth0", "down"])?;
            }
            books_add_up(one, two)?;
            a_trace_tells_the_truth(one)?;
            refused_frames_are_counted(one, 1)?;
            stack_one.run(["ip", "link", "set", "eth0", "up"])?;

            stage.site(1)?.agent.kill();
            let (one, two) = stage.two()?;
            frames_cross(one, two)?;
            stage.site(1)?.agent.restart()?;
            let (one, two) = stage.two()?;
            frames_cross(one, two)?;
            all_is_well(one)
        });
        Ok(())
    });
}
