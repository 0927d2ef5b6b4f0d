//! How is a chart drawn?
//!
//! Horizontal bars from zero, the median in figures behind each, and a whisker from the least to
//! the greatest sample. One SVG without anything from elsewhere; it follows the reader's choice of
//! a light or a dark page.

use std::fmt::{self, Display, Write};

use crate::report::number;

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Of all values.
    pub unit: &'static str,
    /// Bars that belong together.
    pub groups: Vec<Group>,
}

/// Bars that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Above them.
    pub title: String,
    /// In this order, from above.
    pub bars: Vec<Bar>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Beside it.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// From where to where the whisker goes.
    pub spread: [f64; 2],
    /// How it looks.
    pub kind: Kind,
}

/// Whose value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This data plane's.
    Ours,
    /// Another one's.
    Peer,
    /// Nobody's: what there is at most.
    Limit,
}

impl Kind {
    const fn class(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer => "peer",
            Self::Limit => "limit",
        }
    }
}

const WIDTH: f64 = 820.0;
/// Where bars begin, and how long the longest may be.
const LEFT: f64 = 270.0;
const LENGTH: f64 = 430.0;
const MARGIN: f64 = 16.0;
const TITLE_HEIGHT: f64 = 40.0;
const GROUP_HEIGHT: f64 = 30.0;
const BAR_HEIGHT: f64 = 24.0;
const BAR_THICKNESS: f64 = 14.0;
const AXIS_HEIGHT: f64 = 40.0;
/// Half of what ends a whisker.
const CAP: f64 = 4.0;
/// About so many steps on the axis.
const STEPS: f64 = 5.0;

const STYLE: &str = "\
.page{fill:#fff}text{fill:#1f2328;font:13px system-ui,sans-serif}\
.title{font-size:16px;font-weight:600}.group{font-weight:600}.step{fill:#59636e;font-size:12px}\
.grid{stroke:#d1d9e0}.ours{fill:#2f7de1}.peer{fill:#8f99a5}.limit{fill:#c9d1d9}\
.whisker{stroke:#1f2328;stroke-width:1.5;fill:none}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}.step{fill:#9198a1}\
.grid{stroke:#30363d}.ours{fill:#4493f8}.peer{fill:#7d8590}.limit{fill:#484f58}\
.whisker{stroke:#e6edf3}}";

/// The chart as the text of an SVG file.
#[must_use]
pub fn draw(chart: &Chart) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(chart, &mut text);
    text
}

fn write(chart: &Chart, out: &mut String) -> fmt::Result {
    let groups = chart.groups.iter();
    let content: f64 = groups
        .map(|group| GROUP_HEIGHT + BAR_HEIGHT * group.bars.len() as f64)
        .sum();
    let height = TITLE_HEIGHT + content + AXIS_HEIGHT;
    let axis = Axis::of(chart);
    let title = Escaped(&chart.title);
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">
<title>{title}</title>
<style>{STYLE}</style>
<rect class="page" width="{WIDTH}" height="{height}"/>
<text class="title" x="{MARGIN}" y="26">{title}, {}</text>"#,
        Escaped(chart.unit)
    )?;
    axis.write(out, TITLE_HEIGHT, TITLE_HEIGHT + content)?;
    let mut y = TITLE_HEIGHT;
    for group in &chart.groups {
        let base = y + GROUP_HEIGHT - 9.0;
        let title = Escaped(&group.title);
        writeln!(
            out,
            r#"<text class="group" x="{MARGIN}" y="{base}">{title}</text>"#
        )?;
        y += GROUP_HEIGHT;
        for bar in &group.bars {
            write_bar(bar, &axis, out, y)?;
            y += BAR_HEIGHT;
        }
    }
    writeln!(out, "</svg>")
}

fn write_bar(bar: &Bar, axis: &Axis, out: &mut String, top: f64) -> fmt::Result {
    let middle = top + BAR_HEIGHT / 2.0;
    let (upper, base) = (middle - BAR_THICKNESS / 2.0, middle + 4.5);
    let length = axis.length(bar.value);
    let [least, greatest] = bar.spread.map(|value| LEFT + axis.length(value));
    let (high, low) = (middle - CAP, middle + CAP);
    let after = greatest.max(LEFT + length) + 8.0;
    writeln!(
        out,
        r#"<text x="{:.1}" y="{base:.1}" text-anchor="end">{}</text>
<rect class="{}" x="{LEFT}" y="{upper:.1}" width="{length:.1}" height="{BAR_THICKNESS}"/>
<path class="whisker" d="M{least:.1} {high:.1}V{low:.1}M{least:.1} {middle:.1}H{greatest:.1}M{greatest:.1} {high:.1}V{low:.1}"/>
<text x="{after:.1}" y="{base:.1}">{}</text>"#,
        LEFT - 8.0,
        Escaped(&bar.label),
        bar.kind.class(),
        number(bar.value),
    )
}

