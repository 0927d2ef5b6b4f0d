//! Which figures are drawn, and together with which?
//!
//! By the names of the figures, one file a chart. A chart without figures is not drawn.

use crate::figure::Figure;
use crate::path::Path;
use crate::report::number;
use crate::svg::{Bar, Chart, Group, Kind};

/// A chart that there may be: the groups are those figures whose names begin so.
struct Kept {
    file: &'static str,
    title: &'static str,
    groups: &'static [(&'static str, &'static str)],
}

const CHARTS: [Kept; 8] = [
    Kept {
        file: "frames.svg",
        title: "Frames from tap to tap",
        groups: &[
            ("frames_per_second.64.", "64 bytes"),
            ("frames_per_second.512.", "512 bytes"),
            ("frames_per_second.1400.", "1,400 bytes"),
        ],
    },
    Kept {
        file: "tcp-offloads-on.svg",
        title: "TCP, the underlay's offloads on",
        groups: &[
            ("tcp_gigabits_per_second.1.on.", "one stream"),
            ("tcp_gigabits_per_second.8.on.", "eight streams"),
        ],
    },
    Kept {
        file: "tcp-offloads-off.svg",
        title: "TCP, the underlay as a wire",
        groups: &[
            ("tcp_gigabits_per_second.1.off.", "one stream"),
            ("tcp_gigabits_per_second.8.off.", "eight streams"),
        ],
    },
    Kept {
        file: "cpu-offloads-on.svg",
        title: "CPU time of TCP, the underlay's offloads on",
        groups: &[
            ("cpu_seconds_per_gigabyte.1.on.", "one stream"),
            ("cpu_seconds_per_gigabyte.8.on.", "eight streams"),
        ],
    },
    Kept {
        file: "cpu-offloads-off.svg",
        title: "CPU time of TCP, the underlay as a wire",
        groups: &[
            ("cpu_seconds_per_gigabyte.1.off.", "one stream"),
            ("cpu_seconds_per_gigabyte.8.off.", "eight streams"),
        ],
    },
    Kept {
        file: "round-trips.svg",
        title: "A small packet there and back",
        groups: &[("round_trip_us.median.", "median")],
    },
    Kept {
        file: "long-round-trips.svg",
        title: "A small packet there and back",
        groups: &[("round_trip_us.p99.", "99 of 100 within")],
    },
    Kept {
        file: "rules.svg",
        title: "What a frame costs in the port program",
        groups: &[
            ("port_program_ns.known_flow.", "a flow that is known"),
            (
                "port_program_ns.new_flow.",
                "first frame of a flow, the same rule",
            ),
            (
                "port_program_ns.new_flow_any_rule.",
                "first frame of a flow, any rule",
            ),
        ],
    },
];

/// The names of all files that there may be.
pub fn files() -> impl Iterator<Item = &'static str> {
    CHARTS.iter().map(|kept| kept.file)
}

/// The charts of these figures, each with the name of its file.
#[must_use]
pub fn all(figures: &[Figure]) -> Vec<(&'static str, Chart)> {
    let charts = CHARTS.iter().filter_map(|kept| {
        let groups: Vec<(Group, &'static str)> = kept
            .groups
            .iter()
            .filter_map(|(prefix, title)| group(figures, prefix, title))
            .collect();
        let (_, unit) = groups.first()?;
        let chart = Chart {
            title: kept.title.to_owned(),
            unit,
            groups: groups.iter().map(|(group, _)| group.clone()).collect(),
        };
        Some((kept.file, chart))
    });
    charts.collect()
}

fn group(figures: &[Figure], prefix: &str, title: &str) -> Option<(Group, &'static str)> {
    let members = || {
        figures
            .iter()
            .filter(|figure| figure.name.starts_with(prefix))
    };
    let unit = members().next()?.unit;
    let group = Group {
        title: title.to_owned(),
        bars: members().map(bar).collect(),
    };
    Some((group, unit))
}

fn bar(figure: &Figure) -> Bar {
    let name = figure.about.get("path").and_then(|value| value.as_str());
    let path = Path::ALL.into_iter().find(|path| Some(path.name()) == name);
    let rules = figure
        .about
        .get("rules")
        .and_then(serde_json::Value::as_f64);
    let label = match (path, rules) {
        (Some(path), _) => path.title().to_owned(),
        (None, Some(rules)) if rules < 1000.0 => format!("{rules} rules"),
        (None, Some(rules)) => format!("{} rules", number(rules)),
        (None, None) => figure.title.clone(),
    };
    let kind = match path {
        Some(Path::Direct | Path::Redirect | Path::RedirectTc) => Kind::Limit,
        Some(path) if !path.is_ours() => Kind::Peer,
        _ => Kind::Ours,
    };
    Bar {
        label,
        value: figure.value,
        spread: figure.spread,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_kind_are_drawn_together() {
        let figure = |name: &str, path: &str| {
            let figure = Figure::new(name, "F", "frames/s", &[1.0, 2.0, 4.0]).unwrap();
            figure.about("path", path)
        };
        let figures = [
            figure("frames_per_second.64.ovs", "ovs"),
            figure("frames_per_second.64.vnet_xdp", "vnet_xdp"),
            figure("lost_percent.64.vnet_xdp", "vnet_xdp"),
            figure("frames_per_second.1400.redirect", "redirect"),
        ];
        let charts = all(&figures);
        let [(file, chart)] = charts.as_slice() else {
            panic!("{charts:?}");
        };
        assert_eq!((*file, chart.unit), ("frames.svg", "frames/s"));
        let [short, long] = chart.groups.as_slice() else {
            panic!("{chart:?}");
        };
        let kinds: Vec<_> = short.bars.iter().map(|bar| bar.kind).collect();
        assert_eq!(kinds, [Kind::Peer, Kind::Ours]);
        let [limit] = long.bars.as_slice() else {
            panic!("{long:?}");
        };
        assert_eq!(
            (limit.kind, limit.value, limit.spread),
            (Kind::Limit, 2.0, [1.0, 4.0])
        );
        assert!(all(&[]).is_empty());
    }

    #[test]
    fn programs_are_drawn_by_their_number_of_rules() {
        let cost = |rules: u32| {
            let name = format!("port_program_ns.known_flow.{rules}");
            Figure::new(name, "F", "ns", &[1.0])
                .unwrap()
                .about("rules", rules)
        };
        let charts = all(&[cost(10), cost(100_000)]);
        let labels: Vec<_> = charts[0].1.groups[0]
            .bars
            .iter()
            .map(|bar| bar.label.as_str())
            .collect();
        assert_eq!(labels, ["10 rules", "100,000 rules"]);
    }
}
