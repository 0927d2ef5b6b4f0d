//! The control channel: what an agent, a proxy or a stranger may say to the other end.
//!
//! An input is a conversation: each line is the text of one message, which gets its length in front,
//! or with a `!` bytes as they are. It comes in pieces that the connection has cut by chance.

mod from_agent;
mod from_proxy;
mod stranger;
mod trace;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vnet_agent::overlay::message::{
    Capacities, Hello, IntroducedPort, Introduction, Pieces, VERSION, encode,
};
use vnet_common::addr::Mac;

use super::same;

pub(super) use from_agent::FromAgent;
pub(super) use from_proxy::FromProxy;
pub(super) use stranger::Stranger;
pub(super) use trace::Traces;

/// The bytes of a conversation.
fn stream(input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in input.split(|&byte| byte == b'\n') {
        match line.strip_prefix(b"!") {
            Some(raw) => bytes.extend_from_slice(raw),
            None => {
                bytes.extend(u32::try_from(line.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(line);
            }
        }
    }
    bytes
}

/// What is heard of a conversation until it makes no sense any more, message by message.
fn listen<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    input: &[u8],
    most: usize,
    mut hear: impl FnMut(Result<T, String>) -> Result<bool, String>,
) -> Result<usize, String> {
    let mut pieces = Pieces::new(most);
    let mut heard = 0;
    for piece in stream(input).chunks(1 + input.len() % 97) {
        pieces.push(piece);
        loop {
            match pieces.take::<T>() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    let bytes = encode(&message).map_err(|error| error.to_string())?;
                    let mut again = Pieces::new(usize::MAX);
                    again.push(&bytes);
                    let again = again.take::<T>().map_err(|error| error.to_string())?;
                    same(
                        &again.as_ref(),
                        &Some(&message),
                        "said again, it is something else",
                    )?;
                    heard += 1;
                    if !hear(Ok(message))? {
                        return Ok(heard);
                    }
                }
                Err(error) => {
                    hear(Err(error.to_string()))?;
                    return Ok(heard);
                }
            }
        }
    }
    Ok(heard)
}

fn line(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap()
}

fn conversations(all: &[Vec<String>]) -> Vec<Vec<u8>> {
    all.iter()
        .map(|lines| lines.join("\n").into_bytes())
        .collect()
}

const GUEST_ONE: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const GUEST_TWO: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);

fn introduction(address: &str, station: Mac) -> Introduction {
    Introduction {
        underlay: vec![address.parse().unwrap()],
        udp_port: 6081,
        ports: vec![IntroducedPort {
            device: "tap0".to_owned(),
            network: "blue".to_owned(),
            stations: vec![station],
            is_open: false,
        }],
        capacities: Capacities {
            processors: 8,
            memory_bytes: 1 << 34,
        },
    }
}

fn hello(name: &str, address: &str, station: Mac) -> Hello {
    Hello {
        version: VERSION,
        name: name.to_owned(),
        software: "0.1.0".to_owned(),
        schema: 1,
        instance: 5,
        held: None,
        introduction: introduction(address, station),
    }
}
