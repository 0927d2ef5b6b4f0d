//! The promise: a guest that lies in its headers, sends giant or empty frames, or floods with what
//! concerns many or nobody, harms nobody else: every frame of others arrives, the agent lives, and
//! every frame that the kernel took from the guest is in the books, with what became of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use e2e::frame::{BROADCAST, GROUP, HEADER_BYTES, guest, numbered};
use e2e::hostile::{COARSE, FINE, Liar};
use e2e::listener::while_listening;
use e2e::settings::Settings;
use e2e::stage::{Family, Site};
use e2e::stage::{PORT, Stage, address, link_to};
use e2e::stranger::index_of;
use e2e::stream::during;
use e2e::{ask, books};
use lab::{Lab, Mac, Offloads, TapGuest, TapSettings, in_lab};
use vnet_agent::api::LedgerValues;
use vnet_common::reason::Reason;

/// The port of the hostile guest, and its address.
const HOSTILE_PORT: &str = "tap1";
const HOSTILE: Mac = guest(66);
/// A station that nobody has heard of.
const NOBODY: Mac = guest(77);
/// Whom it writes to: both others, everybody, nobody, and itself.
const STATIONS: [Mac; 5] = [guest(1), guest(2), BROADCAST, NOBODY, HOSTILE];
/// What the hostile guest's port may send up to the agent at once; and in a second.
const BURST: u64 = 50;

/// Packets that one frame of a guest may become.
const PACKETS_MAX: u64 = 128;

/// Where the kernel hands the hostile guest's frames to us.
const DOORS: [&str; 2] = ["xdp", "tc"];

/// Two hosts with a guest each, and the hostile one's port beside the guest of host one. Frames for
/// unknown stations match no rule, those for groups do.
fn stage(lab: &Lab, door: &str) -> Result<Stage> {
    Stage::new(lab, 2, |own| {
        let other = 3 - own;
        let settings = Settings::new()
            .port(PORT, guest(own))
            .link(&link_to(other), &address(Family::Ipv4, other))
            .way(guest(other), &link_to(other))
            .rule("any", &BROADCAST.to_string(), "flood = true")
            .rule("any", &GROUP.to_string(), "flood = true");
        let budget = format!(
            "addresses = [\"{HOSTILE}\"]\ndoor = \"{door}\"\n\
             slow_path_rate = {BURST}\nslow_path_burst = {BURST}"
        );
        match own {
            1 => settings.port_with(HOSTILE_PORT, &budget),
            _ => settings,
        }
    })
}

/// The hostile guest, on a tap where a guest may leave work to its NIC.
fn hostile_guest(site: &Site, door: &str) -> Result<TapGuest> {
    let settings = TapSettings {
        offloads: Some(Offloads::NONE),
        ..TapSettings::default()
    };
    let guest = site.host.tap_guest_with(HOSTILE_PORT, HOSTILE, settings)?;
    ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
    let hold = format!("port-{}-{door}", index_of(&site.host, HOSTILE_PORT)?);
    let holds = site
        .host
        .run(["find", "/sys/fs/bpf/vnet", "-name", &hold])?;
    assert!(holds.stdout.contains(&hold), "it is not at the door {door}");
    Ok(guest)
}

/// Does this in a lab for each door.
fn at_each_door(name: &str, work: impl Fn(&Lab, &str) -> Result<()>) {
    for door in DOORS {
        in_lab(&format!("{name}-{door}"), |lab| work(lab, door));
    }
}

/// How many of its frames came as far as the door.
fn reached(liar: &Liar<'_>, door: &str) -> u64 {
    match door {
        "tc" => liar.taken - liar.torn,
        _ => liar.taken,
    }
}

/// Both agents are those that they were and content, and the books of both hosts are balanced.
/// Returns the ledgers of the hostile guest's port and of its neighbour's.
fn aftermath(one: &Site, two: &Site) -> Result<(LedgerValues, LedgerValues)> {
    for site in [one, two] {
        let status = ask::until_healthy(&site.host)?;
        assert_eq!(Some(status.pid), site.agent.id());
    }
    books::settled(&two.host)?;
    // That what went up to the agent is what it took holds for whole frames only: a large one is
    // one on its way up, and many once the kernel has cut it.
    let stats = books::settled(&one.host)?;
    let port = |name| books::port(&stats, name).cloned();
    Ok((port(HOSTILE_PORT)?, port(PORT)?))
}

#[test]
fn who_lies_about_frames() {
    at_each_door("lies", |lab, door| {
        let stage = stage(lab, door)?;
        let (one, two) = stage.two()?;
        let guest_66 = hostile_guest(one, door)?;
        let mut liar = Liar::behind(&guest_66, COARSE, 66)?;
        let outcome = during(&one.guest, &two.guest, |stream| {
            for _ in 0..3000 {
                // One at a time: the way to host two has room for the stream and the pieces of it.
                liar.lie(&STATIONS)?;
                stream.flow_on(10)?;
            }
            Ok(())
        })?;
        outcome.must_be_perfect(30_000)?;
        let (hostile, neighbour) = aftermath(one, two)?;
        assert!(liar.unfinished > 100, "{liar:?}");
        assert_eq!(hostile.received_packets, reached(&liar, door));
        for reason in [Reason::TooBig, Reason::NoRule, Reason::Reflection] {
            assert!(
                books::dropped(&hostile, reason) > 0,
                "{reason}: {hostile:?}"
            );
        }
        assert!(
            hostile.forwarded > 0 && hostile.delivered > 0,
            "{hostile:?}"
        );
        assert_eq!(neighbour.forwarded, outcome.sent);
        Ok(())
    });
}

