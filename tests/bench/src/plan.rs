//! How much is measured, and how long does that take?

use std::time::Duration;

use crate::bed::Underlay;
use crate::part::{costs, frames, memory, overlay, primitives, rules, streams};
use crate::path::Path;

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Frames a second, tap to tap.
    Frames,
    /// TCP between guests, and what it costs.
    Tcp,
    /// Small packets there and back.
    RoundTrips,
    /// What a frame costs in the programs, however many rules there are.
    Rules,
    /// What counting and a link's fields cost a frame.
    Costs,
    /// What an agent needs.
    Memory,
    /// How long one change or question takes a client.
    Primitives,
    /// How long it takes until the overlay has another shape, and what that costs the frames under way.
    Shapes,
    /// What else there is about the overlay: failover, many rules, links over TLS.
    Overlay,
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What.
    pub parts: Vec<Part>,
    /// Which paths.
    pub paths: Vec<Path>,
    /// How often everything.
    pub rounds: u32,
    /// Frames: sent and not counted, before each measurement.
    pub warm_up: Duration,
    /// Frames and round trips: counted, in each measurement.
    pub window: Duration,
    /// TCP: counted, in each measurement; whole seconds.
    pub tcp_window: Duration,
}

/// Making a bed, laying a path and clearing it away again, about.
const LAYING: Duration = Duration::from_secs(2);
/// A program for TCP starts, ends and reports, about.
const TCP_START: Duration = Duration::from_millis(250);

impl Plan {
    /// Whether this is to be measured.
    #[must_use]
    pub fn includes(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The paths that have this, in another order each round, so that none always follows the
    /// same one.
    #[must_use]
    pub fn paths_of_round(&self, round: u32, has: impl Fn(Path) -> bool) -> Vec<Path> {
        let mut paths: Vec<Path> = self
            .paths
            .iter()
            .copied()
            .filter(|path| has(*path))
            .collect();
        if !paths.is_empty() {
            let first = usize::try_from(round).unwrap_or(0) % paths.len();
            paths.rotate_left(first);
        }
        paths
    }

    /// How long all of it takes, about.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let once = [(Part::Rules, rules::START), (Part::Costs, costs::START)];
        let every_round = [
            (Part::Frames, self.frames_round()),
            (Part::Tcp, self.tcp_round()),
            (Part::RoundTrips, self.round_trips_round()),
            (Part::Rules, rules::ROUND),
            (Part::Costs, costs::ROUND),
            (Part::Memory, memory::ROUND),
            (Part::Primitives, primitives::ROUND),
            (Part::Shapes, overlay::SHAPES_ROUND),
            (Part::Overlay, overlay::ROUND),
        ];
        let sum = |parts: &[(Part, Duration)]| -> Duration {
            let included = parts.iter().filter(|(part, _)| self.includes(*part));
            included.map(|(_, duration)| *duration).sum()
        };
        sum(&once) + sum(&every_round) * self.rounds
    }

    fn frames_round(&self) -> Duration {
        let lengths = count(frames::LENGTHS.len());
        let path = (self.warm_up + self.window) * lengths + LAYING;
        path * self.number_of(Path::joins_taps)
    }

    fn tcp_round(&self) -> Duration {
        let tests = count(Underlay::ALL.len() * streams::STREAMS.len());
        let path = (self.tcp_window + TCP_START) * tests + LAYING;
        path * self.number_of(Path::joins_stations)
    }

    fn round_trips_round(&self) -> Duration {
        // Laid once for both where TCP is measured too.
        let laying = if self.includes(Part::Tcp) {
            Duration::ZERO
        } else {
            LAYING
        };
        (self.window + laying) * self.number_of(Path::joins_stations)
    }

    fn number_of(&self, has: impl Fn(Path) -> bool) -> u32 {
        count(self.paths.iter().filter(|path| has(**path)).count())
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(parts: &[Part]) -> Plan {
        Plan {
            parts: parts.to_vec(),
            paths: vec![Path::Direct, Path::BridgeVxlan, Path::VnetXdp],
            rounds: 2,
            warm_up: Duration::ZERO,
            window: Duration::from_secs(1),
            tcp_window: Duration::from_secs(1),
        }
    }

    #[test]
    fn every_round_begins_with_another_path() {
        let plan = plan(&[Part::Frames]);
        let [first, second] = [0, 1].map(|round| plan.paths_of_round(round, Path::joins_taps));
        assert_eq!(first, [Path::BridgeVxlan, Path::VnetXdp]);
        assert_eq!(second, [Path::VnetXdp, Path::BridgeVxlan]);
        assert!(plan.paths_of_round(3, |_| false).is_empty());
    }

    #[test]
    fn two_paths_with_three_lengths_in_two_rounds_take_their_time() {
        let expected = (Duration::from_secs(3) + LAYING) * 4;
        assert_eq!(plan(&[Part::Frames]).duration(), expected);
        let both = plan(&[Part::Tcp, Part::RoundTrips]).duration();
        let one = plan(&[Part::Tcp]).duration();
        assert_eq!(both - one, Duration::from_secs(6));
    }
}
