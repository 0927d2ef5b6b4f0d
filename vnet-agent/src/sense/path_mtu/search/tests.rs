//! Paths that lose, shrink, grow and fall silent, in a time of their own.

use proptest::prelude::*;

use super::{
    BASE, CONFIRM_MS, IPV4_MIN, Ms, PATIENCE_MS, PathMtu, RAISE_FIRST_MS, RAISE_MS, RETRY_MS,
    SILENT_MS, Size, State, TRIES,
};

/// A path that carries packets up to a size, or nothing, and answers after a while.
struct Path {
    carries: Option<Size>,
    round_trip_ms: Ms,
    /// Loses the probes whose turn it is: a pattern of bits, again and again.
    losses: u64,
}

struct Run {
    machine: PathMtu,
    path: Path,
    now_ms: Ms,
    sent: Vec<(Ms, Size)>,
    answers: Vec<(Ms, u32)>,
}

impl Run {
    fn new(top: Size, is_ipv6: bool, hint: Option<Size>, carries: Option<Size>) -> Self {
        Self {
            machine: PathMtu::new(top, is_ipv6, hint, u32::MAX - 5, 0),
            path: Path {
                carries,
                round_trip_ms: 20,
                losses: 0,
            },
            now_ms: 0,
            sent: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Lets this much time pass.
    fn pass(&mut self, ms: Ms) {
        let end_ms = self.now_ms + ms;
        loop {
            self.answers.sort_unstable();
            let answer_ms = self.answers.first().map_or(Ms::MAX, |(at, _)| *at);
            let next_ms = answer_ms.min(self.machine.due_ms()).max(self.now_ms);
            if next_ms > end_ms {
                self.now_ms = end_ms;
                return;
            }
            self.now_ms = next_ms;
            if answer_ms <= next_ms {
                let (_, sequence) = self.answers.remove(0);
                self.machine.answered(sequence, self.now_ms);
                continue;
            }
            if let Some(probe) = self.machine.poll(self.now_ms) {
                let turn = self.sent.len() % 64;
                self.sent.push((self.now_ms, probe.size));
                let is_lost = self.path.losses >> turn & 1 == 1;
                if !is_lost && self.path.carries.is_some_and(|size| probe.size <= size) {
                    let at = self.now_ms + self.path.round_trip_ms;
                    self.answers.push((at, probe.sequence));
                }
            }
        }
    }

    fn is(&self) -> (State, Option<Size>) {
        (self.machine.state(), self.machine.known())
    }
}

/// How long a size takes to be given up.
const ROUND_MS: Ms = RETRY_MS * (TRIES as Ms - 1) + PATIENCE_MS;
/// Enough for any search: the large size twice, smaller ones, halves of 65,536.
const SEARCH_MS: Ms = ROUND_MS * 22;

#[test]
fn a_path_that_carries_what_the_device_sends_takes_one_probe() {
    let mut run = Run::new(1500, false, None, Some(1500));
    run.pass(20);
    assert_eq!(run.is(), (State::Settled, Some(1500)));
    assert_eq!(run.sent, [(0, 1500)]);
    run.pass(CONFIRM_MS * 3 + 100);
    assert_eq!(run.sent.len(), 4, "and one for each look: {:?}", run.sent);
}

#[test]
fn a_narrow_path_is_found_and_guests_use_a_small_size_until_then() {
    let mut run = Run::new(1500, false, None, Some(1400));
    run.pass(ROUND_MS * 2 + 20);
    assert_eq!(run.machine.known(), Some(BASE));
    run.pass(SEARCH_MS);
    assert_eq!(run.is(), (State::Settled, Some(1400)));
}

#[test]
fn what_somebody_remembers_is_not_given_up_for_less() {
    let mut run = Run::new(1500, false, Some(1400), Some(1400));
    let mut known = Vec::new();
    for _ in 0..SEARCH_MS / 100 {
        run.pass(100);
        known.extend(run.machine.known());
    }
    assert_eq!(run.is(), (State::Settled, Some(1400)));
    assert_eq!(known.iter().min(), Some(&1400));
}

#[test]
fn a_path_below_the_base_is_found_over_ipv4_and_is_none_over_ipv6() {
    let mut run = Run::new(1500, false, None, Some(600));
    run.pass(SEARCH_MS);
    assert_eq!(run.is(), (State::Settled, Some(600)));
    let mut run = Run::new(1500, true, None, Some(600));
    run.pass(SEARCH_MS);
    assert_eq!(run.is(), (State::Silent, None));
}

#[test]
fn a_black_hole_is_noticed_within_a_look_and_a_search() {
    let mut run = Run::new(9000, false, None, Some(9000));
    run.pass(CONFIRM_MS * 3);
    run.path.carries = Some(1400);
    run.pass(CONFIRM_MS + ROUND_MS * 2 + 100);
    let known = run.machine.known();
    assert!(
        known.is_some_and(|known| (BASE..=1400).contains(&known)),
        "{known:?}"
    );
    run.pass(SEARCH_MS);
    assert_eq!(run.is(), (State::Settled, Some(1400)));
}

#[test]
fn a_link_that_is_down_changes_nothing_and_is_asked_again() {
    let mut run = Run::new(1500, false, None, Some(1400));
    run.pass(SEARCH_MS);
    run.path.carries = None;
    run.pass(CONFIRM_MS + SEARCH_MS);
    assert_eq!(run.is(), (State::Silent, Some(1400)));
    run.path.carries = Some(1400);
    run.pass(SILENT_MS + ROUND_MS * 4);
    assert_eq!(run.is(), (State::Settled, Some(1400)));
}

#[test]
fn who_never_answers_is_asked_seldom() {
    let mut run = Run::new(1500, false, None, None);
    run.pass(SILENT_MS * 20);
    assert_eq!(run.is(), (State::Silent, None));
    // And a few more at first, while the pauses are short.
    let most = 3 * usize::from(TRIES) * 20;
    assert!(run.sent.len() <= most, "{} probes", run.sent.len());
}

#[test]
fn a_path_that_is_soon_wide_again_is_soon_known_to_be() {
    let mut run = Run::new(1500, false, None, Some(1500));
    run.pass(CONFIRM_MS);
    run.path.carries = Some(1400);
    run.pass(CONFIRM_MS + SEARCH_MS);
    assert_eq!(run.is(), (State::Settled, Some(1400)));
    run.path.carries = Some(1500);
    // Looks are taken then, or after the next one.
    run.pass(RAISE_FIRST_MS * 2 + CONFIRM_MS + ROUND_MS);
    assert_eq!(run.is(), (State::Settled, Some(1500)));
}

#[test]
fn a_path_that_stays_narrow_is_asked_for_more_ever_less_often_but_always() {
    let mut run = Run::new(1500, false, None, Some(1400));
    run.pass(RAISE_MS * 10);
    let above = |run: &Run| run.sent.iter().filter(|(_, size)| *size > 1400).count();
    let asked = above(&run);
    run.pass(RAISE_MS * 10);
    // Each time a search above: 1500 and the halves down to 1400, three probes of each.
    let per_search = usize::from(TRIES) * 8;
    let searches = (above(&run) - asked).div_ceil(per_search);
    assert!((5..=10).contains(&searches), "{searches} searches");
    run.path.carries = Some(1500);
    run.pass(RAISE_MS + CONFIRM_MS + SEARCH_MS);
    assert_eq!(run.is(), (State::Settled, Some(1500)));
}

#[test]
fn answers_to_other_questions_are_ignored() {
    let mut machine = PathMtu::new(1500, false, None, 10, 0);
    let first = machine.poll(0).unwrap();
    assert_eq!((first.size, first.sequence), (1500, 10));
    for sequence in [9, 11, 10 + 0x8000_0000, 0, u32::MAX] {
        machine.answered(sequence, 1);
        assert_eq!(machine.known(), None, "{sequence}");
    }
    // An answer to the first of three is one, even after the third was sent.
    machine.poll(RETRY_MS).unwrap();
    machine.poll(RETRY_MS * 2).unwrap();
    assert_eq!(machine.poll(RETRY_MS * 2 + PATIENCE_MS - 1), None);
    machine.answered(10, RETRY_MS * 2 + PATIENCE_MS - 1);
    assert_eq!(
        (machine.state(), machine.known()),
        (State::Settled, Some(1500))
    );
}

proptest! {
    #[test]
    fn what_the_path_carries_is_found(
        carries in IPV4_MIN..9100,
        top in IPV4_MIN..9100,
        hint in prop::option::of(0u16..9500),
        round_trip_ms in 0..PATIENCE_MS,
    ) {
        let mut run = Run::new(top, false, hint, Some(carries));
        run.path.round_trip_ms = round_trip_ms;
        run.pass(SEARCH_MS * 2);
        prop_assert_eq!(run.is(), (State::Settled, Some(carries.min(top))));
    }

    #[test]
    fn no_more_is_known_than_arrives_whatever_is_lost(
        carries in IPV4_MIN..9100,
        top in IPV4_MIN..9100,
        losses in any::<u64>(),
        round_trip_ms in 0..2 * PATIENCE_MS,
    ) {
        let mut run = Run::new(top, false, None, Some(carries));
        run.path.losses = losses;
        run.path.round_trip_ms = round_trip_ms;
        for _ in 0..200 {
            run.pass(400);
            prop_assert!(run.machine.known().is_none_or(|known| known <= carries.min(top)));
        }
        // Never more than two probes a second, answers aside.
        prop_assert!(run.sent.len() <= 160 + 2 * 16 * 3, "{} probes", run.sent.len());
        prop_assert!(run.sent.iter().all(|(_, size)| *size <= top));
    }

    #[test]
    fn one_loss_in_three_does_not_make_a_path_narrow(place in 0u32..3) {
        let mut run = Run::new(1500, false, None, Some(1500));
        let pattern: u64 = 0x9249_2492_4924_9249;
        run.path.losses = pattern << place;
        for _ in 0..100 {
            run.pass(CONFIRM_MS / 4);
            prop_assert!(run.machine.known().is_none_or(|known| known == 1500));
        }
    }
}
