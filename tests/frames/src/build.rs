//! Words to bytes: the frames of tests, written by an encoder that is not ours.
//!
//! Ethernet, VLAN, ARP, IP, TCP and UDP headers are `etherparse`'s ([`ordinary`]); Geneve, its
//! options, probes and the agent's header are written byte by byte ([`tunnel`]). Nothing here uses
//! `vnet_common::wire`, so that a mistake there cannot hide itself.
//!
//! Layers are built from the last to the first, so that every length is that of what follows;
//! `padding` is behind everything and in no length.

use anyhow::{Context, Result, ensure};

use crate::stage::Stage;
use crate::words::{Words, number};
use crate::{actor, ordinary, tunnel};

/// A frame in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Fields that hold a clock's time: where, and how many bytes.
    pub clocks: Vec<(usize, usize)>,
    /// Where Ethernet headers begin, the outermost first.
    ethernets: Vec<usize>,
    /// Where padding begins.
    end: usize,
}

impl Built {
    /// The same, cut short (never longer).
    #[must_use]
    pub fn truncated(&self, bytes: usize) -> Self {
        let mut cut = self.clone();
        cut.bytes.truncate(bytes);
        cut.end = cut.end.min(bytes);
        cut
    }

    /// The frame inside a tunnel's packet, without what pads the packet.
    fn inner(&self) -> Result<&[u8]> {
        let at = *self.ethernets.get(1).context("there is no frame inside")?;
        self.bytes
            .get(at..self.end)
            .context("the frame inside was cut off")
    }
}

/// What a layer's builder may look at.
pub struct Inside<'a> {
    /// The numbers of this run.
    pub stage: &'a Stage,
    /// The bytes of everything after this layer, padding excepted.
    pub bytes: &'a [u8],
    /// The layers after this one.
    pub after: &'a [String],
    /// The layer before this one.
    pub before: Option<&'a str>,
}

impl Inside<'_> {
    /// The kind of the layer after this one.
    pub fn next_kind(&self) -> &str {
        let next = self.after.first();
        next.and_then(|line| line.split_whitespace().next())
            .unwrap_or_default()
    }
}

/// A layer's own bytes, and which of them hold a clock's time.
#[derive(Debug, Default)]
pub struct Header {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where a time begins, and how many bytes it has.
    pub clock: Option<(usize, usize)>,
}

impl From<Vec<u8>> for Header {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, clock: None }
    }
}

/// Builds a frame from its layers, outermost first. `input` is what `the frame` and
/// `the inner frame` mean.
///
/// # Errors
///
/// A layer is not understood.
pub fn build(layers: &[impl AsRef<str>], stage: &Stage, input: Option<&Built>) -> Result<Built> {
    let lines = expand(layers)?;
    let mut builder = Builder {
        stage,
        input,
        rest: Vec::new(),
        padding: Vec::new(),
        clocks: Vec::new(),
        ethernets: Vec::new(),
    };
    for (place, line) in lines.iter().enumerate().rev() {
        let before = place.checked_sub(1).and_then(|place| lines.get(place));
        let after = lines.get(place + 1..).unwrap_or_default();
        builder
            .layer(line, before.map(String::as_str), after)
            .with_context(|| format!("in the layer `{line}`"))?;
    }
    builder.built()
}

/// `hello a -> b [size=N]`: an ordinary UDP packet over IPv4, 60 bytes where nothing is said.
fn expand(layers: &[impl AsRef<str>]) -> Result<Vec<String>> {
    const HEADERS: usize = 14 + 20 + 8;
    let mut lines = Vec::new();
    for line in layers.iter().map(AsRef::as_ref) {
        let mut words = Words::of(line)?;
        if words.kind != "hello" {
            lines.push(line.to_owned());
            continue;
        }
        let (from, to) = words.pair()?;
        let size = words.number("size", 60usize)?;
        words.done()?;
        let payload = size
            .checked_sub(HEADERS)
            .with_context(|| format!("`{line}` has {HEADERS} bytes of headers"))?;
        let address = |name| match actor::actor(name) {
            Ok(actor) => actor.ipv4.to_string(),
            Err(_) => "192.168.7.250".to_owned(),
        };
        lines.push(format!("ethernet {from} -> {to}"));
        lines.push(format!("ipv4 {} -> {}", address(from), address(to)));
        lines.push("udp 4000 -> 5000".to_owned());
        lines.push(format!("payload {payload}"));
    }
    Ok(lines)
}

struct Builder<'a> {
    stage: &'a Stage,
    input: Option<&'a Built>,
    /// What is built so far, without padding.
    rest: Vec<u8>,
    padding: Vec<u8>,
    /// As in [`Built`], but counted from the end of `rest`.
    clocks: Vec<(usize, usize)>,
    ethernets: Vec<usize>,
}

