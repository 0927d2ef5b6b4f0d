//! How are figures shown?
//!
//! To people as a table of all and a table of goals, to machines as a JSON array of one
//! object a figure; and all of it, with plots, is kept in a directory.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::figure::Figure;
use crate::{chart, svg};

const FIGURES: [&str; 3] = ["figure", "median", "least to greatest"];
const GOALS: [&str; 5] = ["figure", "measured", "goal", "", "[documents]"];

/// Every figure, and then the goals.
#[must_use]
pub fn tables(figures: &[Figure]) -> String {
    let goals: Vec<_> = figures.iter().filter_map(goal_row).collect();
    let mut text = table(FIGURES, figures.iter().map(row).collect());
    if !goals.is_empty() {
        text.push('\n');
        text.push_str(&table(GOALS, goals));
    }
    text
}

fn table<const N: usize>(headings: [&str; N], mut rows: Vec<[String; N]>) -> String {
    rows.insert(0, headings.map(str::to_owned));
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.insert(1, widths.map(|width| "-".repeat(width)));
    rows.iter().map(|row| line(row, &widths)).collect()
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

/// Puts the figures and the plots of them into this directory, in place of those of an earlier
/// run, and says where each is.
///
/// # Errors
///
/// The directory or a file cannot be written.
pub fn keep(figures: &[Figure], directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    for file in chart::files() {
        match fs::remove_file(directory.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut files = vec![("figures.json", json(figures))];
    files.extend(
        chart::all(figures)
            .iter()
            .map(|(file, chart)| (*file, svg::draw(chart))),
    );
    let keep = |(file, text): (&str, String)| {
        let path = directory.join(file);
        fs::write(&path, text)?;
        Ok(path)
    };
    files.into_iter().map(keep).collect()
}

fn row(figure: &Figure) -> [String; 3] {
    let [least, greatest] = figure.spread;
    [
        figure.title.clone(),
        format!("{} {}", number(figure.value), figure.unit),
        format!("{} to {}", number(least), number(greatest)),
    ]
}

fn goal_row(figure: &Figure) -> Option<[String; 5]> {
    let goal = figure.goal?;
    let documents = figure
        .documents
        .map(|value| format!("[{} {}]", number(value), figure.unit));
    Some([
        figure.title.clone(),
        format!("{} {}", number(figure.value), figure.unit),
        goal.goal.to_string(),
        if goal.met { "met" } else { "MISSED" }.to_owned(),
        documents.unwrap_or_default(),
    ])
}

/// The first column is left-aligned, numbers are not.
fn line<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // Writing to a string cannot fail.
        let _ = match column {
            0 => write!(text, "{cell:<width$}"),
            _ => write!(text, "  {cell:>width$}"),
        };
    }
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
    fn columns_line_up_and_the_goals_come_last() {
        let figure = |title, value| Figure::new("f", title, "x", &[value]).unwrap();
        let figures = [
            figure("short", 3.5)
                .with_goal(Bound::AtLeast(3.0))
                .with_documents(20.0),
            figure("a longer title", 2000.0),
            figure("another", 2.0).with_goal(Bound::AtMost(0.5)),
        ];
        let tables = tables(&figures);
        let lines: Vec<&str> = tables.lines().collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[2], "short            3.50 x       3.50 to 3.50");
        assert_eq!(lines[3], "a longer title  2,000 x     2,000 to 2,000");
        assert_eq!(lines[5], "");
        assert_eq!(lines[8], "short      3.50 x    >= 3     met     [20.0 x]");
        assert_eq!(lines[9], "another    2.00 x  <= 0.5  MISSED");
    }

    #[test]
    fn json_is_an_array_with_one_object_a_figure() {
        let figures = [Figure::new("f", "F", "x", &[1.0]).unwrap()];
        let parsed: serde_json::Value = serde_json::from_str(&json(&figures)).unwrap();
        assert_eq!(parsed[0]["name"], "f");
        assert_eq!(json(&[]).trim_end(), "[\n\n]");
    }
}
