//! A link's connection between two agents: what proves it, and the frames on it.

use vnet_agent::model::offload::Work;
use vnet_agent::overlay::carrier::message::{ALIVE_MESSAGE, Carried, Message, first, write};
use vnet_agent::overlay::carrier::preface::{
    Asked, FINISH_BYTES, HELLO_BYTES, Instance, Opener, Unproved, WELCOME_BYTES,
};
use vnet_common::addr::{Cookie, NetworkId};

use super::{ORDINARY, same};
use crate::engine::{Depth, Floor, Limits, Reached, Target};

/// Frames, one behind the other.
pub(super) struct Stream;

fn frame(bytes: usize, work: Work) -> Vec<u8> {
    let mut written = Vec::new();
    let frame = vec![0x55; bytes];
    let carried = Carried {
        network: NetworkId::new(7).unwrap(),
        hop_limit: 64,
        work,
        copy: 9,
        bytes: &frame,
    };
    write(&mut written, &carried).unwrap();
    written
}

impl Target for Stream {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let sums = Work {
            sums: true,
            sum_from: 34,
            sum_at: 16,
            ..Work::default()
        };
        let cuts = Work {
            cuts: Work::CUTS[0],
            header_bytes: 54,
            segment_bytes: 100,
            ..sums
        };
        let works = [Work::default(), sums, cuts];
        let mut seeds: Vec<Vec<u8>> = works.map(|work| frame(300, work)).to_vec();
        seeds.push(ALIVE_MESSAGE.to_vec());
        seeds.push(
            [
                frame(60, sums),
                ALIVE_MESSAGE.to_vec(),
                frame(14, Work::default()),
            ]
            .concat(),
        );
        seeds
    }

    fn inputs(&self) -> u64 {
        6000
    }

    fn limits(&self) -> Limits {
        ORDINARY
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 45,
            whole_percent: 20,
            trails: 22,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let mut rest = input;
        let mut way = String::new();
        loop {
            match first(rest) {
                Ok(None) => {
                    let depth = match (way.is_empty(), rest.is_empty()) {
                        (_, true) => Depth::Whole,
                        (false, false) => Depth::Inside,
                        (true, false) => Depth::Refused,
                    };
                    return Ok(Reached::new(depth, &way));
                }
                Ok(Some((message, length))) => {
                    let mut again = Vec::new();
                    match message {
                        Message::Alive => {
                            way.push('a');
                            again.extend(ALIVE_MESSAGE);
                            // What stands there besides is for later versions.
                            again[4..8].copy_from_slice(&rest[4..8]);
                            again[9..].copy_from_slice(&rest[9..length]);
                        }
                        Message::Frame(carried) => {
                            way.push_str(if carried.work.sums { "s" } else { "f" });
                            write(&mut again, &carried).ok_or("what is read is not written")?;
                        }
                    }
                    same(
                        &again.as_slice(),
                        &&rest[..length],
                        "read and written differ",
                    )?;
                    rest = &rest[length..];
                }
                Err(error) => {
                    let depth = match way.is_empty() {
                        true => Depth::Refused,
                        false => Depth::Inside,
                    };
                    return Ok(Reached::new(depth, &format!("{way} {error}")));
                }
            }
        }
    }
}

/// The conversation before the first frame.
pub(super) struct Preface;

const OWN: Instance = [2; 16];
const OTHER: Instance = [1; 16];
const COOKIES: [Cookie; 3] = [Cookie(5), Cookie(6), Cookie(7)];

impl Target for Preface {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for cookie in [Cookie(6), Cookie(7), Cookie(8)] {
            let opener = Opener::new(cookie, OTHER, [9; 16]);
            let mut said = opener.hello().to_vec();
            if let Ok((_, asked)) = Asked::new(*opener.hello(), COOKIES, OWN, [8; 16]) {
                let (finish, _) = opener.finish(asked.welcome()).unwrap();
                said.extend(finish);
                seeds.push([asked.welcome().as_slice(), opener.hello()].concat());
            }
            seeds.push(said);
        }
        seeds
    }

    fn inputs(&self) -> u64 {
        3000
    }

    fn limits(&self) -> Limits {
        ORDINARY
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 8,
            whole_percent: 1,
            trails: 6,
        }
    }

    /// The other end may say anything: in either role it gets somewhere only with the bytes that one
    /// who knows the cookie would have said.
    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let opener = Opener::new(Cookie(6), OWN, [9; 16]);
        if let Some(welcome) = input.first_chunk::<WELCOME_BYTES>()
            && let Ok((_, other)) = opener.finish(welcome)
        {
            let nonce = *welcome[24..].first_chunk::<16>().unwrap();
            let (_, honest) = Asked::new(*opener.hello(), [Cookie(6)], other, nonce)
                .map_err(|error| error.to_string())?;
            same(
                honest.welcome(),
                welcome,
                "a welcome of somebody else is believed",
            )?;
        }
        let Some((hello, rest)) = input.split_first_chunk::<HELLO_BYTES>() else {
            return Ok(Reached::new(Depth::Refused, "short"));
        };
        let (place, asked) = match Asked::new(*hello, COOKIES, OWN, [8; 16]) {
            Ok(found) => found,
            Err(Unproved::Magic) => return Ok(Reached::new(Depth::Refused, "magic")),
            Err(error) => return Ok(Reached::new(Depth::Refused, &error.to_string())),
        };
        let instance = *hello[8..].first_chunk::<16>().unwrap();
        let nonce = *hello[24..].first_chunk::<16>().unwrap();
        let honest = Opener::new(COOKIES[place], instance, nonce);
        same(
            honest.hello(),
            hello,
            "a hello of somebody else is believed",
        )?;
        let Some(finish) = rest.first_chunk::<FINISH_BYTES>() else {
            return Ok(Reached::new(Depth::Inside, "hello"));
        };
        match asked.finished(finish) {
            Ok(other) => {
                let (expected, _) = honest.finish(asked.welcome()).map_err(|e| e.to_string())?;
                same(&expected, finish, "a finish of somebody else is believed")?;
                same(&other, &instance, "it is somebody else's")?;
                Ok(Reached::new(
                    Depth::Whole,
                    &format!("{place:?}").replace(char::is_numeric, "p"),
                ))
            }
            Err(error) => Ok(Reached::new(Depth::Inside, &error.to_string())),
        }
    }
}
