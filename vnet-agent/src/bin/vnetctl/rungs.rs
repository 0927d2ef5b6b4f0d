//! Which rung is each link on, why, and since when?

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use vnet_agent::api::{LinkState, LinkStatus};

use crate::client::{Client, path};
use crate::number::duration;
use crate::screen::Screen;
use crate::table::{Side, Table};

/// Asks for the links and shows where they are on the ladder.
pub async fn run(client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    let answer = client.get(&path(&["links"], &[])).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_unix_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    screen.show(&answer, |links: &Vec<LinkStatus>, columns| {
        render(links, now_unix_ms, columns)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn render(links: &[LinkStatus], now_unix_ms: u64, columns: Option<usize>) -> String {
    // A rung is told of with the link that it is one of.
    let wholes = links.iter().filter(|link| link.rung_of.is_none());
    let mut table = Table::new([
        ("LINK", Side::Left),
        ("REMOTE", Side::Left),
        ("STATE", Side::Left),
        ("RUNG", Side::Left),
        ("FOR", Side::Right),
        ("WHY", Side::Left),
    ]);
    let mut is_empty = true;
    for link in wholes {
        is_empty = false;
        let since = link.rung.since_unix_ms;
        let age_s = since.map(|since| now_unix_ms.saturating_sub(since) / 1000);
        table.row([
            link.name.clone(),
            link.remote.to_string(),
            link.state.to_string(),
            link.rung.kind.to_string(),
            age_s.map(duration).unwrap_or_default(),
            why(link),
        ]);
    }
    match is_empty {
        true => "No links.\n".to_owned(),
        false => table.render(columns),
    }
}

/// Why it is on this rung, and where its frames go if on none of its own.
fn why(link: &LinkStatus) -> String {
    match (link.state, &link.instead) {
        (LinkState::FallenBack, Some(other)) => format!("{}: by {other}", link.rung.why),
        _ => link.rung.why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use vnet_agent::api::LinkRung;
    use vnet_agent::model::{Flooding, Transport};

    use super::*;

    #[test]
    fn a_link_is_on_one_rung_and_says_why() {
        let whole = LinkStatus {
            name: "to-proxy".into(),
            id: 0,
            remote: "10.0.0.1".parse().unwrap(),
            networks: vec!["blue".into()],
            kind: Transport::Udp,
            plain: false,
            flood: Flooding::FromPorts,
            state: LinkState::Up,
            note: None,
            device: None,
            next_hop_mac: None,
            source: None,
            fallback: Some("tls-to-proxy".into()),
            instead: Some("tls-to-proxy".into()),
            rung_of: None,
            rung: LinkRung {
                kind: Transport::Tls,
                why: "its other end does not answer over udp".into(),
                since_unix_ms: Some(1_000_000),
            },
            since_unix_ms: Some(1_000_000),
            guest_mtu_bytes: None,
            mtu: None,
            sent_packets: 0,
            sent_bytes: 0,
            received_packets: 0,
            received_bytes: 0,
            connection: None,
        };
        let rung = LinkStatus {
            name: "tls-to-proxy".into(),
            kind: Transport::Tls,
            rung_of: Some("to-proxy".into()),
            ..whole.clone()
        };
        let fallen = LinkStatus {
            name: "to-two".into(),
            state: LinkState::FallenBack,
            instead: Some("to-proxy".into()),
            rung: LinkRung {
                kind: Transport::Udp,
                ..whole.rung.clone()
            },
            ..whole.clone()
        };
        let expected = "\
LINK      REMOTE    STATE        RUNG    FOR  WHY
to-proxy  10.0.0.1  up           tls   5 min  its other end does not answer over udp
to-two    10.0.0.1  fallen-back  udp   5 min  its other end does not answer over udp: by to-proxy
";
        let shown = render(&[whole, rung, fallen], 1_300_000, Some(120));
        assert_eq!(shown, expected);
        assert_eq!(render(&[], 0, None), "No links.\n");
    }
}