impl Builder<'_> {
    fn layer(&mut self, line: &str, before: Option<&str>, after: &[String]) -> Result<()> {
        let mut words = Words::of(line)?;
        let inside = Inside {
            stage: self.stage,
            bytes: &self.rest,
            after,
            before,
        };
        let header: Header = match words.kind {
            "ethernet" => ordinary::ethernet(&mut words, &inside)?.into(),
            "vlan" | "service-vlan" => ordinary::vlan(&mut words, &inside)?.into(),
            "arp" => ordinary::arp(&mut words)?.into(),
            "ipv4" => ordinary::ipv4(&mut words, &inside)?.into(),
            "ipv6" => ordinary::ipv6(&mut words, &inside)?.into(),
            "udp" => ordinary::udp(&mut words, &inside)?.into(),
            "tcp" => ordinary::tcp(&mut words, &inside)?.into(),
            "fragment" => ordinary::fragment(&mut words)?.into(),
            "neighbour" => ordinary::neighbour(&mut words, &inside)?.into(),
            "vxlan" => tunnel::vxlan(&mut words)?.into(),
            "geneve" => tunnel::geneve(&mut words, &inside)?.into(),
            "option" => tunnel::option(&mut words, &inside)?,
            "probe" => tunnel::probe(&mut words)?,
            "slow" => tunnel::slow(&mut words, &inside)?.into(),
            "payload" => pattern(&mut words)?.into(),
            "bytes" => literal(&mut words)?.into(),
            "padding" => return self.pad(words),
            "the" => self.quoted(&mut words)?.into(),
            kind => anyhow::bail!("no layer is called `{kind}`"),
        };
        let is_ethernet = matches!(words.kind, "ethernet" | "slow");
        words.done()?;
        self.prepend(header, is_ethernet);
        Ok(())
    }

    fn prepend(&mut self, header: Header, is_ethernet: bool) {
        self.rest.splice(0..0, header.bytes);
        let end = self.rest.len();
        self.clocks
            .extend(header.clock.map(|(at, bytes)| (end - at, bytes)));
        if is_ethernet {
            self.ethernets.push(end);
        }
    }

    fn pad(&mut self, mut words: Words<'_>) -> Result<()> {
        let bytes = number(words.next_plain().context("how many?")?)?;
        words.done()?;
        ensure!(self.rest.is_empty(), "padding comes last");
        self.padding = vec![0; usize::try_from(bytes)?];
        Ok(())
    }

    /// `the frame [first=N]` and `the inner frame`: as they came in, or the first bytes of it.
    fn quoted(&self, words: &mut Words<'_>) -> Result<Vec<u8>> {
        let input = self.input.context("there is no frame yet")?;
        let is_inner = words.flag("inner");
        ensure!(words.flag("frame"), "the what?");
        let mut bytes = if is_inner {
            input.inner()?.to_vec()
        } else {
            input.bytes.clone()
        };
        bytes.truncate(words.number("first", usize::MAX)?);
        Ok(bytes)
    }

    fn built(self) -> Result<Built> {
        let end = self.rest.len();
        let place = |from_end: usize| end.checked_sub(from_end).context("unreachable place");
        let mut clocks = Vec::new();
        for (from_end, bytes) in self.clocks {
            clocks.push((place(from_end)?, bytes));
        }
        let mut ethernets = Vec::new();
        for from_end in self.ethernets.into_iter().rev() {
            ethernets.push(place(from_end)?);
        }
        let mut bytes = self.rest;
        bytes.extend(self.padding);
        Ok(Built {
            bytes,
            clocks,
            ethernets,
            end,
        })
    }
}

/// `payload N [seed=N]`: bytes that tell their place.
fn pattern(words: &mut Words<'_>) -> Result<Vec<u8>> {
    let bytes: usize = usize::try_from(number(words.next_plain().context("how many?")?)?)?;
    let seed: usize = words.number("seed", 0)?;
    Ok((seed..seed + bytes)
        .map(|place| (place % 251) as u8)
        .collect())
}

/// `bytes 01 02 ff`.
fn literal(words: &mut Words<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(digits) = words.next_plain() {
        bytes.push(u8::from_str_radix(digits, 16)?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::build;
    use crate::stage::Stage;

    fn hex(layers: &[&str]) -> String {
        let built = build(layers, &Stage::default(), None).unwrap();
        let digits: Vec<String> = built.bytes.iter().map(|b| format!("{b:02x}")).collect();
        digits.join("")
    }

    /// By hand, from the drawings in RFC 894, 791, 768 and 8926.
    #[test]
    fn a_tunnel_packet_is_what_its_rfcs_draw() {
        let layers = [
            "ethernet host_two -> host_one",
            "ipv4 host_two -> host_one ttl=64 df",
            "udp 50000 -> geneve",
            "geneve blue",
            "option to_two stream=1 sequence=2 sent=3",
            "bytes aa bb",
            "padding 3",
        ];
        let expected = [
            "02000000a001",
            "02000000a002",
            "0800",
            // 20 + 8 + 8 + 28 + 2 bytes, not to be fragmented, 64 hops, UDP.
            "45000042",
            "00004000",
            "401126a9",
            "0a000002",
            "0a000001",
            "c35017c1",
            "002e0000",
            "0700655800000700",
            "ff760106",
            "0123456789abcdef",
            "6558",
            "01000002",
            "00000003",
            "00000000",
            "6558",
            "aabb",
            "000000",
        ];
        assert_eq!(hex(&layers), expected.concat());
    }

    #[test]
    fn a_layer_that_is_not_understood_says_so() {
        let refuse = |layers: &[&str]| {
            let error = build(layers, &Stage::default(), None).unwrap_err();
            format!("{error:#}")
        };
        assert!(refuse(&["ethernet nobody -> host_one type=0x0800"]).contains("nobody"));
        assert!(refuse(&["magic a -> b"]).contains("magic"));
        assert!(refuse(&["ethernet host_one -> host_two"]).contains("type="));
        assert!(refuse(&["the frame"]).contains("no frame"));
    }
}
