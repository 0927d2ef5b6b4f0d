//! What became of every frame?

use std::process::ExitCode;

use vnet_agent::api::{AgentStats, LedgerValues, SideStats, Stats};

use crate::client::{Client, path};
use crate::number::{bytes, exact, short};
use crate::screen::Screen;
use crate::table::{Side, Table};
use crate::text::{paragraph, printable};

/// Asks for the books and shows them.
pub async fn run(client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    let answer = client.get(&path(&["stats"], &[])).await?;
    screen.show(&answer, render)?;
    Ok(ExitCode::SUCCESS)
}

fn render(stats: &Stats, columns: Option<usize>) -> String {
    let agent = SideStats {
        name: "agent".into(),
        ledger: stats.agent.ledger.clone(),
    };
    let mut text = String::new();
    for (heading, sides) in [
        ("PORT", stats.ports.as_slice()),
        ("LINK", &stats.links),
        ("AGENT", std::slice::from_ref(&agent)),
    ] {
        if !sides.is_empty() {
            text.push_str(&frames(heading, sides, columns));
            text.push('\n');
        }
    }
    if !stats.underlays.is_empty() {
        text.push_str(&packets(&stats.underlays, columns));
        text.push('\n');
    }
    text.push_str(&paragraph("slow path: ", &slow_path(&stats.agent), columns));
    let sides = stats
        .ports
        .iter()
        .chain(&stats.links)
        .chain(&stats.underlays);
    for SideStats { name, ledger } in sides.chain([&agent]) {
        if !ledger.balanced {
            text.push_str(&paragraph(
                "! ",
                &format!(
                    "{}: the outcomes do not add up to what was received; frames are in flight, \
                     or ask again",
                    printable(name)
                ),
                columns,
            ));
        }
    }
    text
}

fn frames(heading: &'static str, sides: &[SideStats], columns: Option<usize>) -> String {
    let mut table = Table::new([
        (heading, Side::Left),
        ("RECEIVED", Side::Right),
        ("BYTES", Side::Right),
        ("FORWARDED", Side::Right),
        ("DELIVERED", Side::Right),
        ("SLOW PATH", Side::Right),
        ("DROPPED", Side::Right),
        ("SENT", Side::Right),
        ("BYTES", Side::Right),
        ("REFUSED", Side::Right),
    ]);
    for SideStats { name, ledger } in sides {
        let LedgerValues {
            received_packets,
            received_bytes,
            forwarded,
            delivered,
            ..
        } = ledger;
        table.row([
            name.clone(),
            short(*received_packets),
            bytes(*received_bytes),
            short(*forwarded),
            short(*delivered),
            short(ledger.slow_path),
            short(ledger.dropped),
            short(ledger.sent_packets),
            bytes(ledger.sent_bytes),
            short(ledger.refused),
        ]);
    }
    table.render(columns)
}

fn packets(sides: &[SideStats], columns: Option<usize>) -> String {
    let mut table = Table::new([
        ("UNDERLAY", Side::Left),
        ("RECEIVED", Side::Right),
        ("BYTES", Side::Right),
        ("ADMITTED", Side::Right),
        ("ANSWERED", Side::Right),
        ("PASSED", Side::Right),
        ("DROPPED", Side::Right),
        ("SENT", Side::Right),
        ("BYTES", Side::Right),
        ("REFUSED", Side::Right),
    ]);
    for SideStats { name, ledger } in sides {
        table.row([
            name.clone(),
            short(ledger.received_packets),
            bytes(ledger.received_bytes),
            short(ledger.forwarded),
            short(ledger.answered),
            short(ledger.passed),
            short(ledger.dropped),
            short(ledger.sent_packets),
            bytes(ledger.sent_bytes),
            short(ledger.refused),
        ]);
    }
    table.render(columns)
}

fn slow_path(agent: &AgentStats) -> String {
    let AgentStats {
        taken,
        flooded,
        copies,
        too_big_answered,
        carried,
        connections_refused,
        slow_path_dropped_by_reason: dropped,
        ..
    } = agent;
    let mut text = format!(
        "{} frames taken, {} of them copied to {} targets",
        exact(*taken),
        exact(*flooded),
        exact(*copies)
    );
    if *too_big_answered > 0 {
        text.push_str(&format!("; {} too big, answered", exact(*too_big_answered)));
    }
    if *carried > 0 {
        text.push_str(&format!("; {} carried over links", exact(*carried)));
    }
    let refused: Vec<String> = connections_refused
        .iter()
        .map(|(why, count)| format!("{why} {}", exact(*count)))
        .collect();
    if !refused.is_empty() {
        text.push_str(&format!("; connections refused: {}", refused.join(", ")));
    }
    let reasons: Vec<String> = dropped
        .iter()
        .map(|(reason, packets)| format!("{reason} {}", exact(*packets)))
        .collect();
    if !reasons.is_empty() {
        text.push_str("; dropped: ");
        text.push_str(&reasons.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vnet_common::reason::Reason;

    use super::*;

    #[test]
    fn all_books_fit_a_hundred_columns() {
        let ledger = LedgerValues {
            received_packets: 12_345_678,
            received_bytes: 1_234_567_890,
            forwarded: 99_999,
            delivered: 5,
            slow_path: 0,
            dropped: 3,
            sent_packets: 100_000,
            sent_bytes: 999,
            balanced: true,
            ..LedgerValues::default()
        };
        let side = |name: &str| SideStats {
            name: name.into(),
            ledger: ledger.clone(),
        };
        let stats = Stats {
            ports: vec![side("tap0"), side("tap-blue-0123456")],
            links: vec![],
            underlays: vec![SideStats {
                name: "eth0".into(),
                ledger: LedgerValues {
                    balanced: false,
                    ..ledger.clone()
                },
            }],
            agent: AgentStats {
                ledger: LedgerValues {
                    balanced: true,
                    ..LedgerValues::default()
                },
                taken: 1_234,
                flooded: 1_200,
                copies: 2_400,
                too_big_answered: 7,
                carried: 0,
                connections_refused: BTreeMap::new(),
                too_big_unanswered: 1,
                probes: 0,
                probe_replies: 0,
                slow_path_dropped_by_reason: BTreeMap::from([
                    (Reason::QueueFull, 30),
                    (Reason::NoReceiver, 4),
                ]),
            },
        };
        let expected = "\
PORT              RECEIVED    BYTES  FORWARDED  DELIVERED  SLOW PATH  DROPPED  SENT  BYTES  REFUSED
tap0                 12.3M  1.23 GB     99,999          5          0        3  100k  999 B        0
tap-blue-0123456     12.3M  1.23 GB     99,999          5          0        3  100k  999 B        0

AGENT  RECEIVED  BYTES  FORWARDED  DELIVERED  SLOW PATH  DROPPED  SENT  BYTES  REFUSED
agent         0    0 B          0          0          0        0     0    0 B        0

UNDERLAY  RECEIVED    BYTES  ADMITTED  ANSWERED  PASSED  DROPPED  SENT  BYTES  REFUSED
eth0         12.3M  1.23 GB    99,999         0       0        3  100k  999 B        0

slow path: 1,234 frames taken, 1,200 of them copied to 2,400 targets; 7 too big, answered; dropped:
           queue-full 30, no-receiver 4
! eth0: the outcomes do not add up to what was received; frames are in flight, or ask again
";
        assert_eq!(render(&stats, Some(100)), expected);
    }
}
