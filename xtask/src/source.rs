//! What does a source file say, apart from its comments, its texts and its tests?
//!
//! Input: Rust source as rustfmt leaves it. Output: its words and signs, in order, with the line
//! of each. No parser of the language: enough for the checks that read sources.

/// A word (an identifier or a number) or a sign of a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The word, or one sign; `::` is one sign. A text or a character is an empty word.
    pub text: String,
    /// The line it is on, from 1.
    pub line: usize,
}

impl Token {
    /// Whether this is an identifier.
    pub fn is_name(&self) -> bool {
        self.text
            .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    }
}

/// The tokens of a source file, up to its tests: the first `#[cfg(test)]` before a `mod`, since
/// tests come last in a file.
pub fn tokens(source: &str) -> Vec<Token> {
    let source = without_tests(source);
    let mut scanner = Scanner {
        rest: source,
        line: 1,
        found: Vec::new(),
    };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.found
}

/// The source up to its tests.
pub fn without_tests(source: &str) -> &str {
    source
        .find("\n#[cfg(test)]\nmod ")
        .map_or(source, |end| &source[..end])
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    found: Vec<Token>,
}

impl Scanner<'_> {
    /// Takes one token, comment, text or blank from the front.
    fn step(&mut self) {
        let rest = self.rest;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if rest.starts_with("//") {
            self.skip(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.skip(rest.find("*/").map_or(rest.len(), |end| end + 2));
        } else if let Some(length) = text_length(rest) {
            self.push("");
            self.skip(length);
        } else if rest.starts_with("::") {
            self.push("::");
            self.skip(2);
        } else {
            let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let length = word
                .max(rest.chars().next().map_or(0, char::len_utf8))
                .max(1);
            if !rest.starts_with(char::is_whitespace) {
                self.push(&rest[..length]);
            }
            self.skip(length);
        }
    }

    fn push(&mut self, text: &str) {
        self.found.push(Token {
            text: text.to_owned(),
            line: self.line,
        });
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

/// The length of the text or character literal that `rest` begins with; of the quote alone for a
/// lifetime.
fn text_length(rest: &str) -> Option<usize> {
    let plain = rest
        .strip_prefix('b')
        .or_else(|| rest.strip_prefix('c'))
        .unwrap_or(rest);
    let before = rest.len() - plain.len();
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = &raw[hashes + 1..];
            let end = body
                .find(&close)
                .map_or(body.len(), |end| end + close.len());
            return Some(before + 1 + hashes + 1 + end);
        }
    }
    if plain.starts_with('"') {
        return Some(before + closing(plain, '"'));
    }
    if plain.starts_with('\'') {
        let mut next = plain.chars().skip(1);
        let (first, second) = (next.next(), next.next());
        let is_character = first == Some('\\') || second == Some('\'');
        return Some(
            before
                + if is_character {
                    closing(plain, '\'')
                } else {
                    1
                },
        );
    }
    None
}

/// Where the literal that begins with `quote` ends.
fn closing(literal: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, sign) in literal.char_indices().skip(1) {
        if sign == quote && !escaped {
            return place + 1;
        }
        escaped = sign == '\\' && !escaped;
    }
    literal.len()
}

#[cfg(test)]
mod tests {
    use super::tokens;

    fn words(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_texts_and_tests_are_left_out() {
        let source = "use a::b; // c::d\nlet x = \"e::f\\\"\"; /* g */ r#\"h\"i\"#\n\
                      #[cfg(test)]\nmod tests { use j; }";
        assert_eq!(
            words(source),
            ["use", "a", "::", "b", ";", "let", "x", "=", "", ";", ""]
        );
    }

    #[test]
    fn a_lifetime_is_no_character() {
        assert_eq!(
            words("&'a T + 'x' + '\\'' + b'\"'"),
            ["&", "", "a", "T", "+", "", "+", "", "+", ""]
        );
    }

    #[test]
    fn lines_are_counted_through_texts() {
        let last = tokens("a\n\"b\nc\"\nd").pop().unwrap();
        assert_eq!((last.text.as_str(), last.line), ("d", 4));
    }
}
