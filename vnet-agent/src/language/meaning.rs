//! What do the statements of a text amount to?
//!
//! Input: statements, and the topology that they are carried out on. Output: the topology after
//! them, in its normal form, or what makes no sense, each with the bytes that say it. Whether the
//! result makes sense is asked of the model; here its answers get their places in the text.

use std::ops::Range;

use vnet_common::addr::NetworkId;

use super::fault::Finding;
use super::statement::{Action, Program, Said, Statement, Towards};
use crate::model::topology::{
    Flooding, Host, Item, Link, LinkKind, Network, Place, Problem, Role, Rule, Target, Topology,
    TopologyError, Vm,
};

/// The network that everything belongs to in texts that name none, as those of figure 5 do.
const ONLY_NETWORK: &str = "default";
const ONLY_NETWORK_ID: NetworkId = match NetworkId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};

/// Where in the text an entry of the topology is said.
#[derive(Clone, Default)]
struct Spans {
    whole: Range<usize>,
    parts: Vec<(&'static str, Range<usize>)>,
}

/// An entry, and where it is said, if in this text.
type Entry<T> = (T, Option<Spans>);

#[derive(Default)]
struct Builder {
    networks: Vec<Entry<Network>>,
    hosts: Vec<Entry<Host>>,
    vms: Vec<Entry<Vm>>,
    links: Vec<Entry<Link>>,
    rules: Vec<Entry<Rule>>,
    found: Vec<Finding>,
}

/// The topology that statements make of another.
///
/// # Errors
/// Everything that makes no sense.
pub(super) fn topology(program: &Program, base: &Topology) -> Result<Topology, Vec<Finding>> {
    let mut builder = Builder::new(base);
    for statement in &program.statements {
        builder.declare(statement);
    }
    let uses_a_network = |statement: &Said<Statement>| {
        matches!(
            statement.value,
            Statement::Vm { .. } | Statement::Link { .. } | Statement::Forward { .. }
        )
    };
    if builder.networks.is_empty() && program.statements.iter().any(uses_a_network) {
        let only = Network {
            name: ONLY_NETWORK.to_owned(),
            id: ONLY_NETWORK_ID,
        };
        builder.networks.push((only, None));
    }
    let mut action = None;
    for statement in &program.statements {
        builder.carry_out(statement, &mut action);
    }
    builder.finish(program)
}

fn known<T: Clone>(list: &[T]) -> Vec<Entry<T>> {
    list.iter().map(|entry| (entry.clone(), None)).collect()
}

/// Adds an entry; one of before this text goes, if it has the same name.
fn declare<T>(list: &mut Vec<Entry<T>>, entry: T, spans: Spans, name: impl Fn(&T) -> &str) {
    list.retain(|(old, said)| said.is_some() || name(old) != name(&entry));
    list.push((entry, Some(spans)));
}

impl Builder {
    fn new(base: &Topology) -> Self {
        Self {
            networks: known(&base.networks),
            hosts: known(&base.hosts),
            vms: known(&base.vms),
            links: known(&base.links),
            rules: known(&base.rules),
            found: Vec::new(),
        }
    }

    fn refuse(&mut self, span: &Range<usize>, message: impl Into<String>, cure: impl Into<String>) {
        self.found.push(Finding::new(span.clone(), message, cure));
    }

    /// Hosts and networks: they may be declared behind what uses them.
    fn declare(&mut self, statement: &Said<Statement>) {
        let whole = statement.span.clone();
        match &statement.value {
            Statement::Network { name, id } => {
                let parts = vec![("name", name.span.clone()), ("id", id.span.clone())];
                let network = Network {
                    name: name.value.clone(),
                    id: id.value,
                };
                let spans = Spans { whole, parts };
                declare(&mut self.networks, network, spans, |network| &network.name);
            }
            Statement::Host {
                user,
                name,
                port,
                interface,
                address,
                role,
            } => {
                let mut parts = vec![
                    ("user", user.span.clone()),
                    ("name", name.span.clone()),
                    ("port", port.span.clone()),
                    ("interface", interface.span.clone()),
                ];
                let place = address.as_ref().map_or(&name.span, |said| &said.span);
                parts.push(("address", place.clone()));
                parts.extend(role.as_ref().map(|said| ("role", said.span.clone())));
                let host = Host {
                    name: name.value.clone(),
                    user: user.value.clone(),
                    port: port.value,
                    interface: interface.value.clone(),
                    address: address.as_ref().map(|said| said.value),
                    role: role.as_ref().map_or(Role::Agent, |said| said.value),
                };
                let spans = Spans { whole, parts };
                declare(&mut self.hosts, host, spans, |host| &host.name);
            }
            _ => {}
        }
    }

