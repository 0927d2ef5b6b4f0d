//! What is there to measure?
//!
//! Each part measures in rounds of its own and hands back figures.

pub mod costs;
pub mod frames;
pub mod memory;
pub mod overlay;
pub mod primitives;
pub mod rules;
pub mod streams;

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::path::Path;
use crate::plan::Plan;
use crate::rounds::Rounds;
use crate::workshop::Workshop;

/// What the kernel clears away behind a dropped namespace is gone by then.
const CLEARING: Duration = Duration::from_millis(300);

/// Takes each path that `has` what is measured once a round, one after the other, over a bed of its
/// own that `one_path` makes. One that does not work is said and left out.
fn over_paths<K: Ord + Copy>(
    workshop: &Workshop,
    plan: &Plan,
    what: &str,
    has: impl Fn(Path) -> bool,
    one_path: impl Fn(Path, &mut Rounds<K>) -> Result<()>,
) -> Rounds<K> {
    let mut rounds = Rounds::default();
    for round in 0..plan.rounds {
        rounds.begin();
        for path in plan.paths_of_round(round, &has) {
            let title = path.title();
            workshop.say(format_args!(
                "round {} of {}: {title}",
                round + 1,
                plan.rounds
            ));
            if let Err(error) = one_path(path, &mut rounds) {
                workshop.complain(format_args!("{title}, {what}: {error:#}"));
            }
            thread::sleep(CLEARING);
        }
    }
    let left_out = rounds.left_out();
    if left_out > 0 {
        workshop.say(format_args!(
            "{what}: {left_out} rounds are left out, the cores moved in them"
        ));
    }
    rounds
}
