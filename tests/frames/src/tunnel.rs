//! The headers of tunnels and of the agent's tap, byte by byte.
//!
//! Input: a layer's words and the bytes inside it. Output: the header, from the drawings in RFC
//! 8926 and in the module comments of `vnet_common::wire`, not from its types.

use anyhow::{Context, Result, bail, ensure};

use crate::actor;
use crate::build::{Header, Inside};
use crate::stage::Stage;
use crate::words::{Words, number};

/// `geneve NETWORK [version=N] [control] [critical] [protocol=N] [words=±N] [reserved=N]`: the
/// network by name or number, `none` for 0. `words` are those of the options that follow.
pub fn geneve(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    let name = words.next_plain().context("which network?")?;
    let network = match name {
        "none" => 0,
        name => inside.stage.network(name)?.get(),
    };
    let version: u8 = words.number("version", 0)?;
    let control = u8::from(words.flag("control")) << 7;
    let critical = u8::from(words.flag("critical")) << 6;
    let (options, then) = options_words(inside)?;
    let words_told: u8 = words.lie("words", options)?;
    ensure!(
        version < 4 && words_told < 64,
        "version has 2 bits, words 6"
    );
    // An Ethernet frame, or what a probe is sent as.
    let protocol = if then == Some("probe") {
        0x88b5
    } else {
        0x6558
    };
    let protocol: u16 = words.number("protocol", protocol)?;
    let mut bytes = vec![version << 6 | words_told, control | critical];
    bytes.extend(protocol.to_be_bytes());
    bytes.extend(&network.to_be_bytes()[1..]);
    bytes.push(words.number("reserved", 0)?);
    Ok(bytes)
}

/// `vxlan N`: the tunnel of RFC 7348, with its network's number.
pub fn vxlan(words: &mut Words<'_>) -> Result<Vec<u8>> {
    let network = number(words.next_plain().context("which network?")?)?;
    let [_, a, b, c] = u32::try_from(network)?.to_be_bytes();
    Ok(vec![0x08, 0, 0, 0, a, b, c, 0])
}

/// How many words of options follow a Geneve header, and the kind of the layer after them.
fn options_words<'a>(inside: &Inside<'a>) -> Result<(usize, Option<&'a str>)> {
    let mut total = 0;
    for line in inside.after {
        let mut option = Words::of(line)?;
        if option.kind != "option" {
            return Ok((total, Some(option.kind)));
        }
        total += match option.value("class") {
            Some(_) => 1 + option.number("words", 0usize)?,
            None => 7,
        };
    }
    Ok((total, None))
}

