//! Which samples belong together?
//!
//! Those of one round: what is compared is compared within a round, so that what slowed all of it
//! cancels. Rounds in which the cores moved (see [`crate::cores`]) compare paths on different
//! machines, in effect; they are left out where enough others remain.

use std::collections::BTreeMap;
use std::time::Duration;

/// How far apart the least and the greatest distance of the cores in a round may be, as a ratio.
const STEADY: f64 = 1.5;

/// Samples by round and by what was measured.
#[derive(Debug)]
pub struct Rounds<K> {
    rounds: Vec<Round<K>>,
}

#[derive(Debug)]
struct Round<K> {
    samples: BTreeMap<K, f64>,
    distances: Vec<f64>,
}

impl<K> Round<K> {
    fn is_steady(&self) -> bool {
        let least = self.distances.iter().copied().fold(f64::MAX, f64::min);
        self.distances
            .iter()
            .all(|&distance| distance <= least * STEADY)
    }
}

impl<K> Default for Rounds<K> {
    fn default() -> Self {
        Self { rounds: Vec::new() }
    }
}

impl<K: Ord + Copy> Rounds<K> {
    /// What is recorded from now on belongs to a new round.
    pub fn begin(&mut self) {
        self.rounds.push(Round {
            samples: BTreeMap::new(),
            distances: Vec::new(),
        });
    }

    /// Records a sample of this round.
    pub fn record(&mut self, what: K, value: f64) {
        if let Some(round) = self.rounds.last_mut() {
            round.samples.insert(what, value);
        }
    }

    /// Records how far apart the cores were for a part of this round.
    pub fn record_distance(&mut self, round_trip: Duration) {
        if let Some(round) = self.rounds.last_mut() {
            round.distances.push(round_trip.as_secs_f64() * 1e9);
        }
    }

    /// The rounds that count: the steady ones if they are half of all or more, else all.
    fn counted(&self) -> impl Iterator<Item = &Round<K>> {
        let steady = self.rounds.iter().filter(|round| round.is_steady()).count();
        let all = 2 * steady < self.rounds.len();
        self.rounds
            .iter()
            .filter(move |round| all || round.is_steady())
    }

    /// How many rounds were left out, since the cores moved in them.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.rounds.len() - self.counted().count()
    }

    /// The distances of the cores, nanoseconds there and back, in all rounds.
    #[must_use]
    pub fn distances_ns(&self) -> Vec<f64> {
        let distances = self.rounds.iter().flat_map(|round| &round.distances);
        distances.copied().collect()
    }

    /// The samples of one thing.
    #[must_use]
    pub fn of(&self, what: K) -> Vec<f64> {
        self.combined([what], |[value]| value)
    }

    /// The ratios of two things.
    #[must_use]
    pub fn ratios(&self, of: K, to: K) -> Vec<f64> {
        self.combined([of, to], |[of, to]| of / to)
    }

    /// What follows from samples of the same round, for each round that has all of them.
    #[must_use]
    pub fn combined<const N: usize>(
        &self,
        keys: [K; N],
        value: impl Fn([f64; N]) -> f64,
    ) -> Vec<f64> {
        let of_round = |round: &Round<K>| {
            let samples = keys.map(|key| round.samples.get(&key).copied());
            let whole = samples.iter().all(Option::is_some);
            whole.then(|| value(samples.map(Option::unwrap_or_default)))
        };
        self.counted().filter_map(of_round).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples, and distances of the cores.
    type Told<'a> = (&'a [(char, f64)], &'a [u64]);

    fn rounds(of: &[Told<'_>]) -> Rounds<char> {
        let mut rounds = Rounds::default();
        for (samples, distances) in of {
            rounds.begin();
            for &(what, value) in *samples {
                rounds.record(what, value);
            }
            for &distance in *distances {
                rounds.record_distance(Duration::from_nanos(distance));
            }
        }
        rounds
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_that_has_both() {
        let rounds = rounds(&[
            (&[('a', 8.0), ('b', 4.0)], &[]),
            (&[('a', 7.0)], &[]),
            (&[('a', 3.0), ('b', 1.0)], &[]),
        ]);
        assert_eq!(rounds.ratios('a', 'b'), [2.0, 3.0]);
        assert_eq!(rounds.of('a'), [8.0, 7.0, 3.0]);
        assert_eq!(rounds.of('c'), Vec::<f64>::new());
    }

    #[test]
    fn rounds_in_which_the_cores_moved_are_left_out() {
        let rounds = rounds(&[
            (&[('a', 1.0)], &[100, 120]),
            (&[('a', 2.0)], &[100, 300]),
            (&[('a', 3.0)], &[300, 310]),
        ]);
        assert_eq!(rounds.of('a'), [1.0, 3.0]);
        assert_eq!(rounds.left_out(), 1);
        assert_eq!(rounds.distances_ns().len(), 6);
    }

    #[test]
    fn where_the_cores_hardly_rest_all_rounds_count() {
        let rounds = rounds(&[
            (&[('a', 1.0)], &[100, 200]),
            (&[('a', 2.0)], &[100, 300]),
            (&[('a', 3.0)], &[300, 310]),
        ]);
        assert_eq!(rounds.of('a'), [1.0, 2.0, 3.0]);
        assert_eq!(rounds.left_out(), 0);
    }
}
