//! The promise: the whole overlay changes its shape under load, and no frame is lost or comes twice;
//! and where a host does not follow, all of it is as it was before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::ask;
use e2e::frame::{BROADCAST, guest, number_of, numbered};
use e2e::overlay::{Overlay, Place};
use e2e::signal;
use e2e::stream::{Stream, during};
use lab::{Host, Lab, TapGuest, in_lab, try_eventually};
use nix::sys::signal::Signal;
use vnet_agent::api::{RolloutState, RolloutStatus};

/// Frames that must have arrived between two changes.
const BETWEEN: u64 = 1000;
/// In which order; each is laid on what was there at first, and the star around the proxy stays.
const SHAPES: [&str; 5] = [
    "ring of one, two, three, four",
    "mesh over one, two, three, four",
    "bus of four, two, one, three",
    "ring of one, three, two, four",
    "star around proxy of one, two, three, four",
];

/// The names of a host's links, without their rungs.
fn links(host: &Host) -> Result<Vec<String>> {
    let links = ask::links(host)?.into_iter();
    let wholes = links.filter(|link| link.rung_of.is_none());
    Ok(wholes.map(|link| link.name).collect())
}

fn rollout(proxy: &Host) -> Result<RolloutStatus> {
    ask::ask(proxy, &["topology", "rollout"])
}

/// What the overlay would be in this shape, in a file.
fn text(proxy: &Host, base: &str, shape: &str) -> Result<String> {
    let planned = proxy.attempt_vnetctl(["topology", "plan", shape, "--on", base])?;
    ensure!(planned.success(), "{}", planned.stderr);
    let file = proxy.directory().join("wanted.vnet");
    std::fs::write(&file, planned.stdout)?;
    Ok(file.display().to_string())
}

/// The overlay as it is, in a file.
fn base(proxy: &Host) -> Result<String> {
    let shown = proxy.attempt_vnetctl(["topology", "show"])?;
    ensure!(shown.success(), "{}", shown.stderr);
    let file = proxy.directory().join("base.vnet");
    std::fs::write(&file, shown.stdout)?;
    Ok(file.display().to_string())
}

/// A guest on a tap on each agent's host, which everybody knows the way to.
fn loads(overlay: &Overlay) -> Result<Vec<TapGuest>> {
    let on = |(number, place): (u8, &Place)| place.host.tap_guest("load0", guest(number));
    let loads: Vec<TapGuest> = (20..).zip(&overlay.agents).map(on).collect::<Result<_>>()?;
    try_eventually("the proxy knows where the guests are", || {
        for load in &loads {
            load.send(&numbered(load.mac(), guest(1), 0, 100))?;
        }
        let shown = overlay.proxy.host.attempt_vnetctl(["topology", "show"])?;
        let is_known = |load: &TapGuest| shown.stdout.contains(&load.mac().to_string());
        Ok(loads.iter().all(is_known).then_some(()))
    })?;
    overlay.until_whole()?;
    Ok(loads)
}

fn change(proxy: &Host, base: &str, streams: [&Stream<'_>; 3]) -> Result<()> {
    let flow_on = || {
        streams
            .iter()
            .try_for_each(|stream| stream.flow_on(BETWEEN))
    };
    flow_on()?;
    for shape in SHAPES {
        let file = text(proxy, base, shape)?;
        let applied = proxy.attempt_vnetctl(["topology", "apply", &file])?;
        ensure!(applied.success(), "{shape}: {}", applied.stderr);
        eprintln!("{shape}\n{}", applied.stdout);
        flow_on()?;
    }
    for shape in SHAPES {
        let undone = proxy.attempt_vnetctl(["topology", "undo"])?;
        ensure!(undone.success(), "before {shape}: {}", undone.stderr);
        flow_on()?;
    }
    Ok(())
}

#[test]
fn star_ring_mesh_and_bus_follow_each_other_under_load() {
    in_lab("reshaped", |lab| {
        let overlay = Overlay::new(lab, 4)?;
        let loads = loads(&overlay)?;
        let proxy = &overlay.proxy.host;
        let base = base(proxy)?;
        let [one, two, three, four] = &loads[..] else {
            unreachable!("four guests")
        };
        let mut inner = None;
        let first = during(one, three, |first| {
            let mut innermost = None;
            let second = during(two, four, |second| {
                innermost = Some(during(three, two, |third| {
                    change(proxy, &base, [first, second, third])
                })?);
                Ok(())
            })?;
            inner = innermost.map(|third| [second, third]);
            Ok(())
        })?;
        let [second, third] = inner.context("both streams end")?;
        for outcome in [first, second, third] {
            outcome.must_be_perfect(10 * BETWEEN)?;
        }
        Ok(())
    });
}

/// Between two frames for many: what the agents' slow paths take without a drop.
const PAUSE: Duration = Duration::from_millis(3);
/// How long a copy may be late.
const LATE: Duration = Duration::from_secs(1);

/// The text in this file with direct links that take all frames for many: with the star they make rings.
fn flood_all(file: &str) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let is_direct = |line: &&str| line.starts_with("LINK UDP") && !line.contains("proxy");
    let flood = |line: &str| match is_direct(&line) {
        true => {
            let link = line.split(" FLOOD").next().unwrap_or(line);
            format!("{link} FLOOD ALWAYS\n")
        }
        false => format!("{line}\n"),
    };
    std::fs::write(file, text.lines().map(flood).collect::<String>())?;
    Ok(())
}

