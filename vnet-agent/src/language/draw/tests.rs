use proptest::prelude::*;

use super::{dot, svg};
use crate::model::topology::sample::{some_topology, three};

#[test]
fn graphviz_hears_of_every_host_and_link() {
    let text = dot(&three());
    for line in [
        r#"  "proxy" [label="proxy", style=bold];"#,
        r#"  "one" [label="one\nvm1 52:54:00:00:00:01"];"#,
        r#"  "far" [label="far", style=dashed];"#,
        r#"  "one" -- "two" [label="blue", style=solid, penwidth=1];"#,
        r#"  "far" -- "proxy" [label="plain: blue", style=dotted, penwidth=1];"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

/// What stands between a mark and the next quote, for every such mark.
fn values(text: &str, mark: &str) -> Vec<f64> {
    let found = text.split(mark).skip(1);
    let found = found.filter_map(|rest| rest.split('"').next()?.parse().ok());
    found.collect()
}

proptest! {
    #[test]
    fn everything_is_on_the_picture_and_no_box_covers_another(topology in some_topology()) {
        let text = svg(&topology);
        for name in topology.hosts.iter().map(|h| &h.name).chain(topology.vms.iter().map(|v| &v.name)) {
            prop_assert!(text.contains(name.as_str()), "{name}\n{text}");
        }
        let titles = text.matches("<title>").count();
        prop_assert_eq!(titles, topology.links.len());
        let boxes: Vec<&str> = text.lines().filter(|line| line.contains("rx=")).collect();
        prop_assert_eq!(boxes.len(), topology.hosts.len());
        let side = |line: &str, mark: &str| values(line, mark)[0];
        let picture = text.lines().next().unwrap();
        for (place, one) in boxes.iter().enumerate() {
            let (x, y) = (side(one, " x=\""), side(one, " y=\""));
            let (width, height) = (side(one, " width=\""), side(one, " height=\""));
            prop_assert!(x >= 0.0 && y >= 0.0, "{one}");
            prop_assert!(x + width <= side(picture, " width=\""), "{one}");
            prop_assert!(y + height <= side(picture, " height=\""), "{one}");
            for other in boxes.iter().take(place) {
                let apart = side(other, " x=\"") + side(other, " width=\"") <= x
                    || x + width <= side(other, " x=\"")
                    || side(other, " y=\"") + side(other, " height=\"") <= y
                    || y + height <= side(other, " y=\"");
                prop_assert!(apart, "{one}\n{other}");
            }
        }
    }
}