/// `option LINK [cookie=N|wrong] [stream=N|cpu] [sequence=N] [sent=N|now] [copy=N]`: the option of
/// our links. `option class=N type=N [words=N] [says=N]`: anybody's, with that many words of data.
pub fn option(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Header> {
    if let Some(class) = words.value("class") {
        let data: u8 = words.number("words", 0)?;
        let mut bytes = u16::try_from(number(class)?)?.to_be_bytes().to_vec();
        bytes.push(words.number("type", 0)?);
        bytes.push(words.number("says", data)?);
        bytes.resize(4 + 4 * usize::from(data), 0xdd);
        return Ok(bytes.into());
    }
    let name = words.next_plain().context("which link's?")?;
    let right = actor::link(name)?.cookie.0;
    let cookie = match words.value("cookie") {
        None => right,
        Some("wrong") => right ^ 1,
        Some(digits) => u64::from_str_radix(digits, 16)?,
    };
    let stream = match words.value("stream") {
        None => 0,
        Some("cpu") => inside.stage.cpu,
        Some(text) => u8::try_from(number(text)?)?,
    };
    let sequence: u32 = words.number("sequence", 0)?;
    let (sent_ns, clock) = time::<4>(words.value("sent"), 18)?;
    let mut bytes = vec![0xff, 0x76, 1, 6];
    bytes.extend(cookie.to_be_bytes());
    bytes.extend([0x65, 0x58]);
    bytes.push(stream);
    bytes.extend(&sequence.to_be_bytes()[1..]);
    bytes.extend(sent_ns);
    bytes.extend(words.number("copy", 0u32)?.to_be_bytes());
    bytes.extend([0x65, 0x58]);
    Ok(Header { bytes, clock })
}

/// Where a clock's time is, and how many bytes it has.
type Clock = (usize, usize);

/// A time of `BYTES` bytes at `at`: a number, or `now`, which the runner's clock decides.
fn time<const BYTES: usize>(word: Option<&str>, at: usize) -> Result<([u8; BYTES], Option<Clock>)> {
    let mut bytes = [0; BYTES];
    let clock = match word {
        None => None,
        Some("now") => Some((at, BYTES)),
        Some(text) => {
            let all = number(text)?.to_be_bytes();
            bytes.copy_from_slice(&all[8 - BYTES..]);
            None
        }
    };
    Ok((bytes, clock))
}

/// `probe request|reply|KIND sequence=N sent=N [answered=N|now]`
pub fn probe(words: &mut Words<'_>) -> Result<Header> {
    let kind = match words.next_plain().context("request or reply?")? {
        "request" => 1,
        "reply" => 2,
        other => u8::try_from(number(other)?)?,
    };
    let sequence: u32 = words.number("sequence", 0)?;
    let sent_ns: i64 = words.number("sent", 0)?;
    let (answered_ns, clock) = time::<8>(words.value("answered"), 16)?;
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(sent_ns.to_be_bytes());
    bytes.extend(answered_ns);
    Ok(Header { bytes, clock })
}

/// `slow frame|probe-reply|deliver|send|probe|too-big|carry|arrived|KIND NETWORK [port=P] [link=L]
/// [slot=NETWORK] [hops=N] [mtu=N|copy=N] [to=MAC] [type=N]`: the header on the agent's tap. To the
/// agent it names where the frame came from, from the agent where it goes. Numbers are in the host's order; network `none` is 0.
pub fn slow(words: &mut Words<'_>, inside: &Inside<'_>) -> Result<Vec<u8>> {
    const AGENT: [u8; 6] = [0x02, b'v', b'n', b'e', b't', 0];
    let word = words.next_plain().context("which kind?")?;
    let kind = match word {
        "frame" => 1,
        "probe-reply" => 2,
        "deliver" => 3,
        "send" => 4,
        "probe" => 5,
        "too-big" => 6,
        "carry" => 7,
        "arrived" => 8,
        other => u8::try_from(number(other)?)?,
    };
    let network = match words.next_plain().context("which network?")? {
        "none" => 0,
        name => inside.stage.network(name)?.get(),
    };
    let (port, link) = (words.value("port"), words.value("link"));
    let origin = match (kind, port, link) {
        (1 | 2 | 6, Some(_), None) => 1,
        (1 | 2 | 6, None, Some(_)) => 2,
        (1 | 2 | 6, ..) => bail!("a frame to the agent came from one port or link"),
        (8, ..) => 2,
        _ => 3,
    };
    let port = match (port, words.value("slot")) {
        (Some(name), _) => inside.stage.device(name)?,
        (None, Some(network)) => Stage::network_slot(network)?,
        (None, None) => 0,
    };
    let link = link.map_or(Ok(0), |name| inside.stage.link(name).map(|id| id.0))?;
    let to = words
        .value("to")
        .map_or(Ok(AGENT), |word| actor::mac(word).map(|mac| mac.0))?;
    let from_agent = !matches!(kind, 1 | 2 | 6 | 7);
    let ether_type: u16 = words.number("type", if from_agent { 0x0800 } else { 0x88b5 })?;
    let mut bytes = [to, AGENT].concat();
    bytes.extend(ether_type.to_be_bytes());
    bytes.push(kind);
    bytes.push(words.number("hops", 0)?);
    for number in [network, port, link] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes.push(origin);
    match words.value("copy") {
        Some(copy) => bytes.extend(&u32::try_from(number(copy)?)?.to_be_bytes()[1..]),
        None => {
            bytes.push(0);
            bytes.extend(words.number("mtu", 0u16)?.to_ne_bytes());
        }
    }
    Ok(bytes)
}
