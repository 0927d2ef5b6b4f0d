//! Which frames go where, and how are such rules added and deleted?

mod lines;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Subcommand};
use vnet_agent::api::{ManyRules, NewRule, RuleStatus};
use vnet_agent::model::{RuleName, RuleOrigin, Target};
use vnet_common::rule::{Destination, Source};

use crate::client::{Client, path};
use crate::link::render_change;
use crate::screen::Screen;
use crate::table::{Side, Table, or_empty};

/// What can be done with rules.
#[derive(Subcommand)]
pub enum Verb {
    /// Lists the rules, the strongest first.
    List(List),
    /// Adds a rule, or replaces the one with the same network, source and destination.
    Add(Add),
    /// Deletes a rule.
    #[command(visible_alias = "remove")]
    Delete(Delete),
}

/// What `rule list` takes.
#[derive(clap::Args)]
pub struct List {
    /// Those of one network only.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
}

/// What `rule add` takes.
#[derive(clap::Args)]
#[command(
    group = ArgGroup::new("target").required(true).args(["link", "port", "flood", "drop", "file"]),
    after_help = "\
The strongest rule that matches decides: an exact address over `not` an address over
`any`, the destination before the source, destination `none` (the default rule) below
all; among equals the newer.

Examples:
  vnetctl rule add --network blue --to 52:54:00:00:00:02 --link to-two
  vnetctl rule add --network blue --to none --flood
  vnetctl rule add --network blue --from 'not 52:54:00:00:00:01' --to any --drop
  vnetctl rule add --file blue.rules

A file has a rule a line, as messages show them; # begins a comment:
  blue: any -> 52:54:00:00:00:02 = link to-two
  blue: any -> none = flood"
)]
pub struct Add {
    /// Its network.
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    network: Option<String>,
    /// The senders: any, an address, or 'not ADDRESS'.
    #[arg(long, value_name = "WHO", default_value = "any", value_parser = source)]
    from: Source,
    /// The receivers: any, an address, 'not ADDRESS', or none (the default rule).
    #[arg(long, value_name = "WHOM", value_parser = destination, required_unless_present = "file")]
    to: Option<Destination>,
    /// Such frames leave over this link.
    #[arg(long, value_name = "NAME")]
    link: Option<String>,
    /// Such frames go into this port.
    #[arg(long, value_name = "DEVICE")]
    port: Option<String>,
    /// Such frames go to every port of the network and over its links, save where they came from.
    #[arg(long)]
    flood: bool,
    /// Such frames are dropped, and counted.
    #[arg(long)]
    drop: bool,
    /// All rules of this file, or none of them; - for standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["network", "from", "to"])]
    file: Option<PathBuf>,
}

/// What `rule delete` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  vnetctl rule delete --network blue --from any --to 52:54:00:00:00:02
  vnetctl rule delete --file blue.rules")]
pub struct Delete {
    /// Its network.
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    network: Option<String>,
    /// Its senders, as it was added.
    #[arg(long, value_name = "WHO", value_parser = source, required_unless_present = "file")]
    from: Option<Source>,
    /// Its receivers, as it was added.
    #[arg(long, value_name = "WHOM", value_parser = destination, required_unless_present = "file")]
    to: Option<Destination>,
    /// All rules of this file, or none of them, wherever they lead; - for standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["network", "from", "to"])]
    file: Option<PathBuf>,
}

fn source(text: &str) -> Result<Source, String> {
    text.parse()
        .map_err(|error| format!("a sender is any, an address, or 'not ADDRESS'; {error}"))
}

fn destination(text: &str) -> Result<Destination, String> {
    text.parse()
        .map_err(|error| format!("a receiver is any, none, an address, or 'not ADDRESS'; {error}"))
}

