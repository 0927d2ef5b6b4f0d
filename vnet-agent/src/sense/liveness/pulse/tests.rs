//! Paths that die, heal, lose and flap, in a time of their own.

use proptest::prelude::*;

use super::{
    CALM_MS, EAGER_MS, GOOD, HOLD_FIRST_MS, HOLD_MAX_MS, INTERVAL_MS, MISSES, Ms, Pulse, State,
};

/// How long it takes at the most to see that nobody answers.
const DETECT_MS: Ms = INTERVAL_MS * (MISSES as Ms + 1);

struct Run {
    pulse: Pulse,
    now_ms: Ms,
    round_trip_ms: Ms,
    /// When answers come, and to what.
    answers: Vec<(Ms, u32)>,
    /// When it turned, and to what.
    turns: Vec<(Ms, State)>,
}

impl Run {
    fn new(was_down: bool, round_trip_ms: Ms) -> Self {
        Self {
            pulse: Pulse::new(was_down, u32::MAX - 3, 0),
            now_ms: 0,
            round_trip_ms,
            answers: Vec::new(),
            turns: Vec::new(),
        }
    }

    /// Lets time pass, a millisecond at a time, on a path that carries what `carries` says.
    fn pass(&mut self, ms: Ms, mut carries: impl FnMut(Ms) -> bool) {
        for _ in 0..ms {
            let before = self.pulse.state();
            let now_ms = self.now_ms;
            let (due, later) = self.answers.iter().partition(|(at, _)| *at <= now_ms);
            self.answers = later;
            let due: Vec<(Ms, u32)> = due;
            for (_, sequence) in due {
                self.pulse.answered(sequence, now_ms);
            }
            if let Some(sequence) = self.pulse.poll(INTERVAL_MS, now_ms)
                && carries(now_ms)
            {
                self.answers.push((now_ms + self.round_trip_ms, sequence));
            }
            if self.pulse.state() != before {
                self.turns.push((now_ms, self.pulse.state()));
            }
            self.now_ms += 1;
        }
    }
}

#[test]
fn a_path_that_carries_all_is_up_from_the_first_answer() {
    let mut run = Run::new(false, 20);
    run.pass(10_000, |_| true);
    assert_eq!(run.turns, [(20, State::Up)]);
}

#[test]
fn a_link_that_is_answered_late_is_up_soon_after() {
    let in_time_ms = DETECT_MS - INTERVAL_MS - EAGER_MS.1 - 3;
    for ready_ms in 0..in_time_ms {
        let mut run = Run::new(false, 3);
        run.pass(DETECT_MS, |now_ms| now_ms >= ready_ms);
        let [(up_ms, State::Up)] = run.turns[..] else {
            panic!("{ready_ms}: {:?}", run.turns)
        };
        assert!(up_ms <= ready_ms + EAGER_MS.1 + 3, "{ready_ms}: {up_ms}");
        assert!(
            up_ms <= 2 * ready_ms + EAGER_MS.0 + 3,
            "{ready_ms}: {up_ms}"
        );
    }
}

#[test]
fn a_link_that_never_answers_is_not_asked_without_end() {
    let mut run = Run::new(false, 3);
    let mut asked = Vec::new();
    run.pass(DETECT_MS, |now_ms| {
        asked.push(now_ms);
        false
    });
    assert_eq!(run.turns, [(DETECT_MS - INTERVAL_MS, State::Down)]);
    let most = DETECT_MS / EAGER_MS.1 + 5;
    assert!((asked.len() as Ms) < most, "{asked:?}");
    asked.clear();
    run.pass(1000, |now_ms| {
        asked.push(now_ms);
        false
    });
    assert_eq!(asked.len() as Ms, 1000 / INTERVAL_MS);
}

#[test]
fn many_links_are_asked_no_more_than_twice_as_often() {
    let interval_ms = 10 * INTERVAL_MS;
    let mut pulse = Pulse::new(false, 0, 0);
    let asked = (0..interval_ms * 4).filter(|&now_ms| pulse.poll(interval_ms, now_ms).is_some());
    assert_eq!(asked.count(), 8);
}

#[test]
fn a_way_that_appears_is_tried_at_once_and_for_as_long_as_a_new_link() {
    let mut run = Run::new(false, 3);
    run.pass(DETECT_MS - INTERVAL_MS, |_| false);
    run.pulse.has_way(run.now_ms);
    let began_ms = run.now_ms;
    run.pass(DETECT_MS - INTERVAL_MS - 10, |now_ms| {
        now_ms >= began_ms + 100
    });
    let [(up_ms, State::Up)] = run.turns[..] else {
        panic!("{:?}", run.turns)
    };
    assert!(up_ms <= began_ms + 100 + EAGER_MS.1 + 3, "{up_ms}");
}

