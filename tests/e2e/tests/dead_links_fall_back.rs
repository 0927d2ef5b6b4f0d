//! The promise: when the path of a link dies without a sign, its frames take the link that it falls
//! back to, with no more lost than what was sent until it was noticed; when the path is whole again,
//! they return, and none is lost. Every frame is accounted for at the link that it took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::books;
use e2e::frame::{guest, is_whole, number_of, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Stage, address, link_to, mesh_settings};
use e2e::{ask, frame};
use lab::{Lab, TapGuest, in_lab};
use vnet_agent::api::{LinkState, Stats, TraceReport};
use vnet_agent::model::Target;

/// Between two frames of a stream.
const PAUSE: Duration = Duration::from_millis(1);
/// How long its frames are, and probes.
const FRAME_BYTES: u64 = 100;
const PROBE_BYTES: u64 = 24;

/// Hosts one and two have links to each other that fall back to those to host three.
fn settings(own: u8) -> Settings {
    if own == 3 {
        return mesh_settings(Family::Ipv4, own, 3).agent("watch_links = true");
    }
    let other = 3 - own;
    let fallback = format!("fallback = \"{}\"", link_to(3));
    Settings::new()
        .agent("watch_links = true")
        .port(PORT, guest(own))
        .flood()
        .link_with(&link_to(other), &address(Family::Ipv4, other), &fallback)
        .link(&link_to(3), &address(Family::Ipv4, 3))
        .way(guest(other), &link_to(other))
        .way(guest(3), &link_to(3))
}

fn stage(lab: &Lab) -> Result<Stage> {
    let stage = Stage::new(lab, 3, settings)?;
    until(&stage, LinkState::Up)?;
    Ok(stage)
}

/// Waits until both ends of the link say so, and that they know it from answers.
fn until(stage: &Stage, state: LinkState) -> Result<()> {
    for (own, site) in [1, 2].into_iter().zip(&stage.sites) {
        let name = link_to(3 - own);
        let what = format!("{name} is {state}");
        lab::try_eventually(&what, || {
            let link = ask::link(&site.host, &name)?;
            Ok((link.state == state && link.since_unix_ms.is_some()).then_some(()))
        })?;
    }
    Ok(())
}

fn set_apart(stage: &Stage, apart: bool) -> Result<()> {
    let (one, two) = stage.two()?;
    let uplinks = [one.host.uplink()?, two.host.uplink()?];
    stage.underlay.set_apart(&uplinks.each_ref(), apart)
}

/// When each frame of a stream arrived, and how many were sent.
struct Arrived {
    sent: u64,
    at: BTreeMap<u64, Instant>,
    doubled: u64,
}

impl Arrived {
    /// The runs of frames that never came: the first one's number, and how many.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        for number in (0..self.sent).filter(|number| !self.at.contains_key(number)) {
            match gaps.last_mut() {
                Some((first, count)) if *first + *count == number => *count += 1,
                _ => gaps.push((number, 1)),
            }
        }
        gaps
    }
}

/// Sends numbered frames at a steady pace while something happens.
fn stream(from: &TapGuest, to: &TapGuest, happen: impl FnOnce() -> Result<()>) -> Result<Arrived> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                from.send(&numbered(
                    from.mac(),
                    to.mac(),
                    number,
                    FRAME_BYTES as usize,
                ))?;
                number += 1;
                thread::sleep(PAUSE);
            }
            anyhow::Ok(number)
        });
        let receiver = scope.spawn(|| {
            let (mut at, mut doubled) = (BTreeMap::new(), 0);
            loop {
                let was_over = is_over.load(Ordering::Relaxed);
                let Some(frame) = to.receive(Duration::from_millis(500))? else {
                    if was_over {
                        return anyhow::Ok((at, doubled));
                    }
                    continue;
                };
                if let Some(number) = number_of(&frame) {
                    ensure!(is_whole(&frame, from.mac(), to.mac()), "{number} is broken");
                    doubled += u64::from(at.insert(number, Instant::now()).is_some());
                }
            }
        });
        let happened = happen();
        is_over.store(true, Ordering::Relaxed);
        let panicked = "a thread of the stream panicked";
        let sent = sender.join().ok().context(panicked)??;
        let (at, doubled) = receiver.join().ok().context(panicked)??;
        happened?;
        Ok(Arrived { sent, at, doubled })
    })
}

