//! Which input breaks a promise?
//!
//! Input: a target and a seed. Output: the first input that breaks one of its promises, made as small
//! as it gets; or how far inputs came. An input that leads to something that none has led to before
//! (another message, another mixture of things understood) is kept, and others are made from it: that
//! is how inputs get deep without an instrumented compiler.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::memory::{Cost, cost_of};
use crate::mutate::{Chance, Material, another};

/// How far an input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The first look refuses it.
    Refused,
    /// Something further in does.
    Inside,
    /// It is understood, all of it.
    Whole,
}

/// What an input led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// How far it came.
    pub depth: Depth,
    /// What tells this way from others.
    pub trail: u64,
}

impl Reached {
    /// As far as this, on this way: numbers and what stands in quotes do not make a way another one.
    #[must_use]
    pub fn new(depth: Depth, way: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (depth as u8).hash(&mut hasher);
        let mut is_quoted = false;
        for c in way.chars() {
            match c {
                '"' => is_quoted = !is_quoted,
                c if is_quoted || c.is_ascii_digit() => {}
                c => c.hash(&mut hasher),
            }
        }
        Self {
            depth,
            trail: hasher.finish(),
        }
    }
}

/// What an input of so many bytes may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Held at one time: so much, and so much for each byte.
    pub held_bytes: (u64, u64),
    /// Asked for in all, likewise.
    pub asked_bytes: (u64, u64),
}

/// How far inputs must come, so that it is worth something to run them.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Of a hundred inputs, so many get past the first look.
    pub inside_percent: u64,
    /// Of a hundred inputs, so many are understood.
    pub whole_percent: u64,
    /// So many ways are found within the inputs of a test.
    pub trails: usize,
}

/// Something that bytes from outside come to.
pub trait Target {
    /// Inputs that are right.
    fn seeds(&self) -> Vec<Vec<u8>>;

    /// Words that mean something.
    fn words(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Whether inputs are made of words.
    fn is_text(&self) -> bool {
        false
    }

    /// How many inputs a test tries.
    fn inputs(&self) -> u64;

    /// What inputs may cost.
    fn limits(&self) -> Limits;

    /// How far they must come.
    fn floor(&self) -> Floor;

    /// Tries one input.
    ///
    /// # Errors
    ///
    /// A promise is broken: which.
    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String>;
}

/// An input that breaks a promise.
#[derive(Clone, PartialEq, Eq)]
pub struct Find {
    /// The input.
    pub input: Vec<u8>,
    /// Which promise.
    pub why: String,
}

impl fmt::Debug for Find {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.input);
        write!(
            f,
            "{}\ninput, {} bytes: {text:?}",
            self.why,
            self.input.len()
        )
    }
}

/// What many inputs led to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub inputs: u64,
    /// How many got past the first look.
    pub inside: u64,
    /// How many were understood.
    pub whole: u64,
    /// How many ways were found.
    pub trails: usize,
    /// The most that one held, and that one asked for.
    pub cost: Cost,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            inputs,
            inside,
            whole,
            trails,
            cost,
        } = self;
        let percent = |part: u64| part * 100 / inputs.max(&1);
        write!(
            f,
            "{inputs} inputs, {} % past the first look, {} % understood, {trails} ways, at most {} kB \
             held and {} kB asked for",
            percent(*inside),
            percent(*whole),
            cost.held_bytes / 1000,
            cost.asked_bytes / 1000
        )
    }
}

impl Tally {
    /// Whether that is too little to be worth anything: what is.
    #[must_use]
    pub fn falls_short_of(&self, floor: &Floor) -> Option<String> {
        let enough = self.inside * 100 >= self.inputs * floor.inside_percent
            && self.whole * 100 >= self.inputs * floor.whole_percent
            && self.trails >= floor.trails;
        (!enough).then(|| format!("inputs do not get deep enough: {self}; wanted {floor:?}"))
    }
}

/// Inputs that are kept at most.
const KEPT_MAX: usize = 2000;
/// The longest input.
const BYTES_MAX: usize = 20_000;
/// Tries to make a find smaller.
const SMALLER_TRIES: u32 = 3000;

/// Tries one input, panics and costs included.
///
/// # Errors
///
/// It breaks a promise.
pub fn try_one(target: &mut dyn Target, input: &[u8]) -> Result<(Reached, Cost), Find> {
    let limits = target.limits();
    let (result, cost) = cost_of(|| catch_unwind(AssertUnwindSafe(|| target.try_one(input))));
    let broken = |why: String| Find {
        input: input.to_vec(),
        why,
    };
    let reached = match result {
        Ok(Ok(reached)) => reached,
        Ok(Err(why)) => return Err(broken(why)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            return Err(broken(format!("panics: {}", text.unwrap_or("no text"))));
        }
    };
    let may = |(base, each): (u64, u64)| base + each * input.len() as u64;
    if cost.held_bytes > may(limits.held_bytes) {
        return Err(broken(format!("holds {} bytes", cost.held_bytes)));
    }
    if cost.asked_bytes > may(limits.asked_bytes) {
        return Err(broken(format!("asks for {} bytes", cost.asked_bytes)));
    }
    Ok((reached, cost))
}

