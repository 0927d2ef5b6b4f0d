//! Is all well on this host?

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use vnet_agent::api::{
    DoorStatus, OverlayStatus, Problem, RemoteStatus, Severity, Status, TableFill, UnderlayStatus,
};
use vnet_agent::model::counting::Counting;

use crate::client::{Client, path};
use crate::number::{bytes, counted, duration, exact};
use crate::screen::Screen;
use crate::table::{Side, Table, or_empty};
use crate::text::{paragraph, printable};

/// Networks shown: with the rest it must fit one screen.
const NETWORKS_MAX: usize = 8;
/// Doors shown.
const DOORS_MAX: usize = 6;
/// Problems shown.
const PROBLEMS_MAX: usize = 6;
/// The exit status where something that is configured does not work.
const DEGRADED: u8 = 3;

/// Asks for the status and shows it.
pub async fn run(client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    let answer = client.get(&path(&["status"], &[])).await?;
    let status: Status = answer.value()?;
    let now_unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok());
    screen.show(&answer, |status: &Status, columns| {
        render(status, now_unix_ms, columns)
    })?;
    Ok(if status.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DEGRADED)
    })
}

fn render(status: &Status, now_unix_ms: Option<u64>, columns: Option<usize>) -> String {
    let word = if status.healthy {
        "healthy"
    } else {
        "degraded"
    };
    let mut text = format!("{}: {word}\n", printable(&status.name));
    for (label, value) in lines(status, now_unix_ms) {
        text.push_str(&paragraph(&format!("  {label:<10}"), &value, columns));
    }
    if !status.networks.is_empty() {
        text.push('\n');
        text.push_str(&networks(status, columns));
    }
    if !status.doors.is_empty() {
        text.push_str("\nDOORS\n");
        text.push_str(&doors(&status.doors, columns));
    }
    if !status.problems.is_empty() {
        text.push('\n');
        text.push_str(&problems(&status.problems, columns));
    }
    text
}

/// What there is to say in a line each.
fn lines(status: &Status, now_unix_ms: Option<u64>) -> Vec<(&'static str, String)> {
    let agent = format!(
        "vnet-agent {}, pid {}, up {}, schema {}, kernel {}",
        status.version,
        status.pid,
        duration(status.uptime_s),
        status.schema,
        status.kernel
    );
    let age = match (status.last_change_unix_ms, now_unix_ms) {
        (Some(change), Some(now)) => {
            format!(
                ", changed {} ago",
                duration(now.saturating_sub(change) / 1000)
            )
        }
        _ => String::new(),
    };
    let links = match status.links.unresolved {
        0 => format!("{} up", status.links.up),
        unresolved => format!("{} up, {unresolved} unresolved", status.links.up),
    };
    let tables: Vec<String> = status
        .tables
        .iter()
        .map(
            |TableFill {
                 name,
                 entries,
                 capacity,
             }| { format!("{name} {} of {}", exact(*entries), exact(*capacity)) },
        )
        .chain([format!(
            "flows {} of {}",
            exact(status.flows.entries),
            exact(status.flows.capacity)
        )])
        .collect();
    let counting = format!(
        "redirect failures {}; {} lost",
        redirect_failures(&status.redirect_failures),
        counted(status.events_lost, "event")
    );
    let mut lines = vec![
        ("agent", agent),
        ("settings", format!("{}{age}", status.configuration_source)),
        ("underlay", underlay(status.underlay.as_ref())),
        ("ports", format!("{} forwarding", status.ports)),
        ("links", links),
        ("tables", tables.join(", ")),
        ("counting", counting),
    ];
    if let Some(overlay) = &status.overlay {
        lines.insert(2, ("overlay", self::overlay(overlay, now_unix_ms)));
    }
    if let Some(remote) = &status.remote {
        lines.push(("api", self::remote(remote)));
    }
    if let Some(memory) = status.memory_rss_bytes {
        lines.push(("memory", bytes(memory)));
    }
    lines
}

fn remote(remote: &RemoteStatus) -> String {
    let RemoteStatus {
        address,
        deaf,
        connections,
        turned_away,
    } = remote;
    let turned: Vec<String> = turned_away
        .iter()
        .map(|(why, &count)| format!("{}: {why}", exact(count)))
        .collect();
    let turned = match turned.is_empty() {
        true => String::new(),
        false => format!("; turned away {}", turned.join(", ")),
    };
    match deaf {
        Some(_) => format!("{address} over TLS: not heard{turned}"),
        None => format!(
            "{address} over TLS, {}{turned}",
            counted(u64::from(*connections), "connection")
        ),
    }
}