/// Agents that ask nobody any more, so that the books come to rest.
fn at_rest(stage: &mut Stage) -> Result<Vec<Stats>> {
    for (number, site) in (1..).zip(&mut stage.sites) {
        site.agent.terminate()?;
        let text = settings(number)
            .text()
            .replace("watch_links = true", "watch_links = false");
        site.agent.write_settings(&text)?;
        site.agent.restart()?;
    }
    let sites = stage.sites.iter();
    sites.map(|site| books::settled(&site.host)).collect()
}

#[test]
fn and_return_when_the_path_is_whole_again() {
    in_lab("fallback", |lab| {
        let mut stage = stage(lab)?;
        let (one, two) = stage.two()?;
        let mut cut = Instant::now();
        let arrived = stream(&one.guest, &two.guest, || {
            thread::sleep(PAUSE * 300);
            set_apart(&stage, true)?;
            cut = Instant::now();
            until(&stage, LinkState::FallenBack)?;
            let link = ask::link(&one.host, "to-two")?;
            ensure!(link.instead.as_deref() == Some("to-three"), "{link:?}");
            let shown = one
                .host
                .attempt_vnetctl(["link", "list"])?
                .successful()?
                .stdout;
            ensure!(shown.contains("its frames take to-three"), "{shown}");
            let [from, to] = [guest(1), guest(2)].map(|mac| mac.to_string());
            let words = ["trace", "--source", &from, "--destination", &to];
            let traced: TraceReport = ask::ask(&one.host, &words)?;
            let taken = Target::Link("to-three".to_owned());
            ensure!(traced.target == Some(taken), "{traced:?}");
            thread::sleep(PAUSE * 300);
            set_apart(&stage, false)?;
            until(&stage, LinkState::Up)?;
            thread::sleep(PAUSE * 300);
            Ok(())
        })?;
        let gaps = arrived.gaps();
        let [(first, lost)] = gaps[..] else {
            anyhow::bail!("there is more than one gap, or none: {gaps:?}")
        };
        let resumed = arrived
            .at
            .get(&(first + lost))
            .context("it never resumed")?;
        println!(
            "cut to resumed: {:?}; {lost} of {} frames lost, one each {PAUSE:?}",
            resumed.duration_since(cut),
            arrived.sent
        );
        ensure!(arrived.doubled == 0, "{} came twice", arrived.doubled);

        let stats = at_rest(&mut stage)?;
        let [one, two, three] = &stats[..] else {
            unreachable!("three hosts")
        };
        let at_port = books::port(one, PORT)?;
        ensure!(at_port.forwarded == arrived.sent, "{at_port:?}");
        let direct = books::link(two, "to-one")?.delivered;
        let around = books::link(two, "to-three")?.delivered;
        ensure!(direct > 0 && around > 0, "{direct} direct, {around} around");
        ensure!(direct + around + lost == arrived.sent, "{two:?}");
        // What took the other link is in that one's books, on both of its sides, to the frame: all else
        // that was sent over it were probes.
        let taken = books::link(one, "to-three")?;
        let heard = books::link(three, "to-one")?;
        let probes = taken.sent_packets - around;
        let bytes = FRAME_BYTES * around + PROBE_BYTES * probes;
        ensure!(taken.sent_bytes == bytes, "{around} frames: {taken:?}");
        ensure!(heard.forwarded == around, "{heard:?}");
        Ok(())
    });
}

#[test]
fn and_stay_there_when_their_agent_is_gone() {
    in_lab("gone", |lab| {
        let mut stage = stage(lab)?;
        set_apart(&stage, true)?;
        until(&stage, LinkState::FallenBack)?;
        for number in [1, 2] {
            stage.site(number)?.agent.kill();
        }
        let (one, two) = stage.two()?;
        let frames: Vec<_> = (0..50)
            .map(|number| numbered(guest(1), guest(2), number, 100))
            .collect();
        frames.iter().try_for_each(|frame| one.guest.send(frame))?;
        frame::expect(&two.guest, &frames)?;
        // The next one does not believe in the link until it answers.
        for number in [1, 2] {
            stage.site(number)?.agent.restart()?;
        }
        until(&stage, LinkState::FallenBack)?;
        let (one, two) = stage.two()?;
        frames.iter().try_for_each(|frame| one.guest.send(frame))?;
        frame::expect(&two.guest, &frames)?;
        set_apart(&stage, false)?;
        until(&stage, LinkState::Up)
    });
}
