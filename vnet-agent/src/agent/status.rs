//! Is all well on this host?

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use super::Agent;
use super::answer::internal;
use super::remote::Elsewhere;
use crate::act::reconcile::desired::Fault;
use crate::api::{
    EntriesStatus, LinkState, LinksSummary, NetworkStatus, Problem, Refusal, Severity, Status,
    TableFill, UnderlayStatus,
};
use crate::model::counting::Counting;

fn problem(fault: &Fault) -> Problem {
    Problem {
        severity: if fault.is_waiting {
            Severity::Warning
        } else {
            Severity::Degraded
        },
        subject: fault.subject.clone(),
        message: fault.message.clone(),
        cure: Some(fault.cure.clone()).filter(|cure| !cure.is_empty()),
    }
}

/// A table is worth a warning when nine tenths of it are in use.
const NEARLY_FULL: f64 = 0.9;

impl Agent {
    pub(super) async fn status(&mut self) -> Result<Status, Refusal> {
        let mut problems: Vec<Problem> = self.faults.iter().map(problem).collect();
        let tables = self.table_fill();
        problems.extend(tables.iter().filter_map(nearly_full));
        problems.extend(self.events_problem()?);
        problems.extend(self.guest_mtu_problems()?);
        problems.extend(self.path_mtu_problems());
        problems.extend(self.overlay_faults().iter().map(problem));
        problems.extend(self.dead_link_problems());
        let elsewhere = self.elsewhere.as_ref();
        let unheard = elsewhere.map(Elsewhere::faults).unwrap_or_default();
        problems.extend(unheard.iter().map(problem));
        problems.extend(self.revocations.fault().iter().map(problem));
        let redirect_failures = self.reconciler.plane().counting().clone();
        if let Counting::Not { why: Some(why) } = &redirect_failures {
            problems.push(Problem {
                severity: Severity::Warning,
                subject: "kernel".to_owned(),
                message: format!(
                    "frames that the kernel refuses after a redirect are not counted: {why}"
                ),
                cure: Some("needs /sys/kernel/btf/vmlinux and CAP_PERFMON".to_owned()),
            });
        }
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        // A rung is no link of its own.
        let mut links = self.links()?;
        links.retain(|link| link.rung_of.is_none());
        let up = links
            .iter()
            .filter(|link| link.state == LinkState::Up)
            .count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let changed = self.changed.duration_since(UNIX_EPOCH).ok();
        Ok(Status {
            name: self.settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            kernel: kernel_release(),
            schema: vnet_common::SCHEMA,
            healthy: problems
                .iter()
                .all(|problem| problem.severity != Severity::Degraded),
            problems,
            underlay: self.underlay_status().await?,
            networks: self.network_status(),
            ports: number(self.forwarding_ports().count()),
            doors: self.door_status(),
            links: LinksSummary {
                total: number(links.len()),
                up: number(up),
                unresolved: number(links.len() - up),
            },
            tables,
            flows: EntriesStatus {
                entries: self.reconciler.tables().flow_count().map_err(internal)?,
                capacity: u64::from(self.configuration.limits.flows),
            },
            events_lost: self.events_lost()?,
            redirect_failures,
            memory_rss_bytes: memory_rss_bytes(),
            last_change_unix_ms: changed.and_then(|since| u64::try_from(since.as_millis()).ok()),
            configuration_source: self.source.clone(),
            overlay: self.overlay_status(),
            remote: self.elsewhere.as_ref().and_then(Elsewhere::status),
        })
    }

    async fn underlay_status(&self) -> Result<Option<UnderlayStatus>, Refusal> {
        let Some(index) = self.desired.underlay else {
            return Ok(None);
        };
        let Some(entry) = self.reconciler.now().underlays.get(&index) else {
            return Ok(None);
        };
        let Some(device) = self.host.devices.get(&index) else {
            return Ok(None);
        };
        let nonzero = |address: IpAddr| Some(address).filter(|address| !address.is_unspecified());
        Ok(Some(UnderlayStatus {
            device: device.name.clone(),
            mtu_bytes: device.mtu,
            ipv4: nonzero(entry.ipv4.into()).and_then(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }),
            ipv6: nonzero(entry.ipv6.into()).and_then(|address| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            }),
            udp_port: u16::from_be_bytes(entry.udp_port),
            door: self
                .ask_doors_of(index)
                .await?
                .unwrap_or_else(|| "none".to_owned()),
        }))
    }

    fn network_status(&self) -> Vec<NetworkStatus> {
        let rules = self.configuration.effective_rules(&self.devices);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let networks = self.configuration.networks.iter().map(|network| {
            let ports = self.forwarding_ports().filter(|index| {
                let port = self.reconciler.now().ports.get(index);
                port.is_some_and(|port| port.network == network.id)
            });
            let links = self
                .configuration
                .links
                .iter()
                .filter(|link| link.carries(&network.name));
            let rules = rules.iter().filter(|rule| rule.network == network.name);
            NetworkStatus {
                name: network.name.clone(),
                id: network.id,
                ports: count(ports.count()),
                links: count(links.count()),
                rules: count(rules.count()),
                mtu_bytes: self.desired.guest_mtus.get(&network.name).copied(),
            }
        });
        networks.collect()
    }

    fn table_fill(&self) -> Vec<TableFill> {
        let now = self.reconciler.now();
        let limits = &self.configuration.limits;
        let fill = |name: &str, entries: usize, capacity: u32| TableFill {
            name: name.to_owned(),
            entries: entries as u64,
            capacity: u64::from(capacity),
        };
        vec![
            fill("networks", now.networks.len(), limits.networks),
            fill("ports", now.ports.len(), limits.ports),
            fill("links", now.links.len(), limits.links),
            fill("rules", now.rules.len(), limits.rules),
        ]
    }

    fn events_lost(&self) -> Result<u64, Refusal> {
        let mut lost = 0;
        for &index in self.reconciler.now().ports.keys() {
            let state = self
                .reconciler
                .tables()
                .port_state(index)
                .map_err(internal)?;
            lost += state.map_or(0, |state| state.events_lost);
        }
        Ok(lost)
    }

    fn events_problem(&self) -> Result<Option<Problem>, Refusal> {
        let lost = self.events_lost()?;
        Ok((lost > 0).then(|| Problem {
            severity: Severity::Warning,
            subject: "events".to_owned(),
            message: format!(
                "{lost} events found the ring full; what they said was looked up later"
            ),
            cure: None,
        }))
    }
}

fn nearly_full(table: &TableFill) -> Option<Problem> {
    let share = table.entries as f64 / table.capacity.max(1) as f64;
    (share >= NEARLY_FULL).then(|| Problem {
        severity: Severity::Warning,
        subject: format!("table {}", table.name),
        message: format!("{} of {} entries are in use", table.entries, table.capacity),
        cure: Some(format!(
            "raise limits.{}, run `vnet-agent teardown`, start the agent again",
            table.name
        )),
    })
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn memory_rss_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: asks for a number; no pointers.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.checked_mul(u64::try_from(page_bytes).ok()?)
}