fn overlay(overlay: &OverlayStatus, now_unix_ms: Option<u64>) -> String {
    let ago = |since: u64| {
        let now = now_unix_ms.unwrap_or(since);
        duration(now.saturating_sub(since) / 1000)
    };
    match overlay {
        OverlayStatus::Agent {
            address,
            proxy: Some(proxy),
            since_unix_ms,
            ..
        } => format!(
            "together with the proxy {} at {} for {}",
            printable(proxy),
            printable(address),
            ago(*since_unix_ms)
        ),
        OverlayStatus::Agent {
            address,
            since_unix_ms,
            ..
        } => format!(
            "apart from the proxy at {} for {}",
            printable(address),
            ago(*since_unix_ms)
        ),
        OverlayStatus::Proxy {
            address,
            connected,
            agents,
            turned_away,
            ..
        } => format!(
            "the proxy, on {}: {connected} of {} connected, {} turned away",
            printable(address),
            counted(*agents, "agent"),
            exact(*turned_away)
        ),
    }
}

fn underlay(underlay: Option<&UnderlayStatus>) -> String {
    let Some(underlay) = underlay else {
        return "none now".into();
    };
    let addresses: Vec<String> = [
        underlay.ipv4.map(|address| address.to_string()),
        underlay.ipv6.map(|address| address.to_string()),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!(
        "{} ({}), MTU {}, UDP port {}, {}",
        underlay.device,
        if addresses.is_empty() {
            "no address".into()
        } else {
            addresses.join(", ")
        },
        underlay.mtu_bytes,
        underlay.udp_port,
        underlay.door
    )
}

fn networks(status: &Status, columns: Option<usize>) -> String {
    let mut table = Table::new([
        ("NETWORK", Side::Left),
        ("ID", Side::Right),
        ("PORTS", Side::Right),
        ("LINKS", Side::Right),
        ("RULES", Side::Right),
        ("GUEST MTU", Side::Right),
    ]);
    for network in status.networks.iter().take(NETWORKS_MAX) {
        table.row([
            network.name.clone(),
            network.id.to_string(),
            exact(network.ports),
            exact(network.links),
            exact(network.rules),
            or_empty(network.mtu_bytes),
        ]);
    }
    let mut text = table.render(columns);
    text.push_str(&and_more(status.networks.len(), NETWORKS_MAX));
    text
}

fn doors(doors: &[DoorStatus], columns: Option<usize>) -> String {
    let shown = &doors[..doors.len().min(DOORS_MAX)];
    let name = |door: &DoorStatus| printable(&door.device);
    let width = shown.iter().map(|door| name(door).chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for door in shown {
        let joins = if door.joins { ", joins frames" } else { "" };
        text.push_str(&paragraph(
            &format!("{:<width$}  ", name(door)),
            &format!("{}{joins}: {}", door.door, door.why),
            columns,
        ));
    }
    text.push_str(&and_more(doors.len(), DOORS_MAX));
    text
}

fn problems(problems: &[Problem], columns: Option<usize>) -> String {
    let mut text = format!("{}:\n", counted(problems.len() as u64, "problem"));
    for Problem {
        severity,
        subject,
        message,
        cure,
    } in problems.iter().take(PROBLEMS_MAX)
    {
        let label = match severity {
            Severity::Degraded => "  degraded  ",
            Severity::Warning => "  warning   ",
        };
        text.push_str(&paragraph(label, &format!("{subject}: {message}"), columns));
        if let Some(cure) = cure {
            text.push_str(&paragraph("            ", cure, columns));
        }
    }
    text.push_str(&and_more(problems.len(), PROBLEMS_MAX));
    text
}

fn and_more(all: usize, shown: usize) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        rest => format!("  and {rest} more (-o json has them all)\n"),
    }
}

