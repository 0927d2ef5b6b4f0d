//! How is an overlay drawn?
//!
//! Hosts are boxes with their VMs inside, on a circle, in an order that has neighbours side by side;
//! the proxy is in the middle. Links are lines from box to box, below the boxes.

use std::collections::BTreeSet;

use super::{label, vms_of};
use crate::model::topology::{Flooding, Host, Link, LinkKind, Role, Topology};

const BOX_WIDTH: f64 = 220.0;
const TITLE_HEIGHT: f64 = 34.0;
const LINE_HEIGHT: f64 = 18.0;
/// Between boxes that stand side by side on the circle.
const GAP: f64 = 60.0;
const MARGIN: f64 = 30.0;
/// With fewer hosts the circle does not get smaller.
const RADIUS_MIN: f64 = 230.0;
const LEGEND_HEIGHT: f64 = 30.0;

/// Where a host's box is: its middle, and its height.
struct Place<'t> {
    host: &'t Host,
    x: f64,
    y: f64,
    height: f64,
}

/// The overlay as an SVG document.
pub fn svg(topology: &Topology) -> String {
    let places = places(topology);
    let edge = |along: fn(&Place<'_>) -> f64| places.iter().map(along).fold(0.0, f64::max);
    let width = edge(|place| place.x + BOX_WIDTH / 2.0) + MARGIN;
    let height = edge(|place| place.y + place.height / 2.0) + MARGIN + LEGEND_HEIGHT;
    let mut drawing = Drawing::default();
    drawing.put(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="sans-serif" font-size="13">"#
    ));
    drawing.put(format_args!(
        r#"<rect width="100%" height="100%" fill="white"/>"#
    ));
    for link in &topology.links {
        drawing.link(topology, &places, link);
    }
    for place in &places {
        drawing.host(topology, place);
    }
    drawing.legend(topology, height - LEGEND_HEIGHT / 2.0);
    drawing.put(format_args!("</svg>"));
    drawing.text
}

/// The hosts around the proxy, each where a walk along the links comes to it.
fn places(topology: &Topology) -> Vec<Place<'_>> {
    let middle = topology.proxy().filter(|_| topology.hosts.len() > 2);
    let around = walk(topology, middle);
    let heights = |host: &Host| {
        let vms = u32::try_from(vms_of(topology, &host.name).len()).unwrap_or(u32::MAX);
        TITLE_HEIGHT + LINE_HEIGHT * f64::from(vms)
    };
    let highest = topology.hosts.iter().map(heights).fold(0.0, f64::max);
    let count = f64::from(u32::try_from(around.len().max(1)).unwrap_or(u32::MAX));
    let side = BOX_WIDTH.max(highest) + GAP;
    let radius = (count * side / std::f64::consts::TAU)
        .max(RADIUS_MIN)
        .max(if middle.is_some() { side } else { 0.0 });
    let centre_x = radius + BOX_WIDTH / 2.0 + MARGIN;
    let centre_y = radius + highest / 2.0 + MARGIN;
    let mut places = Vec::new();
    for (host, number) in around.into_iter().zip(0_u32..) {
        // Two stand side by side; more begin at the top.
        let start = if count < 3.0 { 0.5 } else { 0.25 };
        let turn = (f64::from(number) / count - start) * std::f64::consts::TAU;
        places.push(Place {
            host,
            x: centre_x + radius * turn.cos(),
            y: centre_y + radius * turn.sin(),
            height: heights(host),
        });
    }
    places.extend(middle.map(|host| Place {
        host,
        x: centre_x,
        y: centre_y,
        height: heights(host),
    }));
    let top = places.iter().map(|p| p.y - p.height / 2.0);
    let shift = top.fold(f64::INFINITY, f64::min) - MARGIN;
    for place in &mut places {
        place.y -= shift;
    }
    places
}

/// All hosts but the one in the middle: from each to a neighbour, as long as there is a new one.
fn walk<'t>(topology: &'t Topology, middle: Option<&Host>) -> Vec<&'t Host> {
    let mut order: Vec<&Host> = Vec::new();
    let mut seen: BTreeSet<&str> = middle.iter().map(|host| host.name.as_str()).collect();
    for host in &topology.hosts {
        let mut next = Some(host);
        while let Some(host) = next.filter(|host| seen.insert(&host.name)) {
            order.push(host);
            let mut others = topology.links.iter().filter_map(|l| l.other(&host.name));
            let new = others.find(|other| !seen.contains(other));
            next = new.and_then(|other| topology.host(other));
        }
    }
    order
}