/// How often each numbered broadcast of `from` comes to this guest until all is done.
fn hear(from: &TapGuest, guest: &TapGuest, done: &AtomicBool) -> Result<BTreeMap<u64, u32>> {
    let stations = [BROADCAST.0, from.mac().0].concat();
    let mut heard: BTreeMap<u64, u32> = BTreeMap::new();
    while !done.load(Ordering::Acquire) {
        let frame = guest
            .receive(Duration::from_millis(20))?
            .unwrap_or_default();
        if let Some(number) = number_of(&frame).filter(|_| frame.starts_with(&stations)) {
            *heard.entry(number).or_default() += 1;
        }
    }
    Ok(heard)
}

/// How often each numbered broadcast of `from` came to each of the others while `happen` happened, and how
/// many were sent.
fn broadcasts_during(
    from: &TapGuest,
    others: &[&TapGuest],
    happen: impl FnOnce() -> Result<()>,
) -> Result<(u64, Vec<BTreeMap<u64, u32>>)> {
    let over = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            let mut result = Ok(());
            while result.is_ok() && !over.load(Ordering::Relaxed) {
                result = from.send(&numbered(from.mac(), BROADCAST, sent, 100));
                sent += 1;
                thread::sleep(PAUSE);
            }
            thread::sleep(LATE);
            done.store(true, Ordering::Release);
            result.map(|()| sent)
        });
        let listeners: Vec<_> = others
            .iter()
            .map(|&guest| scope.spawn(|| hear(from, guest, &done)))
            .collect();
        let happened = happen();
        over.store(true, Ordering::Relaxed);
        let panicked = "a thread panicked";
        let sent = sender.join().ok().context(panicked)??;
        let heard = listeners
            .into_iter()
            .map(|listener| listener.join().ok().context(panicked)?)
            .collect::<Result<_>>()?;
        happened.map(|()| (sent, heard))
    })
}

#[test]
fn frames_for_many_come_once_while_their_tree_becomes_rings_and_a_tree_again() {
    in_lab("replanted", |lab| {
        let overlay = Overlay::new(lab, 3)?;
        let loads = loads(&overlay)?;
        let proxy = &overlay.proxy.host;
        let base = base(proxy)?;
        let (one, others) = loads.split_first().context("three guests")?;
        let others: Vec<&TapGuest> = others.iter().collect();
        let (sent, heard) = broadcasts_during(one, &others, || {
            thread::sleep(LATE);
            for shape in ["ring of one, two, three", "bus of two, one, three"] {
                let file = text(proxy, &base, shape)?;
                flood_all(&file)?;
                let applied = proxy.attempt_vnetctl(["topology", "apply", &file])?;
                ensure!(applied.success(), "{shape}: {}", applied.stderr);
                thread::sleep(LATE);
                let undone = proxy.attempt_vnetctl(["topology", "undo"])?;
                ensure!(undone.success(), "after {shape}: {}", undone.stderr);
                thread::sleep(LATE);
            }
            Ok(())
        })?;
        ensure!(sent > 1000, "{sent} are too few to mean anything");
        for (guest, heard) in others.iter().zip(heard) {
            let wrong: Vec<_> = (0..sent)
                .map(|number| (number, heard.get(&number).copied().unwrap_or(0)))
                .filter(|&(_, times)| times != 1)
                .collect();
            ensure!(
                wrong.is_empty(),
                "of {sent}, at {}: {wrong:?}",
                guest.port()
            );
        }
        Ok(())
    });
}

/// Three agents, and what would make a ring of them.
fn ring_to_be(lab: &Lab) -> Result<(Overlay, String)> {
    let overlay = Overlay::new(lab, 3)?;
    overlay.until_all_reach_all()?;
    let proxy = &overlay.proxy.host;
    let base = base(proxy)?;
    let file = text(proxy, &base, "ring of one, two, three")?;
    Ok((overlay, file))
}

