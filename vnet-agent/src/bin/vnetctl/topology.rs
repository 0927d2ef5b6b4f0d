//! What does a text say about the whole overlay, and what would come of it?
//!
//! Input: files in the language (`docs/language.md`), `-` for standard input; and for `show`, `apply`,
//! `undo` and `history` the proxy, and for `route` without a text all hosts.

mod live;
mod report;
mod route;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use vnet_agent::language::{self, Faults, TEXT_BYTES_MAX, draw, requirements};
use vnet_agent::model::topology::{self, LinkKind, Network, Topology, Vm};
use vnet_agent::model::{Part, Secrets};
use vnet_common::addr::{Cookie, Mac, NetworkId};

use crate::client::Client;
use crate::screen::{self, Format, Screen};

/// What can be done with the overlay and texts about it.
#[derive(Subcommand)]
pub enum Verb {
    /// What is wrong with a text, by line and column, or what it amounts to.
    Check(One),
    /// The text tidied up: a statement a line, comments kept.
    Format(FormatArguments),
    /// What changes from one text to another, in words.
    Diff(Two),
    /// A picture, on standard output.
    Draw(Draw),
    /// The way of a frame over all hosts, with the rule that decides each hop: just now, or by a text.
    Route(route::Arguments),
    /// A text from one line, such as "ring of a, b, c".
    Plan(Plan),
    /// What one host gets of it.
    Part(PartArguments),
    /// The overlay as it is: a text, JSON or a picture. Asks the proxy.
    Show(live::Show),
    /// Have the overlay become what a text says. Asks the proxy.
    Apply(live::Apply),
    /// Have what was applied last count no more. Asks the proxy.
    Undo(live::UndoArguments),
    /// What has been applied. Asks the proxy.
    History,
    /// How far the last change is, or how it ended. Asks the proxy.
    Rollout,
}

/// One text.
#[derive(clap::Args)]
#[command(after_help = "\
Exit status: 0 it makes sense (perhaps with warnings), 1 it does not.

Example:
  vnetctl topology check lan.vnet")]
pub struct One {
    /// The text; - for standard input.
    file: PathBuf,
}

/// What `topology format` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vnetctl topology format lan.vnet
  vnetctl topology format --write lan.vnet
  vnetctl topology format --canonical lan.vnet | sha256sum")]
pub struct FormatArguments {
    /// The text; - for standard input.
    file: PathBuf,
    /// Change the file instead of printing.
    #[arg(long)]
    write: bool,
    /// In the one way that texts of the same meaning share: sorted, without comments.
    #[arg(long)]
    canonical: bool,
}

/// Two texts.
#[derive(clap::Args)]
#[command(after_help = "\
Who would lose every way to the proxy is named on standard error.

Example:
  vnetctl topology diff old.vnet new.vnet")]
pub struct Two {
    /// The text as it is.
    from: PathBuf,
    /// The text as it would be.
    to: PathBuf,
}

/// What `topology draw` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vnetctl topology draw lan.vnet > lan.svg
  vnetctl topology draw lan.vnet --as dot | dot -Tpng -o lan.png")]
pub struct Draw {
    /// The text; - for standard input.
    file: PathBuf,
    /// As what.
    #[arg(long = "as", value_enum, default_value = "svg", value_name = "FORM")]
    form: Form,
}

/// Forms of pictures.
#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    /// Complete: for browsers.
    Svg,
    /// For Graphviz, which lays it out.
    Dot,
}

impl Form {
    fn picture(self, topology: &Topology) -> String {
        match self {
            Self::Svg => draw::svg(topology),
            Self::Dot => draw::dot(topology),
        }
    }
}

/// What `topology plan` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Shapes: star, ring, mesh, tree, bus. Names are machines, or VMs of the text that --on names;
its star around a proxy stays. Every VM gets the shortest way to every other. Links are of kind UDP, or
what they are in that text, except those of machines that are said to open TLS (or TCP) connections.

Examples:
  vnetctl topology plan \"star around proxy of one, two, three\" --vm vm1@one --vm vm2@two
  vnetctl topology plan \"ring of vm1, vm2, vm3\" --on lan.vnet
  vnetctl topology plan \"ring of one, two, three, tls from three\" --on lan.vnet
  vnetctl topology plan \"tree of a b c d e fanout 2\"")]
