//! How fast is TCP from guest to guest, what does it cost, and how long are small packets on their
//! way?
//!
//! Rounds of all paths one after the other, each over a fresh bed: round trips first, then TCP with
//! the cable's offloads on, then with the cable as a wire. Output: what was measured, all paths as
//! ratios to bridge + VXLAN and to a direct veth, and how much of what bridge + VXLAN adds to a
//! round trip each path adds.

use anyhow::{Context, Result};

use crate::bed::{Bed, Underlay};
use crate::figure::{Bound, Figure};
use crate::iperf;
use crate::part::over_paths;
use crate::path::Path;
use crate::plan::{Part, Plan};
use crate::report::number;
use crate::round_trips;
use crate::rounds::Rounds;
use crate::stations::{GUEST_ADDRESSES, Stations, VETH};
use crate::workshop::Workshop;

/// The numbers of TCP streams.
pub const STREAMS: [u32; 2] = [1, 8];

/// The device by whose socket the kernel joins.
const JOINER: &str = "vnet-join-6081";

/// Of what bridge + VXLAN adds to a round trip, what a path of ours may add.
const ADDED: Bound = Bound::AtMost(0.5);
/// The paths with that goal.
const QUICK: [Path; 2] = [Path::VnetXdp, Path::VnetTc];
/// What is aimed at with one stream.
const GOALS: [(Path, Underlay, Path, Bound); 3] = [
    (
        Path::VnetTc,
        Underlay::OffloadsOn,
        Path::BridgeVxlan,
        Bound::AtLeast(1.3),
    ),
    (
        Path::VnetTc,
        Underlay::OffloadsOn,
        Path::Direct,
        Bound::AtLeast(0.95),
    ),
    (
        Path::VnetTc,
        Underlay::OffloadsOff,
        Path::BridgeVxlan,
        Bound::AtLeast(1.2),
    ),
];

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    path: Path,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Gigabits(u32, Underlay),
    CpuSeconds(u32, Underlay),
    MedianRoundTrip,
    LongRoundTrip,
}

/// Measures.
#[must_use]
pub fn measure(workshop: &Workshop, plan: &Plan) -> Vec<Figure> {
    let what = "TCP and round trips";
    let one = |path, rounds: &mut _| one_path(workshop, plan, path, rounds);
    let rounds = over_paths(workshop, plan, what, Path::joins_stations, one);
    figures(plan, &rounds)
}

fn one_path(workshop: &Workshop, plan: &Plan, path: Path, rounds: &mut Rounds<Key>) -> Result<()> {
    let bed = workshop.bed(VETH)?;
    let stations = Stations::new(&bed, path)?;
    let _held = path.lay(&bed, &workshop.packages)?;
    stations.prove(&bed)?;
    let (client, server) = (stations.client(&bed), stations.server(&bed));
    let [_, address] = GUEST_ADDRESSES;
    rounds.record_distance(workshop.cores.round_trip()?);
    if plan.includes(Part::RoundTrips) {
        let measured = round_trips::measure(workshop.cores, client, server, address, plan.window)?;
        workshop.say(format_args!(
            "    there and back {} us, 99 of 100 within {} us ({} times)",
            number(measured.median_us),
            number(measured.p99_us),
            measured.count
        ));
        let mut record = |what, value| rounds.record(Key { path, what }, value);
        record(What::MedianRoundTrip, measured.median_us);
        record(What::LongRoundTrip, measured.p99_us);
    }
    if !plan.includes(Part::Tcp) {
        return Ok(());
    }
    let listener = iperf::Server::start(server, workshop.cores, address)?;
    for underlay in Underlay::ALL {
        bed.set_underlay(underlay)?;
        if path == Path::VnetTc && underlay == Underlay::OffloadsOff {
            await_joiners(&bed)?;
        }
        for streams in STREAMS {
            let before = bed.carried()?;
            let measured = listener
                .measure(client, workshop.cores, streams, plan.tcp_window)
                .with_context(|| format!("{streams} streams"))?;
            if underlay == Underlay::OffloadsOff {
                bed.ensure_as_a_wire(before)?;
            }
            workshop.say(format_args!(
                "    TCP, {streams} streams, the underlay's offloads {}: {} Gbit/s, {} s of CPU a \
                 gigabyte",
                underlay.name(),
                number(measured.gigabits_per_second),
                number(measured.cpu_seconds_per_gigabyte),
            ));
            let mut record = |what, value| rounds.record(Key { path, what }, value);
            record(
                What::Gigabits(streams, underlay),
                measured.gigabits_per_second,
            );
            record(
                What::CpuSeconds(streams, underlay),
                measured.cpu_seconds_per_gigabyte,
            );
        }
    }
    Ok(())
}

