//! Which flows are there, and what did they carry?
//!
//! Each CPU counts the flows that it has at hand in places of its own (`vnet_common::table::near`), and
//! writes them into the flow table now and then. Both count from a flow's beginning, so that of the two
//! the larger one is right, in whatever order they are read.

use std::collections::BTreeMap;

use vnet_common::name;
use vnet_common::table::flow::{FlowEntry, FlowKey};
use vnet_common::table::near::{NearFlow, NearFlows};

use super::error::DataPlaneError;
use super::tables::{KernelTables, Plain, failed, present};

/// What CPUs have counted in their places.
type Near = BTreeMap<FlowKey, Vec<(usize, FlowEntry)>>;

impl KernelTables {
    /// Every flow, all CPUs together: its counters, and the decision of the CPU that has the
    /// newest.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn flows(&self) -> Result<Vec<(FlowKey, FlowEntry)>, DataPlaneError> {
        let mut near = Near::new();
        for entry in 0..NearFlow::ENTRIES {
            self.read_near(entry, &mut near)?;
        }
        let mut flows = Vec::new();
        for entry in self.flows.iter() {
            let Some((Plain(key), cpus)) =
                present(entry).map_err(failed("reading", name::FLOWS))?
            else {
                continue;
            };
            let places = near.remove(&key).unwrap_or_default();
            let all = total(cpus.iter().map(|cpu| cpu.0), &places);
            flows.extend(all.map(|flow| (key, flow)));
        }
        // In use, but pushed out of the table a moment ago.
        for (key, places) in near {
            flows.extend(total([], &places).map(|flow| (key, flow)));
        }
        Ok(flows)
    }

    /// One flow, as [`KernelTables::flows`] tells it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowEntry>, DataPlaneError> {
        let mut near = Near::new();
        let (entry, _) = NearFlow::place(key);
        self.read_near(entry, &mut near)?;
        let places = near.remove(key).unwrap_or_default();
        let cpus =
            present(self.flows.get(&Plain(*key), 0)).map_err(failed("reading", name::FLOWS))?;
        Ok(match cpus {
            Some(cpus) => total(cpus.iter().map(|cpu| cpu.0), &places),
            None => total([], &places),
        })
    }

    /// How many flows the table has.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn flow_count(&self) -> Result<u64, DataPlaneError> {
        let mut count = 0;
        for key in self.flows.keys() {
            key.map_err(failed("reading", name::FLOWS))?;
            count += 1;
        }
        Ok(count)
    }

    /// Reads the places of one entry. Twice, because a program may give a place to another flow
    /// meanwhile: whose place it is before and after, of that flow is what was read in between.
    fn read_near(&self, entry: u32, near: &mut Near) -> Result<(), DataPlaneError> {
        let read = || {
            self.near_flows
                .get(&entry, 0)
                .map_err(failed("reading", name::NEAR_FLOWS))
        };
        let (first, second) = (read()?, read()?);
        for (cpu, (Plain(first), Plain(second))) in first.iter().zip(second.iter()).enumerate() {
            for (key, flow) in steady(first, second) {
                near.entry(key).or_default().push((cpu, flow));
            }
        }
        Ok(())
    }
}

/// The flows that have the same place in both, as they were in the first.
fn steady(first: &NearFlows, second: &NearFlows) -> impl Iterator<Item = (FlowKey, FlowEntry)> {
    let places = first.places.iter().zip(&second.places);
    places
        .filter(|(first, second)| first.key.network.get() != 0 && first.key == second.key)
        .map(|(first, _)| (first.key, first.entry))
}

/// All CPUs together.
fn total(
    table: impl IntoIterator<Item = FlowEntry>,
    places: &[(usize, FlowEntry)],
) -> Option<FlowEntry> {
    let mut cpus: Vec<FlowEntry> = table.into_iter().collect();
    for (cpu, place) in places {
        match cpus.get_mut(*cpu) {
            Some(entry) if entry.packets <= place.packets => *entry = *place,
            Some(_) => {}
            None => cpus.push(*place),
        }
    }
    cpus.into_iter().reduce(merged)
}

fn merged(a: FlowEntry, b: FlowEntry) -> FlowEntry {
    let newer = if b.generation > a.generation { b } else { a };
    FlowEntry {
        packets: a.packets.wrapping_add(b.packets),
        bytes: a.bytes.wrapping_add(b.bytes),
        ..newer
    }
}
