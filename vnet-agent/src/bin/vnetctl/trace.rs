//! Which way does a frame take on this host?
//!
//! Input: two addresses, or the frames of a capture. Output: for one frame the whole path, for
//! several a line each.

mod report;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ArgGroup;
use vnet_agent::api::{FrameBytes, Place, Refusal, TraceReport, TraceRequest};
use vnet_common::addr::Mac;

use crate::client::{Client, ClientError, path};
use crate::frame;
use crate::number::{counted, ethertype, exact};
use crate::pcap;
use crate::screen::{self, Format, Screen};
use report::{Subject, render, summarise, summary};

/// Larger captures are refused: nobody reads that many answers.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What `trace` takes.
#[derive(clap::Args)]
#[command(
    group = ArgGroup::new("frame").required(true).args(["source", "pcap"]),
    after_help = "\
The loaded program runs over the frame, and nothing is sent; the same steps run on the
host and explain what it did.

Examples:
  vnetctl trace --source 52:54:00:00:00:01 --destination 52:54:00:00:00:02
  vnetctl trace --source 52:54:00:00:00:02 --destination 52:54:00:00:00:01 --from link:to-two
  vnetctl trace --source 52:54:00:00:00:01 --destination ff:ff:ff:ff:ff:ff --bytes 1500
  tcpdump -i tap0 -c 10 -w - | vnetctl trace --from tap0 --pcap -"
)]
pub struct Arguments {
    /// Who sends the frame.
    #[arg(long, value_name = "MAC", requires = "destination")]
    source: Option<Mac>,
    /// Whom it is for.
    #[arg(long, value_name = "MAC", requires = "source")]
    destination: Option<Mac>,
    /// How long it is, Ethernet header included, check sequence not [default: 60].
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "pcap",
        value_parser = clap::value_parser!(u32)
            .range(i64::from(frame::HEADER_BYTES)..=i64::from(frame::BYTES_MAX))
    )]
    bytes: Option<u32>,
    /// What it says is in it, as a number; its payload is zeros [default: 0x88b6].
    #[arg(long, value_name = "TYPE", conflicts_with = "pcap", value_parser = ethertype)]
    ethertype: Option<u16>,
    /// The capture that the frames are in (pcap, Ethernet); - is standard input.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// How many frames of the capture at most [default: 100].
    #[arg(long, value_name = "N", requires = "pcap", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Where the frame comes in: a port's device, link:NAME (the inner frame), or underlay:DEVICE
    /// (the outer packet); if not given, the port that the source belongs to.
    #[arg(long, value_name = "PLACE", value_parser = place)]
    from: Option<Place>,
    /// The network, where the link carries several.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// The whole path of every frame of a capture.
    #[arg(short, long)]
    verbose: bool,
}

/// How many frames of a capture are traced where nothing is said.
const COUNT_DEFAULT: u32 = 100;

fn place(text: &str) -> Result<Place, String> {
    match text.split_once(':') {
        None if text.is_empty() => Err("where?".into()),
        None => Ok(Place::Port(text.to_owned())),
        Some((_, "")) => Err("there is no name after the colon".into()),
        Some(("port", device)) => Ok(Place::Port(device.to_owned())),
        Some(("link", name)) => Ok(Place::Link(name.to_owned())),
        Some(("underlay", device)) => Ok(Place::Underlay(device.to_owned())),
        Some(_) => Err("a place is a port's device, link:NAME or underlay:DEVICE".into()),
    }
}

