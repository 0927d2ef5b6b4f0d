//! How is a mistake in the settings file shown?
//!
//! Input: findings, each a stretch of the text with a message. Output: errors with line, column
//! and the offending line. Cookies are masked, since messages end in logs.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::model::excerpt::Shown;
pub(super) use crate::model::excerpt::Text;

/// Something wrong in a stretch of the text.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// The bytes that it is about.
    pub(super) span: Range<usize>,
    /// Section and key, such as `link.remote`; empty where the notation itself is broken.
    pub(super) key: String,
    pub(super) message: String,
    pub(super) cure: String,
    /// The bytes that it conflicts with.
    pub(super) earlier: Option<Range<usize>>,
}

impl Finding {
    /// A mistake in the notation; `end` is the length of the text.
    pub(super) fn syntax(error: &toml::de::Error, end: usize) -> Self {
        Self {
            span: error.span().unwrap_or(end..end),
            key: String::new(),
            message: error.message().to_owned(),
            cure: syntax_cure(error.message()).to_owned(),
            earlier: None,
        }
    }
}

fn syntax_cure(message: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["duplicate key"]) {
        "keep one of them; entries of which there are several have double brackets, as in [[link]]"
    } else if says(&[
        "must be quoted",
        "invalid float",
        "leading zero",
        "invalid datetime",
    ]) {
        "texts, addresses and cookies stand in quotes, as in remote = \"10.0.0.2\""
    } else if says(&["unclosed", "invalid literal string", "invalid basic string"]) {
        "close what has been opened: quotes, brackets"
    } else if says(&["key with no value"]) {
        "write key = value, or [section]"
    } else {
        "see https://toml.io for the notation"
    }
}

/// One mistake in a settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// Section and key, such as `link.remote`; empty where the notation itself is broken.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
    /// The line that it conflicts with, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_line: Option<usize>,
    /// The offending line as it is shown: cookies masked, what is too long cut.
    pub text: String,
    /// The characters of `text` that are meant.
    #[serde(skip)]
    marked: Range<usize>,
}

/// Everything that is wrong with a settings file, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsErrors {
    /// What the file is called.
    #[serde(skip)]
    pub file: String,
    /// The mistakes.
    pub errors: Vec<SettingsError>,
}

impl std::error::Error for SettingsErrors {}

impl SettingsErrors {
    pub(super) fn new(file: &str, text: &Text<'_>, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.span.start);
        let notation = |finding: &Finding| finding.key.is_empty();
        // One slip of the pen makes the parser stumble several times in its line.
        findings.dedup_by(|later, first| {
            let line = |finding: &Finding| text.line_of(finding.span.start);
            notation(later) && notation(first) && line(later) == line(first)
        });
        let errors = findings
            .into_iter()
            .map(|finding| SettingsError::new(text, finding));
        Self {
            file: file.to_owned(),
            errors: errors.collect(),
        }
    }
}

impl SettingsError {
    fn new(text: &Text<'_>, finding: Finding) -> Self {
        let excerpt = text.excerpt(&finding.span, masked);
        let earlier = finding.earlier.map(|span| span.start);
        Self {
            line: excerpt.line,
            column: excerpt.column,
            key: without_long_digits(&finding.key),
            message: without_long_digits(&finding.message),
            cure: without_long_digits(&finding.cure),
            other_line: earlier.and_then(|start| text.other_line(excerpt.line, start)),
            text: excerpt.text,
            marked: excerpt.marked,
        }
    }
}

/// The line with every character of a cookie replaced by `*`.
///
/// By the look of it, since a line whose notation is broken has cookies too: whatever follows the
/// word `cookie` and an equals sign, to the end of its quotes.
fn masked(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("cookie") {
        let name = after.trim_start_matches(['"', '\'', ' ', '\t']);
        let value = name.strip_prefix('=').map(str::trim_start);
        let kept = after.len() - value.unwrap_or(after).len();
        shown.push_str(before);
        shown.push_str("cookie");
        shown.push_str(&after[..kept]);
        rest = &after[kept..];
        let Some(value) = value else { continue };
        let quotes = value.len() - value.trim_start_matches(['"', '\'']).len();
        let end = match value[quotes..].find(['"', '\'']) {
            Some(end) if quotes > 0 => quotes + end,
            _ if quotes > 0 => value.len(),
            _ => value
                .find([',', '}', '#', ' ', '\t'])
                .unwrap_or(value.len()),
        };
        shown.push_str(&value[..quotes]);
        shown.extend(value[quotes..end].chars().map(|_| '*'));
        rest = &value[end..];
    }
    without_long_digits(&(shown + rest))
}

/// The shortest run of hexadecimal digits that is masked wherever it stands: longer than an
/// Ethernet address, and a cookie with a few digits missing.
const SECRET_DIGITS: usize = 13;

/// A text with every long run of hexadecimal digits masked: a cookie that stands where none
/// belongs is a secret still.
fn without_long_digits(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(start);
        let length = from
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(from.len());
        let (digits, after) = from.split_at(length);
        shown.push_str(before);
        if length < SECRET_DIGITS {
            shown.push_str(digits);
        } else {
            shown.extend(digits.chars().map(|_| '*'));
        }
        rest = after;
    }
    shown + rest
}

/// How many errors are shown; whoever has more has one mistake many times.
const SHOWN_ERRORS: usize = 100;

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.errors.iter().take(SHOWN_ERRORS).enumerate() {
            if place > 0 {
                f.write_str("\n\n")?;
            }
            error.show(&self.file, f)?;
        }
        match self.errors.len().saturating_sub(SHOWN_ERRORS) {
            0 => Ok(()),
            more => write!(f, "\n\nand {more} more"),
        }
    }
}

impl SettingsError {
    fn show(&self, file: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        let shown = Shown {
            file,
            line: self.line,
            column: self.column,
            message: &format_args!("{}{colon}{}", self.key, self.message),
            text: &self.text,
            marked: &self.marked,
            other_line: self.other_line,
            cure: &self.cure,
        };
        write!(f, "{shown}")
    }
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn a_cookie_never_reaches_a_message() {
        for (line, shown) in [
            (
                "cookie = \"0123456789abcdef\"",
                "cookie = \"****************\"",
            ),
            (
                "cookie='0123456789abcdef' # mine",
                "cookie='****************' # mine",
            ),
            (
                "\"cookie\"  =\t0123456789abcdef # mine",
                "\"cookie\"  =\t**************** # mine",
            ),
            ("cookie = \"0123456789abcdef", "cookie = \"****************"),
            (
                "x = {cookie=\"12\", cookie = 34, y = 5}",
                "x = {cookie=\"**\", cookie = **, y = 5}",
            ),
            ("name = \"cookie-jar\"", "name = \"cookie-jar\""),
            (
                "remote = \"0123456789abcdef\"",
                "remote = \"****************\"",
            ),
            ("remote = \"525400123456\"", "remote = \"525400123456\""),
            ("cookie", "cookie"),
            ("cookie = ", "cookie = "),
            ("cookie = \"\"", "cookie = \"\""),
        ] {
            assert_eq!(masked(line), shown);
        }
    }
}
