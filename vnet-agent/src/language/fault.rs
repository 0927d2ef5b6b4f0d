//! How is a mistake in a text shown?
//!
//! Input: findings, each a stretch of the text with a message. Output: faults with line, column,
//! the line itself and a caret below what is meant.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

pub(super) use crate::model::excerpt::Text;
use crate::model::excerpt::{Shown, printable};

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
        let excerpt = text.excerpt(&finding.span, str::to_owned);
        let earlier = finding.earlier.map(|span| span.start);
        Self {
            line: excerpt.line,
            column: excerpt.column,
            message: short(&finding.message),
            cure: short(&finding.cure),
            other_line: earlier.and_then(|start| text.other_line(excerpt.line, start)),
            text: excerpt.text,
            marked: excerpt.marked,
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

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.faults.iter().enumerate() {
            if place > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{}", fault.shown(&self.file))?;
        }
        if self.faults.len() == FAULTS_MAX {
            f.write_str("\n\nand perhaps more")?;
        }
        Ok(())
    }
}

impl Fault {
    fn shown<'m>(&'m self, file: &'m str) -> Shown<'m> {
        Shown {
            file,
            line: self.line,
            column: self.column,
            message: &self.message,
            text: &self.text,
            marked: &self.marked,
            other_line: self.other_line,
            cure: &self.cure,
        }
    }
}
