//! Who belongs to the overlay? Asked of the proxy.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use vnet_agent::api::{AgentStatus, Agents, Change};

use crate::client::{Client, path};
use crate::number::{bytes, duration, exact};
use crate::screen::Screen;
use crate::table::{Side, Table};
use crate::text::printable;

/// What `agents` takes.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to do with one of them.
#[derive(Subcommand)]
enum Verb {
    /// Forget one that is not connected, with its links and rules.
    Forget {
        /// Its name.
        name: String,
    },
}

/// Asks for the agents and shows them, or has one forgotten.
pub async fn run(
    arguments: &Arguments,
    client: &Client,
    screen: &Screen,
) -> anyhow::Result<ExitCode> {
    match &arguments.verb {
        None => {
            let answer = client.get(&path(&["agents"], &[])).await?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now_unix_s = now.map_or(0, |now| now.as_secs());
            screen.show(&answer, |agents: &Agents, columns| {
                render(agents, now_unix_s, columns)
            })?;
        }
        Some(Verb::Forget { name }) => {
            let answer = client.delete(&path(&["agents", name], &[])).await?;
            screen.show(&answer, |change: &Change, _| {
                format!("{}: forgotten\n", printable(&change.subject))
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn render(agents: &Agents, now_unix_s: u64, columns: Option<usize>) -> String {
    let (name, address) = (printable(&agents.proxy), printable(&agents.address));
    let mut text = format!("{name}: the proxy, on {address}\n\n");
    if agents.agents.is_empty() {
        text.push_str("No agents.\n");
    } else {
        let mut table = Table::new([
            ("AGENT", Side::Left),
            ("CONNECTED", Side::Left),
            ("FROM", Side::Left),
            ("REVISION", Side::Left),
            ("CERTIFICATE", Side::Left),
            ("PORTS", Side::Right),
            ("CPUS", Side::Right),
            ("MEMORY", Side::Right),
            ("NOTE", Side::Left),
        ]);
        for agent in &agents.agents {
            table.row(row(agent, now_unix_s));
        }
        text.push_str(&table.render(columns));
    }
    if !agents.turned_away.is_empty() {
        text.push_str("\nTURNED AWAY\n");
        let mut table = Table::new([("WHY", Side::Left), ("CONNECTIONS", Side::Right)]);
        for (why, count) in &agents.turned_away {
            table.row([why.clone(), exact(*count)]);
        }
        text.push_str(&table.render(columns));
    }
    text
}

fn row(agent: &AgentStatus, now_unix_s: u64) -> [String; 9] {
    let (connected, from, revision, certificate, note) = match &agent.connection {
        None => {
            let no = String::new();
            ("no".to_owned(), no.clone(), no.clone(), no.clone(), no)
        }
        Some(connection) => {
            let since = now_unix_s.saturating_sub(connection.since_unix_ms / 1000);
            let left = connection
                .certificate_expires_unix_s
                .saturating_sub(now_unix_s);
            let revision = match connection.revision {
                revision if revision == agent.dealt_revision => "latest",
                Some(_) => "older",
                None => "none",
            };
            (
                duration(since),
                connection.from.clone(),
                revision.to_owned(),
                format!("{} left", duration(left)),
                connection.declined.clone().unwrap_or_default(),
            )
        }
    };
    [
        agent.name.clone(),
        connected,
        from,
        revision,
        certificate,
        agent.ports.to_string(),
        agent.processors.to_string(),
        bytes(agent.memory_bytes),
        note,
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vnet_agent::api::Connection;

    use super::*;

    #[test]
    fn who_is_there_and_who_was_turned_away_fit_one_screen() {
        let agent = |name: &str, connection| AgentStatus {
            name: name.into(),
            connection,
            underlay: Vec::new(),
            ports: 2,
            processors: 4,
            memory_bytes: 8 << 30,
            dealt_revision: Some(7),
        };
        let connection = |revision, declined: Option<&str>| Connection {
            from: "10.0.0.1:40000".into(),
            since_unix_ms: 9_000_000,
            software: "0.1.0".into(),
            schema: 2,
            revision,
            declined: declined.map(str::to_owned),
            certificate_expires_unix_s: 13_600,
        };
        let agents = Agents {
            proxy: "hub".into(),
            address: "0.0.0.0:6082".into(),
            agents: vec![
                agent("one", Some(connection(Some(7), None))),
                agent("two", Some(connection(Some(6), Some("no room")))),
                agent("three", None),
            ],
            turned_away: BTreeMap::from([("no certificate".to_owned(), 3)]),
        };
        let expected = "\
hub: the proxy, on 0.0.0.0:6082

AGENT  CONNECTED    FROM            REVISION  CERTIFICATE  PORTS  CPUS   MEMORY  NOTE
one    16 min 40 s  10.0.0.1:40000  latest    1 h left         2     4  8.58 GB
two    16 min 40 s  10.0.0.1:40000  older     1 h left         2     4  8.58 GB  no room
three  no                                                      2     4  8.58 GB

TURNED AWAY
WHY             CONNECTIONS
no certificate            3
";
        assert_eq!(render(&agents, 10_000, None), expected);
    }
}
