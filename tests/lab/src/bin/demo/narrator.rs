//! How does the demonstration say what it does and what is seen?
//!
//! Every step has a title, the commands that showed something together with where they ran, what
//! they printed, and one line that says what to see in it.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::{Agent, Host, Lab, Output};

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

    /// Begins an act, with a picture of who is where.
    pub(crate) fn act(&self, title: &str, picture: &str) {
        println!("\n==== {title}\n{picture}");
    }

    /// Plays in a lab that is gone at the end.
    pub(crate) fn in_lab<T>(
        &mut self,
        name: &str,
        play: impl FnOnce(&mut Self, &Lab) -> Result<T>,
    ) -> Result<T> {
        let lab = Lab::new(name)?;
        let result = play(self, &lab);
        let directory = lab.directory().to_owned();
        drop(lab);
        if !directory.exists() {
            self.seen(format!("nothing is left of {}", directory.display()));
        }
        result
    }

    /// Lets somebody look around.
    pub(crate) fn wait_for_enter(&self, hosts: &[&Host]) {
        println!("\n   Everything stays up. In another terminal, as root:");
        for host in hosts {
            let directory = host.directory().display();
            println!("     nsenter --net={directory}/net ip -brief link");
        }
        println!("   Press Enter to go on.");
        // End of file will do as well.
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    /// What agents said, on standard error.
    pub(crate) fn logs(&self, agents: &[(&Host, &Agent)]) {
        for (host, agent) in agents {
            eprintln!("---- log of the agent on host {}", host.name());
            eprint!("{}", agent.log().unwrap_or_default());
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

    /// A command on a host, without the directory that the lab gave the host.
    pub(crate) fn shown_at(&self, host: &Host, command: &str, printed: &str) {
        let directory = format!("{}/", host.directory().display());
        let short = |text: &str| text.replace(&directory, "");
        self.shown(host.name(), &short(command), &short(printed));
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

/// The rate of a transfer.
pub(crate) fn megabits_per_s(bytes: u64, duration: Duration) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a figure for people, with three digits"
    )]
    let bits = (bytes * 8) as f64;
    bits / duration.as_secs_f64() / 1e6
}
