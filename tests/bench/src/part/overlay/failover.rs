//! For how long do frames find nobody when the path of a direct link dies without a sign?
//!
//! Two hosts with a link to each other, which falls back to the one to a third. A frame each
//! millisecond; then the underlay does not carry between the two any more, which neither can see.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Mac, UnderlaySettings, Uplink};
use vnet_agent::api::{LinkState, LinkStatus};

use crate::ask::ask;
use crate::figure::{Bound, Figure};
use crate::paced::{Stream, while_sending};
use crate::taps::TAP;
use crate::workshop::Workshop;

/// How often in a round.
const TIMES: usize = 4;
/// Between two frames.
const PAUSE: Duration = Duration::from_millis(1);
/// Before and after.
const BETWEEN: Duration = Duration::from_millis(200);
/// What is aimed at.
const GOAL_MS: f64 = 300.0;

/// Cuts and mends.
///
/// # Errors
///
/// An agent does not start, or does not notice.
pub fn measure(workshop: &Workshop, rounds: u32) -> Result<Vec<Figure>> {
    let (mut silences_ms, mut lost) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let (silences, counts) = one_round(workshop, round)?;
        workshop.say(format_args!(
            "round {round} of {rounds}: failover after {silences:.0?} ms, {counts:?} frames lost"
        ));
        silences_ms.extend(silences);
        lost.extend(counts);
    }
    let title = "a direct link dies: until frames go by its fallback";
    let silence = Figure::new("failover_ms", title, "ms", &silences_ms);
    let lost = Figure::new(
        "failover_lost_frames",
        "a direct link dies: lost of 1,000 frames a second",
        "frames",
        &lost,
    );
    let silence = silence.map(|figure| figure.with_goal(Bound::AtMost(GOAL_MS)));
    Ok(silence.into_iter().chain(lost).collect())
}

fn one_round(workshop: &Workshop, round: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    let underlay = workshop.lab().underlay(UnderlaySettings::default())?;
    let mut hosts = Vec::new();
    let mut uplinks: Vec<Uplink> = Vec::new();
    for number in 1..=3_u8 {
        let host = workshop.lab().host(&format!("failover-{round}-{number}"))?;
        uplinks.push(underlay.connect(&host, "eth0")?);
        let guest = host.tap_guest(TAP, guest(number))?;
        hosts.push((host, guest));
    }
    let mut agents = Vec::new();
    for (number, (host, _)) in (1..).zip(&hosts) {
        agents.push(host.agent(&settings(number, &uplinks)?)?);
    }
    let [(one, from), (_, to), _] = hosts.as_slice() else {
        unreachable!("three hosts")
    };
    let ends: Vec<&Uplink> = uplinks.iter().take(2).collect();
    let until = |state| {
        lab::try_eventually("the link has turned", || {
            let links: Vec<LinkStatus> = ask(&one.agent_socket(), "/v1/links")?;
            let link = links.into_iter().find(|link| link.name == "to-2");
            let link = link.context("the link is gone")?;
            // It is known by answers, not by having been made just now.
            let is_so = link.state == state && link.since_unix_ms.is_some();
            Ok(is_so.then_some(()))
        })
    };
    until(LinkState::Up)?;
    let (mut silences_ms, mut lost) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let pause = PAUSE;
        let arrived = while_sending(&[Stream { from, to, pause }], || {
            thread::sleep(BETWEEN);
            underlay.set_apart(&ends, true)?;
            until(LinkState::FallenBack)?;
            thread::sleep(BETWEEN);
            Ok(())
        })?;
        let arrived = arrived.first().context("there is a stream")?;
        ensure!(arrived.doubled == 0, "{} came twice", arrived.doubled);
        silences_ms.push(arrived.longest_silence().as_secs_f64() * 1e3);
        lost.push(arrived.lost() as f64);
        underlay.set_apart(&ends, false)?;
        until(LinkState::Up)?;
    }
    drop(agents);
    Ok((silences_ms, lost))
}

const fn guest(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 3, number])
}

/// Hosts one and two have links to each other that fall back to those to host three.
fn settings(own: u8, uplinks: &[Uplink]) -> Result<String> {
    let mut text = format!(
        "[agent]\nwatch_links = true\n\n[underlay]\ndevice = \"eth0\"\ndoor = \"xdp\"\n\n\
         [[network]]\nname = \"blue\"\nid = 7\n\n\
         [[port]]\nname = \"{TAP}\"\nnetwork = \"blue\"\naddresses = [\"{}\"]\ndoor = \"xdp\"\n",
        guest(own)
    );
    for (other, uplink) in (1..).zip(uplinks).filter(|(other, _)| *other != own) {
        let address = uplink.ipv4.context("the underlay has no IPv4")?;
        let fallback = match own != 3 && other != 3 {
            true => "fallback = \"to-3\"\n",
            false => "",
        };
        text.push_str(&format!(
            "\n[[link]]\nname = \"to-{other}\"\nremote = \"{address}\"\nnetworks = [\"blue\"]\n\
             cookie = \"5af3107a4000be1d\"\n{fallback}\n\
             [[rule]]\nnetwork = \"blue\"\ndestination = \"{}\"\nlink = \"to-{other}\"\n",
            guest(other)
        ));
    }
    Ok(text)
}
