//! Looks for inputs that break a promise, for as long as somebody likes.
//!
//! A find is written into the corpus, small, where the tests meet it from then on.

#![expect(clippy::unwrap_used, reason = "a tool of tests fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fuzz::engine::{Find, explore, smaller, try_one};
use fuzz::target::{all, named};
use ring::digest::{SHA256, digest};

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask fuzz",
    about = "Looks for bytes from outside that break a promise"
)]
struct Arguments {
    /// What comes from outside; without one, what there is
    target: Option<String>,
    /// For how long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Another seed tries other inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Try this file and nothing else
    #[arg(long)]
    replay: Option<PathBuf>,
}

fn keep(name: &str, find: &Find) -> PathBuf {
    let folder = fuzz::corpus(name);
    std::fs::create_dir_all(&folder).unwrap();
    let hash = digest(&SHA256, &find.input);
    let digits: String = hash.as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = folder.join(digits);
    std::fs::write(&path, &find.input).unwrap();
    path
}

fn replay(name: &str, path: &Path) -> ExitCode {
    let mut target = named(name).unwrap();
    match try_one(target.as_mut(), &std::fs::read(path).unwrap()) {
        Ok((reached, cost)) => {
            println!("{:?}, {cost:?}", reached.depth);
            ExitCode::SUCCESS
        }
        Err(find) => {
            println!("{:?}", smaller(target.as_mut(), find));
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let known = || all().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let Some(name) = arguments.target.filter(|name| named(name).is_some()) else {
        eprintln!("the targets are: {}", known().join(", "));
        return ExitCode::FAILURE;
    };
    // Promises are broken by panics too: once told is enough.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(path) = arguments.replay {
        return replay(&name, &path);
    }
    let mut target = named(&name).unwrap();
    let first = [target.seeds(), fuzz::finds(&name)].concat();
    let (began, patience) = (Instant::now(), Duration::from_secs(arguments.seconds));
    let explored = explore(target.as_mut(), first, arguments.seed, |_| {
        began.elapsed() < patience
    });
    match explored {
        Ok(tally) => {
            println!("{name}: {tally}");
            ExitCode::SUCCESS
        }
        Err(find) => {
            let path = keep(&name, &find);
            println!("{name}: {find:?}\nkept as {}", path.display());
            ExitCode::FAILURE
        }
    }
}
