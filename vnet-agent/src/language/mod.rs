//! How is an overlay written down? The language of figure 5 of the thesis proposal, with what this
//! system adds: networks, where each VM is, link options, comments. `docs/language.md` has it on a
//! page.
//!
//! Input: text from people and programs, never trusted. Output: a topology that makes sense, or
//! everything that is wrong with the text, by line and column; and the way back.
//!
//! text -> `token` -> `parser` -> `statement` -> `meaning` -> topology -> `printer` -> text

pub mod draw;
mod fault;
mod format;
mod meaning;
mod parser;
mod printer;
pub mod requirements;
mod statement;
#[cfg(test)]
mod tests;
mod token;

pub use fault::{Fault, Faults};
pub use format::format;
pub use printer::print;

use crate::model::topology::Topology;
use fault::{Finding, Text};
use statement::Program;

/// The longest text that is looked at, in bytes: fifty thousand rules.
pub const TEXT_BYTES_MAX: usize = 8 << 20;

/// The topology that a text describes, in its normal form. `file` is what messages call the text.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &str, text: &[u8]) -> Result<Topology, Faults> {
    read_onto(file, text, &Topology::default())
}

/// What a topology becomes when a text is carried out on it: what it declares is added or takes
/// the place of what had the name, what it adds is added, what it deletes goes.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_onto(file: &str, text: &[u8], base: &Topology) -> Result<Topology, Faults> {
    let text = checked(file, text)?;
    let text = Text::new(text);
    let program = program(file, &text)?;
    meaning::topology(&program, base).map_err(|found| Faults::new(file, &text, found))
}

/// The text as text: UTF-8 and not endless.
fn checked<'t>(file: &str, text: &'t [u8]) -> Result<&'t str, Faults> {
    let refuse = |good: &str, finding: Finding| Faults::new(file, &Text::new(good), vec![finding]);
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("{} bytes are more than a text may have", text.len());
        let cure = format!("write at most {TEXT_BYTES_MAX} bytes");
        return Err(refuse("", Finding::new(0..0, message, cure)));
    }
    std::str::from_utf8(text).map_err(|error| {
        let end = error.valid_up_to();
        let good = text
            .get(..end)
            .and_then(|good| std::str::from_utf8(good).ok());
        let good = good.unwrap_or_default();
        let cure = "save the file as UTF-8; names are plain ASCII anyway";
        refuse(good, Finding::new(end..end, "this is not UTF-8", cure))
    })
}

fn program(file: &str, text: &Text<'_>) -> Result<Program, Faults> {
    let tokens = token::tokens(text.text());
    parser::parse(text.text(), &tokens).map_err(|found| Faults::new(file, text, found))
}