/// Frames that would be cut into so many pieces that no queue on the way to the other host holds
/// them: those that would become a flood end at the door, and of the rest comes no more than of a
/// sender in bulk.
#[test]
fn who_has_frames_cut_into_thousands() {
    at_each_door("fine", |lab, door| {
        let stage = stage(lab, door)?;
        let (one, two) = stage.two()?;
        let guest_66 = hostile_guest(one, door)?;
        let mut liar = Liar::behind(&guest_66, FINE, 67)?;
        // Somebody reads what comes of it, or it would lie in the stream's way.
        while_listening([&one.guest, &two.guest], || {
            (0..1000).try_for_each(|_| liar.lie(&STATIONS))
        })?;
        let outcome = during(&one.guest, &two.guest, |stream| stream.flow_on(3000))?;
        outcome.must_be_perfect(3000)?;
        let (hostile, neighbour) = aftermath(one, two)?;
        assert_eq!(hostile.received_packets, reached(&liar, door));
        assert_eq!(neighbour.forwarded, outcome.sent);
        let floods = books::dropped(&hostile, Reason::ManySegments);
        assert_eq!(floods > 0, door == "tc", "{hostile:?}");
        let arrived = books::link(&books::settled(&two.host)?, "to-one")?.received_packets;
        let most = PACKETS_MAX * (hostile.forwarded + hostile.slow_path) + outcome.sent;
        assert!(arrived <= most, "{arrived} of {most} packets: {hostile:?}");
        Ok(())
    });
}

/// The driver of the tap answers for these: they never were frames, and no ledger has them.
#[test]
fn who_sends_less_than_a_frame() {
    at_each_door("empty", |lab, door| {
        let stage = stage(lab, door)?;
        let (one, two) = stage.two()?;
        let guest_66 = hostile_guest(one, door)?;
        let frame = numbered(HOSTILE, NOBODY, 1, 60);
        for bytes in 0..HEADER_BYTES {
            let sent = guest_66.send(frame.get(..bytes).context("a part")?);
            assert!(sent.is_err(), "{bytes} bytes");
        }
        guest_66.send(frame.get(..HEADER_BYTES).context("a header alone")?)?;
        let (hostile, _) = aftermath(one, two)?;
        let dropped = books::dropped(&hostile, Reason::NoRule);
        assert_eq!((hostile.received_packets, dropped), (1, 1));
        Ok(())
    });
}

/// A flood, and what must become of it.
struct Flood {
    name: &'static str,
    frame: Vec<u8>,
    end: Reason,
}

fn floods() -> Vec<Flood> {
    let flood = |name, frame, end| Flood { name, frame, end };
    vec![
        flood(
            "broadcasts",
            numbered(HOSTILE, BROADCAST, 1, 60),
            Reason::SlowPathRate,
        ),
        flood(
            "multicasts",
            numbered(HOSTILE, GROUP, 1, 1400),
            Reason::SlowPathRate,
        ),
        flood(
            "unknown stations",
            numbered(HOSTILE, NOBODY, 1, 60),
            Reason::NoRule,
        ),
        flood(
            "giants",
            numbered(HOSTILE, guest(2), 1, 65_535),
            Reason::TooBig,
        ),
        flood(
            "itself",
            numbered(HOSTILE, HOSTILE, 1, 60),
            Reason::Reflection,
        ),
        flood(
            "others' names",
            numbered(guest(1), guest(2), 1, 60),
            Reason::ForeignSource,
        ),
        flood(
            "no name",
            numbered(GROUP, guest(2), 1, 60),
            Reason::InvalidSource,
        ),
    ]
}

/// Sends the frame until it is told to stop; returns how often.
fn send_until(over: &AtomicBool, sent: &AtomicU64, from: &TapGuest, frame: &[u8]) -> Result<u64> {
    while !over.load(Ordering::Relaxed) {
        from.send(frame)?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(sent.load(Ordering::Relaxed))
}

#[test]
fn who_floods() {
    at_each_door("floods", |lab, door| {
        let stage = stage(lab, door)?;
        let (one, two) = stage.two()?;
        let flooder = hostile_guest(one, door)?;
        let (mut before, _) = aftermath(one, two)?;
        for flood in floods() {
            let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
            let (outcome, flooded) = thread::scope(|scope| {
                let flooding = scope.spawn(|| send_until(&over, &sent, &flooder, &flood.frame));
                let outcome = during(&one.guest, &two.guest, |stream| {
                    while stream.arrived() < 2000 || sent.load(Ordering::Relaxed) < 5000 {
                        stream.flow_on(100)?;
                    }
                    Ok(())
                });
                over.store(true, Ordering::Relaxed);
                flooding.join().map(|flooded| (outcome, flooded))
            })
            .ok()
            .context("the flooder panicked")?;
            outcome.with_context(|| flood.name)?.must_be_perfect(2000)?;
            let flooded = flooded?;

            let (now, neighbour) = aftermath(one, two)?;
            let ended = books::dropped(&now, flood.end) - books::dropped(&before, flood.end);
            let let_up = now.slow_path - before.slow_path;
            assert_eq!(
                now.received_packets - before.received_packets,
                flooded,
                "{}",
                flood.name
            );
            assert_eq!(ended + let_up, flooded, "{}: {now:?}", flood.name);
            assert!(ended > flooded / 2, "{}: {now:?}", flood.name);
            assert_eq!(neighbour.dropped, 0, "{}", flood.name);
            before = now;
        }
        Ok(())
    });
}