    fn carry_out(&mut self, statement: &Said<Statement>, action: &mut Option<Action>) {
        match &statement.value {
            Statement::Network { .. } | Statement::Host { .. } => {}
            Statement::Vm { .. } => self.vm(statement),
            Statement::Action(next) => *action = Some(*next),
            Statement::Link { .. } | Statement::Forward { .. } => {
                let action = *action.get_or_insert_with(|| {
                    let message = "nothing says whether this is to be added or deleted";
                    self.refuse(&statement.span, message, "write ADD before the first link");
                    Action::Add
                });
                self.act(statement, action);
            }
        }
    }

    fn act(&mut self, statement: &Said<Statement>, action: Action) {
        if let Some((link, carries, spans)) = self.link(statement) {
            match action {
                Action::Add => self.links.push((link, Some(spans))),
                Action::Delete => self.delete_link(&link, carries, &statement.span),
            }
        } else if let Some((rule, spans)) = self.rule(statement) {
            match action {
                Action::Add => self.rules.push((rule, Some(spans))),
                Action::Delete => self.delete_rule(&rule, &statement.span),
            }
        }
    }

    /// The network that is named, or the only one there is.
    fn network(&mut self, named: Option<&Said<String>>, whole: &Range<usize>) -> Option<String> {
        if let Some(name) = named {
            return Some(name.value.clone());
        }
        match self.networks.as_slice() {
            [(only, _)] => Some(only.name.clone()),
            several => {
                let names: Vec<&str> = several.iter().map(|(n, _)| n.name.as_str()).collect();
                let message = format!("there are {} networks, and none is named", names.len());
                let cure = format!("add IN and one of: {}", names.join(", "));
                self.refuse(whole, message, cure);
                None
            }
        }
    }

    fn vm(&mut self, statement: &Said<Statement>) {
        let Statement::Vm {
            name,
            mac,
            host,
            device,
            network,
            is_fixed,
        } = &statement.value
        else {
            return;
        };
        let whole = statement.span.clone();
        let Some(in_network) = self.network(network.as_ref(), &whole) else {
            return;
        };
        let on = self
            .hosts
            .iter()
            .find(|(known, _)| known.name == host.value);
        let default = on.map_or(UNKNOWN_DEVICE, |(known, _)| &known.interface);
        let vm = Vm {
            name: name.value.clone(),
            mac: mac.value,
            network: in_network,
            host: host.value.clone(),
            device: device.as_ref().map_or(default, Said::name).to_owned(),
            fixed: *is_fixed,
        };
        let mut parts = vec![
            ("name", name.span.clone()),
            ("mac", mac.span.clone()),
            ("host", host.span.clone()),
        ];
        parts.extend(device.as_ref().map(|said| ("device", said.span.clone())));
        parts.extend(network.as_ref().map(|said| ("network", said.span.clone())));
        declare(&mut self.vms, vm, Spans { whole, parts }, |vm| &vm.name);
    }

    /// A link, and whether its networks are named.
    fn link(&self, statement: &Said<Statement>) -> Option<(Link, bool, Spans)> {
        let Statement::Link {
            kind,
            machines,
            carries,
            flood,
        } = &statement.value
        else {
            return None;
        };
        // Where three machines are named, the first is the one that opens the link.
        let (from, to) = match machines.as_slice() {
            [opener, one, other] if opener.value == other.value => (other, one),
            [_, one, other] | [one, other] => (one, other),
            _ => return None,
        };
        let all = || {
            self.networks
                .iter()
                .map(|(network, _)| network.name.clone())
        };
        let link = Link {
            kind: *kind,
            from: from.value.clone(),
            to: to.value.clone(),
            networks: match carries {
                None => all().collect(),
                Some(list) => list.iter().map(|said| said.value.clone()).collect(),
            },
            flood: flood.unwrap_or_default(),
        };
        let mut parts = vec![("from", from.span.clone()), ("to", to.span.clone())];
        if let Some([first, .., last] | [first @ last]) = carries.as_deref() {
            parts.push(("networks", first.span.start..last.span.end));
        }
        let whole = statement.span.clone();
        Some((link, carries.is_some(), Spans { whole, parts }))
    }

