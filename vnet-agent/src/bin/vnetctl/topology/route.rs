//! Which way does a frame take over all hosts: by a text, or just now?
//!
//! Input: a text and the model, or the proxy's answer, which has asked the hosts. Output: hop by hop
//! what decides, and where the hosts do not do what the model says.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use vnet_agent::api::{Forwarding, LiveFate, LiveHop, LiveRoute, Stop, Unasked};
use vnet_agent::model::topology::{Hop, Router, Topology};
use vnet_common::addr::Mac;

use super::{nobody, read, report, show};
use crate::client::{Client, path};
use crate::frame;
use crate::number::{counted, duration, ethertype};
use crate::rule::origin;
use crate::screen::Screen;
use crate::text::paragraph;

/// What `topology route` takes.
#[derive(clap::Args)]
#[command(
    override_usage = "vnetctl topology route [OPTIONS] [FILE] <SOURCE> <DESTINATION>",
    after_help = "\
Without a file the hosts themselves are asked, one after the other, what their tables do with such a
frame now; nothing is sent. Where that is not what the overlay's topology says, a line says so. With
a file, the text is asked.

Who sends is a VM or its address; who is to receive a VM, any address, or \"broadcast\": a frame for
many goes many ways, and all of them are shown.

Examples:
  vnetctl topology route vm1 vm3
  vnetctl topology route 52:54:00:00:00:01 52:54:00:00:00:03 --bytes 1500
  vnetctl topology route lan.vnet vm1 vm3
  vnetctl topology route lan.vnet 52:54:00:00:00:01 broadcast --network blue"
)]
pub struct Arguments {
    /// A text (- for standard input) that is asked instead of the hosts; who sends; who is to receive.
    #[arg(
        value_names = ["FILE", "SOURCE", "DESTINATION"],
        num_args = 2..=3,
        required = true
    )]
    words: Vec<String>,
    /// In which network, where VMs of several have the address.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// How long the frame is, Ethernet header included, check sequence not [default: 60].
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32)
            .range(i64::from(frame::HEADER_BYTES)..=i64::from(frame::BYTES_MAX))
    )]
    bytes: Option<u32>,
    /// What it says is in it, as a number [default: 0x88b6].
    #[arg(long, value_name = "TYPE", value_parser = ethertype)]
    ethertype: Option<u16>,
}

/// Shows the way.
pub async fn run(arguments: &Arguments, client: &Client, screen: &Screen) -> anyhow::Result<()> {
    match arguments.words.as_slice() {
        [source, destination] => live(arguments, (source, destination), client, screen).await,
        [file, source, destination] => {
            if arguments.bytes.is_some() || arguments.ethertype.is_some() {
                bail!("by a text, a frame's way does not depend on --bytes and --ethertype");
            }
            let topology = read(&PathBuf::from(file))?;
            let network = arguments.network.as_deref();
            let hops = hops(&topology, source, destination, network)?;
            show(screen, &hops, |hops, columns| report::hops(hops, columns))
        }
        _ => bail!("say who sends and who is to receive"),
    }
}

/// By a text.
fn hops(
    topology: &Topology,
    source: &str,
    destination: &str,
    network: Option<&str>,
) -> anyhow::Result<Vec<Hop>> {
    let named = |text: &str| topology.vms.iter().find(|vm| vm.name == text);
    let destination = match destination {
        "broadcast" => Mac::BROADCAST,
        text => match named(text) {
            Some(vm) => vm.mac,
            None => text.parse().ok().with_context(|| nobody(topology, text))?,
        },
    };
    let router = Router::new(topology);
    if let Some(vm) = named(source) {
        return Ok(router.from_vm(vm, destination));
    }
    let address: Option<Mac> = source.parse().ok();
    let address = address.with_context(|| nobody(topology, source))?;
    let hops = router.route(network, address, destination);
    hops.context("there is no way to speak of")
}

/// Just now.
async fn live(
    arguments: &Arguments,
    (source, destination): (&str, &str),
    client: &Client,
    screen: &Screen,
) -> anyhow::Result<()> {
    let text = |value: &str| Some(value.to_owned());
    let query = [
        ("source", text(source)),
        ("destination", text(destination)),
        ("network", arguments.network.clone()),
        ("bytes", arguments.bytes.map(|bytes| bytes.to_string())),
        (
            "ethertype",
            arguments.ethertype.map(|number| number.to_string()),
        ),
    ];
    let answer = client.get(&path(&["topology", "route"], &query)).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_unix_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    screen.show(&answer, |route: &LiveRoute, columns| {
        render(route, now_unix_ms, columns)
    })
}

fn render(route: &LiveRoute, now_unix_ms: u64, columns: Option<usize>) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        text.push_str(&paragraph(&format!("{label:<9} "), value, columns));
    };
    line(
        "frame",
        &format!(
            "{} -> {}, {}, network {}",
            route.source,
            route.destination,
            counted(route.bytes, "byte"),
            route.network
        ),
    );
    for hop in &route.hops {
        line(&format!("hop {}", hop.number), &arrival(hop));
        if let (Some(has), Some(should)) = (hop.revision, hop.dealt_revision)
            && has != should
        {
            line(
                "  part",
                &format!("it goes by revision {has}, and should by {should}"),
            );
        }
        if let Some(why) = &hop.unasked {
            line("  unasked", &unasked(why, now_unix_ms));
        }
        if let Some(rule) = rule(hop) {
            line("  rule", &rule);
        }
        for fate in &hop.fates {
            let (label, words) = ending(fate);
            line(label, &words);
        }
        if let Some(program) = program(hop) {
            line("  program", &program);
        }
    }
    match (&route.differs, route.has_model) {
        (Some(difference), _) => line("DIFFERS", difference),
        (None, true) if route.hops.iter().any(|hop| hop.unasked.is_some()) => {
            line("model", "as far as hosts could be asked, the same way");
        }
        (None, true) => line("model", "the same way"),
        (None, false) => line("model", "not known here: this host stands alone"),
    }
    text
}

