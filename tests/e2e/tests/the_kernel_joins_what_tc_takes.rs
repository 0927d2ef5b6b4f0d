//! The promise: where packets come in by TC, the kernel joins those that belong together, by the
//! socket of a device that is there for it, outlives the agent, and leaves no trace.

use std::net::UdpSocket;

use anyhow::{Context, Result};
use e2e::ask;
use e2e::frame::guest;
use e2e::settings::Settings;
use e2e::stage::{DEVICE, Family, PORT, address, link_to};
use lab::{Host, UnderlaySettings, in_lab, try_eventually};

const JOINER: &str = "vnet-join-6081";

fn settings() -> Settings {
    Settings::on(&format!("device = \"{DEVICE}\"\ndoor = \"tc\""))
        .port(PORT, guest(1))
        .link(&link_to(2), &address(Family::Ipv4, 2))
        .way(guest(2), &link_to(2))
}

fn index(host: &Host, device: &str) -> Result<Option<u32>> {
    let path = format!("/sys/class/net/{device}/ifindex");
    let read = host.inside(|| std::fs::read_to_string(&path))?;
    Ok(match read {
        Ok(text) => Some(text.trim().parse()?),
        Err(_) => None,
    })
}

fn set_gro(host: &Host, state: &str) -> Result<()> {
    host.run(["ethtool", "-K", DEVICE, "gro", state])?;
    Ok(())
}

fn until(host: &Host, what: &str, is_there: bool) -> Result<()> {
    try_eventually(what, || {
        Ok((index(host, JOINER)?.is_some() == is_there).then_some(()))
    })
}

/// Whether status says that the underlay joins, and why it comes in as it does.
fn underlay(host: &Host) -> Result<(bool, String)> {
    let doors = ask::status(host)?.doors;
    let door = doors.into_iter().find(|door| door.device == DEVICE);
    let door = door.context("the underlay has no door")?;
    Ok((door.joins, door.why))
}

#[test]
fn by_a_device_that_is_there_as_long_as_it_is_of_use() {
    in_lab("joiner", |lab| {
        let wire = lab.underlay(UnderlaySettings::default())?;
        let (one, two) = (lab.host("one")?, lab.host("two")?);
        for host in [&one, &two] {
            wire.connect(host, DEVICE)?;
        }
        let _guest = one.tap_guest(PORT, guest(1))?;
        let mut agent = one.agent(&settings().text())?;
        ask::until_healthy(&one)?;
        assert_eq!(index(&one, JOINER)?, None, "a veth joins nothing unasked");

        set_gro(&one, "on")?;
        until(&one, "the device is made", true)?;
        assert_eq!(underlay(&one)?, (true, "the settings say so".to_owned()));
        let interfaces = ask::interfaces(&one)?;
        assert!(
            interfaces.iter().all(|interface| interface.name != JOINER),
            "nobody's port: {interfaces:?}"
        );

        // Nothing but a mistake takes it away.
        one.run(["ip", "link", "delete", JOINER])?;
        until(&one, "the device is made again", true)?;

        let before = index(&one, JOINER)?;
        agent.kill();
        assert_eq!(index(&one, JOINER)?, before, "it outlives the agent");
        agent.restart()?;
        ask::until_healthy(&one)?;
        assert_eq!(index(&one, JOINER)?, before, "the next one has found it");

        set_gro(&one, "off")?;
        until(&one, "the device is removed", false)?;
        set_gro(&one, "on")?;
        until(&one, "the device is there once more", true)?;
        agent.terminate()?;
        let done = agent.attempt("teardown")?.successful()?;
        assert!(
            done.stdout.contains("the device for joining frames"),
            "{}",
            done.stdout
        );
        assert_eq!(index(&one, JOINER)?, None);
        Ok(())
    });
}

#[test]
fn status_says_why_not_where_another_has_the_port() {
    in_lab("joiner-taken", |lab| {
        let wire = lab.underlay(UnderlaySettings::default())?;
        let one = lab.host("one")?;
        wire.connect(&one, DEVICE)?;
        let theirs = one.inside(|| UdpSocket::bind("0.0.0.0:6081"))??;
        set_gro(&one, "on")?;
        let _guest = one.tap_guest(PORT, guest(1))?;
        let _agent = one.agent(&settings().text())?;
        let (joins, why) = underlay(&one)?;
        assert!(!joins, "{why}");
        assert!(
            why.contains("UDP port 6081 is taken by another socket"),
            "{why}"
        );
        assert_eq!(index(&one, JOINER)?, None);
        drop(theirs);
        // It is tried again when something happens to devices.
        one.run(["ip", "link", "set", PORT, "alias", "noticed"])?;
        until(&one, "the device is made", true)?;
        Ok(())
    });
}