/// The agents hear that the cable joins what it receives, and make the kernel do so with ours.
fn await_joiners(bed: &Bed) -> Result<()> {
    for host in bed.hosts() {
        lab::try_eventually("the kernel joins packets of the overlay", || {
            let shown = host.attempt(["ip", "link", "show", JOINER, "up"])?;
            Ok(shown.stdout.contains(JOINER).then_some(()))
        })?;
    }
    Ok(())
}

fn figures(plan: &Plan, rounds: &Rounds<Key>) -> Vec<Figure> {
    let mut figures = Vec::new();
    for underlay in Underlay::ALL {
        for streams in STREAMS {
            figures.extend(tcp_figures(&plan.paths, rounds, streams, underlay));
        }
    }
    figures.extend(round_trip_figures(&plan.paths, rounds));
    figures
}

fn tcp_figures(
    paths: &[Path],
    rounds: &Rounds<Key>,
    streams: u32,
    underlay: Underlay,
) -> Vec<Figure> {
    let off = underlay.name();
    let kind = format!("TCP {streams}, underlay {off}");
    let about = |figure: Figure, path: Path| {
        let figure = figure.about("path", path.name()).about("streams", streams);
        figure.about("underlay_offloads", off)
    };
    let rate = |path| Key {
        path,
        what: What::Gigabits(streams, underlay),
    };
    let cost = |path| Key {
        path,
        what: What::CpuSeconds(streams, underlay),
    };
    let mut figures = Vec::new();
    for &path in paths {
        let figure = Figure::new(
            format!("tcp_gigabits_per_second.{streams}.{off}.{}", path.name()),
            format!("{kind}: {}", path.title()),
            "Gbit/s",
            &rounds.of(rate(path)),
        );
        figures.extend(figure.map(|figure| about(figure, path)));
    }
    for &path in paths {
        let figure = Figure::new(
            format!("cpu_seconds_per_gigabyte.{streams}.{off}.{}", path.name()),
            format!("{kind}, CPU: {}", path.title()),
            "s/GB",
            &rounds.of(cost(path)),
        );
        figures.extend(figure.map(|figure| about(figure, path)));
    }
    for peer in [Path::BridgeVxlan, Path::Direct] {
        for &path in paths.iter().filter(|path| **path != peer) {
            let figure = Figure::new(
                format!("tcp_ratio.{streams}.{off}.{}.{}", path.name(), peer.name()),
                format!("{kind}: {} over {}", path.title(), peer.title()),
                "x",
                &rounds.ratios(rate(path), rate(peer)),
            );
            let figure = figure.map(|figure| about(figure, path).about("peer", peer.name()));
            let goal = GOALS
                .iter()
                .find(|(of, on, over, _)| (*of, *on, *over) == (path, underlay, peer))
                .filter(|_| streams == 1);
            figures.extend(figure.map(|figure| match goal {
                Some((_, _, _, bound)) => figure.with_goal(*bound),
                None => figure,
            }));
        }
    }
    figures
}

fn round_trip_figures(paths: &[Path], rounds: &Rounds<Key>) -> Vec<Figure> {
    let kinds = [
        ("median", "median", What::MedianRoundTrip),
        ("p99", "99 of 100 within", What::LongRoundTrip),
    ];
    let mut figures = Vec::new();
    for (name, title, what) in kinds {
        for &path in paths {
            let figure = Figure::new(
                format!("round_trip_us.{name}.{}", path.name()),
                format!("round trip, {title}: {}", path.title()),
                "us",
                &rounds.of(Key { path, what }),
            );
            figures.extend(figure.map(|figure| figure.about("path", path.name())));
        }
    }
    let median = |path| Key {
        path,
        what: What::MedianRoundTrip,
    };
    for &path in paths {
        let all = [path, Path::BridgeVxlan, Path::Direct].map(median);
        if matches!(path, Path::BridgeVxlan | Path::Direct) {
            continue;
        }
        let figure = Figure::new(
            format!("round_trip_added.{}", path.name()),
            format!(
                "round trip over direct veth: {}, of what bridge + VXLAN adds",
                path.title()
            ),
            "x",
            &rounds.combined(all, |[path, bridge, direct]| {
                (path - direct) / (bridge - direct)
            }),
        );
        figures.extend(figure.map(|figure| {
            let figure = figure.about("path", path.name());
            match QUICK.contains(&path) {
                true => figure.with_goal(ADDED),
                false => figure,
            }
        }));
    }
    figures
}
