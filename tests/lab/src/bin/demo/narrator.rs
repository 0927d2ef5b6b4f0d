//! How does the demonstration say what it does and what is seen?
//!
//! Every step has a title, the commands that showed something together with where they ran, what
//! they printed, and one line that says what to see in it.

use std::fmt::Display;
use std::time::Instant;

use lab::Output;

/// How many lines of a command's output are shown.
const LINES_MAX: usize = 40;

/// Tells the story on standard output.
#[derive(Debug)]
pub(crate) struct Narrator {
    step: u32,
    start: Instant,
}

impl Narrator {
    /// Nothing is told yet.
    pub(crate) fn new() -> Self {
        Self {
            step: 0,
            start: Instant::now(),
        }
    }

    /// Begins the next step.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        println!(
            "\n== {}. {title} ({:.1} s)",
            self.step,
            self.start.elapsed().as_secs_f64()
        );
    }

    /// Something said before or between commands.
    pub(crate) fn say(&self, text: &str) {
        text.lines().for_each(|line| println!("   {line}"));
    }

    /// A command, where it ran, and what it printed.
    pub(crate) fn shown(&self, place: &str, command: &str, printed: &str) {
        println!("   {place}# {command}");
        let lines: Vec<_> = printed.trim_end().lines().collect();
        lines
            .iter()
            .take(LINES_MAX)
            .for_each(|line| println!("   | {line}"));
        if let Some(more) = lines.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
            println!("   | … and {more} lines more");
        }
    }

    /// A command that was run in a place with what it printed.
    pub(crate) fn output(&self, place: &str, output: &Output) {
        self.shown(
            place,
            &output.command,
            &format!("{}{}", output.stdout, output.stderr),
        );
    }

    /// What to see in the above.
    pub(crate) fn seen(&self, what: impl Display) {
        println!("   seen: {what}");
    }
}
