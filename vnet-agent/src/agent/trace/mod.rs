//! Which way does a frame go, and why?
//!
//! Input: a frame and where it comes in. The loaded program is run over it in the kernel, with
//! the tables as they are and without a trace; the same steps run here over a copy of the tables
//! and explain it. Where the two do not agree, the report says so: then one of them is wrong.

mod entrance;
mod outer;

use std::collections::BTreeSet;

use nix::time::{ClockId, clock_gettime};
use vnet_common::addr::NetworkId;
use vnet_common::reason::Reason;
use vnet_common::rule::Shape;
use vnet_common::table::flow::FlowKey;
use vnet_common::wire::ethernet::Ethernet;
use vnet_common::wire::slow::Slow;
use vnet_ebpf::frame::heap::HeapFrame;
use vnet_ebpf::tables::heap::HeapTables;
use vnet_ebpf::{Outcome, Way, from_agent, from_port, from_underlay};
use zerocopy::FromBytes;

use self::entrance::Entrance;
use self::outer::{outer, without_sequence};
use super::Agent;
use super::answer::internal;
use crate::api::{
    FrameBytes, HostRun, KernelRun, Place, Refusal, RuleStatus, TraceLink, TraceReport,
    TraceRequest, TraceStep, Verdict,
};
use crate::dataplane::{Answer, Fate};
use crate::model::attachment::{Attachment, Role};
use crate::model::door::Door;
use crate::model::{Link, Target};
use crate::overlay::flood::End;

impl Agent {
    pub(in crate::agent) fn trace(
        &mut self,
        request: &TraceRequest,
    ) -> Result<TraceReport, Refusal> {
        let entrance = self.entrance(request)?;
        // Where both doors have a program, the first has the frame.
        let first = self.programs(entrance.role, entrance.device).next();
        let door = first.unwrap_or(Door::Xdp);
        let hold = Attachment::new(entrance.role, entrance.device, door);
        let kernel = self.reconciler.plane().ask(hold, &entrance.bytes);
        let tables = self.copy_of_tables()?;
        let mut frame = HeapFrame::new(entrance.device, &entrance.bytes);
        let host = match entrance.role {
            Role::Port => from_port::from_port(&mut frame, &tables),
            Role::Agent => from_agent::from_agent(&mut frame, &tables),
            Role::Underlay => from_underlay::from_underlay(&mut frame, &tables),
        };
        let mut report = self.explain(&entrance, host, &frame)?;
        report.door = first;
        match kernel {
            Ok(answer) => compare(&mut report, host, &frame, &answer, door),
            Err(error) => report.steps.push(step("kernel", error.to_string())),
        }
        Ok(report)
    }

