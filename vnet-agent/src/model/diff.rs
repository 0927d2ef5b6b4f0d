//! What must change to get from one list to another?
//!
//! Input: two lists of entries that a key tells apart. Output: edits as values. The order of a list
//! counts (it is the age of rules), so an edit says after which entry its own comes. What the lists
//! are of, and in which order edits are carried out, is decided elsewhere.

use std::collections::BTreeMap;
use std::fmt;

/// What happens to one entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<E: Entry> {
    /// It goes.
    Remove(E),
    /// It comes, right after the entry with this key, or first of all.
    Add {
        /// The entry.
        entry: E,
        /// The key of the one before it.
        after: Option<E::Key>,
    },
    /// It gets another value, and keeps its place.
    Change {
        /// What it was.
        from: E,
        /// What it will be, with the same key.
        to: E,
    },
    /// It gets another place, and perhaps another value.
    Move {
        /// What it was.
        from: E,
        /// What it will be, with the same key.
        to: E,
        /// The key of the one before it.
        after: Option<E::Key>,
    },
}

/// What lists consist of: entries that a key tells apart.
pub trait Entry: Clone + Eq + fmt::Debug {
    /// What makes an entry the same entry.
    type Key: Clone + Ord + fmt::Debug;

    /// This entry's key.
    fn key(&self) -> Self::Key;
}

/// The edits that make `from` into `to`: fewest moves, nothing where they are equal.
///
/// Where a list has two entries with one key, only the last of them counts.
pub fn edits<E: Entry>(from: &[E], to: &[E]) -> Vec<Edit<E>> {
    let old: BTreeMap<E::Key, usize> = from
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.key(), place))
        .collect();
    let wanted: BTreeMap<E::Key, usize> = to
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.key(), place))
        .collect();
    let removed = old
        .iter()
        .filter(|(key, _)| !wanted.contains_key(key))
        .map(|(_, &place)| place);
    let mut removed: Vec<usize> = removed.collect();
    removed.sort_unstable();
    let mut edits: Vec<Edit<E>> = removed
        .into_iter()
        .map(|place| Edit::Remove(from[place].clone()))
        .collect();

    let places: Vec<Option<usize>> = to
        .iter()
        .map(|entry| old.get(&entry.key()).copied())
        .collect();
    let stays = longest_rising(&places);
    for (place, entry) in to.iter().enumerate() {
        let after = || place.checked_sub(1).map(|before| to[before].key());
        let before = places[place].map(|place| from[place].clone());
        match before {
            None => edits.push(Edit::Add {
                entry: entry.clone(),
                after: after(),
            }),
            Some(before) if !stays[place] => {
                edits.push(Edit::Move {
                    from: before,
                    to: entry.clone(),
                    after: after(),
                });
            }
            Some(before) if before != *entry => {
                edits.push(Edit::Change {
                    from: before,
                    to: entry.clone(),
                });
            }
            Some(_) => {}
        }
    }
    edits
}

/// Which of the numbers belong to a longest rising subsequence (patience sorting): those entries
/// may stay where they are, the fewest others move.
///
/// From the back, since of two equally long ones that prefers the one that ends earlier: then the
/// entries that move are those that came last, such as a rule that has become the newest.
fn longest_rising(numbers: &[Option<usize>]) -> Vec<bool> {
    // For each length, the place of the largest number that begins a rising sequence of it.
    let mut beginnings: Vec<usize> = Vec::new();
    let mut after: Vec<Option<usize>> = vec![None; numbers.len()];
    for (place, number) in numbers.iter().enumerate().rev() {
        let Some(number) = number else { continue };
        let rises = |&later: &usize| numbers[later].is_some_and(|later| later > *number);
        let length = beginnings.partition_point(rises);
        after[place] = length.checked_sub(1).map(|shorter| beginnings[shorter]);
        if length == beginnings.len() {
            beginnings.push(place);
        } else {
            beginnings[length] = place;
        }
    }
    let mut stays = vec![false; numbers.len()];
    let mut next = beginnings.last().copied();
    while let Some(place) = next {
        stays[place] = true;
        next = after[place];
    }
    stays
}

/// Carries out an edit. One of something that is not there changes nothing.
pub fn apply<E: Entry>(list: &mut Vec<E>, edit: &Edit<E>) {
    let place_of = |list: &[E], key: &E::Key| list.iter().position(|entry| entry.key() == *key);
    let insert = |list: &mut Vec<E>, entry: &E, after: &Option<E::Key>| {
        let place = match after {
            None => 0,
            Some(key) => place_of(list, key).map_or(list.len(), |place| place + 1),
        };
        list.insert(place, entry.clone());
    };
    match edit {
        Edit::Remove(entry) => {
            let key = entry.key();
            list.retain(|entry| entry.key() != key);
        }
        Edit::Add { entry, after } => insert(list, entry, after),
        Edit::Change { from, to } => {
            if let Some(place) = place_of(list, &from.key()) {
                list[place] = to.clone();
            }
        }
        Edit::Move { from, to, after } => {
            if let Some(place) = place_of(list, &from.key()) {
                list.remove(place);
                insert(list, to, after);
            }
        }
    }
}

/// An edit as a line: `+`, `-` or `~`, and what it is about.
///
/// # Errors
/// As the formatter says.
pub fn line<E: Entry + fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    noun: &str,
    edit: &Edit<E>,
) -> fmt::Result {
    match edit {
        Edit::Remove(entry) => write!(f, "- {noun} {entry}"),
        Edit::Add { entry, .. } => write!(f, "+ {noun} {entry}"),
        Edit::Move { from, to, .. } if from == to => write!(f, "~ {noun} {to} (another place)"),
        Edit::Change { from, to } | Edit::Move { from, to, .. } => {
            write!(f, "~ {noun} {from} becomes {to}")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key and a value.
    type Pair = (char, u8);

    impl Entry for Pair {
        type Key = char;

        fn key(&self) -> char {
            self.0
        }
    }

    fn some_list() -> impl Strategy<Value = Vec<Pair>> {
        let keys: Vec<char> = ('a'..='h').collect();
        let keys = prop::sample::subsequence(keys, 0..=8).prop_shuffle();
        keys.prop_flat_map(|keys| {
            let pair = |key| (0u8..2).prop_map(move |value| (key, value));
            keys.into_iter().map(pair).collect::<Vec<_>>()
        })
    }

    #[test]
    fn one_that_only_becomes_the_last_is_one_move() {
        let from = [('a', 1), ('b', 1), ('c', 1)];
        let to = [('b', 1), ('c', 1), ('a', 1)];
        let moved = Edit::Move {
            from: ('a', 1),
            to: ('a', 1),
            after: Some('c'),
        };
        assert_eq!(edits(&from, &to), [moved]);
    }

    proptest! {
        #[test]
        fn applying_the_edits_gives_the_other(from in some_list(), to in some_list()) {
            let edits = edits(&from, &to);
            let mut changed = from.clone();
            for edit in &edits {
                apply(&mut changed, edit);
            }
            prop_assert_eq!(&changed, &to, "{:#?}", edits);
            prop_assert_eq!(super::edits(&to, &to), vec![]);
        }
    }
}