pub struct Plan {
    /// What is wanted.
    line: String,
    /// The text of the overlay that it is about.
    #[arg(long, value_name = "FILE")]
    on: Option<PathBuf>,
    /// A VM, and the machine that it is on; without an address it gets one.
    #[arg(long = "vm", alias = "vms", value_name = "NAME@HOST[=ADDRESS]", value_delimiter = ',', value_parser = new_vm)]
    vms: Vec<NewVm>,
}

/// What `topology part` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Cookies are not in it: the proxy deals them.

Example:
  vnetctl topology part lan.vnet one -o json")]
pub struct PartArguments {
    /// The text; - for standard input.
    file: PathBuf,
    /// The host.
    host: String,
}

/// A VM as the command line says it.
#[derive(Clone)]
struct NewVm {
    name: String,
    host: String,
    mac: Option<Mac>,
}

fn new_vm(text: &str) -> Result<NewVm, String> {
    let (place, mac) = match text.split_once('=') {
        Some((place, mac)) => (place, Some(mac.parse().map_err(|e| format!("{e}"))?)),
        None => (text, None),
    };
    let Some((name, host)) = place.split_once('@') else {
        return Err("write the VM and its machine, such as vm1@one".to_owned());
    };
    let (name, host) = (name.to_owned(), host.to_owned());
    Ok(NewVm { name, host, mac })
}

/// Does it.
pub async fn run(verb: &Verb, client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    match outcome(verb, client, screen).await {
        // What is wrong with a text is shown as it is, or as JSON where that was asked for.
        Err(error) => match error.downcast::<Faults>() {
            Ok(faults) if screen.format == Format::Json => {
                json(&faults)?;
                Ok(ExitCode::FAILURE)
            }
            Ok(faults) => {
                screen::complain(&faults.to_string())?;
                Ok(ExitCode::FAILURE)
            }
            Err(error) => Err(error),
        },
        done => done,
    }
}