    /// The kernel's tables, for the same steps on the host. The clock is the kernel's, so that a
    /// port's slow-path budget means the same.
    fn copy_of_tables(&self) -> Result<HeapTables, Refusal> {
        let now = self.reconciler.now();
        let mut tables = HeapTables::default();
        tables.ports.clone_from(&now.ports);
        tables.underlays.clone_from(&now.underlays);
        tables.networks.clone_from(&now.networks);
        tables.links.clone_from(&now.links);
        tables.rules.clone_from(&now.rules);
        tables.admissions.clone_from(&now.admissions);
        tables.slow_path_device = now.setting.map_or(0, |setting| setting.slow_path_device);
        if let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) {
            let ns = time
                .tv_sec()
                .saturating_mul(1_000_000_000)
                .saturating_add(time.tv_nsec());
            tables.now_ns.set(u64::try_from(ns).unwrap_or(0));
        }
        for &index in now.ports.keys() {
            if let Some(state) = self
                .reconciler
                .tables()
                .port_state(index)
                .map_err(internal)?
            {
                tables.set_state(index, state);
            }
        }
        Ok(tables)
    }

    fn explain(
        &self,
        entrance: &Entrance,
        result: Result<Outcome, Reason>,
        after: &HeapFrame,
    ) -> Result<TraceReport, Refusal> {
        let network = entrance.network.and_then(|id| {
            let mut networks = self.configuration.networks.iter();
            networks.find(|network| network.id == id)
        });
        let mut report = TraceReport {
            from: entrance.from.clone(),
            network: network.map(|network| network.name.clone()),
            steps: Vec::new(),
            verdict: verdict(result),
            reason: reason(result),
            target: None,
            copies: Vec::new(),
            links: Vec::new(),
            door: None,
            rule: None,
            flow_cached: false,
            kernel: None,
            host: HostRun {
                verdict: verdict(result),
                output_hex: FrameBytes(after.bytes().to_vec()),
            },
            agree: None,
            outer: None,
            mtu_note: None,
        };
        if let (Some(id), Some(name)) = (entrance.network, report.network.clone()) {
            self.explain_decision(&mut report, entrance, id, &name)?;
        }
        self.explain_end(&mut report, entrance, result, after);
        Ok(report)
    }

    /// Addresses, the flow table and the rule.
    fn explain_decision(
        &self,
        report: &mut TraceReport,
        entrance: &Entrance,
        id: NetworkId,
        network: &str,
    ) -> Result<(), Refusal> {
        let Ok((header, _)) = Ethernet::read_from_prefix(&entrance.inner) else {
            return Ok(());
        };
        let (source, destination) = (header.source, header.destination);
        let ethertype = u16::from_be_bytes(header.ethertype);
        let bytes = entrance.inner.len();
        report.steps.push(step(
            "parse",
            format!("{source} to {destination}, type 0x{ethertype:04x}, {bytes} bytes"),
        ));
        let key = FlowKey::new(id, source, destination);
        let generation = self
            .reconciler
            .now()
            .networks
            .values()
            .find(|n| n.id == id.get());
        let flow = self.reconciler.tables().flow(&key).map_err(internal)?;
        let flow = flow.filter(|flow| {
            generation.is_some_and(|network| network.generation == flow.generation)
                && self.place(flow.origin).as_ref() == Some(&report.from)
        });
        report.flow_cached = flow.is_some();
        let known = match &flow {
            Some(flow) => format!("known: {} frames so far", flow.packets),
            None => "the first frame of its flow: the rules are asked".to_owned(),
        };
        report.steps.push(step("resolve", known));
        if destination.is_group() {
            report.steps.push(step(
                "rules",
                "for many: the agent asks all rules".to_owned(),
            ));
            report.copies = self.copies(report, network, &header);
            return Ok(());
        }
        report.rule = self.deciding_rule(network, &header);
        let words = match &report.rule {
            Some(rule) => format!("{} -> {} = {}", rule.source, rule.destination, rule.to),
            None => "none matches".to_owned(),
        };
        report.steps.push(step("rules", words));
        if matches!(&report.rule, Some(rule) if rule.to == Target::Flood) {
            report.copies = self.copies(report, network, &header);
        }
        Ok(())
    }

    fn deciding_rule(&self, network: &str, header: &Ethernet) -> Option<RuleStatus> {
        let rules = self.configuration.effective_rules(&self.devices);
        let matching = rules.iter().enumerate().filter(|(_, rule)| {
            rule.network == network
                && rule.source.matches(header.source)
                && rule.destination.matches(header.destination)
        });
        let strongest =
            matching.max_by_key(|(age, rule)| (Shape::of(rule.source, rule.destination), *age));
        strongest.map(|(_, rule)| self.rule(rule))
    }

    fn copies(&self, report: &TraceReport, network: &str, header: &Ethernet) -> Vec<Target> {
        let from = match &report.from {
            Place::Port(name) => End::Port(name),
            Place::Link(name) => End::Link(name),
            _ => return Vec::new(),
        };
        let receivers = self.receivers.borrow();
        let targets = receivers
            .table
            .targets(network, header.source, header.destination, from);
        let target = |end| match end {
            End::Port(name) => Target::Port(str::to_owned(name)),
            End::Link(name) => Target::Link(str::to_owned(name)),
        };
        targets.into_iter().map(target).collect()
    }

    /// The link that carries what a rule sends over one: another, while that one's other end does not
    /// answer.
    fn carrier(&self, to: Target, steps: &mut Vec<TraceStep>) -> Target {
        let Target::Link(name) = &to else {
            return to;
        };
        let link = self.configuration.link(name);
        match link.and_then(|link| self.detour(link)) {
            Some(other) => {
                let words = format!("link {name} is dead: its frames take link {other}");
                steps.push(step("fall back", words));
                Target::Link(other.to_owned())
            }
            None => to,
        }
    }

    /// The links that a frame, or its copies, leave by: over one that carries another's, a frame goes
    /// once, and never back.
    fn links_left_by(&self, report: &TraceReport) -> Vec<TraceLink> {
        let decided = match report.verdict {
            Verdict::Forwarded => report.rule.iter().map(|rule| &rule.to).collect(),
            Verdict::SlowPath => report.copies.iter().collect(),
            _ => Vec::new(),
        };
        let mut taken = BTreeSet::new();
        if let Place::Link(name) = &report.from {
            taken.insert(name.clone());
        }
        let links = decided.into_iter().filter_map(|to| match to {
            Target::Link(name) => self.link_left_by(self.configuration.link(name)?),
            _ => None,
        });
        let is_new =
            |link: &TraceLink| taken.insert(link.over.as_ref().unwrap_or(&link.name).clone());
        links.filter(is_new).collect()
    }

    fn link_left_by(&self, link: &Link) -> Option<TraceLink> {
        let by = self.instead(link).unwrap_or(link);
        let whole = by.rung_of.as_ref().unwrap_or(&by.name);
        let mtu = self.link_mtu(by);
        let overhead = u32::from(by.overhead());
        Some(TraceLink {
            name: link.name.clone(),
            over: (*whole != link.name).then(|| whole.clone()),
            remote: by.remote,
            rung: self.rung(self.configuration.link(whole)?),
            guest_mtu_bytes: mtu.map(|mtu| mtu.bytes.saturating_sub(overhead)),
        })
    }

    /// What it came to.
    fn explain_end(
        &self,
        report: &mut TraceReport,
        entrance: &Entrance,
        result: Result<Outcome, Reason>,
        after: &HeapFrame,
    ) {
        if report.reason == Some(Reason::TooBig) {
            let network = report.network.as_ref();
            let mtu = network.and_then(|name| self.desired.guest_mtus.get(name));
            report.mtu_note =
                mtu.map(|mtu| format!("guests of this network must use an MTU of {mtu}"));
        }
        report.links = self.links_left_by(report);
        let end = match result {
            Err(reason) => step("drop", reason.text().to_owned()),
            Ok(outcome) => match outcome.way() {
                Way::Delivered | Way::Joined | Way::Direct => {
                    let name = self.device(outcome.device());
                    report.target = Some(Target::Port(name.clone()));
                    step("deliver", format!("into {name}"))
                }
                Way::Forwarded => {
                    let rule = report.rule.as_ref().map(|rule| rule.to.clone());
                    let rule = rule.map(|to| self.carrier(to, &mut report.steps));
                    report.outer = outer(after.bytes());
                    let device = self.device(outcome.device());
                    let room = after.bytes().len() - entrance.inner.len().min(after.bytes().len());
                    report.target = rule;
                    match outcome.device() == self.tap.index {
                        true => step("carry", "up to the agent, which carries it over".to_owned()),
                        false => step(
                            "encap",
                            format!("{room} bytes of outer headers, out by {device}"),
                        ),
                    }
                }
                Way::SlowPath => step("slow path", "up to the agent".to_owned()),
                Way::Answered => step("echo", "a probe, answered".to_owned()),
                Way::Passed => step("pass", "left to the host's own stack".to_owned()),
                Way::TooBig => {
                    let mtu =
                        Slow::read_from_prefix(after.bytes()).map_or(0, |(header, _)| header.mtu());
                    let text = Reason::TooBig.text();
                    let told = format!("{text}; its sender hears that {mtu} bytes fit");
                    step("drop", told)
                }
            },
        };
        report.steps.push(end);
    }
}

