//! Who talks to whom, and what happens to it?

use std::process::ExitCode;

use clap::ValueEnum;
use vnet_agent::api::{FLOWS_LIMIT_MAX, Flow, FlowSort, Flows, Verdict};

use crate::client::{Client, path};
use crate::number;
use crate::screen::Screen;
use crate::table::{Side, Table, or_empty};

/// What `flows` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// Those of one network only.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// How many at most.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(0..=FLOWS_LIMIT_MAX as i64)
    )]
    limit: u32,
    /// What makes a flow large.
    #[arg(long, value_enum, default_value = "bytes")]
    sort: Sort,
}

/// The words for [`FlowSort`].
#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    Packets,
    Bytes,
}

impl From<Sort> for FlowSort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Packets => Self::Packets,
            Sort::Bytes => Self::Bytes,
        }
    }
}

/// Asks for the flows and shows them.
pub async fn run(
    arguments: &Arguments,
    client: &Client,
    screen: &Screen,
) -> anyhow::Result<ExitCode> {
    let sort = FlowSort::from(arguments.sort);
    let query = [
        ("network", arguments.network.clone()),
        ("limit", Some(arguments.limit.to_string())),
        ("sort", Some(sort.to_string())),
    ];
    let answer = client.get(&path(&["flows"], &query)).await?;
    screen.show(&answer, |flows: &Flows, columns| {
        render(flows, sort, columns)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn render(flows: &Flows, sort: FlowSort, columns: Option<usize>) -> String {
    let Flows { total, flows } = flows;
    if *total == 0 {
        return "No flows.\n".into();
    }
    let mut table = Table::new([
        ("NETWORK", Side::Left),
        ("SOURCE", Side::Left),
        ("DESTINATION", Side::Left),
        ("FROM", Side::Left),
        ("PACKETS", Side::Right),
        ("BYTES", Side::Right),
        ("ACTION", Side::Left),
    ]);
    for flow in flows {
        table.row([
            flow.network.clone(),
            flow.source.to_string(),
            flow.destination.to_string(),
            or_empty(flow.origin.as_ref()),
            number::short(flow.packets),
            number::bytes(flow.bytes),
            action(flow),
        ]);
    }
    let mut text = table.render(columns);
    let shown = flows.len() as u64;
    if shown < *total {
        text.push_str(&format!(
            "{} of {} flows, the largest by {sort}; --limit for more\n",
            number::exact(shown),
            number::exact(*total)
        ));
    }
    text
}

fn action(flow: &Flow) -> String {
    match (flow.verdict, &flow.target, flow.reason) {
        (Verdict::Forwarded | Verdict::Delivered, Some(target), _) => target.to_string(),
        (Verdict::Dropped, _, Some(reason)) => format!("dropped: {reason}"),
        (verdict, ..) => verdict.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use vnet_agent::api::Place;
    use vnet_agent::model::Target;
    use vnet_common::addr::Mac;
    use vnet_common::reason::Reason;

    use super::*;

    #[test]
    fn flows_say_where_they_go() {
        let flow = |verdict, target, reason| Flow {
            network: "blue".into(),
            source: Mac([0x52, 0x54, 0, 0, 0, 1]),
            destination: Mac([0x52, 0x54, 0, 0, 0, 2]),
            packets: 1_234_567,
            bytes: 1_000,
            origin: Some(Place::Port("tap0".into())),
            verdict,
            target,
            reason,
        };
        let flows = Flows {
            total: 4,
            flows: vec![
                flow(
                    Verdict::Forwarded,
                    Some(Target::Link("to-two".into())),
                    None,
                ),
                flow(Verdict::SlowPath, None, None),
                flow(Verdict::Dropped, None, Some(Reason::Rule)),
            ],
        };
        let expected = "\
NETWORK  SOURCE             DESTINATION        FROM       PACKETS    BYTES  ACTION
blue     52:54:00:00:00:01  52:54:00:00:00:02  port tap0    1.23M  1.00 kB  link to-two
blue     52:54:00:00:00:01  52:54:00:00:00:02  port tap0    1.23M  1.00 kB  slow path
blue     52:54:00:00:00:01  52:54:00:00:00:02  port tap0    1.23M  1.00 kB  dropped: rule
3 of 4 flows, the largest by bytes; --limit for more
";
        assert_eq!(render(&flows, FlowSort::Bytes, None), expected);
        assert_eq!(
            render(&Flows::default(), FlowSort::Bytes, None),
            "No flows.\n"
        );
    }
}
