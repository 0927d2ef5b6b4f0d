//! What do the sections of the configuration say? `[underlay]`, `[[network]]`, `[[port]]`,
//! `[[link]]`, `[[rule]]`, `[limits]`.
//!
//! Here: whether each value can be read, and what one entry alone must satisfy to be an entry of
//! the model. Whether the entries make sense together is the model's business.

use std::net::{IpAddr, Ipv4Addr};

use toml::de::{DeTable, DeValue};
use vnet_common::addr::{Cookie, Mac, NetworkId};
use vnet_common::rule::{Destination, Source};

use super::read::{Read, Reader, Section, Wrong, number, other_kind, text, truth};
use crate::model::configuration::{
    Limits, TCP_PORT_DEFAULT, UDP_PORT_DEFAULT, Underlay, UnderlayMatch,
};
use crate::model::door::DoorChoice;
use crate::model::port::{SLOW_PATH_BURST_DEFAULT, SLOW_PATH_MAX, SLOW_PATH_RATE_DEFAULT};
use crate::model::problem::{Item, Place};
use crate::model::suggest::suggestion;
use crate::model::{
    Addresses, DeviceMatch, Flooding, Link, Network, Port, Rule, RuleOrigin, Target, Transport,
};

fn wrong(message: impl Into<String>, cure: impl Into<String>) -> Wrong {
    Wrong {
        message: message.into(),
        cure: cure.into(),
    }
}

fn owned(value: &DeValue<'_>, example: &str) -> Result<String, Wrong> {
    text(value, example).map(str::to_owned)
}

fn address(value: &DeValue<'_>) -> Result<IpAddr, Wrong> {
    let text = text(value, "\"10.0.0.2\"")?;
    text.parse().map_err(|_| {
        let cure = "write an IPv4 or IPv6 address, such as \"10.0.0.2\" or \"fd00::2\"";
        wrong(format!("{text:?} is no IP address"), cure)
    })
}

pub(super) fn underlay(document: &DeTable<'_>, reader: &mut Reader) -> Underlay {
    let mut underlay = Underlay {
        on: UnderlayMatch::Device(String::new()),
        udp_port: UDP_PORT_DEFAULT,
        tcp_port: TCP_PORT_DEFAULT,
        door: DoorChoice::Auto,
    };
    let at = |key| Place::new(Item::Underlay, key);
    let keys = ["device", "address", "udp_port", "tcp_port", "door"];
    let Some(section) = reader.section(document, Item::Underlay, &keys) else {
        if !document.contains_key("underlay") {
            let cure = "add [underlay] with device = \"eth0\", the device that the other hosts are reached by";
            reader.report(at(""), wrong("the section is missing", cure));
        }
        reader.mark_bad(at("device"));
        return underlay;
    };
    let device = reader.read(section, "device", |value| owned(value, "\"eth0\""));
    let address = reader.read(section, "address", address);
    match (device, address) {
        (Read::Missing, Read::Missing) => {
            let cure =
                "add device = \"eth0\", or address = \"10.0.0.1\" for the device that has it";
            let wrong = wrong("neither device nor address is there", cure);
            reader.report_missing(section.item, &["device", "address"], wrong);
            reader.mark_bad(at("device"));
        }
        (Read::Missing, Read::Good(address)) => underlay.on = UnderlayMatch::Address(address),
        (Read::Good(device), Read::Missing) => underlay.on = UnderlayMatch::Device(device),
        (Read::Missing, Read::Bad) | (Read::Bad, Read::Missing) => {
            reader.mark_bad(at("device"));
        }
        _ => {
            let message = "device and address both name the underlay";
            reader.report(at("address"), wrong(message, "keep one of them"));
            reader.mark_bad(at("device"));
        }
    }
    underlay.udp_port = port_number(section, "udp_port", UDP_PORT_DEFAULT, reader);
    underlay.tcp_port = port_number(section, "tcp_port", TCP_PORT_DEFAULT, reader);
    underlay.door = reader.read(section, "door", door).or(DoorChoice::Auto);
    underlay
}

fn port_number(section: Section<'_>, key: &'static str, default: u16, reader: &mut Reader) -> u16 {
    let port = reader.read(section, key, |value| number(value, 1..=u16::MAX.into()));
    u16::try_from(port.or(default.into())).unwrap_or(default)
}

pub(super) fn networks(document: &DeTable<'_>, reader: &mut Reader) -> Vec<Network> {
    let sections = reader.sections(document, Item::Network, &["name", "id"]);
    sections
        .into_iter()
        .map(|section| network(section, reader))
        .collect()
}