/// Applies a text that does not come about; what is said of it.
fn fails(overlay: &Overlay, file: &str) -> Result<String> {
    let proxy = &overlay.proxy.host;
    let before = proxy.vnetctl(["topology", "show"])?;
    let refused = proxy.attempt_vnetctl(["topology", "apply", file])?;
    ensure!(!refused.success(), "{}", refused.stdout);
    ensure!(
        refused.stdout.contains("Back, as before"),
        "{}",
        refused.stdout
    );
    ensure!(proxy.vnetctl(["topology", "show"])? == before);
    ensure!(proxy.vnetctl(["topology", "history"])? == serde_json::json!([]));
    Ok(refused.stderr)
}

#[test]
fn a_host_that_declines_turns_all_back() {
    in_lab("declines", |lab| {
        let (overlay, file) = ring_to_be(lab)?;
        // A link of the host's own has the name that a new one would have.
        let two = &overlay.agents[1].host;
        two.vnetctl([
            "link",
            "add",
            "to-three",
            "--remote",
            "10.0.0.77",
            "--network",
            "blue",
            "--plain",
        ])?;
        let said = fails(&overlay, &file)?;
        assert!(
            said.contains("undone, since not every host goes by it: two:"),
            "{said}"
        );
        assert!(said.contains("to-three"), "{said}");
        for host in [0, 2].map(|agent| &overlay.agents[agent].host) {
            assert_eq!(links(host)?, ["to-proxy"]);
        }
        overlay.until_whole()?;
        two.vnetctl(["link", "delete", "to-three"])?;
        let proxy = &overlay.proxy.host;
        let applied = proxy.attempt_vnetctl(["topology", "apply", &file])?;
        ensure!(applied.success(), "{}", applied.stderr);
        assert_eq!(links(two)?, ["to-one", "to-proxy", "to-three"]);
        overlay.until_all_reach_all()
    });
}

#[test]
fn a_new_link_that_nothing_comes_through_turns_all_back() {
    in_lab("walled-off", |lab| {
        let (overlay, file) = ring_to_be(lab)?;
        let [one, two, _] = &overlay.agents[..] else {
            unreachable!("three agents")
        };
        // One that would fall back could be counted on nevertheless.
        let text = std::fs::read_to_string(&file)?;
        let over_tcp = text.replacen("LINK UDP one two", "LINK TCP one two", 1);
        ensure!(over_tcp != text, "{text}");
        std::fs::write(&file, over_tcp)?;
        let (at_one, at_two) = (one.host.uplink()?, two.host.uplink()?);
        overlay.underlay.set_apart(&[&at_one, &at_two], true)?;
        let said = fails(&overlay, &file)?;
        let (there, back) = (
            said.contains("one: link to-two"),
            said.contains("two: link to-one"),
        );
        assert!(there || back, "{said}");
        assert_eq!(links(&one.host)?, ["to-proxy"]);
        overlay.until_all_reach_all()
    });
}

#[test]
fn a_host_that_stops_in_the_middle_turns_all_back_and_is_told_when_it_is_there_again() {
    in_lab("vanishes", |lab| {
        let (overlay, file) = ring_to_be(lab)?;
        let two = &overlay.agents[1];
        signal::send(&two.agent, Signal::SIGSTOP)?;
        let said = fails(&overlay, &file);
        signal::send(&two.agent, Signal::SIGCONT)?;
        let said = said?;
        // Who notices it first is those that have a new link to it.
        let noticed = ["link to-two: ", "two: it has not answered"];
        assert!(noticed.iter().any(|words| said.contains(words)), "{said}");
        assert!(
            said.contains("two did not answer, and will be given the old state"),
            "{said}"
        );
        overlay.until_whole()?;
        assert_eq!(links(&two.host)?, ["to-proxy"]);
        overlay.until_all_reach_all()
    });
}

#[test]
fn nobody_has_to_wait_for_a_change_and_no_other_begins_meanwhile() {
    in_lab("unattended", |lab| {
        let (overlay, file) = ring_to_be(lab)?;
        let proxy = &overlay.proxy.host;
        // One that answers late holds it up for a moment.
        let two = &overlay.agents[1];
        signal::send(&two.agent, Signal::SIGSTOP)?;
        let begun = proxy.attempt_vnetctl(["topology", "apply", &file, "--no-wait"]);
        let other = proxy.attempt_vnetctl(["topology", "apply", &file, "--no-wait"]);
        thread::sleep(Duration::from_millis(200));
        signal::send(&two.agent, Signal::SIGCONT)?;
        let (begun, other) = (begun?, other?);
        ensure!(begun.success(), "{}", begun.stderr);
        let said = "another topology is being brought about";
        assert!(other.stderr.contains(said), "{}", other.stderr);
        try_eventually("it is done, whoever looks", || {
            Ok((rollout(proxy)?.state == RolloutState::Done).then_some(()))
        })?;
        assert_eq!(links(&two.host)?, ["to-one", "to-proxy", "to-three"]);
        overlay.until_all_reach_all()
    });
}