async fn outcome(verb: &Verb, client: &Client, screen: &Screen) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Check(One { file }) => {
            let summary = report::Summary::of(&read(file)?);
            show(screen, &summary, report::Summary::render)?;
        }
        Verb::Format(arguments) => format(arguments)?,
        Verb::Diff(Two { from, to }) => {
            let (from, to) = (read(from)?, read(to)?);
            let changes = topology::changes(&from, &to);
            show(screen, &changes, |changes, _| report::changes(changes))?;
            for cut_off in from.cut_off_by(&to) {
                screen::complain(&format!("warning: {cut_off}"))?;
            }
        }
        Verb::Draw(Draw { file, form }) => {
            let topology = read(file)?;
            screen::write(form.picture(&topology).as_bytes())?;
        }
        Verb::Route(arguments) => route::run(arguments, client, screen).await?,
        Verb::Plan(plan) => {
            let topology = planned(plan)?;
            show(screen, &topology, |topology, _| language::print(topology))?;
        }
        Verb::Show(show) => live::show(show, client, screen).await?,
        Verb::Apply(apply) => return live::apply(apply, client, screen).await,
        Verb::Undo(undo) => return live::undo(*undo, client, screen).await,
        Verb::History => live::history(client, screen).await?,
        Verb::Rollout => live::rollout(client, screen).await?,
        Verb::Part(PartArguments { file, host }) => {
            let part = part(&read(file)?, host)?;
            show(screen, &report::without_cookies(&part)?, |_, columns| {
                report::part(&part, columns)
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(screen::write(&text)?)
}

fn show<T: Serialize>(
    screen: &Screen,
    value: &T,
    render: impl FnOnce(&T, Option<usize>) -> String,
) -> anyhow::Result<()> {
    match screen.format {
        Format::Json => json(value),
        Format::Table => Ok(screen::write(render(value, screen.columns).as_bytes())?),
    }
}

fn is_standard_input(file: &Path) -> bool {
    file == Path::new("-")
}

fn bytes(file: &Path) -> anyhow::Result<Vec<u8>> {
    let most = u64::try_from(TEXT_BYTES_MAX)?.saturating_add(1);
    let mut text = Vec::new();
    if is_standard_input(file) {
        io::stdin().lock().take(most).read_to_end(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(most).read_to_end(&mut text))
    }
    .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text)
}

fn name(file: &Path) -> String {
    if is_standard_input(file) {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

fn read(file: &Path) -> anyhow::Result<Topology> {
    Ok(language::read(&name(file), &bytes(file)?)?)
}

fn format(arguments: &FormatArguments) -> anyhow::Result<()> {
    let FormatArguments {
        file,
        write,
        canonical,
    } = arguments;
    let text = bytes(file)?;
    let tidy = if *canonical {
        language::print(&language::read(&name(file), &text)?)
    } else {
        language::format(&name(file), &text)?
    };
    if !write {
        return Ok(screen::write(tidy.as_bytes())?);
    }
    if is_standard_input(file) {
        bail!("standard input cannot be changed: leave --write out");
    }
    if tidy.as_bytes() != text {
        replace(file, tidy.as_bytes())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Replaces a file whole: whoever reads it, and a full disk, finds the old text or the new one.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let file = file.canonicalize()?;
    let mut new = file.clone().into_os_string();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = File::create(&new).and_then(|mut out| {
        out.set_permissions(file.metadata()?.permissions())?;
        out.write_all(text)?;
        out.sync_all()
    });
    let done = written.and_then(|()| std::fs::rename(&new, &file));
    if done.is_err() {
        // What is half written only takes the room that is missing.
        drop(std::fs::remove_file(&new));
    }
    done
}

fn nobody(topology: &Topology, text: &str) -> String {
    let vms = topology.vms.iter().map(|vm| vm.name.as_str());
    match vnet_agent::model::suggest::suggestion(text, vms) {
        Some(meant) => format!("{text:?} is no VM and no address: did you mean {meant:?}?"),
        None => format!("{text:?} is no VM and no address"),
    }
}

fn planned(plan: &Plan) -> anyhow::Result<Topology> {
    let mut base = match &plan.on {
        Some(file) => read(file)?,
        None => Topology::default(),
    };
    if plan.vms.is_empty() {
        return Ok(requirements::plan(&plan.line, &base)?);
    }
    // The machines of the line are there once it has been planned; the VMs' rules are made by
    // planning again.
    if base.hosts.is_empty() {
        base = requirements::plan(&plan.line, &base)?;
    }
    if base.networks.is_empty() {
        let id = NetworkId::new(1).context("the first network has an id")?;
        let name = "default".to_owned();
        base.networks.push(Network { name, id });
    }
    place(&mut base, &plan.vms)?;
    Ok(requirements::plan(&plan.line, &base)?)
}

fn place(base: &mut Topology, vms: &[NewVm]) -> anyhow::Result<()> {
    let [network] = base.networks.as_slice() else {
        bail!("the text has several networks: declare the VMs in it instead of with --vm");
    };
    let network = network.name.clone();
    let mut devices: BTreeMap<String, u32> = BTreeMap::new();
    for new in vms {
        let number = u8::try_from(base.vms.len().saturating_add(1));
        let number = number.context("so many VMs want addresses of their own: write them")?;
        let device = devices.entry(new.host.clone()).or_default();
        base.vms.push(Vm {
            name: new.name.clone(),
            mac: new.mac.unwrap_or(Mac([0x52, 0x54, 0, 0, 0, number])),
            network: network.clone(),
            host: new.host.clone(),
            device: format!("tap{device}"),
            fixed: false,
        });
        *device = device.saturating_add(1);
    }
    match base.problems().first() {
        None => Ok(()),
        Some(problem) => bail!("{}: {}", problem.error, problem.error.cure()),
    }
}

/// The part of a host, with a cookie for each link: none has been dealt, and nobody sees them.
fn part(topology: &Topology, host: &str) -> anyhow::Result<Part> {
    let mut secrets = Secrets::default();
    for link in &topology.links {
        if link.kind != LinkKind::Plain {
            secrets.deal(&link.from, &link.to, Cookie(1));
        }
    }
    Ok(topology.part(host, 0, &secrets)?)
}
