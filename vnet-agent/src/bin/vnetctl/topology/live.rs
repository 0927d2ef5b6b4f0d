//! What is the overlay now, and how does it become what a text says?
//!
//! Asked of the proxy. What is applied counts at once, and each host takes its part as it hears of
//! it; here it is waited for, and undone if a host that is there does not take it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};
use vnet_agent::api::{Agents, AppliedTopology, NewTopology, TopologyPlan, TopologyStatus, Undo};
use vnet_agent::language;

use super::{Form, read};
use crate::client::{Client, path};
use crate::number::duration;
use crate::screen::{self, Format, Screen};
use crate::table::{Side, Table};
use crate::text::printable;

/// What `topology show` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vnetctl topology show > lan.vnet
  vnetctl topology show --as svg > lan.svg")]
pub struct Show {
    /// As a picture instead of a text.
    #[arg(long = "as", value_enum, value_name = "FORM")]
    form: Option<Form>,
}

/// What `topology apply` takes.
#[derive(clap::Args)]
#[command(after_help = "\
The plan is shown first. Exit status 1: it was refused, or a host did not take its part and all
was undone; nothing has changed then.

Examples:
  vnetctl topology apply lan.vnet --dry-run
  vnetctl topology apply lan.vnet")]
pub struct Apply {
    /// The text; - for standard input.
    file: PathBuf,
    /// Show the plan, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Even if somebody loses every way to the proxy.
    #[arg(long)]
    force: bool,
    /// Do not wait until the hosts have taken their parts.
    #[arg(long)]
    no_wait: bool,
}

/// What `topology undo` takes.
#[derive(Clone, Copy, clap::Args)]
pub struct UndoArguments {
    /// Show the plan, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// How long hosts may take.
const WAIT: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Shows the overlay.
pub async fn show(show: &Show, client: &Client, screen: &Screen) -> anyhow::Result<()> {
    let answer = client.get(&path(&["topology"], &[])).await?;
    match show.form {
        Some(form) => {
            let status: TopologyStatus = answer.value()?;
            screen::write(form.picture(&status.topology).as_bytes())?;
        }
        None => screen.show(&answer, |status: &TopologyStatus, _| {
            language::print(&status.topology)
        })?,
    }
    Ok(())
}

/// Applies a text.
pub async fn apply(apply: &Apply, client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    let mut wanted = NewTopology {
        topology: read(&apply.file)?,
        dry_run: true,
        force: apply.force,
    };
    let at = path(&["topology"], &[]);
    let planned = client.post(&at, &wanted).await?;
    let plan: TopologyPlan = planned.value()?;
    if screen.format == Format::Table || apply.dry_run {
        screen.show(&planned, |plan: &TopologyPlan, _| render(plan))?;
    }
    if apply.dry_run || plan.changes.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    wanted.dry_run = false;
    let answer = client.post(&at, &wanted).await?;
    if screen.format == Format::Json {
        screen.show(&answer, |_: &TopologyPlan, _| String::new())?;
    }
    if apply.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let refused = taken(client).await?;
    if refused.is_empty() {
        if screen.format == Format::Table {
            screen::write(b"Applied.\n")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let undo = Undo { dry_run: false };
    client
        .post(&path(&["topology", "undo"], &[]), &undo)
        .await?;
    screen::complain(&format!(
        "vnetctl: undone, since not every host goes by it: {}",
        refused.join("; ")
    ))?;
    Ok(ExitCode::FAILURE)
}

/// Waits until every agent that is there goes by its part. Returns those that do not, and why.
async fn taken(client: &Client) -> anyhow::Result<Vec<String>> {
    let until = Instant::now() + WAIT;
    loop {
        let agents: Agents = client.get(&path(&["agents"], &[])).await?.value()?;
        let mut waiting = Vec::new();
        let mut declined = Vec::new();
        for agent in &agents.agents {
            let Some(connection) = &agent.connection else {
                continue;
            };
            let name = printable(&agent.name);
            match &connection.declined {
                Some(why) => declined.push(format!("{name}: {}", printable(why))),
                None if connection.revision != agent.dealt_revision => {
                    waiting.push(format!("{name} has not answered"));
                }
                None => {}
            }
        }
        if !declined.is_empty() {
            return Ok(declined);
        }
        if waiting.is_empty() || Instant::now() >= until {
            return Ok(waiting);
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

/// Undoes the last one.
pub async fn undo(
    undo: UndoArguments,
    client: &Client,
    screen: &Screen,
) -> anyhow::Result<ExitCode> {
    let wanted = Undo {
        dry_run: undo.dry_run,
    };
    let answer = client
        .post(&path(&["topology", "undo"], &[]), &wanted)
        .await?;
    screen.show(&answer, |plan: &TopologyPlan, _| render(plan))?;
    if undo.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let refused = taken(client).await?;
    if refused.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    screen::complain(&format!(
        "vnetctl: not every host goes by it yet: {}",
        refused.join("; ")
    ))?;
    Ok(ExitCode::FAILURE)
}

/// Shows what was applied.
pub async fn history(client: &Client, screen: &Screen) -> anyhow::Result<()> {
    let answer = client.get(&path(&["topology", "history"], &[])).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_unix_s = now.map_or(0, |now| now.as_secs());
    screen.show(&answer, |entries: &Vec<AppliedTopology>, columns| {
        entries_table(entries, now_unix_s, columns)
    })
}

fn render(plan: &TopologyPlan) -> String {
    if plan.changes.is_empty() {
        return "No difference.\n".into();
    }
    let mut text = String::new();
    for change in &plan.changes {
        text.push_str(&printable(change));
        text.push('\n');
    }
    for warning in &plan.warnings {
        text.push_str(&format!("warning: {}\n", printable(warning)));
    }
    let hosts: Vec<String> = plan.hosts.iter().map(|host| printable(host)).collect();
    if !hosts.is_empty() {
        text.push_str(&format!("Hosts with another part: {}.\n", hosts.join(", ")));
    }
    text
}

fn entries_table(entries: &[AppliedTopology], now_unix_s: u64, columns: Option<usize>) -> String {
    if entries.is_empty() {
        return "Nothing has been applied.\n".into();
    }
    let mut table = Table::new([
        ("NUMBER", Side::Right),
        ("APPLIED", Side::Left),
        ("CHANGES", Side::Right),
        ("NOTE", Side::Left),
    ]);
    let ago = |unix_ms: u64| {
        let since = now_unix_s.saturating_sub(unix_ms / 1000);
        format!("{} ago", duration(since))
    };
    for entry in entries {
        let note = match entry.undone_unix_ms {
            Some(undone) => format!("undone {}", ago(undone)),
            None if entry.is_current => "counts".to_owned(),
            None => String::new(),
        };
        table.row([
            entry.number.to_string(),
            ago(entry.applied_unix_ms),
            entry.changes.to_string(),
            note,
        ]);
    }
    table.render(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_says_what_counts() {
        let entry = |number, undone_unix_ms, is_current| AppliedTopology {
            number,
            applied_unix_ms: 1_000_000,
            changes: 4,
            undone_unix_ms,
            is_current,
        };
        let entries = [entry(1, None, true), entry(2, Some(1_050_000), false)];
        let expected = "\
NUMBER  APPLIED         CHANGES  NOTE
     1  1 min 40 s ago        4  counts
     2  1 min 40 s ago        4  undone 50 s ago
";
        assert_eq!(entries_table(&entries, 1_100, None), expected);
        assert_eq!(entries_table(&[], 0, None), "Nothing has been applied.\n");
    }
}