/// Where a frame is.
fn arrival(hop: &LiveHop) -> String {
    let from_host = hop.from_host.as_ref();
    let from_host = from_host.map_or_else(String::new, |host| format!(" (from {host})"));
    let after = match (hop.after, hop.number) {
        // The one before, as everybody thinks.
        (Some(after), number) if after.saturating_add(1) != number => {
            format!(", after hop {after}")
        }
        _ => String::new(),
    };
    format!("{}, in by {}{from_host}{after}", hop.host, hop.from)
}

fn unasked(why: &Unasked, now_unix_ms: u64) -> String {
    let spoken = "the model says what it should do";
    match why {
        Unasked::Apart {
            since_unix_ms: Some(since),
        } => {
            let age_s = now_unix_ms.saturating_sub(*since) / 1000;
            format!("not connected for {}: {spoken}", duration(age_s))
        }
        Unasked::Apart {
            since_unix_ms: None,
        } => format!("not connected since the proxy began: {spoken}"),
        Unasked::Silent { waited_ms } => format!("no answer within {waited_ms} ms: {spoken}"),
        Unasked::NoTime => format!("no time was left to ask it: {spoken}"),
        Unasked::Refused { message } => format!("it cannot tell: {message}; by the model:"),
        Unasked::Nonsense { message } => {
            format!("what it says is no answer ({message}); by the model:")
        }
    }
}

fn rule(hop: &LiveHop) -> Option<String> {
    if let Some(model) = &hop.model_rule {
        return Some(format!("{model} (by the model)"));
    }
    let rule = hop.rule.as_ref()?;
    let by = origin(rule.origin);
    let mut words = format!("{rule} (strength {}, origin {by})", rule.strength);
    if let Some(note) = &rule.note {
        words.push_str(&format!("; {note}"));
    }
    Some(words)
}

fn ending(fate: &LiveFate) -> (&'static str, String) {
    match fate {
        LiveFate::Delivered { device, vms } if vms.is_empty() => ("  arrives", device.clone()),
        LiveFate::Delivered { device, vms } => {
            ("  arrives", format!("{device} ({})", vms.join(", ")))
        }
        LiveFate::Forwarded(way) => ("  goes", onwards(way)),
        LiveFate::Dropped {
            reason: Some(reason),
            message,
        } => ("  DROPPED", format!("{reason}: {message}")),
        LiveFate::Dropped {
            reason: None,
            message,
        } => ("  DROPPED", message.clone()),
        LiveFate::Otherwise { message } => ("  ends", message.clone()),
    }
}

fn onwards(way: &Forwarding) -> String {
    let mut words = match &way.to {
        Some(host) => format!("to {host}"),
        None => "away".to_owned(),
    };
    if way.to.is_none()
        && let Some(remote) = way.remote
    {
        words = format!("to {remote}");
    }
    match &way.over {
        Some(over) => {
            let link = &way.link;
            words.push_str(&format!(
                " over link {over}, as link {link} is dead, in {}",
                way.kind
            ));
        }
        None => words.push_str(&format!(" over link {}, in {}", way.link, way.kind)),
    }
    if let Some(why) = &way.why {
        words.push_str(&format!(" ({why})"));
    }
    if let Some(mtu) = way.guest_mtu_bytes {
        words.push_str(&format!(", MTU {mtu} for guests"));
    }
    match (way.stop, way.hop) {
        (Some(Stop::Loop), Some(hop)) => words.push_str(&format!(": LOOP to hop {hop}")),
        (Some(stop), Some(hop)) => words.push_str(&format!(": {} (hop {hop})", stop.text())),
        (Some(stop), None) => words.push_str(&format!(": {}", stop.text())),
        (None, _) => {}
    }
    words
}

/// What was asked, and whether it can be believed.
fn program(hop: &LiveHop) -> Option<String> {
    let kernel = hop.kernel.as_ref();
    let door = hop.door.map(|door| format!("at the {door} door"));
    let known = hop.flow_cached.then(|| "the flow is known".to_owned());
    let agree = match hop.agree {
        Some(false) => Some("the host's own run of the same steps DIFFERS".to_owned()),
        _ => None,
    };
    let not_run = (kernel.is_none() && hop.unasked.is_none())
        .then(|| "not run: this is what the same steps on the host say".to_owned());
    let words = [kernel.cloned(), not_run, door, known, agree];
    let words: Vec<String> = words.into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_ends_says_how() {
        let way = |stop, hop| Forwarding {
            link: "to-two".into(),
            over: None,
            to: Some("two".into()),
            remote: None,
            kind: vnet_agent::model::Transport::Udp,
            why: None,
            since_unix_ms: None,
            guest_mtu_bytes: None,
            hop,
            stop,
        };
        assert_eq!(
            onwards(&way(Some(Stop::Loop), Some(1))),
            "to two over link to-two, in udp: LOOP to hop 1"
        );
        let dead = Forwarding {
            over: Some("to-proxy".into()),
            to: None,
            remote: Some([10, 0, 0, 9].into()),
            ..way(Some(Stop::Unknown), None)
        };
        assert_eq!(
            onwards(&dead),
            "to 10.0.0.9 over link to-proxy, as link to-two is dead, in udp: the link is not of the \
             overlay, and nobody there can be asked"
        );
    }
}
