//! What became of all frames?

use std::sync::atomic::Ordering;

use vnet_common::reason::Reason;
use vnet_common::table::action::Decision;
use vnet_common::table::flow::{FlowEntry, FlowKey, Origin};
use vnet_common::table::ledger::Ledger;

use super::Agent;
use super::answer::internal;
use crate::api::{
    AgentStats, Flow, FlowSort, Flows, LedgerValues, Place, Refusal, SideStats, Stats, Verdict,
};
use crate::model::Target;

impl Agent {
    pub(super) fn ledger(&self, slot: u32) -> Result<Ledger, Refusal> {
        self.reconciler.tables().ledger(slot).map_err(internal)
    }

    fn side(&self, name: String, slot: u32) -> Result<SideStats, Refusal> {
        Ok(SideStats {
            name,
            ledger: LedgerValues::from(&self.ledger(slot)?),
        })
    }

    pub(super) fn stats(&self) -> Result<Stats, Refusal> {
        let now = self.reconciler.now();
        let ports = now
            .ports
            .iter()
            .map(|(&index, port)| self.side(self.device(index), port.ledger));
        let underlays = now
            .underlays
            .iter()
            .map(|(&index, entry)| self.side(self.device(index), entry.ledger));
        let links = self.desired.links.iter().filter_map(|(name, id)| {
            let entry = now.links.get(&id.0)?;
            Some(self.side(name.clone(), entry.ledger))
        });
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Stats {
            ports: ports.collect::<Result<_, _>>()?,
            links: links.collect::<Result<_, _>>()?,
            underlays: underlays.collect::<Result<_, _>>()?,
            agent: AgentStats {
                ledger: LedgerValues::from(&self.ledger(Ledger::AGENT)?),
                taken: load(&self.slow_path.taken),
                flooded: load(&self.slow_path.flooded),
                copies: load(&self.slow_path.copies),
                too_big_answered: load(&self.slow_path.too_big_answered),
                too_big_unanswered: load(&self.slow_path.too_big_unanswered),
                probes: load(&self.probing.probes) + load(&self.watch.probes),
                carried: load(&self.slow_path.carried),
                connections_refused: self
                    .carriers
                    .refused()
                    .into_iter()
                    .map(|(why, count)| (why.name().to_owned(), count))
                    .collect(),
                probe_replies: load(&self.slow_path.probe_replies),
                slow_path_dropped_by_reason: self.slow_path.dropped(),
            },
        })
    }

    pub(super) fn flows(
        &self,
        network: Option<&str>,
        limit: usize,
        sort: FlowSort,
    ) -> Result<Flows, Refusal> {
        let only = network.map(|name| self.known_network(name)).transpose()?;
        let mut flows = self.reconciler.tables().flows().map_err(internal)?;
        flows.retain(|(key, _)| only.is_none_or(|id| key.network == id));
        flows.sort_by_key(|(key, flow)| {
            let size = match sort {
                FlowSort::Packets => flow.packets,
                FlowSort::Bytes => flow.bytes,
            };
            (std::cmp::Reverse(size), *key)
        });
        let total = flows.len() as u64;
        let flows = flows
            .iter()
            .take(limit)
            .map(|(key, flow)| self.flow(key, flow))
            .collect();
        Ok(Flows { total, flows })
    }

    fn known_network(&self, name: &str) -> Result<vnet_common::addr::NetworkId, Refusal> {
        match self.configuration.network(name) {
            Some(network) => Ok(network.id),
            None => Err(self.unknown_network(name)),
        }
    }

    pub(super) fn unknown_network(&self, name: &str) -> Refusal {
        let networks = self.configuration.networks.iter();
        let known: Vec<&str> = networks.map(|network| network.name.as_str()).collect();
        Refusal::not_found(format!("there is no network {name}"))
            .cure(format!("the networks here are: {}", known.join(", ")))
    }

    fn flow(&self, key: &FlowKey, flow: &FlowEntry) -> Flow {
        let network = self
            .configuration
            .networks
            .iter()
            .find(|network| network.id == key.network);
        let (verdict, target, reason) = self.what_happens(flow);
        Flow {
            network: network
                .map_or_else(|| key.network.to_string(), |network| network.name.clone()),
            source: key.stations.source(),
            destination: key.stations.destination(),
            packets: flow.packets,
            bytes: flow.bytes,
            origin: self.place(flow.origin),
            verdict,
            target,
            reason,
        }
    }

    pub(super) fn what_happens(
        &self,
        flow: &FlowEntry,
    ) -> (Verdict, Option<Target>, Option<Reason>) {
        match flow.action.decision() {
            Some(Decision::Deliver(port)) => (
                Verdict::Delivered,
                Some(Target::Port(self.device(port.0))),
                None,
            ),
            Some(Decision::Send(link)) => (
                Verdict::Forwarded,
                self.link_name(link.0).map(Target::Link),
                None,
            ),
            Some(Decision::Flood) => (Verdict::SlowPath, Some(Target::Flood), None),
            Some(Decision::Drop(reason)) => (Verdict::Dropped, None, Some(reason)),
            None => (Verdict::Dropped, None, Some(Reason::NoRule)),
        }
    }

    pub(super) fn place(&self, origin: Origin) -> Option<Place> {
        match (origin.as_port(), origin.as_link()) {
            (Some(port), _) => Some(Place::Port(self.device(port.0))),
            (_, Some(link)) => self.link_name(link.0).map(Place::Link),
            _ => Some(Place::Agent),
        }
    }

    /// The name of a device, or its number where it has gone.
    pub(super) fn device(&self, index: u32) -> String {
        self.host
            .devices
            .get(&index)
            .map_or_else(|| format!("device {index}"), |device| device.name.clone())
    }

    pub(super) fn link_name(&self, id: u32) -> Option<String> {
        let mut links = self.desired.links.iter();
        links
            .find(|(_, known)| known.0 == id)
            .map(|(name, _)| name.clone())
    }
}
