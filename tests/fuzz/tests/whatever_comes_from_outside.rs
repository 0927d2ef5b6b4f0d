//! Whatever comes from outside: nothing panics, memory is bounded, what is understood is what was
//! meant, and who proves nothing gets nowhere.
//!
//! Each target is tried for a second or two, always with the same inputs. `cargo xtask fuzz` goes on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use fuzz::engine::{explore, try_one};
use fuzz::target::named;

const SEED: u64 = 1;

fn try_target(name: &str) {
    let mut target = named(name).unwrap();
    for input in [target.seeds(), fuzz::finds(name)].concat() {
        try_one(target.as_mut(), &input).unwrap();
    }
    let inputs = target.inputs();
    let first = target.seeds();
    let tally = explore(target.as_mut(), first, SEED, |tried| tried < inputs).unwrap();
    println!("{name}: {tally}");
    if let Some(why) = tally.falls_short_of(&target.floor()) {
        panic!("{name}: {why}");
    }
}

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                try_target(stringify!($name));
            }
        )+

        #[test]
        fn every_target_is_tried() {
            let known: Vec<_> = fuzz::target::all().into_iter().map(|(name, _)| name).collect();
            assert_eq!(known, [$(stringify!($name)),+]);
        }
    };
}

targets! {
    language, plan, settings, from_agent, from_proxy, stranger, traces, underlay, slow_path,
    carrier, preface, token, bundle, http, reader,
}
