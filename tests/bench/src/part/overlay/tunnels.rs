//! How fast is a link over TLS, beside a tunnel between two programs that encrypts nothing?
//!
//! TCP from guest to guest over both, one after the other in each round, over beds made anew; the
//! cable as it comes, then as a wire. Also over a link of plain TCP.

use std::any::Any;

use anyhow::{Context, Result};

use crate::bed::{Bed, Underlay};
use crate::figure::{Bound, Figure};
use crate::iperf;
use crate::path::{Path, vnet};
use crate::plan::Plan;
use crate::report::number;
use crate::rounds::Rounds;
use crate::stations::{GUEST_ADDRESSES, Stations, VETH};
use crate::workshop::Workshop;

/// What is aimed at: TLS over tinc.
const GOAL: f64 = 2.0;

/// More rounds say no more: the tunnels are far apart.
const ROUNDS_MAX: u32 = 3;

/// A tunnel through programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tunnel {
    Tls,
    Tcp,
    Tinc,
}

impl Tunnel {
    const ALL: [Self; 3] = [Self::Tls, Self::Tcp, Self::Tinc];

    const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Tcp => "tcp",
            Self::Tinc => "tinc",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Tls => "a link over TLS",
            Self::Tcp => "a link over TCP",
            Self::Tinc => "tinc, not encrypted",
        }
    }

    fn lay(self, workshop: &Workshop, bed: &Bed) -> Result<Box<dyn Any>> {
        Ok(match self {
            Self::Tls | Self::Tcp => Box::new(vnet::lay_carried(bed, self.name())?),
            Self::Tinc => Path::Tinc.lay(bed, &workshop.packages)?,
        })
    }
}

/// Sends.
///
/// # Errors
///
/// A tunnel does not carry.
pub fn measure(workshop: &Workshop, plan: &Plan) -> Result<Vec<Figure>> {
    let mut rounds = Rounds::default();
    let count = plan.rounds.min(ROUNDS_MAX);
    for round in 0..count {
        rounds.begin();
        let mut tunnels = Tunnel::ALL;
        tunnels.rotate_left(usize::try_from(round)? % Tunnel::ALL.len());
        for tunnel in tunnels {
            workshop.say(format_args!(
                "round {} of {}: {}",
                round + 1,
                count,
                tunnel.title()
            ));
            one(workshop, plan, tunnel, &mut rounds).with_context(|| tunnel.title())?;
        }
    }
    Ok(figures(&rounds))
}

fn one(
    workshop: &Workshop,
    plan: &Plan,
    tunnel: Tunnel,
    rounds: &mut Rounds<(Tunnel, Underlay)>,
) -> Result<()> {
    let bed = workshop.bed(VETH)?;
    let stations = Stations::new(&bed, Path::Tinc)?;
    let _held = tunnel.lay(workshop, &bed)?;
    stations.prove(&bed)?;
    let (client, server) = (stations.client(&bed), stations.server(&bed));
    let [_, address] = GUEST_ADDRESSES;
    // Programs forward, and need the cores too.
    let cores = workshop.cores.shared();
    let listener = iperf::Server::start(server, cores, address)?;
    for underlay in Underlay::ALL {
        bed.set_underlay(underlay)?;
        let measured = listener.measure(client, cores, 1, plan.tcp_window)?;
        workshop.say(format_args!(
            "    the underlay's offloads {}: {} Gbit/s",
            underlay.name(),
            number(measured.gigabits_per_second)
        ));
        rounds.record((tunnel, underlay), measured.gigabits_per_second);
    }
    Ok(())
}

fn figures(rounds: &Rounds<(Tunnel, Underlay)>) -> Vec<Figure> {
    let mut figures = Vec::new();
    for underlay in Underlay::ALL {
        let cable = match underlay {
            Underlay::OffloadsOn => "the underlay's offloads on",
            Underlay::OffloadsOff => "the underlay as a wire",
        };
        for tunnel in Tunnel::ALL {
            let name = format!(
                "tunnel_gigabits_per_second.{}.{}",
                underlay.name(),
                tunnel.name()
            );
            let title = format!("TCP, one stream, {cable}: {}", tunnel.title());
            let samples = rounds.of((tunnel, underlay));
            figures.extend(Figure::new(name, title, "Gbit/s", &samples));
        }
        let name = format!("tunnel_ratio.{}.tls.tinc", underlay.name());
        let title = format!("a link over TLS, over tinc that does not encrypt, {cable}");
        let ratios = rounds.ratios((Tunnel::Tls, underlay), (Tunnel::Tinc, underlay));
        let figure = Figure::new(name, title, "x", &ratios);
        figures.extend(figure.map(|figure| figure.with_goal(Bound::AtLeast(GOAL))));
    }
    figures
}
