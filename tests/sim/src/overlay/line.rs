//! One connection of the control channel: bytes that arrive in order, in pieces, late, or not.
//!
//! While its path is cut nothing arrives, and everything does when it heals, as TCP has it. A
//! connection that breaks takes with it what was on its way, but for a piece.

use std::collections::VecDeque;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vnet_agent::overlay::message::{BYTES_MAX, Pieces, encode};

use super::{Event, MS, Overlay};

/// What is on its way.
#[derive(Clone, Debug)]
enum Item {
    Bytes(Vec<u8>),
    Closed,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    items: VecDeque<Item>,
    pieces: Pieces,
    arrived_ns: u64,
}

impl Pipe {
    fn new() -> Self {
        Self {
            items: VecDeque::new(),
            pieces: Pieces::new(BYTES_MAX),
            arrived_ns: 0,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) agent: String,
    to_proxy: Pipe,
    to_agent: Pipe,
}

/// What came.
pub(super) enum Came<T> {
    Messages(Vec<T>),
    Nonsense(String),
    Closed,
}

/// Packets that did not get through are sent again after so long.
const AGAIN_NS: u64 = 200 * MS;

impl Line {
    pub(super) fn new(agent: String) -> Self {
        Self {
            agent,
            to_proxy: Pipe::new(),
            to_agent: Pipe::new(),
        }
    }

    fn pipe(&mut self, to_proxy: bool) -> &mut Pipe {
        match to_proxy {
            true => &mut self.to_proxy,
            false => &mut self.to_agent,
        }
    }

    /// What arrives now at this end.
    pub(super) fn take<T: DeserializeOwned>(&mut self, to_proxy: bool) -> Option<Came<T>> {
        let pipe = self.pipe(to_proxy);
        match pipe.items.pop_front()? {
            Item::Closed => Some(Came::Closed),
            Item::Bytes(bytes) => {
                pipe.pieces.push(&bytes);
                let mut messages = Vec::new();
                loop {
                    match pipe.pieces.take() {
                        Ok(Some(message)) => messages.push(message),
                        Ok(None) => return Some(Came::Messages(messages)),
                        Err(error) => return Some(Came::Nonsense(error.to_string())),
                    }
                }
            }
        }
    }
}

impl Overlay {
    /// An agent dials: whether it gets through shows later.
    pub(super) fn dial(&mut self, agent: &str) -> u64 {
        self.made += 1;
        let number = self.made;
        self.lines.insert(number, Line::new(agent.to_owned()));
        // Three ways: TCP's and TLS's hellos.
        let ways_ns = 3 * self.way_ns();
        self.after(ways_ns, Event::Connected { line: number });
        number
    }

    /// Sends a message over a connection, in as many pieces as chance wants.
    pub(super) fn say(&mut self, line: u64, to_proxy: bool, message: &impl Serialize) {
        let mut bytes = encode(message).unwrap();
        while self.chance.below(3) == 0 && bytes.len() > 1 {
            let cut = 1 + self.chance.below(bytes.len() as u64 - 1);
            let rest = bytes.split_off(usize::try_from(cut).unwrap());
            self.send(line, to_proxy, Item::Bytes(bytes));
            bytes = rest;
        }
        self.send(line, to_proxy, Item::Bytes(bytes));
    }

    /// One end closes the connection.
    pub(super) fn close(&mut self, line: u64, to_proxy: bool) {
        self.send(line, to_proxy, Item::Closed);
    }

    fn send(&mut self, number: u64, to_proxy: bool, item: Item) {
        let arrives_ns = self.world.now_ns() + self.way_ns();
        let Some(line) = self.lines.get_mut(&number) else {
            return;
        };
        let pipe = line.pipe(to_proxy);
        pipe.arrived_ns = pipe.arrived_ns.max(arrives_ns);
        pipe.items.push_back(item);
        let arrives_ns = pipe.arrived_ns;
        self.at(
            arrives_ns,
            Event::Arrives {
                line: number,
                to_proxy,
            },
        );
    }

    /// Whether this may arrive now; if not, later.
    pub(super) fn gets_through(&mut self, line: u64, to_proxy: bool) -> bool {
        let Some(known) = self.lines.get(&line) else {
            return false;
        };
        let is_cut = self.cut.contains(&known.agent);
        if is_cut {
            self.after(AGAIN_NS, Event::Arrives { line, to_proxy });
        }
        !is_cut
    }

    /// Breaks an agent's connections, with what is on its way.
    pub(super) fn break_line(&mut self, agent: &str) {
        let numbers: Vec<u64> = self.lines.keys().copied().collect();
        for number in numbers {
            for to_proxy in [true, false] {
                let keep = self.chance.below(3);
                let Some(line) = self
                    .lines
                    .get_mut(&number)
                    .filter(|line| line.agent == agent)
                else {
                    continue;
                };
                let items = &mut line.pipe(to_proxy).items;
                items.truncate(usize::try_from(keep).unwrap());
                if let Some(Item::Bytes(last)) = items.back_mut() {
                    last.truncate(last.len() / 2);
                }
                self.send(number, to_proxy, Item::Closed);
            }
        }
    }
}