/// From zero to the greatest value.
struct Axis {
    greatest: f64,
}

impl Axis {
    fn of(chart: &Chart) -> Self {
        let bars = chart.groups.iter().flat_map(|group| &group.bars);
        let ends = bars.flat_map(|bar| [bar.value, bar.spread[1]]);
        let greatest = ends
            .filter(|value| value.is_finite())
            .fold(f64::MIN_POSITIVE, f64::max);
        Self { greatest }
    }

    /// How long a bar is; nothing is drawn of what is below zero or is no number.
    fn length(&self, value: f64) -> f64 {
        let length = value / self.greatest * LENGTH;
        if length.is_nan() {
            return 0.0;
        }
        length.clamp(0.0, LENGTH)
    }

    /// One, two or five, or that with zeroes: what people count in.
    fn step(&self) -> f64 {
        let rough = self.greatest / STEPS;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let fits = steps.into_iter().find(|step| *step >= rough);
        fits.unwrap_or(self.greatest)
    }

    fn write(&self, out: &mut String, top: f64, bottom: f64) -> fmt::Result {
        let step = self.step();
        let base = bottom + 20.0;
        let steps = (self.greatest / step).floor() as u32;
        for place in 0..=steps {
            let value = step * f64::from(place);
            let x = LEFT + self.length(value);
            let label = match value {
                0.0 => "0".to_owned(),
                value => tick(value, step),
            };
            writeln!(
                out,
                r#"<path class="grid" d="M{x:.1} {top}V{bottom}"/>
<text class="step" x="{x:.1}" y="{base:.1}" text-anchor="middle">{label}</text>"#
            )?;
        }
        Ok(())
    }
}

/// A value on the axis, with no more digits than its steps have.
fn tick(value: f64, step: f64) -> String {
    if step >= 1.0 {
        number(value.round())
            .trim_end_matches(".00")
            .trim_end_matches(".0")
            .to_owned()
    } else {
        let digits = (-step.log10().floor()).max(0.0) as usize;
        format!("{value:.digits$}")
    }
}

/// Text as it may stand in XML.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64]) -> Chart {
        let bar = |&value: &f64| Bar {
            label: "a < b".to_owned(),
            value,
            spread: [value / 2.0, value],
            kind: Kind::Ours,
        };
        Chart {
            title: "Speed & \"more\"".to_owned(),
            unit: "s",
            groups: vec![Group {
                title: "all".to_owned(),
                bars: values.iter().map(bar).collect(),
            }],
        }
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let text = draw(&chart(&[50.0, 100.0]));
        assert!(text.contains(r#"width="215.0""#), "{text}");
        assert!(text.contains(r#"width="430.0""#), "{text}");
    }

    #[test]
    fn whiskers_go_from_the_least_to_the_greatest() {
        let text = draw(&chart(&[100.0]));
        assert!(text.contains("M485.0 82.0H700.0"), "{text}");
    }

    #[test]
    fn text_is_escaped() {
        let text = draw(&chart(&[1.0]));
        assert!(text.contains("a &lt; b"));
        assert!(text.contains("Speed &amp; &quot;more&quot;"));
    }

    #[test]
    fn what_cannot_be_drawn_is_left_empty() {
        let text = draw(&chart(&[f64::NAN, -1.0, 2.0, f64::INFINITY]));
        assert!(!text.contains("NaN\""), "{text}");
        assert!(!text.contains("inf\""), "{text}");
        assert!(text.contains(r#"width="0.0""#));
        assert!(draw(&chart(&[])).ends_with("</svg>\n"));
    }

    #[test]
    fn steps_are_round() {
        let step = |greatest| Axis { greatest }.step();
        assert_eq!([7.3, 99.0, 620_000.0].map(step), [2.0, 20.0, 200_000.0]);
        assert_eq!(tick(200_000.0, 100_000.0), "200,000");
        assert_eq!(tick(15.0, 5.0), "15");
        assert_eq!(tick(0.4, 0.2), "0.4");
    }
}
