//! What does a guest that floods cost its neighbour?
//!
//! A victim streams to the other host as fast as it can: alone, beside a guest that floods, and
//! beside a control. Victim and flooder have a CPU each, so that neither takes the other's time by
//! sending. The control floods with the same frames a tap that is no port: what the flooder costs
//! beyond that is the overlay's doing. The three take turns, and each round gives its own ratios,
//! so that a machine that changes its mind shows in their spread.
//!
//! Prints figures and asserts nothing. Needs root, two CPUs, and an agent beside it in the same
//! profile: `cargo build --release -p vnet-agent && cargo run --release -p e2e --bin isolation`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::frame::{BROADCAST, guest, numbered};
use e2e::stage::{Family, Stage, mesh_settings};
use e2e::stream::{Stream, during};
use e2e::{ask, cpu};
use lab::{Lab, Mac, TapGuest};

const HOSTILE: Mac = guest(66);
const ROUNDS: usize = 15;
/// How long each of the three is measured in a round.
const TURN: Duration = Duration::from_millis(200);
/// How long a flood flows before it is measured.
const START: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    let [victims, flooders] = cpu::two()?;
    let lab = Lab::new("isolation")?;
    let stage = Stage::new(&lab, 2, |own| {
        let settings = mesh_settings(Family::Ipv4, own, 2);
        match own {
            1 => settings.port("tap1", HOSTILE),
            _ => settings,
        }
    })?;
    let (one, two) = stage.two()?;
    let flooder = one.host.tap_guest("tap1", HOSTILE)?;
    let control = one.host.tap_guest("control", HOSTILE)?;
    ask::until(&one.host, "both ports forward", |status| status.ports == 2)?;
    cpu::stay_on(victims)?;
    println!(
        "{:<18} {:>10} {:>22} {:>22}",
        "", "alone", "beside control", "beside flooder"
    );
    println!(
        "{:<18} {:>10} {:>22} {:>22} {:>22}",
        "", "frames/s", "of alone", "of alone", "of beside control"
    );
    for (name, frame) in [
        ("broadcasts", numbered(HOSTILE, BROADCAST, 1, 60)),
        ("unknown stations", numbered(HOSTILE, guest(77), 1, 60)),
        ("others' addresses", numbered(guest(1), guest(2), 1, 60)),
        ("itself", numbered(HOSTILE, HOSTILE, 1, 60)),
    ] {
        let mut rounds = Vec::new();
        during(&one.guest, &two.guest, |stream| {
            for _ in 0..ROUNDS {
                rounds.push([
                    rate(stream, flooders, None)?,
                    rate(stream, flooders, Some((&control, &frame)))?,
                    rate(stream, flooders, Some((&flooder, &frame)))?,
                ]);
            }
            Ok(())
        })?;
        let of = |a: usize, b: usize| Spread::of(rounds.iter().map(|round| round[a] / round[b]));
        let alone = Spread::of(rounds.iter().map(|round| round[0]));
        println!(
            "{name:<18} {:>10.0} {:>22} {:>22} {:>22}",
            alone.median,
            of(1, 0).text(),
            of(2, 0).text(),
            of(2, 1).text()
        );
    }
    assert_eq!(
        ask::status(&one.host)?.pid,
        one.agent.id().context("it runs")?
    );
    Ok(())
}

/// Frames of the victim that arrive in a second, beside a flood of these frames from this CPU.
fn rate(stream: &Stream<'_>, from_cpu: usize, flood: Option<(&TapGuest, &[u8])>) -> Result<f64> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = flood.map(|(from, frame)| {
            let over = &over;
            scope.spawn(move || -> Result<()> {
                cpu::stay_on(from_cpu)?;
                while !over.load(Ordering::Relaxed) {
                    from.send(frame)?;
                }
                Ok(())
            })
        });
        thread::sleep(START);
        let (began, before) = (Instant::now(), stream.arrived());
        thread::sleep(TURN);
        let rate = (stream.arrived() - before) as f64 / began.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        if let Some(flooding) = flooding {
            flooding.join().ok().context("the flooder panicked")??;
        }
        Ok(rate)
    })
}

/// The middle of some values, and their ends.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self {
            least: at(0),
            median: at(values.len() / 2),
            most: at(values.len().saturating_sub(1)),
        }
    }

    /// In percent.
    fn text(&self) -> String {
        let [median, least, most] = [self.median, self.least, self.most].map(|part| part * 100.0);
        format!("{median:.1} % ({least:.1}-{most:.1})")
    }
}