    fn rule(&mut self, statement: &Said<Statement>) -> Option<(Rule, Spans)> {
        let Statement::Forward {
            host,
            source,
            destination,
            to,
            network,
        } = &statement.value
        else {
            return None;
        };
        let whole = statement.span.clone();
        let in_network = self.network(network.as_ref(), &whole)?;
        let (target, place) = match to {
            Towards::Edge(from, to) if from.value == host.value => {
                (Target::Edge(to.value.clone()), to.span.clone())
            }
            Towards::Edge(from, to) if to.value == host.value => {
                (Target::Edge(from.value.clone()), from.span.clone())
            }
            Towards::Edge(from, to) => {
                let error = TopologyError::EdgeElsewhere {
                    host: host.value.clone(),
                    from: from.value.clone(),
                    to: to.value.clone(),
                };
                let both = from.span.start..to.span.end;
                self.refuse(&both, error.to_string(), error.cure());
                return None;
            }
            Towards::Interface(device) => {
                (Target::Interface(device.value.clone()), device.span.clone())
            }
            Towards::Flood => (Target::Flood, whole.clone()),
            Towards::Drop => (Target::Drop, whole.clone()),
        };
        let mut parts = vec![
            ("host", host.span.clone()),
            ("source", source.span.clone()),
            ("destination", destination.span.clone()),
            ("to", place),
        ];
        parts.extend(network.as_ref().map(|said| ("network", said.span.clone())));
        let rule = Rule {
            host: host.value.clone(),
            network: in_network,
            source: source.value,
            destination: destination.value,
            to: target,
        };
        Some((rule, Spans { whole, parts }))
    }

    fn delete_link(&mut self, link: &Link, carries: bool, span: &Range<usize>) {
        let same_networks = |other: &Link| {
            let (mut a, mut b) = (link.networks.clone(), other.networks.clone());
            a.sort();
            b.sort();
            a == b
        };
        let before = self.links.len();
        self.links.retain(|(other, _)| {
            let is_it = other.ends() == link.ends() && other.kind == link.kind;
            !(is_it && (!carries || same_networks(other)))
        });
        if self.links.len() == before {
            let message = format!(
                "there is no {} link between {:?} and {:?} to delete",
                link.kind, link.from, link.to
            );
            self.refuse(span, message, "correct it, or take the line out");
        }
    }

    fn delete_rule(&mut self, rule: &Rule, span: &Range<usize>) {
        let before = self.rules.len();
        self.rules.retain(|(other, _)| other != rule);
        if self.rules.len() == before {
            let key = rule.key();
            let other = self.rules.iter().find(|(other, _)| other.key() == key);
            let message = match other {
                None => "there is no such rule to delete".to_owned(),
                Some((other, _)) => format!("the rule there is has another target: {}", other.to),
            };
            self.refuse(span, message, "correct it, or take the line out");
        }
    }

