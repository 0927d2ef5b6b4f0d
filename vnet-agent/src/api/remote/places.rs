//! How many may be here at one time: all together, and of each sort?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::locked;

/// Places for so many.
#[derive(Debug)]
pub(super) struct Places<K> {
    all: usize,
    each: usize,
    taken: Mutex<BTreeMap<K, usize>>,
}

impl<K: Ord + Clone> Places<K> {
    pub(super) fn new((all, each): (usize, usize)) -> Arc<Self> {
        Arc::new(Self {
            all,
            each,
            taken: Mutex::default(),
        })
    }

    /// How many there are.
    pub(super) fn taken(&self) -> usize {
        locked(&self.taken).values().sum()
    }

    /// A place, until it is dropped; none where there are too many.
    pub(super) fn take(self: &Arc<Self>, of: &K) -> Option<Place<K>> {
        let mut taken = locked(&self.taken);
        let count = taken.get(of).copied().unwrap_or(0);
        if count >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(of.clone(), count + 1);
        Some(Place {
            places: Arc::clone(self),
            of: of.clone(),
        })
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Place<K: Ord> {
    places: Arc<Places<K>>,
    of: K,
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = locked(&self.places.taken);
        if let Some(count) = taken.get_mut(&self.of) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_all_and_who_goes_leaves_his() {
        let places = Places::new((3, 2));
        let first = places.take(&1);
        let second = places.take(&1);
        assert!(first.is_some() && second.is_some());
        assert!(places.take(&1).is_none(), "one has two");
        let other = places.take(&2);
        assert!(other.is_some());
        assert!(places.take(&3).is_none(), "all have three");
        drop(first);
        assert_eq!(places.taken(), 2);
        assert!(places.take(&3).is_some());
        drop((second, other));
        assert_eq!(places.taken(), 0);
        assert!(locked(&places.taken).is_empty(), "nothing is remembered");
    }
}
