//! How are figures shown?
//!
//! To people as a table with a goal column, to machines as a JSON array of one object a figure.

use std::fmt::Write;

use crate::figure::Figure;

const HEADINGS: [&str; 5] = ["figure", "median", "least to greatest", "goal", "met"];

/// The table.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let rows: Vec<[String; 5]> = figures.iter().map(row).collect();
    let mut widths = HEADINGS.map(|heading| heading.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&HEADINGS.map(str::to_owned), &widths);
    let rule = widths.map(|width| "-".repeat(width));
    text.push_str(&line(&rule, &widths));
    for row in &rows {
        text.push_str(&line(row, &widths));
    }
    text
}

/// The JSON array, one figure a line.
#[must_use]
pub fn json(figures: &[Figure]) -> String {
    let lines: Vec<String> = figures
        .iter()
        .filter_map(|figure| serde_json::to_string(figure).ok())
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn row(figure: &Figure) -> [String; 5] {
    let [least, greatest] = figure.spread;
    let (goal, met) = match figure.goal {
        Some(goal) => (
            goal.goal.to_string(),
            if goal.met { "met" } else { "NOT MET" },
        ),
        None => (String::new(), ""),
    };
    [
        figure.title.clone(),
        format!("{} {}", number(figure.value), figure.unit),
        format!("{} to {}", number(least), number(greatest)),
        goal,
        met.to_owned(),
    ]
}

/// The figure's own column is left-aligned, numbers are not.
fn line(cells: &[String; 5], widths: &[usize; 5]) -> String {
    let [title, value, spread, goal, met] = cells;
    let [a, b, c, d, e] = *widths;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{title:<a$}  {value:>b$}  {spread:>c$}  {goal:>d$}  {met:<e$}"
    );
    format!("{}\n", text.trim_end())
}

/// Three digits that matter, and commas where there are many before the point.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => with_commas(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn with_commas(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Bound;

    #[test]
    fn numbers_show_the_digits_that_matter() {
        let shown = [
            512_345.6, 999_999.9, 1000.0, 123.4, 12.34, 3.456, 0.0, -1234.0,
        ]
        .map(number);
        assert_eq!(
            shown,
            [
                "512,346",
                "1,000,000",
                "1,000",
                "123",
                "12.3",
                "3.46",
                "0.00",
                "-1,234"
            ]
        );
    }

    #[test]
    fn columns_line_up_and_goals_are_judged() {
        let figure = |title, value| Figure::new("f", title, "x", &[value]).unwrap();
        let figures = [
            figure("short", 3.5).with_goal(Bound::AtLeast(3.0)),
            figure("a longer title", 2000.0),
        ];
        let table = table(&figures);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[2],
            "short            3.50 x       3.50 to 3.50  >= 3  met"
        );
        assert_eq!(lines[3], "a longer title  2,000 x     2,000 to 2,000");
    }

    #[test]
    fn json_is_an_array_with_one_object_a_figure() {
        let figures = [Figure::new("f", "F", "x", &[1.0]).unwrap()];
        let parsed: serde_json::Value = serde_json::from_str(&json(&figures)).unwrap();
        assert_eq!(parsed[0]["name"], "f");
        assert_eq!(json(&[]).trim_end(), "[\n\n]");
    }
}
