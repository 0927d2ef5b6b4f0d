//! Second act: machines on foreign hosts on the user's own LAN, through what the firewalls let pass. Does
//! the overlay come together by itself, can it be read and changed as a text, and does it heal?

mod site;
mod streams;

use std::fs;

use anyhow::{Context, Result, ensure};
use lab::try_eventually;

use crate::narrator::{Narrator, megabits_per_s};
use site::{Site, address, mac};
use streams::Running;

const PICTURE: &str = "
    office LAN 10.9.0.0/24, DHCP
        | lan0
    hub, the proxy
        | eth0 10.0.0.1
    ----+------- underlay ----------------------------------+ firewall:
        | 10.0.0.2            | 10.0.0.3                    | nothing but TCP, from inside
    host one              host two                      host three 10.0.0.4
        | tap0                | tap0                        | tap0
       vm1                   vm2                           vm3";

/// The act; returns its figures in words.
pub(crate) fn play(narrator: &mut Narrator, hold: bool) -> Result<String> {
    narrator.act(
        "Second act: a proxy on a LAN, and three hosts that join it",
        PICTURE,
    );
    narrator.in_lab("demo-overlay", |narrator, lab| {
        let site = Site::build(narrator, lab)?;
        let figures = story(narrator, &site);
        if hold {
            let hosts = site.places.iter().map(|place| &place.host);
            let hosts: Vec<_> = [&site.proxy].into_iter().chain(hosts).collect();
            narrator.wait_for_enter(&hosts);
        }
        if figures.is_err() {
            narrator.logs(&site.agents());
        }
        narrator.step("Cleaning up");
        figures
    })
}

fn story(narrator: &mut Narrator, site: &Site) -> Result<String> {
    site.until_whole()?;
    star(narrator, site)?;
    site.ask_for_addresses(narrator)?;
    neighbours(narrator, site)?;
    let before = apply_a_direct_link(narrator, site)?;
    let cut = cut_and_heal(narrator, site)?;
    ring(narrator, site, &before)?;
    Ok(format!(
        "4 hosts one LAN, one of them by TLS alone; {cut}; a ring built and undone"
    ))
}

/// Runs `vnetctl` on the proxy and shows it.
fn told(narrator: &Narrator, site: &Site, words: &[&str]) -> Result<String> {
    let output = site.proxy.attempt_vnetctl(words)?.successful()?;
    let command = format!("vnetctl {}", words.join(" "));
    narrator.shown_at(&site.proxy, &command, &output.stdout);
    Ok(output.stdout)
}

fn star(narrator: &mut Narrator, site: &Site) -> Result<()> {
    narrator.step("The star: who is there, and by which kind of link");
    told(narrator, site, &["agents"])?;
    told(narrator, site, &["links"])?;
    Ok(())
}

fn neighbours(narrator: &mut Narrator, site: &Site) -> Result<()> {
    narrator.step("Neighbours: every machine reaches the office and every other");
    for (number, place) in (1..).zip(&site.places) {
        for other in (1..=3).chain([100]).filter(|other| *other != number) {
            let ping = format!("ping -c 1 -W 5 {}", address(other));
            try_eventually(&format!("vm{number} reaches {}", address(other)), || {
                Ok(place.guest.attempt(&ping)?.success().then_some(()))
            })?;
        }
    }
    let known = site.office.run(["ip", "neigh", "show", "dev", "eth0"])?;
    narrator.output("office", &known);
    for number in 1..=3 {
        let its = mac(number).to_string();
        ensure!(
            known.stdout.contains(&its),
            "the office does not know vm{number} as a neighbour"
        );
    }
    narrator
        .seen("the office sees the virtual machines' own Ethernet addresses: no router in between");
    Ok(())
}

/// Adds a direct link between two hosts, by an edited text; returns the text before.
fn apply_a_direct_link(narrator: &mut Narrator, site: &Site) -> Result<String> {
    narrator.step("The overlay as a text: fetched, changed, applied");
    let before = told(narrator, site, &["topology", "show"])?;
    let (one, two) = (mac(1), mac(2));
    let more = format!(
        "LINK UDP one two FLOOD NEVER\nFORWARD EDGE one ANY {two} one two\nFORWARD EDGE two ANY {one} two one\n"
    );
    // The proxy calls machines that it has only seen by their addresses.
    let text = before
        .replacen("ADD\n", &format!("ADD\n{more}"), 1)
        .replace("vm-52540000000", "vm");
    let file = site.proxy.directory().join("lan.vnet");
    fs::write(&file, &text)?;
    narrator.shown(
        "hub",
        "vi lan.vnet    # the machines get names, and these lines are added",
        &more,
    );
    let file = file.display().to_string();
    told(narrator, site, &["topology", "apply", &file, "--dry-run"])?;
    told(narrator, site, &["topology", "apply", &file])?;
    site.until_whole()?;
    told(narrator, site, &["topology", "route", &file, "vm1", "vm2"])?;
    narrator.seen(
        "vm1 and vm2 have a link of their own now, the office is not asked to carry for them",
    );
    Ok(before)
}

