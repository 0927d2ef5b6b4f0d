//! How is a mistake in a text shown?
//!
//! Input: findings, each a stretch of the text with a message. Output: faults with line, column,
//! the line itself and a caret below what is meant.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Something wrong in a stretch of the text.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// The bytes that it is about.
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) cure: String,
    /// The bytes that it conflicts with.
    pub(super) earlier: Option<Range<usize>>,
}

impl Finding {
    pub(super) fn new(
        span: Range<usize>,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            span,
            message: message.into(),
            cure: cure.into(),
            earlier: None,
        }
    }
}

/// A text, and where its lines begin.
pub(super) struct Text<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Text<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(place, _)| place + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    pub(super) const fn text(&self) -> &'t str {
        self.text
    }

    /// The number of the line that a byte is in, from 0.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.starts
            .partition_point(|&start| start <= offset)
            .saturating_sub(1)
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
        let before = self
            .text
            .as_bytes()
            .get(start..offset.min(self.text.len()))
            .unwrap_or_default();
        let begun = before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        (number, begun)
    }
}

/// One mistake in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
    /// The line that it conflicts with, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_line: Option<usize>,
    /// The line as it is shown: cut where it is too long.
    pub text: String,
    /// The characters of `text` that are meant.
    #[serde(skip)]
    marked: Range<usize>,
}

/// Everything that is wrong with a text, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// What the text is called.
    pub file: String,
    /// The mistakes.
    pub faults: Vec<Fault>,
}

impl std::error::Error for Faults {}

/// How many faults are kept; whoever has more has one mistake many times.
const FAULTS_MAX: usize = 100;
/// How many characters of a line are shown.
const SHOWN_CHARS: usize = 120;
/// How many of them stand before the mistake, where the line is longer.
const SHOWN_BEFORE: usize = 40;
/// How many characters of a message are kept: a text can have very long names.
const MESSAGE_CHARS: usize = 400;

impl Faults {
    pub(super) fn new(file: &str, text: &Text<'_>, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.span.start);
        let faults = findings.into_iter().take(FAULTS_MAX);
        Self {
            file: file.to_owned(),
            faults: faults.map(|finding| Fault::new(text, finding)).collect(),
        }
    }
}

impl Fault {
    fn new(text: &Text<'_>, finding: Finding) -> Self {
        let (line, before) = text.position(finding.span.start);
        let (last_line, end) = text.position(finding.span.end);
        let whole: Vec<char> = text.line(line).chars().map(printable).collect();
        let end = if last_line == line { end } else { whole.len() };
        let first = if whole.len() <= SHOWN_CHARS {
            0
        } else {
            before.saturating_sub(SHOWN_BEFORE)
        };
        let shown: String = whole.iter().skip(first).take(SHOWN_CHARS).collect();
        let start = before.saturating_sub(first);
        let least = start.saturating_add(1);
        let most = shown.chars().count().max(least);
        let other_line = finding.earlier.map(|span| text.line_of(span.start));
        Self {
            line: line.saturating_add(1),
            column: before.saturating_add(1),
            message: short(&finding.message),
            cure: short(&finding.cure),
            other_line: other_line
                .filter(|&other| other != line)
                .map(|other| other.saturating_add(1)),
            text: shown,
            marked: start..end.saturating_sub(first).clamp(least, most),
        }
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= MESSAGE_CHARS {
        return text.chars().map(printable).collect();
    }
    let kept = text.chars().map(printable).take(MESSAGE_CHARS);
    kept.chain("...".chars()).collect()
}

/// Tabs become spaces, so that the marks stand below what they mark; what could command a
/// terminal becomes visible.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.faults.iter().enumerate() {
            if place > 0 {
                f.write_str("\n\n")?;
            }
            fault.show(&self.file, f)?;
        }
        if self.faults.len() == FAULTS_MAX {
            f.write_str("\n\nand perhaps more")?;
        }
        Ok(())
    }
}

impl Fault {
    fn show(&self, file: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
            cure,
            other_line,
            text,
            marked,
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
