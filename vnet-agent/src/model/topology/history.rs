//! Which topologies have been applied, and what comes back when the last is undone?

use serde::{Deserialize, Serialize};

use super::Topology;

/// What was applied, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    entries: Vec<Applied>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// Which one, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub applied_unix_ms: u64,
    /// How many changes it was.
    pub changes: u32,
    /// When it was undone.
    pub undone_unix_ms: Option<u64>,
    /// The whole overlay from then on.
    pub topology: Topology,
}

/// How many are remembered.
const ENTRIES_MAX: usize = 32;

/// Why nothing is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NothingToUndo {
    /// The overlay is what it is without an admin.
    #[error("nothing has been applied that is not undone")]
    Nothing,
    /// What was before is not remembered any more.
    #[error("what was there before is not remembered: the last {ENTRIES_MAX} are")]
    Forgotten,
}

impl History {
    /// All that are remembered, oldest first.
    pub fn entries(&self) -> &[Applied] {
        &self.entries
    }

    /// The one that counts; none where the overlay is what it is without an admin.
    pub fn current(&self) -> Option<&Applied> {
        let mut newest = self.entries.iter().rev();
        newest.find(|entry| entry.undone_unix_ms.is_none())
    }

    /// Another topology counts from now on. Returns its number.
    pub fn apply(&mut self, topology: Topology, changes: u32, now_unix_ms: u64) -> u64 {
        let number = self.entries.last().map_or(0, |last| last.number);
        let number = number.saturating_add(1);
        self.entries.push(Applied {
            number,
            applied_unix_ms: now_unix_ms,
            changes,
            undone_unix_ms: None,
            topology,
        });
        let spare = self.entries.len().saturating_sub(ENTRIES_MAX);
        self.entries.drain(..spare);
        number
    }

    /// What counts if the last one is undone; none where that is no topology of an admin's.
    ///
    /// # Errors
    /// There is nothing to undo, or nobody knows any more what was before.
    pub fn before(&self) -> Result<Option<&Topology>, NothingToUndo> {
        let mut counting = self.entries.iter().rev();
        let mut counting = counting
            .by_ref()
            .filter(|entry| entry.undone_unix_ms.is_none());
        counting.next().ok_or(NothingToUndo::Nothing)?;
        match counting.next() {
            Some(before) => Ok(Some(&before.topology)),
            None if self.entries.first().is_none_or(|first| first.number == 1) => Ok(None),
            None => Err(NothingToUndo::Forgotten),
        }
    }

    /// The last one counts no more.
    ///
    /// # Errors
    /// As for [`History::before`]; nothing changes then.
    pub fn undo(&mut self, now_unix_ms: u64) -> Result<(), NothingToUndo> {
        self.before()?;
        let mut newest = self.entries.iter_mut().rev();
        if let Some(last) = newest.find(|entry| entry.undone_unix_ms.is_none()) {
            last.undone_unix_ms = Some(now_unix_ms);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::topology::sample::{host, three};

    fn with(number: u8) -> Topology {
        let mut topology = three();
        topology.hosts.push(host(&format!("h{number}"), number));
        topology
    }

    #[test]
    fn undoing_goes_back_one_by_one() {
        let mut history = History::default();
        assert_eq!(history.undo(0), Err(NothingToUndo::Nothing));
        assert_eq!(history.apply(with(11), 3, 100), 1);
        assert_eq!(history.apply(with(12), 1, 200), 2);
        assert_eq!(history.before(), Ok(Some(&with(11))));
        history.undo(300).unwrap();
        assert_eq!(history.current().map(|entry| entry.number), Some(1));
        assert_eq!(history.apply(with(13), 1, 400), 3);
        history.undo(500).unwrap();
        assert_eq!(history.before(), Ok(None), "the second is undone already");
        history.undo(600).unwrap();
        assert_eq!(history.current(), None);
        assert_eq!(history.undo(700), Err(NothingToUndo::Nothing));
        let undone: Vec<_> = history.entries().iter().map(|e| e.undone_unix_ms).collect();
        assert_eq!(undone, [Some(600), Some(300), Some(500)]);
        let text = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
    }

    #[test]
    fn what_is_not_remembered_is_not_undone() {
        let mut history = History::default();
        for number in 0..40 {
            history.apply(with(number), 1, 1);
        }
        assert_eq!(history.entries().len(), ENTRIES_MAX);
        for _ in 1..ENTRIES_MAX {
            history.undo(2).unwrap();
        }
        assert_eq!(history.undo(2), Err(NothingToUndo::Forgotten));
        assert_eq!(history.current().map(|entry| entry.number), Some(9));
    }
}
