//! How does somebody's own text look tidied up?
//!
//! Every statement on its own line and written as the printer writes it, in the order in which it
//! stands; comments stay where they are, and of empty lines one of each run.

use super::checked;
use super::fault::{Faults, Text};
use super::printer::line;
use super::token::{Token, tokens};
use super::{meaning, parser};
use crate::model::topology::Topology;

/// What is written: a statement or a comment, and the bytes it was made of.
struct Piece {
    start: usize,
    end: usize,
    text: String,
    is_comment: bool,
}

/// The text, tidied up. It means what it meant.
///
/// # Errors
/// Everything that is wrong with it; nothing is tidied that means nothing.
pub fn format(file: &str, text: &[u8]) -> Result<String, Faults> {
    let text = Text::new(checked(file, text)?);
    let tokens = tokens(text.text());
    let refuse = |found| Faults::new(file, &text, found);
    let program = parser::parse(text.text(), &tokens).map_err(refuse)?;
    meaning::topology(&program, &Topology::default()).map_err(refuse)?;

    let mut pieces: Vec<Piece> = Vec::new();
    for (token, span) in &tokens {
        if let Token::Comment(comment) = token {
            pieces.push(Piece {
                start: span.start,
                end: span.end,
                text: format!("#{comment}"),
                is_comment: true,
            });
        }
    }
    let statement = |start: usize, end: usize, text: String| Piece {
        start,
        end,
        text,
        is_comment: false,
    };
    let (begin, end) = (program.span.start, program.span.end);
    pieces.push(statement(
        begin,
        begin.saturating_add(5),
        "BEGIN".to_owned(),
    ));
    pieces.push(statement(end.saturating_sub(3), end, "END".to_owned()));
    for said in &program.statements {
        pieces.push(statement(said.span.start, said.span.end, line(&said.value)));
    }
    pieces.sort_by_key(|piece| piece.start);
    Ok(joined(&text, &pieces))
}

fn joined(text: &Text<'_>, pieces: &[Piece]) -> String {
    let mut tidy = String::new();
    // A comment within a statement comes after it: then nothing of the statement's lines is new.
    let mut last_line = None;
    for piece in pieces {
        let first = text.line_of(piece.start);
        let gap = last_line.map(|last: usize| first.saturating_sub(last));
        match gap {
            None => {}
            Some(0) if piece.is_comment => tidy.push_str("  "),
            Some(0 | 1) => tidy.push('\n'),
            Some(_) => tidy.push_str("\n\n"),
        }
        tidy.push_str(&piece.text);
        let end = text.line_of(piece.end.saturating_sub(1).max(piece.start));
        last_line = Some(last_line.unwrap_or(0).max(end));
    }
    tidy.push('\n');
    tidy
}