    fn finish(self, program: &Program) -> Result<Topology, Vec<Finding>> {
        let (networks, network_spans) = self.networks.into_iter().unzip();
        let (hosts, host_spans) = self.hosts.into_iter().unzip();
        let (vms, vm_spans) = self.vms.into_iter().unzip();
        let (links, link_spans) = self.links.into_iter().unzip();
        let (rules, rule_spans) = self.rules.into_iter().unzip();
        let topology = Topology {
            networks,
            hosts,
            vms,
            links,
            rules,
        };
        let places = Places {
            networks: network_spans,
            hosts: host_spans,
            vms: vm_spans,
            links: link_spans,
            rules: rule_spans,
            end: program.span.end.saturating_sub("END".len())..program.span.end,
        };
        let problems = topology.problems();
        let mut found = self.found;
        found.extend(problems.iter().map(|problem| places.finding(problem)));
        if found.is_empty() {
            Ok(topology.normal())
        } else {
            Err(found)
        }
    }
}

/// Stands for the device of a VM on a host that is not there.
const UNKNOWN_DEVICE: &str = "unknown";

/// Where everything is said.
struct Places {
    networks: Vec<Option<Spans>>,
    hosts: Vec<Option<Spans>>,
    vms: Vec<Option<Spans>>,
    links: Vec<Option<Spans>>,
    rules: Vec<Option<Spans>>,
    end: Range<usize>,
}

impl Places {
    fn span(&self, place: Place) -> Option<Range<usize>> {
        let spans = match place.item {
            Item::Network(n) => self.networks.get(n),
            Item::Host(n) => self.hosts.get(n),
            Item::Vm(n) => self.vms.get(n),
            Item::Link(n) => self.links.get(n),
            Item::Rule(n) => self.rules.get(n),
        }?;
        let spans = spans.as_ref()?;
        let part = spans.parts.iter().find(|(key, _)| *key == place.key);
        Some(part.map_or(&spans.whole, |(_, span)| span).clone())
    }

    fn finding(&self, problem: &Problem) -> Finding {
        let span = self.span(problem.at);
        // What was there before the text is in no line of it.
        let message = match span {
            Some(_) => problem.error.to_string(),
            None => format!("after this, {}", problem.error),
        };
        Finding {
            span: span.unwrap_or_else(|| self.end.clone()),
            message,
            cure: problem.error.cure(),
            earlier: problem.earlier.and_then(|earlier| self.span(earlier)),
        }
    }
}

/// The statements that say a topology: the way back.
pub(super) fn statements(topology: &Topology) -> Vec<Statement> {
    let said = |text: &str| Said::unwritten(text.to_owned());
    let networks = topology.networks.iter().map(|network| Statement::Network {
        name: said(&network.name),
        id: Said::unwritten(network.id),
    });
    let hosts = topology.hosts.iter().map(|host| Statement::Host {
        user: said(&host.user),
        name: said(&host.name),
        port: Said::unwritten(host.port),
        interface: said(&host.interface),
        address: host.address.map(Said::unwritten),
        role: (host.role != Role::Agent).then_some(Said::unwritten(host.role)),
    });
    let several = topology.networks.len() > 1;
    let named = |network: &str| several.then(|| said(network));
    let vms = topology.vms.iter().map(|vm| Statement::Vm {
        name: said(&vm.name),
        mac: Said::unwritten(vm.mac),
        host: said(&vm.host),
        device: Some(said(&vm.device)),
        network: named(&vm.network),
        is_fixed: vm.fixed,
    });
    let links = topology.links.iter().map(|link| Statement::Link {
        kind: link.kind,
        machines: vec![said(&link.from), said(&link.to)],
        carries: (link.networks.len() < topology.networks.len())
            .then(|| link.networks.iter().map(|name| said(name)).collect()),
        flood: (link.flood != Flooding::default()).then_some(link.flood),
    });
    let rules = topology.rules.iter().map(|rule| Statement::Forward {
        host: said(&rule.host),
        source: Said::unwritten(rule.source),
        destination: Said::unwritten(rule.destination),
        to: match &rule.to {
            Target::Edge(other) => Towards::Edge(said(&rule.host), said(other)),
            Target::Interface(device) => Towards::Interface(said(device)),
            Target::Flood => Towards::Flood,
            Target::Drop => Towards::Drop,
        },
        network: named(&rule.network),
    });
    let mut statements: Vec<Statement> = networks.chain(hosts).chain(vms).collect();
    if !topology.links.is_empty() || !topology.rules.is_empty() {
        statements.push(Statement::Action(Action::Add));
    }
    statements.extend(links.chain(rules));
    statements
}

/// The word for a kind of link.
pub(super) const fn kind_word(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Udp => "UDP",
        LinkKind::Tcp => "TCP",
        LinkKind::Tls => "TLS",
        LinkKind::Plain => "PLAIN",
    }
}
