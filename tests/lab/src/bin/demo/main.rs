//! Does it work? Hosts, virtual machines, and the overlay between them, told step by step.
//!
//! Run by `scripts/demo.sh`. The first act has two hosts that are told everything by their settings, the
//! second a proxy on a LAN and three hosts that join it. The last line on standard output says whether it
//! worked, and so does the exit status. With `--hold` each act stays up until Enter is pressed, to look
//! around in.

mod by_hand;
mod narrator;
mod overlay;

use std::process::ExitCode;

use anyhow::Result;

use narrator::Narrator;

fn main() -> ExitCode {
    let hold = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--hold") => true,
        Some(_) => {
            eprintln!("usage: demo [--hold]    --hold: wait for Enter before cleaning up");
            return ExitCode::from(2);
        }
    };
    match demonstrate(hold) {
        Ok(figures) => {
            println!("\ndemo: it worked: {figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            // One line, whatever the error quotes; all of it went to standard error.
            eprintln!("\n{error:?}");
            println!(
                "\ndemo: it did NOT work: {}",
                error.to_string().replace('\n', " ")
            );
            ExitCode::FAILURE
        }
    }
}

/// Both acts; returns their figures in words.
fn demonstrate(hold: bool) -> Result<String> {
    let mut narrator = Narrator::new();
    let by_hand = by_hand::play(&mut narrator, hold)?;
    let overlay = overlay::play(&mut narrator, hold)?;
    Ok(format!("{by_hand}; {overlay}"))
}
