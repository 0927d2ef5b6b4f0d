//! What is the overlay now, and how does it become what a text says?
//!
//! Asked of the proxy, which brings it about stage by stage on all hosts, and undoes it if one of them
//! does not follow, whether or not anybody waits here to see it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;
use vnet_agent::api::{
    AppliedTopology, NewTopology, RolloutStage, RolloutState, RolloutStatus, TopologyPlan,
    TopologyStatus, Undo,
};
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

/// Between two looks at how far a change is: at first, and later.
const BETWEEN_LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

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
    if let Some(failed) = follow(client, screen).await? {
        return complain(&failed);
    }
    if screen.format == Format::Table {
        screen::write(b"Applied.\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how far a change is, until it is over. Returns why hosts did not follow; none where all do.
async fn follow(client: &Client, screen: &Screen) -> anyhow::Result<Option<RolloutStatus>> {
    let mut said = 0;
    let mut wait = BETWEEN_LOOKS.0;
    loop {
        let answer = client.get(&path(&["topology", "rollout"], &[])).await?;
        let status: RolloutStatus = answer.value()?;
        let over = status
            .stages
            .iter()
            .take_while(|stage| stage.took_ms.is_some());
        for (place, stage) in over.enumerate().skip(said) {
            said = place.saturating_add(1);
            if screen.format == Format::Table {
                screen::write(stage_line(said, stage, &status).as_bytes())?;
            }
        }
        match status.state {
            RolloutState::None | RolloutState::Done => return Ok(None),
            RolloutState::Undone => return Ok(Some(status)),
            RolloutState::Running | RolloutState::Returning => sleep(wait).await,
        }
        wait = wait.saturating_mul(2).min(BETWEEN_LOOKS.1);
    }
}

fn stage_line(number: usize, stage: &RolloutStage, status: &RolloutStatus) -> String {
    let (name, took_ms) = (printable(&stage.name), stage.took_ms.unwrap_or(0));
    match stage.is_back {
        true => format!("Back, {name}: {took_ms} ms\n"),
        false => format!("Stage {number} of {}, {name}: {took_ms} ms\n", status.of),
    }
}

fn complain(status: &RolloutStatus) -> anyhow::Result<ExitCode> {
    let failed = status.failed.iter();
    let failed = failed.map(|(host, why)| format!("{}: {}", printable(host), printable(why)));
    let failed: Vec<String> = failed.collect();
    screen::complain(&format!(
        "vnetctl: undone, since not every host goes by it: {}",
        failed.join("; ")
    ))?;
    if !status.astray.is_empty() {
        let astray: Vec<String> = status.astray.iter().map(|host| printable(host)).collect();
        screen::complain(&format!(
            "vnetctl: {} did not answer, and will be given the old state when it does",
            astray.join(", ")
        ))?;
    }
    Ok(ExitCode::FAILURE)
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
    if let Some(failed) = follow(client, screen).await? {
        return complain(&failed);
    }
    if screen.format == Format::Table {
        screen::write(b"Undone.\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how the last change stands.
pub async fn rollout(client: &Client, screen: &Screen) -> anyhow::Result<()> {
    let answer = client.get(&path(&["topology", "rollout"], &[])).await?;
    screen.show(&answer, |status: &RolloutStatus, _| rollout_text(status))
}

fn rollout_text(status: &RolloutStatus) -> String {
    let mut text: String = status
        .stages
        .iter()
        .enumerate()
        .filter(|(_, stage)| stage.took_ms.is_some())
        .map(|(place, stage)| stage_line(place.saturating_add(1), stage, status))
        .collect();
    text.push_str(match status.state {
        RolloutState::None => "Nothing has been changed since the proxy began.\n",
        RolloutState::Running => "It goes on.\n",
        RolloutState::Returning => "It goes back.\n",
        RolloutState::Done => "Every host goes by it.\n",
        RolloutState::Undone => "All is as it was before.\n",
    });
    let waiting: Vec<String> = status.waiting.iter().map(|host| printable(host)).collect();
    if !waiting.is_empty() {
        text.push_str(&format!("Waiting for: {}.\n", waiting.join(", ")));
    }
    for (host, why) in &status.failed {
        text.push_str(&format!("{}: {}\n", printable(host), printable(why)));
    }
    text
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
    let absent: Vec<String> = plan.absent.iter().map(|host| printable(host)).collect();
    if !absent.is_empty() {
        let absent = absent.join(", ");
        text.push_str(&format!(
            "Not connected, changes when it is back: {absent}.\n"
        ));
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