/// Tries inputs for as long as `goes_on` says, which is told how many there were: first these, then
/// those made from them.
///
/// # Errors
///
/// The first that breaks a promise, made small.
pub fn explore(
    target: &mut dyn Target,
    first: Vec<Vec<u8>>,
    seed: u64,
    mut goes_on: impl FnMut(u64) -> bool,
) -> Result<Tally, Find> {
    let mut chance = Chance::new(seed);
    let (words, is_text) = (target.words(), target.is_text());
    let mut tally = Tally::default();
    let mut trails = BTreeSet::new();
    let mut kept = [first.clone(), Vec::new()];
    let mut first = first.into_iter();
    while goes_on(tally.inputs) {
        let made = first.next();
        let is_made = made.is_none();
        let input = made.unwrap_or_else(|| {
            // Most are made from what was understood: what was not leads nowhere near as often.
            let [understood, others] = &kept;
            let from_others = !others.is_empty() && chance.below(4) == 0;
            let material = Material {
                inputs: if from_others { others } else { understood },
                words: &words,
                is_text,
                bytes_max: BYTES_MAX,
            };
            another(&mut chance, &material)
        });
        let (reached, cost) = try_one(target, &input).map_err(|find| smaller(target, find))?;
        tally.inputs += 1;
        tally.inside += u64::from(reached.depth > Depth::Refused);
        tally.whole += u64::from(reached.depth == Depth::Whole);
        tally.cost.held_bytes = tally.cost.held_bytes.max(cost.held_bytes);
        tally.cost.asked_bytes = tally.cost.asked_bytes.max(cost.asked_bytes);
        let is_new = trails.insert(reached.trail);
        let [understood, others] = &mut kept;
        let into = match reached.depth {
            Depth::Whole => understood,
            _ => others,
        };
        if is_new && is_made && into.len() < KEPT_MAX {
            into.push(input);
        }
    }
    tally.trails = trails.len();
    Ok(tally)
}

/// The same find with as much taken out as possible.
pub fn smaller(target: &mut dyn Target, find: Find) -> Find {
    let mut best = find;
    let mut tries = 0;
    let mut piece = best.input.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < best.input.len() && tries < SMALLER_TRIES {
            let mut input = best.input.clone();
            input.drain(at..(at + piece).min(input.len()));
            tries += 1;
            match try_one(target, &input) {
                Err(find) => best = find,
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks its promise for whatever has these three bytes in it, each of which leads further.
    struct Treasure;

    impl Target for Treasure {
        fn seeds(&self) -> Vec<Vec<u8>> {
            vec![vec![0; 40]]
        }

        fn inputs(&self) -> u64 {
            0
        }

        fn limits(&self) -> Limits {
            Limits {
                held_bytes: (1000, 10),
                asked_bytes: (1000, 10),
            }
        }

        fn floor(&self) -> Floor {
            Floor {
                inside_percent: 0,
                whole_percent: 0,
                trails: 0,
            }
        }

        fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
            let found = [17, 99, 203].iter().take_while(|byte| input.contains(byte));
            match found.count() {
                0 => Ok(Reached::new(Depth::Refused, "")),
                1 => Ok(Reached::new(Depth::Inside, "one")),
                2 => Ok(Reached::new(Depth::Inside, "two")),
                _ => Err("all three".to_owned()),
            }
        }
    }

    #[test]
    fn what_lies_behind_several_doors_is_found_and_made_small() {
        let mut target = Treasure;
        let seeds = target.seeds();
        let find = explore(&mut target, seeds, 1, |tried| tried < 100_000).unwrap_err();
        let mut small = find.input.clone();
        small.sort_unstable();
        assert_eq!(small, [17, 99, 203]);
    }

    #[test]
    fn a_panic_and_a_cost_are_finds() {
        struct Greedy;
        impl Target for Greedy {
            fn seeds(&self) -> Vec<Vec<u8>> {
                Vec::new()
            }
            fn inputs(&self) -> u64 {
                0
            }
            fn limits(&self) -> Limits {
                Treasure.limits()
            }
            fn floor(&self) -> Floor {
                Treasure.floor()
            }
            fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
                drop(std::hint::black_box(vec![0u8; 200 * input.len()]));
                assert!(input.first() != Some(&1), "no ones");
                Ok(Reached::new(Depth::Whole, ""))
            }
        }
        let why = |input: &[u8]| try_one(&mut Greedy, input).unwrap_err().why;
        assert_eq!(why(&[1]), "panics: no ones");
        assert_eq!(why(&[2; 100]), "holds 20000 bytes");
        assert!(try_one(&mut Greedy, &[2]).is_ok());
    }

    #[test]
    fn inputs_that_do_not_get_deep_are_noticed() {
        let tally = Tally {
            inputs: 100,
            inside: 50,
            whole: 10,
            trails: 5,
            cost: Cost::default(),
        };
        let floor = |inside_percent, whole_percent, trails| Floor {
            inside_percent,
            whole_percent,
            trails,
        };
        assert_eq!(tally.falls_short_of(&floor(50, 10, 5)), None);
        assert!(tally.falls_short_of(&floor(51, 10, 5)).is_some());
        assert!(tally.falls_short_of(&floor(50, 11, 5)).is_some());
        assert!(tally.falls_short_of(&floor(50, 10, 6)).is_some());
    }
}