#[derive(Default)]
struct Drawing {
    text: String,
}

impl Drawing {
    fn put(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }

    fn link(&mut self, topology: &Topology, places: &[Place<'_>], link: &Link) {
        let end = |name: &str| places.iter().find(|place| place.host.name == name);
        let (Some(from), Some(to)) = (end(&link.from), end(&link.to)) else {
            return;
        };
        let (x, y) = (f64::midpoint(from.x, to.x), f64::midpoint(from.y, to.y));
        let style = line_style(link.kind, link.flood);
        self.put(format_args!(
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" {style}><title>{}</title></line>"#,
            from.x,
            from.y,
            to.x,
            to.y,
            escaped(&link.to_string()),
        ));
        let label = label(topology, link);
        if !label.is_empty() {
            self.put(format_args!(
                r#"<text x="{x:.1}" y="{y:.1}" font-size="11" text-anchor="middle" fill="{INK}" stroke="white" stroke-width="4" paint-order="stroke">{}</text>"#,
                escaped(&label),
            ));
        }
    }

    fn host(&mut self, topology: &Topology, place: &Place<'_>) {
        let Place { host, x, y, height } = place;
        let (left, top) = (x - BOX_WIDTH / 2.0, y - height / 2.0);
        let (fill, dashes) = match host.role {
            Role::Proxy => ("#fde9c8", ""),
            Role::Agent => ("#eaf1fb", ""),
            Role::Foreign => ("#f3f3f3", r#" stroke-dasharray="5 3""#),
        };
        self.put(format_args!(
            r#"<rect x="{left:.1}" y="{top:.1}" width="{BOX_WIDTH}" height="{height:.1}" rx="6" fill="{fill}" stroke="{INK}"{dashes}/>"#
        ));
        let role = match host.role {
            Role::Agent => String::new(),
            role => format!(" ({role})"),
        };
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle" fill="{INK}"><tspan font-weight="bold">{}</tspan>{role}</text>"#,
            top + 22.0,
            escaped(&short(&host.name)),
        ));
        let mut baseline = top + TITLE_HEIGHT + 8.0;
        for vm in vms_of(topology, &host.name) {
            self.put(format_args!(
                r#"<text x="{:.1}" y="{baseline:.1}" font-size="11" fill="{INK}">{} <tspan fill="{FAINT}">{}</tspan></text>"#,
                left + 12.0,
                escaped(&short(&vm.name)),
                vm.mac,
            ));
            baseline += LINE_HEIGHT;
        }
    }

    fn legend(&mut self, topology: &Topology, y: f64) {
        let mut x = MARGIN;
        let kinds: BTreeSet<LinkKind> = topology.links.iter().map(|link| link.kind).collect();
        let floods = topology.links.iter().any(|l| l.flood == Flooding::Always);
        let entry = |kind: LinkKind| (line_style(kind, Flooding::Never), kind.word());
        let mut entries: Vec<(String, &str)> = kinds.into_iter().map(entry).collect();
        if floods {
            let thick = line_style(LinkKind::Udp, Flooding::Always);
            entries.push((thick, "takes frames for everybody"));
        }
        for (style, word) in entries {
            self.put(format_args!(
                r#"<line x1="{x:.1}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" {style}/>"#,
                x + 34.0
            ));
            self.put(format_args!(
                r#"<text x="{:.1}" y="{:.1}" font-size="11" fill="{INK}">{word}</text>"#,
                x + 42.0,
                y + 4.0,
            ));
            x += 100.0;
        }
    }
}

const INK: &str = "#1f2937";
const FAINT: &str = "#6b7280";

fn line_style(kind: LinkKind, flood: Flooding) -> String {
    let (colour, dashes) = match kind {
        LinkKind::Udp => ("#2563eb", ""),
        LinkKind::Tcp => ("#b45309", r#" stroke-dasharray="8 4""#),
        LinkKind::Tls => ("#15803d", ""),
        LinkKind::Plain => ("#6b7280", r#" stroke-dasharray="2 4""#),
    };
    let width = match flood {
        Flooding::Always => "3",
        Flooding::FromPorts | Flooding::Never => "1.5",
    };
    format!(r#"stroke="{colour}" stroke-width="{width}"{dashes}"#)
}

/// How many characters of a name fit into a box, beside an address.
const NAME_CHARS: usize = 14;

fn short(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS {
        return name.to_owned();
    }
    let kept = name.chars().take(NAME_CHARS.saturating_sub(1));
    kept.chain(std::iter::once('…')).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