fn network(section: Section<'_>, reader: &mut Reader) -> Network {
    let example = "\"blue\"";
    let name = reader.read_required(section, "name", example, |value| owned(value, example));
    let id = reader.read_required(section, "id", "7", |value| {
        let id = NetworkId::new(number(value, 1..=NetworkId::MAX)?);
        id.ok_or_else(|| wrong("no network has this id", "write another number"))
    });
    Network {
        name: name.unwrap_or_default(),
        id: id.unwrap_or(FILLER_ID),
    }
}

/// Stands for a network id that could not be read.
const FILLER_ID: NetworkId = match NetworkId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};

pub(super) fn ports(document: &DeTable<'_>, reader: &mut Reader) -> Vec<Port> {
    let keys = [
        "name",
        "pattern",
        "network",
        "addresses",
        "set_mtu",
        "slow_path_rate",
        "slow_path_burst",
        "door",
    ];
    let sections = reader.sections(document, Item::Port, &keys);
    sections
        .into_iter()
        .map(|section| port(section, reader))
        .collect()
}

fn port(section: Section<'_>, reader: &mut Reader) -> Port {
    let device = device(section, reader);
    let example = "\"blue\"";
    let network = reader.read_required(section, "network", example, |value| owned(value, example));
    let set_mtu = reader.read(section, "set_mtu", truth);
    let per_second = |value: &DeValue<'_>| number(value, 1..=SLOW_PATH_MAX);
    let rate = reader.read(section, "slow_path_rate", per_second);
    let burst = reader.read(section, "slow_path_burst", per_second);
    let rate = rate.or(SLOW_PATH_RATE_DEFAULT);
    // The default must not be wrong where somebody asks for a low rate only.
    let burst_default = SLOW_PATH_BURST_DEFAULT.min(rate);
    Port {
        device,
        network: network.unwrap_or_default(),
        addresses: addresses(section, reader),
        set_mtu: set_mtu.or(true),
        slow_path_rate: rate,
        slow_path_burst: burst.or(burst_default),
        door: reader.read(section, "door", door).or(DoorChoice::Auto),
    }
}

fn door(value: &DeValue<'_>) -> Result<DoorChoice, Wrong> {
    let word = text(value, "\"auto\"")?;
    let known = [DoorChoice::Auto, DoorChoice::Xdp, DoorChoice::Tc];
    known
        .into_iter()
        .find(|door| door.to_string() == word)
        .ok_or_else(|| {
            let cure = "write \"auto\", or force one: \"xdp\", \"tc\"";
            wrong(format!("{word:?} is no door"), cure)
        })
}

fn device(section: Section<'_>, reader: &mut Reader) -> DeviceMatch {
    let name = reader.read(section, "name", |value| owned(value, "\"tap0\""));
    let pattern = reader.read(section, "pattern", |value| owned(value, "\"tap-*\""));
    let at = |key| Place::new(section.item, key);
    match (name, pattern) {
        (Read::Missing, Read::Missing) => {
            let cure = "add name = \"tap0\", or pattern = \"tap-*\" for several devices";
            let wrong = wrong("neither name nor pattern is there", cure);
            reader.report_missing(section.item, &["name", "pattern"], wrong);
            reader.mark_bad(at("name"));
            DeviceMatch::Name(String::new())
        }
        (Read::Good(name), Read::Missing) => DeviceMatch::Name(name),
        (Read::Missing, Read::Good(pattern)) => DeviceMatch::Pattern(pattern),
        (Read::Bad, Read::Missing) | (Read::Missing, Read::Bad) => {
            reader.mark_bad(at("name"));
            DeviceMatch::Name(String::new())
        }
        (name, _) => {
            let message = "name and pattern both say which devices are meant";
            reader.report(at("pattern"), wrong(message, "keep one of them"));
            reader.mark_bad(at("name"));
            DeviceMatch::Name(name.or(String::new()))
        }
    }
}

const ADDRESSES_EXAMPLE: &str = "[\"52:54:00:12:34:56\"] (or \"learn\", or \"any\")";

fn addresses(section: Section<'_>, reader: &mut Reader) -> Addresses {
    let at = Place::new(section.item, "addresses");
    let word = reader.read_required(
        section,
        "addresses",
        ADDRESSES_EXAMPLE,
        |value| match value {
            DeValue::Array(_) => Ok(None),
            DeValue::String(word) => match word.as_ref() {
                "learn" => Ok(Some(Addresses::Learn)),
                "any" => Ok(Some(Addresses::Any)),
                word if word.parse::<Mac>().is_ok() => Err(wrong(
                    "expected a list",
                    format!("write it in brackets: [{word:?}]"),
                )),
                word => Err(wrong(
                    format!("{word:?} says nothing about addresses"),
                    format!("write {ADDRESSES_EXAMPLE}"),
                )),
            },
            other => Err(other_kind(
                other,
                "a list, or a word in quotes",
                ADDRESSES_EXAMPLE,
            )),
        },
    );
    match (word, section.value("addresses")) {
        (Some(Some(word)), _) => word,
        (Some(None), Some(DeValue::Array(list))) => {
            Addresses::Only(reader.read_elements(at, list, mac))
        }
        _ => Addresses::Any,
    }
}

