//! What do an agent and the proxy say to each other?
//!
//! Input: bytes of a TLS connection, in pieces of any size. Output: messages, or why the other end
//! is not worth talking to. On the connection a message is
//!
//! ```text
//! length of the rest, 4 bytes, big-endian | JSON
//! ```
//!
//! The first message of an agent says which version of this language it speaks. Within a version
//! fields may be added, and unknown ones are passed over.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vnet_common::addr::Mac;

use crate::model::part::Part;

/// The version of what is said here. Both ends must speak the same.
pub const VERSION: u32 = 1;

/// The longest message: a part with 20,000 rules is shorter.
pub const BYTES_MAX: usize = 4 << 20;

/// The longest request, or answer, that is passed on; as text in a message it is a little longer.
pub const CALL_BYTES_MAX: usize = 1 << 20;

/// The longest message of somebody who has only a token to show.
pub const STRANGER_BYTES_MAX: usize = 16 << 10;

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToProxy {
    /// Who I am; first of all, and once.
    Hello(Box<Hello>),
    /// What I have now.
    Introduction(Introduction),
    /// The part of this revision is on my disk and in force.
    Kept {
        /// Its revision.
        revision: u64,
    },
    /// The part of this revision is not.
    Declined {
        /// Its revision.
        revision: u64,
        /// Why not.
        why: String,
    },
    /// The part of this revision is on my disk, and this of it is not in force.
    Lacks {
        /// Its revision.
        revision: u64,
        /// What.
        missing: Vec<Missing>,
    },
    /// A request of this host's users, about the whole.
    Call(Call),
    /// The answer to the proxy's.
    Reply(Reply),
    /// A new certificate, please; with the request of a new key.
    Renew {
        /// PKCS #10, DER.
        request: Vec<u8>,
    },
    /// I am here.
    Alive,
}

/// What the proxy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToAgent {
    /// You are in.
    Accepted {
        /// The proxy's name.
        proxy: String,
    },
    /// You are not; the connection ends.
    Refused {
        /// Why, for people.
        why: String,
    },
    /// This is yours of the whole.
    Part(Part),
    /// A request of the proxy's.
    Call(Call),
    /// The answer to the agent's.
    Reply(Reply),
    /// Your new certificate.
    Renewed {
        /// The certificate, DER.
        certificate: Vec<u8>,
        /// The authority's, DER.
        authority: Vec<u8>,
    },
    /// There is none for you.
    NotRenewed {
        /// Why, for people.
        why: String,
    },
    /// I am here.
    Alive,
}

/// What a host says that has a token and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Which version of this language it speaks.
    pub version: u32,
    /// The secret in the token.
    pub secret: Vec<u8>,
    /// The request of its key: PKCS #10, DER.
    pub request: Vec<u8>,
}

/// What the proxy answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum JoinAnswer {
    /// Welcome.
    Joined {
        /// The certificate, DER.
        certificate: Vec<u8>,
        /// The authority's, DER.
        authority: Vec<u8>,
    },
    /// No.
    Refused {
        /// Why, for people.
        why: String,
    },
}

/// A request of the API, passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// What tells it from others that are asked by this end.
    pub number: u64,
    /// GET, POST, or the like.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// JSON, or nothing.
    pub body: String,
}

/// A request that is to be passed on, and who waits for the answer. Where there is none, the waiter is
/// dropped.
#[derive(Debug)]
pub struct Asked<W> {
    /// GET, POST, or the like.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// JSON, or nothing.
    pub body: String,
    /// Takes the answer.
    pub answer: W,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub number: u64,
    /// As HTTP has it.
    pub status: u16,
    /// JSON.
    pub body: String,
}

/// What of a part is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The link that it is about, if it is about one.
    pub link: Option<String>,
    /// What is the matter, for people.
    pub why: String,
}

/// Who an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which version of this language it speaks.
    pub version: u32,
    /// Its name; the one in its certificate.
    pub name: String,
    /// Which version of the program it is.
    pub software: String,
    /// The number of its data plane's layouts.
    pub schema: u32,
    /// What tells this process from every other: random.
    pub instance: u64,
    /// The revision of the part that it goes by; none before the first.
    pub held: Option<u64>,
    /// What it has.
    pub introduction: Introduction,
}

/// What an agent has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Where it is on the underlay: its primary addresses there.
    pub underlay: Vec<IpAddr>,
    /// The UDP port that it hears the overlay on.
    pub udp_port: u16,
    /// Its ports.
    pub ports: Vec<IntroducedPort>,
    /// What VMs may use of it.
    pub capacities: Capacities,
}

