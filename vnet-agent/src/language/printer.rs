//! How is a statement written, and how a whole topology?
//!
//! One way for each: two topologies that mean the same have one text, and reading it gives the
//! topology back.

use vnet_common::rule::{Destination, Source};

use super::meaning::{kind_word, statements};
use super::statement::{Action, Said, Statement, Towards};
use super::token::is_bare;
use crate::model::topology::{Flooding, Role, Topology};

/// A topology in the language, in its normal form.
pub fn print(topology: &Topology) -> String {
    let mut text = String::from("BEGIN\n");
    let mut last = None;
    for statement in statements(&topology.clone().normal()) {
        let group = group(&statement);
        // The action stands right above what it is about.
        if last != Some(group) && last != Some(Group::Action) {
            text.push('\n');
        }
        last = Some(group);
        text.push_str(&line(&statement));
        text.push('\n');
    }
    text.push_str("\nEND\n");
    text
}

/// What stands together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Networks,
    Hosts,
    Vms,
    Action,
    Links,
    Rules,
}

pub(super) const fn group(statement: &Statement) -> Group {
    match statement {
        Statement::Network { .. } => Group::Networks,
        Statement::Host { .. } => Group::Hosts,
        Statement::Vm { .. } => Group::Vms,
        Statement::Action(_) => Group::Action,
        Statement::Link { .. } => Group::Links,
        Statement::Forward { .. } => Group::Rules,
    }
}

/// A statement as one line, without its end.
pub(super) fn line(statement: &Statement) -> String {
    let mut words = Vec::new();
    match statement {
        Statement::Network { name, id } => {
            words.extend(["NETWORK".to_owned(), quoted(name), id.value.to_string()]);
        }
        Statement::Host {
            user,
            name,
            port,
            interface,
            address,
            role,
        } => {
            words.extend(["HOST".to_owned(), quoted(user)]);
            words.extend(["AT".to_owned(), quoted(name), port.value.to_string()]);
            words.push(quoted(interface));
            words.extend(address.iter().map(|said| format!("ADDRESS {}", said.value)));
            let role = role.as_ref().map(|said| said.value);
            words.extend(role.and_then(role_word).map(str::to_owned));
        }
        Statement::Vm {
            name,
            mac,
            host,
            device,
            network,
            is_fixed,
        } => {
            words.extend(["VM".to_owned(), quoted(name), mac.value.to_string()]);
            words.extend(["ON".to_owned(), quoted(host)]);
            words.extend(device.as_ref().map(quoted));
            words.extend(network.iter().map(in_network));
            words.extend(is_fixed.then(|| "FIXED".to_owned()));
        }
        Statement::Action(Action::Add) => words.push("ADD".to_owned()),
        Statement::Action(Action::Delete) => words.push("DELETE".to_owned()),
        Statement::Link {
            kind,
            machines,
            carries,
            flood,
        } => {
            words.extend(["LINK".to_owned(), kind_word(*kind).to_owned()]);
            words.extend(machines.iter().map(quoted));
            if let Some(networks) = carries {
                let names: Vec<String> = networks.iter().map(quoted).collect();
                words.push(format!("CARRIES {}", names.join(", ")));
            }
            words.extend(flood.map(|flood| format!("FLOOD {}", flood_word(flood))));
        }
        Statement::Forward {
            host,
            source,
            destination,
            to,
            network,
        } => {
            words.extend(["FORWARD".to_owned(), towards_word(to).to_owned()]);
            words.push(quoted(host));
            words.push(source_words(source.value));
            words.push(destination_words(destination.value));
            match to {
                Towards::Edge(from, to) => words.extend([quoted(from), quoted(to)]),
                Towards::Interface(device) => words.push(quoted(device)),
                Towards::Flood | Towards::Drop => {}
            }
            words.extend(network.iter().map(in_network));
        }
    }
    words.join(" ")
}

fn in_network(network: &Said<String>) -> String {
    format!("IN {}", quoted(network))
}

/// A name, in quotes where it would be something else without.
fn quoted(name: &Said<String>) -> String {
    let name = name.name();
    if is_bare(name) {
        return name.to_owned();
    }
    let mut text = String::from("\"");
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

const fn role_word(role: Role) -> Option<&'static str> {
    match role {
        Role::Proxy => Some("PROXY"),
        Role::Agent => None,
        Role::Foreign => Some("FOREIGN"),
    }
}

const fn flood_word(flood: Flooding) -> &'static str {
    match flood {
        Flooding::FromPorts => "PORTS",
        Flooding::Always => "ALWAYS",
        Flooding::Never => "NEVER",
    }
}

const fn towards_word(to: &Towards) -> &'static str {
    match to {
        Towards::Edge(..) => "EDGE",
        Towards::Interface(_) => "INTERFACE",
        Towards::Flood => "FLOOD",
        Towards::Drop => "DROP",
    }
}

fn source_words(source: Source) -> String {
    match source {
        Source::Any => "ANY".to_owned(),
        Source::Not(mac) => format!("NOT {mac}"),
        Source::Is(mac) => mac.to_string(),
    }
}

fn destination_words(destination: Destination) -> String {
    match destination {
        Destination::None => "NONE".to_owned(),
        Destination::Any => "ANY".to_owned(),
        Destination::Not(mac) => format!("NOT {mac}"),
        Destination::Is(mac) => mac.to_string(),
    }
}