fn mac(value: &DeValue<'_>) -> Result<Mac, Wrong> {
    let text = text(value, "\"52:54:00:12:34:56\"")?;
    text.parse()
        .map_err(|error: vnet_common::addr::ParseError| {
            wrong(
                format!("{text:?} is no Ethernet address"),
                error.to_string(),
            )
        })
}

pub(super) fn links(document: &DeTable<'_>, reader: &mut Reader) -> Vec<Link> {
    let keys = [
        "name",
        "remote",
        "networks",
        "cookie",
        "plain",
        "flood",
        "kind",
        "listen_only",
        "fallback",
    ];
    let sections = reader.sections(document, Item::Link, &keys);
    sections
        .into_iter()
        .map(|section| link(section, reader))
        .collect()
}

fn link(section: Section<'_>, reader: &mut Reader) -> Link {
    let example = "\"to-two\"";
    let name = reader.read_required(section, "name", example, |value| owned(value, example));
    let remote = reader.read_required(section, "remote", "\"10.0.0.2\"", address);
    let flood = reader.read(section, "flood", flooding);
    let fallback = reader.read(section, "fallback", |value| {
        owned(value, "\"to-three\"").map(Some)
    });
    let kind = reader.read(section, "kind", transport);
    let listen_only = reader.read(section, "listen_only", truth);
    Link {
        name: name.unwrap_or_default(),
        remote: remote.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        networks: link_networks(section, reader),
        cookie: cookie(section, reader),
        flood: flood.or(Flooding::default()),
        fallback: fallback.or(None),
        kind: kind.or(Transport::Udp),
        listen_only: listen_only.or(false),
        rung_of: None,
    }
}

fn transport(value: &DeValue<'_>) -> Result<Transport, Wrong> {
    let word = text(value, "\"tls\"")?;
    let known = Transport::ALL.into_iter();
    let mut known = known.filter(|kind| kind.to_string() == word);
    known.next().ok_or_else(|| {
        wrong(
            format!("{word:?} is no kind of link"),
            "write \"udp\" (in the kernel), \"tcp\" or \"tls\" (by the agent)",
        )
    })
}

fn link_networks(section: Section<'_>, reader: &mut Reader) -> Vec<String> {
    let example = "[\"blue\"]";
    let list = reader.read_required(section, "networks", example, |value| match value {
        DeValue::Array(_) => Ok(()),
        DeValue::String(name) => Err(wrong(
            "expected a list",
            format!("write it in brackets: [{name:?}]"),
        )),
        other => Err(other_kind(other, "a list of networks", example)),
    });
    match (list, section.value("networks")) {
        (Some(()), Some(DeValue::Array(list))) => {
            let at = Place::new(section.item, "networks");
            reader.read_elements(at, list, |value| owned(value, "\"blue\""))
        }
        _ => Vec::new(),
    }
}

const COOKIE_CURE: &str =
    "write 16 hexadecimal digits in quotes, the same at both ends (make them: openssl rand -hex 8)";

fn cookie(section: Section<'_>, reader: &mut Reader) -> Option<Cookie> {
    // No message names the value: a nearly right cookie is nearly a secret.
    let cookie = reader.read(section, "cookie", |value| match value {
        DeValue::String(text) => text
            .parse()
            .map_err(|_| wrong("this is no cookie", COOKIE_CURE)),
        _ => Err(wrong("expected a text in quotes", COOKIE_CURE)),
    });
    let plain = reader.read(section, "plain", truth);
    let at = |key| Place::new(section.item, key);
    match (cookie, plain) {
        (Read::Missing, Read::Missing | Read::Good(false)) => {
            let cure = format!("{COOKIE_CURE}; or plain = true, where the other end is not ours");
            let wrong = wrong("cookie is missing", cure);
            reader.report_missing(section.item, &["cookie", "plain"], wrong);
            None
        }
        (Read::Good(_) | Read::Bad, Read::Good(true)) => {
            let message = "a plain link has no cookie";
            let cure = "remove plain where the other end is a vnet agent, else the cookie";
            reader.report(at("plain"), wrong(message, cure));
            None
        }
        (cookie, _) => cookie.good(),
    }
}

