//! How is a stretch of a text shown to whoever wrote it?
//!
//! Input: a text and bytes of it. Output: line, column, the line itself, cut where it is too long, and what of
//! it is meant; and how all of that is printed. What is wrong there is said by who found it
//! (`settings/error.rs`, `language/fault.rs`).

use std::fmt;
use std::ops::Range;

/// How many characters of a line are shown.
const SHOWN_CHARS: usize = 120;
/// How many of them stand before what is meant, where the line is longer.
const SHOWN_BEFORE: usize = 40;

/// A text, and where its lines begin.
pub(crate) struct Text<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

/// A stretch of a text, in its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The character in the line, from 1.
    pub(crate) column: usize,
    /// The line as it is shown.
    pub(crate) text: String,
    /// The characters of `text` that are meant; at least one, which may be behind its end.
    pub(crate) marked: Range<usize>,
}

impl<'t> Text<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let newlines = text.match_indices('\n');
        let after_newlines = newlines.map(|(place, _)| place.saturating_add(1));
        Self {
            text,
            starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    pub(crate) const fn text(&self) -> &'t str {
        self.text
    }

    /// The number of the line that a byte is in, from 0.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.starts
            .partition_point(|&start| start <= offset)
            .saturating_sub(1)
    }

    /// The line that a byte is in, from 1, where it is another than this one.
    pub(crate) fn other_line(&self, line: usize, offset: usize) -> Option<usize> {
        let other = self.line_of(offset).saturating_add(1);
        (other != line).then_some(other)
    }

    /// What these bytes are in their first line. `rewritten` may hide characters of that, one for one.
    pub(crate) fn excerpt(
        &self,
        span: &Range<usize>,
        rewritten: impl Fn(&str) -> String,
    ) -> Excerpt {
        let (line, before) = self.position(span.start);
        let (last_line, end) = self.position(span.end);
        let whole = rewritten(self.line(line));
        let whole: Vec<char> = whole.chars().map(printable).collect();
        let end = if last_line == line { end } else { whole.len() };
        let first = if whole.len() <= SHOWN_CHARS {
            0
        } else {
            before.saturating_sub(SHOWN_BEFORE)
        };
        let text: String = whole.iter().skip(first).take(SHOWN_CHARS).collect();
        let start = before.saturating_sub(first);
        let least = start.saturating_add(1);
        let most = text.chars().count().max(least);
        Excerpt {
            line: line.saturating_add(1),
            column: before.saturating_add(1),
            text,
            marked: start..end.saturating_sub(first).clamp(least, most),
        }
    }

    /// A line without its end.
    fn line(&self, number: usize) -> &'t str {
        let start = self.starts.get(number).copied().unwrap_or(self.text.len());
        let next = self.starts.get(number.saturating_add(1)).copied();
        let line = self.text.get(start..next.unwrap_or(self.text.len()));
        line.unwrap_or_default().trim_end_matches(['\n', '\r'])
    }

    /// Line (from 0) of a byte, and how many characters stand before it there.
    fn position(&self, offset: usize) -> (usize, usize) {
        let number = self.line_of(offset);
        let start = self.starts.get(number).copied().unwrap_or(0);
        let bytes = self.text.as_bytes();
        let before = bytes.get(start..offset.min(bytes.len())).unwrap_or(&[]);
        // A span may begin inside of a character; count those that have begun.
        let begun = before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        (number, begun)
    }
}

/// Tabs become spaces, so that the marks stand below what they mark; what could command a
/// terminal becomes visible.
pub(crate) fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// A mistake as it is printed.
pub(crate) struct Shown<'m> {
    pub(crate) file: &'m str,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: &'m dyn fmt::Display,
    pub(crate) text: &'m str,
    pub(crate) marked: &'m Range<usize>,
    /// The line that it conflicts with.
    pub(crate) other_line: Option<usize>,
    /// What to do about it; may be empty.
    pub(crate) cure: &'m str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            text,
            marked,
            other_line,
            cure,
        } = self;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{}", format!("{number} | {text}").trim_end())?;
        let (blank, marks) = (" ".repeat(marked.start), "^".repeat(marked.len()));
        write!(f, "{margin} | {blank}{marks}")?;
        if let Some(other) = other_line {
            write!(f, "\n{margin} = compare line {other}")?;
        }
        if !cure.is_empty() {
            write!(f, "\n{margin} = {cure}")?;
        }
        Ok(())
    }
}
