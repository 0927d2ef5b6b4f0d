//! What does an admin ask of the agent, and how does the answer read?
//!
//! Input: the command line. Output: one request to the agent, by its socket or over TLS (one a frame for `trace`),
//! its answer as a table or as the agent's own JSON on standard output, diagnostics on standard
//! error. Exit status: 0 done, 1 failed, 2 wrong usage, 3 the agent is degraded (`status`).

mod agents;
mod args;
mod ca;
mod client;
mod completions;
mod drops;
mod flows;
mod frame;
mod interface;
mod join;
mod late;
mod link;
mod number;
mod pcap;
mod remote;
mod rule;
mod rungs;
mod screen;
mod stats;
mod status;
mod table;
mod text;
mod topology;
mod trace;
mod watch;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use args::{Arguments, Verb};
use client::{Client, ClientError, Place};
use late::Late;
use remote::Remote;
use screen::Screen;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be closed too; there is nobody left to tell then.
            let _ = screen::complain(&explain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let screen = Screen::new(arguments.output);
    let client = Client::new(match arguments.at {
        Some(at) => Place::Elsewhere(Remote {
            at,
            credentials: arguments.credentials,
        }),
        None => Place::Here(arguments.socket),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        match arguments.verb {
            Verb::Status => status::run(&client, &screen).await,
            Verb::Stats => stats::run(&client, &screen).await,
            Verb::Flows(Late(flows)) => flows::run(&flows, &client, &screen).await,
            Verb::Drops(Late(drops)) => drops::run(&drops, &client, &screen).await,
            Verb::Trace(Late(trace)) => trace::run(&trace, &client, &screen).await,
            Verb::Watch => watch::run(&client, &screen).await,
            Verb::Interface(Late(verb)) => interface::run(&verb, &client, &screen).await,
            Verb::Links => rungs::run(&client, &screen).await,
            Verb::Link(Late(verb)) => link::run(verb, &client, &screen).await,
            Verb::Rule(Late(verb)) => rule::run(verb, &client, &screen).await,
            Verb::Topology(Late(verb)) => topology::run(&verb, &client, &screen).await,
            Verb::Agents(Late(agents)) => agents::run(&agents, &client, &screen).await,
            Verb::Ca(Late(verb)) => ca::run(verb, &client, &screen).await,
            Verb::Join(Late(arguments)) => join::run(&arguments, &screen).await,
            Verb::Completions(Late(completions)) => completions::run(&completions),
        }
    })
}

/// The error with its causes on the first line, and the cure, where there is one, below.
fn explain(error: &anyhow::Error) -> String {
    let mut text = format!("vnetctl: {error:#}");
    let cure = error
        .chain()
        .find_map(|cause| cause.downcast_ref())
        .and_then(ClientError::cure);
    if let Some(cure) = cure {
        text.push_str("\n  ");
        text.push_str(&cure);
    }
    text
}
