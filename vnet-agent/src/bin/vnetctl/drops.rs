//! What was dropped, where and why?

use std::process::ExitCode;

use vnet_agent::api::Drop;

use crate::client::{Client, path};
use crate::number;
use crate::screen::Screen;
use crate::table::{Side, Table};

/// What `drops` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// With the reasons that never happened.
    #[arg(long)]
    all: bool,
}

/// Asks for the drops and shows them.
pub async fn run(
    arguments: &Arguments,
    client: &Client,
    screen: &Screen,
) -> anyhow::Result<ExitCode> {
    let all = arguments.all.then(|| "true".to_owned());
    let answer = client.get(&path(&["drops"], &[("all", all)])).await?;
    screen.show(&answer, |drops: &Vec<Drop>, columns| render(drops, columns))?;
    Ok(ExitCode::SUCCESS)
}

fn render(drops: &[Drop], columns: Option<usize>) -> String {
    if drops.is_empty() {
        return "Nothing was dropped.\n".into();
    }
    let mut table = Table::new([
        ("WHERE", Side::Left),
        ("REASON", Side::Left),
        ("PACKETS", Side::Right),
        ("MEANING", Side::Left),
    ]);
    for Drop {
        place,
        reason,
        text,
        packets,
    } in drops
    {
        table.row([
            place.to_string(),
            reason.to_string(),
            number::exact(*packets),
            text.clone(),
        ]);
    }
    table.render(columns)
}

#[cfg(test)]
mod tests {
    use vnet_agent::api::Place;
    use vnet_common::reason::Reason;

    use super::*;

    #[test]
    fn drops_say_where_and_why() {
        let drop = |place, reason: Reason, packets| Drop {
            place,
            reason,
            text: reason.text().into(),
            packets,
        };
        let drops = [
            drop(Place::Port("tap0".into()), Reason::NoRule, 12_345),
            drop(Place::Agent, Reason::QueueFull, 1),
        ];
        let expected = "\
WHERE      REASON      PACKETS  MEANING
port tap0  no-rule      12,345  no rule matches; add one, or a default rule
                                (destination none)
agent      queue-full        1  the agent's queue was full
";
        assert_eq!(render(&drops, Some(80)), expected);
        assert_eq!(render(&[], Some(80)), "Nothing was dropped.\n");
    }
}