fn compare(
    report: &mut TraceReport,
    host: Result<Outcome, Reason>,
    frame: &HeapFrame,
    kernel: &Answer,
    door: Door,
) {
    let expected = match host.map(Outcome::way) {
        Err(_) => Fate::Dropped,
        Ok(Way::Passed | Way::Joined) => Fate::Passed,
        Ok(_) => Fate::Redirected,
    };
    let bytes_agree = match host {
        // What is left of a dropped frame does not matter.
        Err(_) => true,
        Ok(outcome) => {
            let forwarded = outcome.way() == Way::Forwarded;
            without_sequence(frame.bytes(), forwarded) == without_sequence(&kernel.frame, forwarded)
        }
    };
    report.agree = Some(kernel.fate == expected && bytes_agree);
    report.kernel = Some(KernelRun {
        action: kernel.fate.name(door).to_owned(),
        output_bytes: u32::try_from(kernel.frame.len()).unwrap_or(u32::MAX),
        output_hex: FrameBytes(kernel.frame.clone()),
    });
}

fn step(step: &str, outcome: String) -> TraceStep {
    TraceStep {
        step: step.to_owned(),
        outcome,
    }
}

fn verdict(result: Result<Outcome, Reason>) -> Verdict {
    match result.map(Outcome::way) {
        Ok(Way::Forwarded) => Verdict::Forwarded,
        Ok(Way::Delivered | Way::Joined | Way::Direct) => Verdict::Delivered,
        Ok(Way::SlowPath) => Verdict::SlowPath,
        Ok(Way::Answered) => Verdict::Answered,
        Ok(Way::Passed) => Verdict::Passed,
        Ok(Way::TooBig) | Err(_) => Verdict::Dropped,
    }
}

/// Why a frame is dropped, if it is.
fn reason(result: Result<Outcome, Reason>) -> Option<Reason> {
    match result.map(Outcome::way) {
        Ok(Way::TooBig) => Some(Reason::TooBig),
        other => other.err(),
    }
}