fn redirect_failures(counting: &Counting) -> String {
    match counting {
        Counting::WhenRefused => "are counted".to_owned(),
        Counting::AtEveryBatch { why } => {
            format!("are counted at every batch, which costs every frame ({why})")
        }
        Counting::Not { .. } => "are not counted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use vnet_agent::api::{EntriesStatus, LinksSummary, NetworkStatus};
    use vnet_agent::model::door::{Door, DoorChoice};
    use vnet_common::addr::NetworkId;

    use super::*;

    fn door(device: &str, door: Door, why: &str) -> DoorStatus {
        DoorStatus {
            device: device.into(),
            wanted: DoorChoice::Auto,
            door,
            joins: false,
            why: why.into(),
        }
    }

    fn status() -> Status {
        let blue = NetworkStatus {
            name: "blue".into(),
            id: NetworkId::new(7).unwrap(),
            ports: 2,
            links: 1,
            rules: 1200,
            mtu_bytes: Some(1430),
        };
        let green = NetworkStatus {
            name: "green".into(),
            mtu_bytes: None,
            ..blue.clone()
        };
        Status {
            name: "host-one".into(),
            version: "0.1.0".into(),
            pid: 1234,
            uptime_s: 11_520,
            kernel: "6.18.0".into(),
            schema: 1,
            healthy: true,
            problems: vec![],
            underlay: Some(UnderlayStatus {
                device: "eth0".into(),
                mtu_bytes: 1500,
                ipv4: Some([10, 0, 0, 1].into()),
                ipv6: Some("fd00::1".parse().unwrap()),
                udp_port: 6081,
                door: "xdp (native)".into(),
            }),
            networks: vec![blue, green],
            ports: 4,
            doors: vec![
                door("eth0", Door::Tc, "the settings say so"),
                DoorStatus {
                    joins: true,
                    ..door("tap-blue-1", Door::Tc, "its guest has agreed on offloads")
                },
            ],
            links: LinksSummary {
                total: 3,
                up: 3,
                unresolved: 0,
            },
            tables: vec![TableFill {
                name: "rules".into(),
                entries: 1200,
                capacity: 131_072,
            }],
            flows: EntriesStatus {
                entries: 1234,
                capacity: 65_536,
            },
            events_lost: 0,
            redirect_failures: Counting::WhenRefused,
            memory_rss_bytes: Some(12_345_678),
            last_change_unix_ms: Some(1_000_000),
            configuration_source: "/etc/vnet/agent.toml".into(),
            overlay: None,
            remote: None,
        }
    }

    #[test]
    fn a_healthy_host_fits_half_a_screen() {
        let expected = "\
host-one: healthy
  agent     vnet-agent 0.1.0, pid 1234, up 3 h 12 min, schema 1, kernel 6.18.0
  settings  /etc/vnet/agent.toml, changed 5 min ago
  underlay  eth0 (10.0.0.1, fd00::1), MTU 1500, UDP port 6081, xdp (native)
  ports     4 forwarding
  links     3 up
  tables    rules 1,200 of 131,072, flows 1,234 of 65,536
  counting  redirect failures are counted; 0 events lost
  memory    12.3 MB

NETWORK  ID  PORTS  LINKS  RULES  GUEST MTU
blue      7      2      1  1,200       1430
green     7      2      1  1,200

DOORS
eth0        tc: the settings say so
tap-blue-1  tc, joins frames: its guest has agreed on offloads
";
        assert_eq!(render(&status(), Some(1_300_000), Some(80)), expected);
    }

    #[test]
    fn who_asks_from_elsewhere_has_a_line() {
        let mut status = status();
        let mut remote = RemoteStatus {
            address: "0.0.0.0:6083".into(),
            deaf: None,
            connections: 1,
            turned_away: [("no certificate".to_owned(), 1200)].into(),
        };
        status.remote = Some(remote.clone());
        let text = render(&status, None, None);
        let expected =
            "  api       0.0.0.0:6083 over TLS, 1 connection; turned away 1,200: no certificate\n";
        assert!(text.contains(expected), "{text}");
        remote.deaf = Some("taken".into());
        remote.turned_away.clear();
        status.remote = Some(remote);
        let text = render(&status, None, None);
        assert!(
            text.contains("0.0.0.0:6083 over TLS: not heard\n"),
            "{text}"
        );
    }

    #[test]
    fn a_degraded_host_says_what_is_wrong_and_what_to_do() {
        let mut status = status();
        status.healthy = false;
        status.links = LinksSummary {
            total: 3,
            up: 2,
            unresolved: 1,
        };
        status.underlay = None;
        status.networks.clear();
        status.doors.clear();
        status.redirect_failures = Counting::Not { why: None };
        status.problems = vec![
            Problem {
                severity: Severity::Degraded,
                subject: "link to-two".into(),
                message: "the neighbour 10.0.0.2 does not answer on eth0, so nothing can be sent"
                    .into(),
                cure: Some("is the host up? ping 10.0.0.2".into()),
            },
            Problem {
                severity: Severity::Warning,
                subject: "settings".into(),
                message: "others may read the cookies".into(),
                cure: None,
            },
        ];
        let text = render(&status, None, Some(80));
        let expected = "
2 problems:
  degraded  link to-two: the neighbour 10.0.0.2 does not answer on eth0, so
            nothing can be sent
            is the host up? ping 10.0.0.2
  warning   settings: others may read the cookies
";
        assert!(text.ends_with(expected), "{text}");
        assert!(text.starts_with("host-one: degraded\n"), "{text}");
        assert!(text.contains("links     2 up, 1 unresolved\n"), "{text}");
        assert!(text.contains("underlay  none now\n"), "{text}");
        assert!(text.contains("redirect failures are not counted"), "{text}");
        let why = "the kernel permits no programs at its functions".to_owned();
        status.redirect_failures = Counting::AtEveryBatch { why };
        let text = render(&status, None, None);
        assert!(
            text.contains("at every batch, which costs every frame (the kernel permits"),
            "{text}"
        );
    }

    #[test]
    fn many_networks_and_problems_still_fit_a_screen() {
        let mut status = status();
        status.networks = vec![status.networks[0].clone(); 64];
        status.doors = vec![status.doors[0].clone(); 64];
        status.problems = vec![
            Problem {
                severity: Severity::Warning,
                subject: "s".into(),
                message: "m".into(),
                cure: None
            };
            100
        ];
        let text = render(&status, None, Some(80));
        assert!(text.lines().count() <= 40, "{text}");
        assert!(text.contains("and 56 more"), "{text}");
        assert!(text.contains("and 58 more"), "{text}");
        assert!(text.contains("and 94 more"), "{text}");
    }
}
