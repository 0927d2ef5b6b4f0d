//! How is text from elsewhere made fit for a terminal?

/// The text with everything that a terminal would obey (escapes, line ends) made visible.
///
/// Device names come from whoever made the device, and may hold such characters.
pub fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|c| {
                if c.is_control() {
                    c.escape_default().to_string()
                } else {
                    c.to_string()
                }
            })
            .collect()
    } else {
        text.to_owned()
    }
}

/// The text in lines of at most `columns` characters, broken between words; longer words stay
/// whole. Without `columns`, one line.
pub fn lines(text: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns else {
        return vec![text.to_owned()];
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else {
            continue;
        };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A label and a text that keeps clear of it over all its lines.
pub fn paragraph(label: &str, text: &str, columns: Option<usize>) -> String {
    let indent = label.chars().count();
    let room = columns.map(|columns| columns.saturating_sub(indent).max(20));
    let mut paragraph = String::new();
    for (place, line) in lines(&printable(text), room).iter().enumerate() {
        if place == 0 {
            paragraph.push_str(label);
        } else {
            paragraph.extend(std::iter::repeat_n(' ', indent));
        }
        paragraph.push_str(line);
        paragraph.push('\n');
    }
    paragraph
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_commanded() {
        assert_eq!(printable("tap0"), "tap0");
        assert_eq!(printable("a\x1b[31mb\n"), r"a\u{1b}[31mb\n");
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(lines("one two three", Some(8)), ["one two", "three"]);
        assert_eq!(lines("one two three", None), ["one two three"]);
        assert_eq!(
            lines("incomprehensible it is", Some(5)),
            ["incomprehensible", "it is"]
        );
        assert_eq!(lines("", Some(5)), [""]);
        assert_eq!(
            paragraph("a: ", "bb cc dd ee ff gg hh ii", Some(5)),
            "a: bb cc dd ee ff gg hh\n   ii\n"
        );
    }
}
