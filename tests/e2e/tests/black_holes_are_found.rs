//! The promise: what the path of a link silently drops is found out without ICMP. Guests are told
//! what fits, `status` and `link list` tell the admin, and when the path is mended the link carries
//! all of it again.

use anyhow::{Result, ensure};
use e2e::frame::{expect, guest, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Stage, address, link_to};
use e2e::{ask, books};
use lab::{LIMIT, NamespaceGuest, Station, in_lab, try_eventually};
use vnet_agent::api::{LinkStatus, MtuSource, Severity};
use vnet_common::reason::Reason;

/// The port of guests with an IP stack: 11 on host one, 12 on host two.
const STACK: &str = "veth0";
/// What the hosts' devices take, and what the path carries.
const WIDE: u32 = 1500;
const NARROW: u32 = 1390;

/// A host whose underlay is at this door.
fn probing(family: Family, door: &str, own: u8) -> Settings {
    let other = 3 - own;
    let link = link_to(other);
    Settings::on(&format!("device = \"eth0\"\ndoor = \"{door}\""))
        .agent("probe_mtu = true")
        .port(PORT, guest(own))
        .port(STACK, guest(10 + own))
        .link(&link, &address(family, other))
        .way(guest(other), &link)
        .way(guest(10 + other), &link)
        .flood()
}

/// Waits until probes say that the link carries this much.
fn until_known(stage: &Stage, number: u8, bytes: u32) -> Result<LinkStatus> {
    let (one, two) = stage.two()?;
    let host = if number == 1 { &one.host } else { &two.host };
    let name = link_to(3 - number);
    try_eventually(&format!("{name} is known to carry {bytes}"), || {
        let link = ask::link(host, &name)?;
        let is_known = link
            .mtu
            .is_some_and(|mtu| (mtu.source, mtu.bytes) == (MtuSource::Probed, bytes));
        Ok(is_known.then_some(link))
    })
}

fn join(stage: &Stage, own: u8) -> Result<NamespaceGuest> {
    let (one, two) = stage.two()?;
    let site = if own == 1 { one } else { two };
    let station = Station::new(STACK, guest(10 + own))
        .address(&format!("10.9.0.{own}/24"))
        .mtu(WIDE);
    let guest = site.host.namespace_guest(station)?;
    ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
    Ok(guest)
}

/// Has guests with IP stacks talk: one is told what fits.
fn say_what_fits(stage: &Stage, mtu: u32) -> Result<()> {
    let (stack, other) = (join(stage, 1)?, join(stage, 2)?);
    let ping = "ping -M do -c 1 -W 1 -s 1400 10.9.0.2";
    let said = stack.attempt(ping.split(' '))?;
    let told = format!("mtu = {mtu}");
    ensure!(
        said.stdout.contains(&told),
        "{}{}",
        said.stdout,
        said.stderr
    );
    // They speak when they like; the others' frames are counted.
    for guest in [stack, other] {
        guest.run(["ip", "link", "set", "eth0", "down"])?;
    }
    Ok(())
}

fn a_black_hole(family: Family, door: &'static str) {
    in_lab("hole", |lab| {
        let stage = Stage::new(lab, 2, |own| probing(family, door, own))?;
        let (one, two) = stage.two()?;
        for number in [1, 2] {
            let link = until_known(&stage, number, WIDE)?;
            ensure!(link.note.is_none(), "{link:?}");
        }
        let headers = WIDE - ask::link(&one.host, "to-two")?.guest_mtu_bytes.unwrap_or(0);

        let hop = stage.underlay.hop(&two.host.uplink()?)?;
        hop.carry(NARROW)?;
        for number in [1, 2] {
            let link = until_known(&stage, number, NARROW)?;
            ensure!(link.guest_mtu_bytes == Some(NARROW - headers), "{link:?}");
        }
        // The largest frame that may be sent does arrive, one that is larger is answered with it.
        let largest = NARROW as usize - headers as usize + 14;
        let frame = |number, bytes| numbered(guest(1), guest(2), number, bytes);
        one.guest.send(&frame(1, largest + 1))?;
        one.guest.send(&frame(2, largest))?;
        expect(&two.guest, &[frame(2, largest)])?;
        say_what_fits(&stage, NARROW - headers)?;

        let status = ask::status(&one.host)?;
        let warned = status.problems.iter().any(|problem| {
            problem.severity == Severity::Warning
                && problem.subject == "link to-two"
                && problem.message.contains(&NARROW.to_string())
        });
        ensure!(warned && status.healthy, "{status:?}");
        let shown = one.host.attempt_vnetctl(["link", "list"])?.successful()?;
        ensure!(shown.stdout.contains("1390 probed"), "{}", shown.stdout);
        ensure!(
            shown.stdout.contains("1390 of the 1500 bytes"),
            "{}",
            shown.stdout
        );

        hop.carry(WIDE)?;
        for number in [1, 2] {
            let link = until_known(&stage, number, WIDE)?;
            ensure!(link.guest_mtu_bytes == Some(WIDE - headers), "{link:?}");
        }
        let largest = WIDE as usize - headers as usize + 14;
        one.guest.send(&frame(3, largest))?;
        // What the stacks said to everybody may be before it.
        let arrived = try_eventually("the largest frame arrives", || {
            let next = two.guest.receive(LIMIT)?;
            Ok(next.filter(|next| *next == frame(3, largest)))
        });
        arrived?;
        let stats = books::check_host(&one.host)?;
        let dropped = books::dropped(books::port(&stats, PORT)?, Reason::TooBig);
        ensure!(dropped == 1, "{stats:?}");
        ensure!(stats.agent.probe_replies > 0, "{stats:?}");
        ensure!(
            stats.agent.probe_replies < stats.agent.probes,
            "those that were too large did not come back: {stats:?}"
        );
        Ok(())
    });
}

#[test]
fn over_ipv4_at_the_xdp_door() {
    a_black_hole(Family::Ipv4, "xdp");
}

#[test]
fn over_ipv6_at_the_tc_door() {
    a_black_hole(Family::Ipv6, "tc");
}

#[test]
fn an_agent_that_starts_remembers_what_the_one_before_knew() {
    in_lab("again", |lab| {
        let mut stage = Stage::new(lab, 2, |own| probing(Family::Ipv4, "xdp", own))?;
        until_known(&stage, 1, WIDE)?;
        let uplink = stage.site(2)?.host.uplink()?;
        let hop = stage.underlay.hop(&uplink)?;
        hop.carry(NARROW)?;
        until_known(&stage, 1, NARROW)?;
        // Nobody answers this one: what it says, it was told by the tables.
        stage.underlay.set_connected(&uplink, false)?;
        stage.site(1)?.agent.kill();
        stage.site(1)?.agent.restart()?;
        let (one, _) = stage.two()?;
        let link = ask::link(&one.host, "to-two")?;
        ensure!(link.mtu.is_some_and(|mtu| mtu.bytes == NARROW), "{link:?}");
        stage.underlay.set_connected(&uplink, true)?;
        let link = until_known(&stage, 1, NARROW)?;
        ensure!(link.mtu.is_some_and(|mtu| mtu.device_bytes == WIDE));
        Ok(())
    });
}
