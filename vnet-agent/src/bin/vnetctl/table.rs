//! How do rows become a table that reads well at 80 to 100 columns?

use crate::text::{lines, printable};

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings. Columns without any content are left out; the last one, if it is text, is
/// broken into lines where the terminal ends.
pub struct Table<const N: usize> {
    columns: [(&'static str, Side); N],
    rows: Vec<[String; N]>,
}

const GAP: &str = "  ";
/// Narrower than this, the last column is not broken: it would be one word a line.
const LAST_COLUMNS_MIN: usize = 20;

impl<const N: usize> Table<N> {
    /// A table with these headings.
    pub const fn new(columns: [(&'static str, Side); N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// One more row.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell)));
    }

    /// Whether there is no row.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, a line end after every line.
    pub fn render(&self, columns: Option<usize>) -> String {
        let shown: Vec<usize> = (0..N)
            .filter(|&n| self.rows.iter().any(|row| !row[n].is_empty()))
            .collect();
        let width = |n: usize| {
            let cells = self.rows.iter().map(|row| row[n].chars().count());
            cells
                .chain([self.columns[n].0.chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = shown.iter().map(|&n| width(n)).collect();
        let last = shown.len().saturating_sub(1);
        let before_last: usize = widths
            .iter()
            .take(last)
            .map(|width| width + GAP.len())
            .sum();
        let room = columns
            .map(|columns| columns.saturating_sub(before_last))
            .filter(|&room| room >= LAST_COLUMNS_MIN);

        let heading = self.columns.map(|(heading, _)| heading.to_owned());
        let mut text = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            for (place, (&n, &width)) in shown.iter().zip(&widths).enumerate() {
                let (cell, side) = (&row[n], self.columns[n].1);
                if place == last && side == Side::Left {
                    let indent = format!("\n{}", " ".repeat(before_last));
                    line.push_str(&lines(cell, room).join(&indent));
                } else if side == Side::Left {
                    line.push_str(&format!("{cell:<width$}{GAP}"));
                } else {
                    line.push_str(&format!("{cell:>width$}{GAP}"));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text, or nothing.
pub fn or_empty<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Side, Table};

    fn table() -> Table<4> {
        let mut table = Table::new([
            ("NAME", Side::Left),
            ("COUNT", Side::Right),
            ("EMPTY", Side::Left),
            ("NOTE", Side::Left),
        ]);
        table.row([
            "tap0".into(),
            "1,234,567".into(),
            String::new(),
            String::new(),
        ]);
        table.row([
            "a-long-one".into(),
            "5".into(),
            String::new(),
            "it is not as it was".into(),
        ]);
        table
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let expected = "\
NAME            COUNT  NOTE
tap0        1,234,567
a-long-one          5  it is not as it was
";
        assert_eq!(table().render(None), expected);
    }

    #[test]
    fn the_last_column_is_broken_where_the_terminal_ends() {
        let mut table = table();
        table.row([
            "b".into(),
            "6".into(),
            String::new(),
            "the quick brown fox jumps over".into(),
        ]);
        let expected = "\
NAME            COUNT  NOTE
tap0        1,234,567
a-long-one          5  it is not as it was
b                   6  the quick brown fox
                       jumps over
";
        assert_eq!(table.render(Some(44)), expected);
        assert_eq!(table.render(Some(30)), table.render(None));
    }

    #[test]
    fn a_cell_cannot_command_the_terminal() {
        let mut table = Table::new([("NAME", Side::Left)]);
        table.row(["\x1b[2Jx".into()]);
        assert_eq!(table.render(None), "NAME\n\\u{1b}[2Jx\n");
    }
}