/// Traces the frames, one after the other. A frame of a capture that the agent refuses does not
/// keep the others from being traced.
pub async fn run(
    arguments: &Arguments,
    client: &Client,
    screen: &Screen,
) -> anyhow::Result<ExitCode> {
    let (subjects, in_capture) = subjects(arguments)?;
    let several = subjects.len() > 1;
    let mut summary = summary();
    let (mut refused, mut differ) = (0u64, false);
    for (place, subject) in subjects.iter().enumerate() {
        let answer = match client
            .post(&path(&["trace"], &[]), &request(arguments, subject))
            .await
        {
            Ok(answer) => answer,
            Err(ClientError::Refused { refusal, .. }) if several => {
                refused += 1;
                match screen.format {
                    Format::Json => screen::write(&refusal_json(&refusal)?)?,
                    Format::Table => summarise(&mut summary, place + 1, subject, Err(&refusal)),
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let report: TraceReport = answer.value()?;
        differ |= report.agree == Some(false);
        match screen.format {
            Format::Json => screen::write(answer.bytes())?,
            Format::Table if several && !arguments.verbose => {
                summarise(&mut summary, place + 1, subject, Ok(&report));
            }
            Format::Table => {
                let gap = if place > 0 { "\n" } else { "" };
                let text = render(subject, &report, screen.columns);
                screen::write(format!("{gap}{text}").as_bytes())?;
            }
        }
    }
    if !summary.is_empty() {
        screen::write(summary.render(screen.columns).as_bytes())?;
    }
    if subjects.len() < in_capture {
        screen::complain(&format!(
            "vnetctl: {} of {} frames of the capture; --count for more",
            exact(subjects.len() as u64),
            exact(in_capture as u64)
        ))?;
    }
    if differ {
        bail!(
            "the loaded program and the host's run of the same steps differ: a rule or link \
             changed meanwhile, or this is a fault of ours; try again"
        );
    }
    if refused > 0 {
        bail!("{} could not be traced", counted(refused, "frame"));
    }
    Ok(ExitCode::SUCCESS)
}

fn request(arguments: &Arguments, subject: &Subject) -> TraceRequest {
    TraceRequest {
        from: arguments.from.clone(),
        network: arguments.network.clone(),
        frame: FrameBytes(subject.bytes.clone()),
    }
}

/// In the place of a report, so that there is a value a frame.
fn refusal_json(refusal: &Refusal) -> anyhow::Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(&serde_json::json!({ "refusal": refusal }))?;
    json.push(b'\n');
    Ok(json)
}

/// The frames, and how many the capture has.
fn subjects(arguments: &Arguments) -> anyhow::Result<(Vec<Subject>, usize)> {
    if let (Some(source), Some(destination)) = (arguments.source, arguments.destination) {
        let ethertype = arguments.ethertype.unwrap_or(frame::ETHERTYPE_EXPERIMENTAL);
        let length = arguments.bytes.unwrap_or(frame::BYTES_MIN_ON_WIRE);
        let bytes = frame::made_up(source, destination, ethertype, length);
        return Ok((
            vec![Subject {
                bytes,
                captured: None,
            }],
            1,
        ));
    }
    let Some(file) = &arguments.pcap else {
        bail!("neither addresses nor a capture")
    };
    let bytes = read_capture(file)?;
    let packets = pcap::packets(&bytes).with_context(|| format!("cannot use {}", name(file)))?;
    if packets.is_empty() {
        bail!("{} has no packets in it", name(file));
    }
    let count = usize::try_from(arguments.count.unwrap_or(COUNT_DEFAULT)).unwrap_or(usize::MAX);
    let mut subjects = Vec::new();
    for (place, packet) in packets.iter().enumerate().take(count) {
        if packet.original_bytes > frame::BYTES_MAX {
            bail!(
                "packet {} of {} has {} bytes; no frame has more than {}",
                place + 1,
                name(file),
                packet.original_bytes,
                frame::BYTES_MAX
            );
        }
        let bytes = frame::padded(packet.captured.to_vec(), packet.original_bytes);
        let kept = packet.captured.len();
        let captured = (kept < bytes.len()).then_some(kept);
        subjects.push(Subject { bytes, captured });
    }
    Ok((subjects, packets.len()))
}

fn name(file: &Path) -> String {
    if file.as_os_str() == "-" {
        "standard input".into()
    } else {
        file.display().to_string()
    }
}

fn read_capture(file: &Path) -> anyhow::Result<Vec<u8>> {
    let source: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).with_context(|| format!("cannot open {}", name(file)))?)
    };
    let mut bytes = Vec::new();
    source
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", name(file)))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!(
            "{} has more than {} bytes; cut it first",
            name(file),
            exact(FILE_BYTES_MAX)
        );
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_written() {
        assert_eq!(place("tap0"), Ok(Place::Port("tap0".into())));
        assert_eq!(place("link:to-two"), Ok(Place::Link("to-two".into())));
        assert_eq!(place("underlay:eth0"), Ok(Place::Underlay("eth0".into())));
        assert!(place("").is_err() && place("link:").is_err() && place("a:b").is_err());
    }
}