fn flooding(value: &DeValue<'_>) -> Result<Flooding, Wrong> {
    let word = text(value, "\"from-ports\"")?;
    let known = [Flooding::FromPorts, Flooding::Always, Flooding::Never];
    known
        .into_iter()
        .find(|flooding| flooding.to_string() == word)
        .ok_or_else(|| {
            let meant = suggestion(word, ["from-ports", "always", "never"]);
            let cure = match meant {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => "write \"from-ports\", \"always\" or \"never\"".to_owned(),
            };
            wrong(
                format!("{word:?} does not say which frames for many the link takes"),
                cure,
            )
        })
}

pub(super) fn rules(document: &DeTable<'_>, reader: &mut Reader) -> Vec<Rule> {
    let keys = [
        "network",
        "source",
        "destination",
        "link",
        "port",
        "flood",
        "drop",
    ];
    let sections = reader.sections(document, Item::Rule, &keys);
    sections
        .into_iter()
        .map(|section| rule(section, reader))
        .collect()
}

fn rule(section: Section<'_>, reader: &mut Reader) -> Rule {
    let example = "\"blue\"";
    let network = reader.read_required(section, "network", example, |value| owned(value, example));
    let source = reader.read(section, "source", |value| {
        let text = text(value, "\"any\"")?;
        text.parse::<Source>().map_err(|_| {
            let cure = "write \"any\", an address such as \"52:54:00:12:34:56\", or \"not 52:54:00:12:34:56\"";
            wrong(format!("{text:?} is no source"), cure)
        })
    });
    let example = "\"52:54:00:12:34:56\"";
    let destination = reader.read_required(section, "destination", example, |value| {
        let text = text(value, example)?;
        text.parse::<Destination>().map_err(|_| {
            let cure = "write \"any\", \"none\" (the default rule), an address such as \"52:54:00:12:34:56\", or \"not 52:54:00:12:34:56\"";
            wrong(format!("{text:?} is no destination"), cure)
        })
    });
    Rule {
        network: network.unwrap_or_default(),
        source: source.or(Source::Any),
        destination: destination.unwrap_or(Destination::None),
        to: target(section, reader),
        origin: RuleOrigin::File,
    }
}

fn target(section: Section<'_>, reader: &mut Reader) -> Target {
    let only_true = |value: &DeValue<'_>| match truth(value)? {
        true => Ok(()),
        false => Err(wrong(
            "false says nothing",
            "write true, or remove the line",
        )),
    };
    let link = reader.read(section, "link", |value| owned(value, "\"to-two\""));
    let port = reader.read(section, "port", |value| owned(value, "\"tap0\""));
    let flood = reader.read(section, "flood", only_true);
    let drop = reader.read(section, "drop", only_true);
    let keys = ["link", "port", "flood", "drop"];
    let at = |key| Place::new(section.item, key);
    let mut given: Vec<&'static str> = keys
        .into_iter()
        .filter(|key| reader.start(at(key)).is_some())
        .collect();
    given.sort_by_key(|key| reader.start(at(key)));
    match given.as_slice() {
        [] => {
            let cure = "add one of link = \"to-two\", port = \"tap0\", flood = true, drop = true";
            let wrong = wrong("nothing says where such frames go", cure);
            if !keys.iter().any(|key| reader.is_bad(at(key))) {
                reader.report(at(""), wrong);
            }
        }
        [_] => {}
        [first, second, ..] => {
            let message = format!("{second} says where such frames go, and so does {first}");
            reader.report(at(second), wrong(message, "keep one of them"));
        }
    }
    let mut targets = [
        link.good().map(Target::Link),
        port.good().map(Target::Port),
        flood.good().map(|()| Target::Flood),
        drop.good().map(|()| Target::Drop),
    ]
    .into_iter()
    .flatten();
    targets.next().unwrap_or(Target::Drop)
}

pub(super) fn limits(document: &DeTable<'_>, reader: &mut Reader) -> Limits {
    let mut limits = Limits::default();
    let keys = ["ports", "links", "networks", "rules", "flows"];
    let Some(section) = reader.section(document, Item::Limits, &keys) else {
        return limits;
    };
    let items = Limits::ITEMS_MAX;
    for (key, limit, most) in [
        ("ports", &mut limits.ports, items),
        ("links", &mut limits.links, items),
        ("networks", &mut limits.networks, items),
        ("rules", &mut limits.rules, Limits::RULES_MAX),
        ("flows", &mut limits.flows, Limits::FLOWS_MAX),
    ] {
        *limit = reader
            .read(section, key, |value| number(value, 1..=most))
            .or(*limit);
    }
    limits
}
