//! Every row to every receiver, and a table of how it went.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Lab;

use crate::judge;
use crate::places::{Places, RECEIVERS, SENDER, Setup, TOPOLOGIES, taker_number};
use crate::rows::{Kind, ROWS, Row, Sample, Way};
use crate::wire::{Traffic, Watch};

/// A frame that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// Once many are lost, so are others.
const LOST_MAX: usize = 4;
const IMPATIENCE: Duration = Duration::from_millis(300);
/// What would come besides has come by then.
pub const QUIET: Duration = Duration::from_millis(200);

/// A run of the matrix.
#[derive(Debug)]
pub struct Matrix<'a> {
    setup: &'a Setup,
    places: Places,
    /// Row, topology, receiver: what was wrong, or how many frames came.
    cells: BTreeMap<(usize, usize, usize), Result<u64, String>>,
    /// What is wrong besides.
    amiss: Vec<String>,
    lost: usize,
}

/// Runs all rows of these kinds.
///
/// # Errors
///
/// A cell failed; the error names each.
pub fn run(lab: &Lab, setup: &Setup, kinds: &[Kind]) -> Result<()> {
    let mut matrix = Matrix {
        setup,
        places: Places::new(lab, setup)?,
        cells: BTreeMap::new(),
        amiss: Vec::new(),
        lost: 0,
    };
    let (many, single): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| kind.is_many());
    for kinds in [single, many] {
        if !kinds.is_empty() {
            matrix.phase(&kinds)?;
        }
    }
    matrix.conclude()
}

impl Matrix<'_> {
    fn phase(&mut self, kinds: &[Kind]) -> Result<()> {
        let watch = Watch::begin(&self.places)?;
        let mut traffic = Traffic {
            are_single: !kinds.iter().any(|kind| kind.is_many()),
            ..Traffic::default()
        };
        for (place, row) in ROWS.iter().enumerate() {
            if kinds.contains(&row.kind) {
                if row.is_for_all {
                    self.for_all(place, row, &mut traffic)?;
                } else {
                    self.for_each(place, row, &mut traffic)?;
                }
            }
        }
        self.nothing_more(&mut traffic)?;
        let amiss = watch.end(&self.places, &traffic, self.setup.offloads)?;
        self.amiss.extend(amiss);
        Ok(())
    }

    fn for_each(&mut self, place: usize, row: &Row, traffic: &mut Traffic) -> Result<()> {
        for topology in 0..TOPOLOGIES.len() {
            for receiver in 0..RECEIVERS.len() {
                let to = taker_number(topology, receiver);
                let sample = row.sample(&self.way(place, to))?;
                self.send(&sample, traffic)?;
                self.take(place, (topology, receiver), &sample, traffic);
            }
        }
        Ok(())
    }

    fn for_all(&mut self, place: usize, row: &Row, traffic: &mut Traffic) -> Result<()> {
        let sample = row.sample(&self.way(place, 0))?;
        self.send(&sample, traffic)?;
        for topology in 0..TOPOLOGIES.len() {
            for receiver in 0..RECEIVERS.len() {
                self.take(place, (topology, receiver), &sample, traffic);
            }
        }
        Ok(())
    }

    fn way(&self, place: usize, to: u8) -> Way {
        Way {
            from: SENDER.1,
            to,
            mtu: self.places.mtu,
            seed: 100 * (place + 1) + usize::from(to),
        }
    }

    fn send(&self, sample: &Sample, traffic: &mut Traffic) -> Result<()> {
        for (header, frame) in &sample.sent {
            self.places.sender.send_unfinished(*header, frame)?;
            traffic.sent += 1;
        }
        Ok(())
    }

    fn take(
        &mut self,
        place: usize,
        (topology, receiver): (usize, usize),
        sample: &Sample,
        traffic: &mut Traffic,
    ) {
        let patience = if self.lost < LOST_MAX {
            PATIENCE
        } else {
            IMPATIENCE
        };
        let taker = &self.places.sites[topology].takers[receiver];
        let verdict = judge::receive(taker, ROWS[place].kind, sample, patience);
        let (Ok(count) | Err((count, _))) = verdict;
        traffic.received[topology][receiver] += count;
        self.lost += usize::from(verdict.is_err());
        let verdict = verdict.map_err(|(_, error)| format!("{error:#}"));
        self.cells.insert((place, topology, receiver), verdict);
    }

    fn nothing_more(&mut self, traffic: &mut Traffic) -> Result<()> {
        for (topology, site) in self.places.sites.iter().enumerate() {
            for (receiver, taker) in site.takers.iter().enumerate() {
                for frame in taker.guest.receive_all_until_quiet(QUIET)? {
                    traffic.received[topology][receiver] += 1;
                    self.amiss.push(format!(
                        "{}/{}: nobody sent {}",
                        TOPOLOGIES[topology],
                        RECEIVERS[receiver],
                        frames::decode::decode(&frame).join(" / ")
                    ));
                }
            }
        }
        let back = self.places.sender.receive_all_until_quiet(QUIET)?;
        if !back.is_empty() {
            self.amiss
                .push(format!("{} frames came back to the sender", back.len()));
        }
        Ok(())
    }

    /// The table, and the error that names every cell that failed.
    fn conclude(self) -> Result<()> {
        let failed: Vec<_> = self
            .cells
            .iter()
            .filter_map(|((place, topology, receiver), verdict)| {
                let error = verdict.as_ref().err()?;
                let (row, door) = (ROWS[*place].name, self.setup.doors.name);
                let (topology, receiver) = (TOPOLOGIES[*topology], RECEIVERS[*receiver]);
                Some(format!("{row}/{topology}/{receiver}/{door}: {error}"))
            })
            .chain(self.amiss.iter().cloned())
            .collect();
        println!("{}", self.table());
        ensure!(
            failed.is_empty(),
            "{} cells and books are wrong:\n{}",
            failed.len(),
            failed.join("\n")
        );
        Ok(())
    }

    /// How many frames came, by row.
    fn table(&self) -> String {
        let mut table = format!(
            "{}, underlay {}{}\n{:37}",
            self.setup.doors.name,
            self.setup.mtu,
            if self.setup.offloads {
                " with offloads"
            } else {
                ""
            },
            ""
        );
        for topology in TOPOLOGIES {
            for receiver in RECEIVERS {
                // Writing to a string cannot fail.
                let _ = write!(table, " {topology:>9}/{receiver:<8}");
            }
        }
        for (place, row) in ROWS.iter().enumerate() {
            let cells = self.cells.range((place, 0, 0)..(place + 1, 0, 0));
            let shown: String = cells
                .map(|(_, verdict)| match verdict {
                    Ok(count) => format!(" {count:>18}"),
                    Err(_) => format!(" {:>18}", "FAILED"),
                })
                .collect();
            if !shown.is_empty() {
                let _ = write!(table, "\n{:37}{shown}", row.name);
            }
        }
        table
    }
}