/// Does it.
pub async fn run(verb: Verb, client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List(List { network }) => {
            let answer = client
                .get(&path(&["rules"], &[("network", network)]))
                .await?;
            screen.show(&answer, |rules: &Vec<RuleStatus>, columns| {
                render(rules, columns)
            })?;
        }
        Verb::Add(Add {
            file: Some(file), ..
        }) => {
            let many = ManyRules {
                add: lines::read(&file)?,
                ..ManyRules::default()
            };
            let answer = client.patch(&path(&["rules"], &[]), &many).await?;
            screen.show(&answer, render_change)?;
        }
        Verb::Add(add) => {
            let answer = client.post(&path(&["rules"], &[]), &new_rule(add)?).await?;
            screen.show(&answer, render_change)?;
        }
        Verb::Delete(Delete {
            file: Some(file), ..
        }) => {
            let rules = lines::read(&file)?.into_iter();
            let many = ManyRules {
                delete: rules.map(name_of).collect(),
                ..ManyRules::default()
            };
            let answer = client.patch(&path(&["rules"], &[]), &many).await?;
            screen.show(&answer, render_change)?;
        }
        Verb::Delete(delete) => {
            let query = [
                ("network", delete.network),
                ("source", delete.from.map(|from| from.to_string())),
                ("destination", delete.to.map(|to| to.to_string())),
            ];
            let answer = client.delete(&path(&["rules"], &query)).await?;
            screen.show(&answer, render_change)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn name_of(rule: NewRule) -> RuleName {
    RuleName {
        network: rule.network,
        source: rule.source,
        destination: rule.destination,
    }
}

fn new_rule(add: Add) -> anyhow::Result<NewRule> {
    let Add {
        network,
        from,
        to,
        link,
        port,
        flood,
        drop: _,
        file: _,
    } = add;
    // The group of arguments lets exactly one of the four through.
    let target = match (link, port, flood) {
        (Some(name), ..) => Target::Link(name),
        (None, Some(device), _) => Target::Port(device),
        (None, None, true) => Target::Flood,
        (None, None, false) => Target::Drop,
    };
    Ok(NewRule {
        network: network.context("--network is missing")?,
        source: from,
        destination: to.context("--to is missing")?,
        to: target,
    })
}

fn render(rules: &[RuleStatus], columns: Option<usize>) -> String {
    if rules.is_empty() {
        return "No rules.\n".into();
    }
    let mut table = Table::new([
        ("NETWORK", Side::Left),
        ("FROM", Side::Left),
        ("TO", Side::Left),
        ("TARGET", Side::Left),
        ("STRENGTH", Side::Right),
        ("ORIGIN", Side::Left),
        ("NOTE", Side::Left),
    ]);
    for rule in rules {
        table.row([
            rule.network.clone(),
            rule.source.to_string(),
            rule.destination.to_string(),
            rule.to.to_string(),
            rule.strength.to_string(),
            origin(rule.origin).into(),
            match (&rule.note, rule.resolved) {
                (None, false) => "unresolved".into(),
                (note, _) => or_empty(note.as_ref()),
            },
        ]);
    }
    table.render(columns)
}

/// Where a rule comes from, in a word.
pub const fn origin(origin: RuleOrigin) -> &'static str {
    match origin {
        RuleOrigin::File => "file",
        RuleOrigin::Api => "api",
        RuleOrigin::Proxy => "proxy",
        RuleOrigin::Port => "port",
    }
}

#[cfg(test)]
mod tests {
    use vnet_common::addr::Mac;

    use super::*;

    #[test]
    fn rules_say_whether_they_can_do_what_they_say() {
        let exact = RuleStatus {
            network: "blue".into(),
            source: Source::Any,
            destination: Destination::Is(Mac([0x52, 0x54, 0, 0, 0, 2])),
            to: Target::Link("to-two".into()),
            origin: RuleOrigin::File,
            strength: 9,
            resolved: true,
            note: None,
        };
        let default = RuleStatus {
            source: Source::Not(Mac([0x52, 0x54, 0, 0, 0, 1])),
            destination: Destination::None,
            to: Target::Port("tap9".into()),
            origin: RuleOrigin::Api,
            strength: 1,
            resolved: false,
            note: Some("no device tap9 now".into()),
            ..exact.clone()
        };
        let expected = "\
NETWORK  FROM                   TO                 TARGET       STRENGTH  ORIGIN  NOTE
blue     any                    52:54:00:00:00:02  link to-two         9  file
blue     not 52:54:00:00:00:01  none               port tap9           1  api     no device tap9 now
";
        assert_eq!(render(&[exact, default], Some(120)), expected);
        assert_eq!(render(&[], None), "No rules.\n");
    }
}