#[test]
fn a_dead_path_is_down_in_time_and_a_healed_one_after_the_hold() {
    let mut run = Run::new(false, 5);
    run.pass(1000, |_| true);
    run.pass(2000, |_| false);
    run.pass(2000, |_| true);
    let [(_, State::Up), (down_ms, State::Down), (up_ms, State::Up)] = run.turns[..] else {
        panic!("{:?}", run.turns)
    };
    assert!((1000..1000 + DETECT_MS).contains(&down_ms), "{down_ms}");
    // It went down soon after it was first known to be up.
    let hold_ms = 3000 + HOLD_FIRST_MS * 2;
    assert!(
        (hold_ms..hold_ms + 2 * INTERVAL_MS).contains(&up_ms),
        "{up_ms}"
    );
}

#[test]
fn who_was_down_must_prove_itself() {
    let mut run = Run::new(true, 5);
    run.pass(HOLD_FIRST_MS, |_| true);
    assert_eq!(run.turns, []);
    run.pass(2 * INTERVAL_MS, |_| true);
    assert_eq!(run.pulse.state(), State::Up);
}

#[test]
fn a_host_that_was_busy_blames_no_link() {
    let mut run = Run::new(false, 5);
    run.pass(1000, |_| true);
    for _ in 0..20 {
        // Nothing runs for a second, then what waits is done, the clock first.
        run.now_ms += 1000;
        let sequence = run.pulse.poll(INTERVAL_MS, run.now_ms).unwrap();
        run.pass(2, |_| true);
        run.pulse.answered(sequence, run.now_ms);
    }
    assert_eq!(run.turns, [(5, State::Up)]);
}

#[test]
fn answers_to_what_was_not_asked_are_ignored() {
    let mut pulse = Pulse::new(false, 10, 0);
    pulse.answered(10, 0);
    assert_eq!(pulse.state(), State::Unknown);
    assert_eq!(pulse.poll(INTERVAL_MS, 0), Some(10));
    for sequence in [9, 11, 10 + 0x8000_0000, u32::MAX] {
        pulse.answered(sequence, 1);
        assert_eq!(pulse.state(), State::Unknown, "{sequence}");
    }
    pulse.answered(10, 1);
    assert_eq!(pulse.state(), State::Up);
}

#[test]
fn a_long_calm_is_rewarded() {
    let mut run = Run::new(false, 5);
    for _ in 0..4 {
        run.pass(HOLD_MAX_MS, |_| true);
        run.pass(DETECT_MS, |_| false);
    }
    assert!(run.pulse.hold_ms() > HOLD_FIRST_MS);
    run.pass(HOLD_MAX_MS + CALM_MS, |_| true);
    run.pass(DETECT_MS, |_| false);
    assert_eq!(
        (run.pulse.state(), run.pulse.hold_ms()),
        (State::Down, HOLD_FIRST_MS)
    );
}

proptest! {
    #[test]
    fn however_long_the_way_a_path_without_loss_stays_up(round_trip_ms in 0..2000u64) {
        let mut run = Run::new(false, round_trip_ms);
        run.pass(20_000, |_| true);
        prop_assert_eq!(run.pulse.state(), State::Up);
        let downs = run.turns.iter().filter(|(_, state)| *state == State::Down).count();
        prop_assert!(downs <= usize::from(round_trip_ms >= DETECT_MS - INTERVAL_MS), "{:?}", run.turns);
    }

    #[test]
    fn every_cut_is_seen_in_time(cut_ms in 100..3000u64, round_trip_ms in 0..100u64) {
        let mut run = Run::new(false, round_trip_ms);
        run.pass(cut_ms, |_| true);
        run.pass(DETECT_MS + round_trip_ms, |_| false);
        prop_assert_eq!(run.pulse.state(), State::Down);
    }

    #[test]
    fn whatever_is_lost_it_does_not_flap(losses in prop::collection::vec(any::<bool>(), 64..512)) {
        let mut run = Run::new(false, 5);
        let mut turn = 0;
        run.pass(120_000, |_| {
            turn += 1;
            losses[turn % losses.len()]
        });
        // The hold times of so many turns, each twice the one before, are longer than this took.
        let ups = run.turns.iter().filter(|(_, state)| *state == State::Up).count();
        prop_assert!(ups <= 10, "{:?}", run.turns);
        for pair in run.turns.windows(2) {
            if let [(from, State::Down), (to, State::Up)] = pair {
                prop_assert!(to - from >= HOLD_FIRST_MS.max((Ms::from(GOOD) - 1) * INTERVAL_MS));
            }
        }
    }
}