/// Cuts that link while a ping and a stream go over it, and heals it.
fn cut_and_heal(narrator: &mut Narrator, site: &Site) -> Result<String> {
    narrator.step("The link is cut under a running ping and a running TCP transfer, and healed");
    let [one, two, _] = site.places.as_slice() else {
        anyhow::bail!("there are not three hosts");
    };
    let running = Running::start(&one.guest, &two.guest, &address(2))?;
    running.until_echoes(20)?;
    let (near, far) = (one.host.uplink()?, two.host.uplink()?);
    site.underlay.set_apart(&[&near, &far], true)?;
    let down = until_detour(site, "to-two", true)?;
    narrator.shown(
        "one",
        "vnetctl links    # the path between one and two is cut",
        &down,
    );
    running.until_echoes(20)?;
    site.underlay.set_apart(&[&near, &far], false)?;
    let up = until_detour(site, "to-two", false)?;
    narrator.shown("one", "vnetctl links    # and mended", &up);
    running.until_echoes(20)?;
    let ended = running.end()?;
    let (sent, received) = ended.pings;
    let rate = megabits_per_s(ended.bytes, ended.duration);
    narrator.seen(format!(
        "{received} of {sent} echoes came back, ten a second; all {} MiB of TCP arrived unchanged, {rate:.0} Mbit/s",
        ended.bytes >> 20
    ));
    ensure!(received + 20 >= sent, "{} echoes are lost", sent - received);
    Ok(format!(
        "{} of {sent} pings and no byte of TCP lost to a link that was cut and healed",
        sent - received
    ))
}

/// Waits until the frames of a link of host one take another, or its own way; returns the table.
fn until_detour(site: &Site, name: &str, is_detour: bool) -> Result<String> {
    let host = &site.places.first().context("there is no host")?.host;
    try_eventually(&format!("link {name} takes its other way"), || {
        let links = host.vnetctl(["links"])?;
        let links = links.as_array().context("no list of links")?;
        let link = links.iter().find(|link| link["name"] == name);
        let instead = &link.context("no such link")?["instead"];
        Ok((instead.is_string() == is_detour).then_some(()))
    })?;
    Ok(host.attempt_vnetctl(["links"])?.successful()?.stdout)
}

/// A ring from one line, used, and undone.
fn ring(narrator: &mut Narrator, site: &Site, star: &str) -> Result<()> {
    narrator.step("A ring from one line: planned, applied, used, and undone");
    let path = |name: &str| site.proxy.directory().join(name).display().to_string();
    let (now, file) = (path("now.vnet"), path("ring.vnet"));
    fs::write(
        &now,
        site.proxy
            .attempt_vnetctl(["topology", "show"])?
            .successful()?
            .stdout,
    )?;
    let line = "ring of one, two, three, tls from three";
    let plan = ["topology", "plan", line, "--on", &now];
    let planned = site.proxy.attempt_vnetctl(plan)?.successful()?;
    fs::write(&file, &planned.stdout)?;
    narrator.shown("hub", "vnetctl topology show >now.vnet", "");
    narrator.shown(
        "hub",
        &format!("vnetctl topology plan '{line}' --on now.vnet >ring.vnet"),
        "",
    );
    told(narrator, site, &["topology", "apply", &file])?;
    site.until_whole()?;
    told(narrator, site, &["topology", "route", &file, "vm1", "vm3"])?;
    neighbours(narrator, site)?;
    narrator.step("And back again");
    for _ in 0..2 {
        told(narrator, site, &["topology", "undo"])?;
        site.until_whole()?;
    }
    let after = told(narrator, site, &["topology", "show"])?;
    ensure!(
        after == star,
        "after two undos the overlay is another than before"
    );
    neighbours(narrator, site)?;
    narrator.seen("the text is the first one again, word by word");
    Ok(())
}
