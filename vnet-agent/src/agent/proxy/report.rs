//! What does the proxy say of itself and of its agents?

use super::Proxy;
use crate::act::reconcile::desired::Fault;
use crate::api::{AgentStatus, Agents, Connection, OverlayStatus};

impl Proxy {
    pub(in super::super) fn status(&self) -> OverlayStatus {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        OverlayStatus::Proxy {
            address: self.address.to_string(),
            connected: number(self.roll.present().len()),
            agents: number(self.roll.kept().agents.len()),
            turned_away: self.door.counts().values().sum(),
            revision: self.roll.kept().revision,
            certificate_expires_unix_s: self.identity.says().life.to_unix_s,
        }
    }

    pub(in super::super) fn faults(&self) -> Vec<Fault> {
        let trouble = self.trouble.as_ref().map(|why| Fault {
            subject: "overlay".to_owned(),
            message: format!("the parts of the overlay stay as they were: {why}"),
            cure: "agents go by their last parts until this is put right".to_owned(),
            is_waiting: false,
        });
        let declined = self.roll.present().iter().filter_map(|(name, presence)| {
            let (_, why) = presence.declined.as_ref()?;
            Some(Fault {
                subject: format!("agent {name}"),
                message: format!("it does not go by its part: {why}"),
                cure: String::new(),
                is_waiting: false,
            })
        });
        declined
            .chain(trouble)
            .chain(self.identity.fault())
            .collect()
    }

    pub(super) fn agents(&self) -> Agents {
        let agents = self.roll.kept().agents.iter().map(|(name, has)| {
            let connection = self.roll.present().get(name).map(|presence| Connection {
                from: presence.from.clone(),
                since_unix_ms: presence.since_unix_ms,
                software: presence.software.clone(),
                schema: presence.schema,
                revision: presence.revision,
                declined: presence.declined.as_ref().map(|(_, why)| why.clone()),
                certificate_expires_unix_s: presence.expires_unix_s,
            });
            AgentStatus {
                name: name.clone(),
                connection,
                underlay: has.underlay.clone(),
                ports: u32::try_from(has.ports.len()).unwrap_or(u32::MAX),
                processors: has.capacities.processors,
                memory_bytes: has.capacities.memory_bytes,
                dealt_revision: self.roll.part(name).map(|part| part.revision),
            }
        });
        let counts = self.door.counts();
        Agents {
            proxy: self.name.clone(),
            address: self.address.to_string(),
            agents: agents.collect(),
            turned_away: counts
                .into_iter()
                .map(|(why, count)| (why.to_string(), count))
                .collect(),
        }
    }
}