/// A port of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntroducedPort {
    /// Its device.
    pub device: String,
    /// The network that it is in, by name.
    pub network: String,
    /// The stations behind it, as far as they are known.
    pub stations: Vec<Mac>,
    /// Whether there may be any others: it leads to a LAN.
    pub is_open: bool,
}

/// What a host is able to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacities {
    /// Processors that are on.
    pub processors: u32,
    /// Memory, all of it.
    pub memory_bytes: u64,
}

/// Why what the other end sends is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than anything that is said here.
    #[error("a message of {length} bytes is longer than {most}")]
    TooLong {
        /// What it says.
        length: usize,
        /// What would be taken.
        most: usize,
    },
    /// Not a message of this language.
    #[error("a message cannot be read: {0}")]
    Unreadable(String),
}

const LENGTH_BYTES: usize = 4;

/// A message as it goes onto the connection.
///
/// # Errors
///
/// It is longer than anything that is said here.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, MessageError> {
    let mut bytes = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut bytes, message)
        .map_err(|error| MessageError::Unreadable(error.to_string()))?;
    let length = bytes.len().saturating_sub(LENGTH_BYTES);
    if length > BYTES_MAX {
        return Err(MessageError::TooLong {
            length,
            most: BYTES_MAX,
        });
    }
    let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    for (byte, of_prefix) in bytes.iter_mut().zip(prefix) {
        *byte = of_prefix;
    }
    Ok(bytes)
}

/// Puts messages together from the pieces that come. Holds one message at most.
#[derive(Debug)]
pub struct Pieces {
    bytes: Vec<u8>,
    most: usize,
}

impl Pieces {
    /// Takes messages of so many bytes at most.
    pub const fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
        }
    }

    /// Takes in what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there.
    ///
    /// # Errors
    ///
    /// It is none; nothing after it can be understood.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, MessageError> {
        let Some((prefix, rest)) = self.bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > self.most {
            return Err(MessageError::TooLong {
                length,
                most: self.most,
            });
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)
            .map_err(|error| MessageError::Unreadable(error.to_string()))?;
        self.bytes.drain(..LENGTH_BYTES.saturating_add(length));
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::sample;

    fn said() -> Vec<ToAgent> {
        let part = Part {
            revision: u64::MAX,
            networks: sample::host_one().networks,
            links: sample::host_one().links,
            rules: sample::host_one().rules,
        };
        vec![
            ToAgent::Accepted { proxy: "p".into() },
            ToAgent::Part(part),
            ToAgent::Renewed {
                certificate: vec![1, 2, 255],
                authority: Vec::new(),
            },
            ToAgent::Alive,
        ]
    }

    fn hello() -> Hello {
        Hello {
            version: VERSION,
            name: "one".into(),
            software: "0.1.0".into(),
            schema: 2,
            instance: u64::MAX,
            held: None,
            introduction: Introduction::default(),
        }
    }

    #[test]
    fn a_field_that_a_later_program_says_besides_is_passed_over() {
        let text = serde_json::to_string(&ToProxy::Hello(Box::new(hello()))).unwrap();
        let more = text.replacen("\"name\"", "\"mood\":\"good\",\"name\"", 1);
        assert_ne!(more, text);
        let read: ToProxy = serde_json::from_str(&more).unwrap();
        assert_eq!(read, ToProxy::Hello(Box::new(hello())));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_held() {
        let mut pieces = Pieces::new(100);
        pieces.push(&101_u32.to_be_bytes());
        let found = pieces.take::<ToAgent>();
        assert_eq!(
            found,
            Err(MessageError::TooLong {
                length: 101,
                most: 100
            })
        );
        let long = ToAgent::Refused {
            why: "x".repeat(BYTES_MAX),
        };
        assert!(matches!(encode(&long), Err(MessageError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn messages_arrive_whole_however_the_connection_cuts_them(
            cuts in prop::collection::vec(1..200_usize, 1..200),
        ) {
            let all: Vec<u8> = said().iter().flat_map(|m| encode(m).unwrap()).collect();
            let mut pieces = Pieces::new(BYTES_MAX);
            let mut heard = Vec::new();
            let mut rest = all.as_slice();
            for cut in cuts.into_iter().chain([all.len()]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                rest = later;
                pieces.push(now);
                while let Some(message) = pieces.take::<ToAgent>().unwrap() {
                    heard.push(message);
                }
            }
            prop_assert_eq!(heard, said());
        }

        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut pieces = Pieces::new(STRANGER_BYTES_MAX);
            let body = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            pieces.push(&body);
            pieces.push(&bytes);
            let _ = pieces.take::<ToProxy>();
            let mut pieces = Pieces::new(STRANGER_BYTES_MAX);
            pieces.push(&bytes);
            let _ = pieces.take::<Join>();
        }
    }
}
