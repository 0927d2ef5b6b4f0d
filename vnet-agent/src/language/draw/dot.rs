//! How does Graphviz hear of an overlay?

use super::{label, vms_of};
use crate::model::topology::{Flooding, Host, LinkKind, Role, Topology};

/// A graph for `dot -Tsvg` and its like.
pub fn dot(topology: &Topology) -> String {
    let mut text = String::from("graph vnet {\n  node [shape=box, fontname=\"sans-serif\"];\n");
    text.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for host in &topology.hosts {
        let style = match host.role {
            Role::Proxy => ", style=bold",
            Role::Agent => "",
            Role::Foreign => ", style=dashed",
        };
        let (name, inside) = (quoted(&host.name), quoted(&lines(topology, host)));
        line(&mut text, format_args!("{name} [label={inside}{style}];"));
    }
    for link in &topology.links {
        let style = match link.kind {
            LinkKind::Udp | LinkKind::Tls => "solid",
            LinkKind::Tcp => "dashed",
            LinkKind::Plain => "dotted",
        };
        let width = match link.flood {
            Flooding::Always => 2,
            Flooding::FromPorts | Flooding::Never => 1,
        };
        let (from, to) = (quoted(&link.from), quoted(&link.to));
        let label = quoted(&label(topology, link));
        line(
            &mut text,
            format_args!("{from} -- {to} [label={label}, style={style}, penwidth={width}];"),
        );
    }
    text.push_str("}\n");
    text
}

fn lines(topology: &Topology, host: &Host) -> String {
    let mut lines = vec![host.name.clone()];
    for vm in vms_of(topology, &host.name) {
        lines.push(format!("{} {}", vm.name, vm.mac));
    }
    lines.join("\n")
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    text.push_str("  ");
    text.push_str(&content.to_string());
    text.push('\n');
}

/// A text as Graphviz reads it.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}
