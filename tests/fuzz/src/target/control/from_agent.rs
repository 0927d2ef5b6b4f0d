//! What an agent says to the proxy.

use std::time::Duration;

use vnet_agent::model::Configuration;
use vnet_agent::overlay::message::{
    BYTES_MAX, Hello, IntroducedPort, Introduction, ToProxy, encode,
};
use vnet_agent::overlay::roll::{Guest, Hub, Kept, Roll};
use vnet_agent::overlay::session::{ProxyDeed, ProxyEnd, ProxyEvent};
use vnet_agent::settings::Settings;
use vnet_common::addr::Cookie;

use super::super::{same, words_of};
use super::{GUEST_ONE, GUEST_TWO, conversations, hello, introduction, line, listen};
use crate::engine::{Depth, Floor, Limits, Reached, Target};

/// The proxy's own file.
const PROXYS: &str = r#"
[underlay]
device = "eth0"
[[network]]
name = "blue"
id = 7
[[network]]
name = "green"
id = 8
[[port]]
name = "lan0"
network = "blue"
addresses = "any"
"#;

/// A proxy with an honest agent, `two`, and one that says anything, `one`.
struct Desk {
    own: Configuration,
    hub: Introduction,
    roll: Roll,
    cookies: u64,
}

impl Desk {
    fn new() -> Self {
        let Settings { configuration, .. } = Settings::parse(PROXYS, "t").unwrap();
        let mut hub = introduction("10.0.0.9", GUEST_TWO);
        hub.ports[0].device = "lan0".to_owned();
        hub.ports[0].stations.clear();
        hub.ports[0].is_open = true;
        let mut desk = Self {
            own: configuration,
            hub,
            roll: Roll::new(Kept::default()),
            cookies: 0,
        };
        let two = hello("two", "10.0.0.2", GUEST_TWO);
        desk.admit(2, &two).unwrap();
        desk.deal().unwrap();
        desk
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Roll, &Hub<'_>, &mut u64) -> T) -> T {
        let hub = Hub {
            name: "proxy",
            introduction: &self.hub,
            networks: &self.own.networks,
        };
        work(&mut self.roll, &hub, &mut self.cookies)
    }

    fn admit(&mut self, session: u64, hello: &Hello) -> Result<(), String> {
        let guest = Guest {
            session,
            from: "10.0.0.1:1".to_owned(),
            hello,
            expires_unix_s: 1,
            now_unix_ms: 1,
        };
        let admitted = self.with(|roll, hub, _| roll.admit(&guest, hub));
        admitted.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Whatever was said: the proxy can go by its own part, and the other agent by the one that it
    /// had.
    fn deal(&mut self) -> Result<(), String> {
        let two = self.roll.part("two").cloned();
        let revision = self.roll.kept().revision;
        let dealt = self.with(|roll, hub, cookies| {
            roll.deal(hub, 1000, || {
                *cookies += 1;
                Ok::<_, String>(Cookie(*cookies))
            })
        });
        dealt.map_err(|why| format!("the proxy cannot deal: {why}"))?;
        if two.is_some() {
            same(
                &self.roll.part("two").cloned(),
                &two,
                "another agent's part is another",
            )?;
        }
        if self.roll.kept().revision < revision {
            return Err("a revision went backwards".to_owned());
        }
        let own = self.roll.part("proxy").ok_or("the proxy has no part")?;
        same(
            &own.onto(&self.own).problems(),
            &Vec::new(),
            "the proxy cannot go by its own part",
        )
    }
}

/// What an agent says to the proxy.
pub(in crate::target) struct FromAgent;

impl Target for FromAgent {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let one = hello("one", "10.0.0.1", GUEST_ONE);
        let mut many = introduction("10.0.0.1", GUEST_ONE);
        many.ports.push(IntroducedPort {
            device: "tap1".to_owned(),
            network: "green".to_owned(),
            stations: vec![GUEST_ONE, GUEST_TWO],
            is_open: true,
        });
        many.underlay.push("fd00::1".parse().unwrap());
        let hello = line(&ToProxy::Hello(Box::new(one)));
        let declined = ToProxy::Declined {
            revision: 1000,
            why: "no room".to_owned(),
        };
        conversations(&[
            vec![
                hello.clone(),
                line(&ToProxy::Alive),
                line(&ToProxy::Introduction(many.clone())),
                line(&ToProxy::Kept { revision: 1001 }),
            ],
            vec![
                hello.clone(),
                line(&declined),
                line(&ToProxy::Introduction(many)),
            ],
            vec![
                hello,
                line(&ToProxy::Renew {
                    request: vec![1, 2, 3],
                }),
            ],
        ])
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "hello",
            "introduction",
            "kept",
            "declined",
            "renew",
            "alive",
            "two",
            "proxy",
            "blue",
            "green",
            "10.0.0.2",
            "10.0.0.9",
            "127.0.0.1",
            "0.0.0.0",
            "fd00::1",
            "::",
            "ff02::1",
            "52:54:00:00:00:02",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "true",
            "false",
            "null",
            "[]",
            "{}",
            "\"say\"",
            "\"underlay\"",
            "!",
        ])
    }

    fn is_text(&self) -> bool {
        true
    }

    fn inputs(&self) -> u64 {
        2500
    }

    fn limits(&self) -> Limits {
        Limits {
            held_bytes: (500_000, 1000),
            asked_bytes: (3_000_000, 20_000),
        }
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 35,
            whole_percent: 30,
            trails: 220,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let mut desk = Desk::new();
        let mut end = ProxyEnd::new("one".to_owned(), Duration::from_secs(3600), Duration::ZERO);
        let mut way = String::new();
        let mut is_in = false;
        let mut ended = false;
        let heard = listen::<ToProxy>(input, BYTES_MAX, |said| {
            let event = match said {
                Ok(said) => ProxyEvent::Heard(said),
                Err(why) => ProxyEvent::Nonsense(why),
            };
            let mut deeds = end.step(Duration::from_millis(1), event);
            while !deeds.is_empty() {
                match deeds.remove(0) {
                    ProxyDeed::Say(message) => {
                        encode(&message).map_err(|error| error.to_string())?;
                    }
                    ProxyDeed::HangUp(why) => {
                        way.push_str(&why.to_string());
                        ended = true;
                    }
                    ProxyDeed::Ask(hello) => {
                        let event = match desk.admit(1, &hello) {
                            Ok(()) => {
                                is_in = true;
                                desk.deal()?;
                                ProxyEvent::Admitted("proxy".to_owned())
                            }
                            Err(why) => ProxyEvent::Refused(why),
                        };
                        deeds.extend(end.step(Duration::from_millis(1), event));
                        if let Some(part) = desk.roll.part("one").filter(|_| is_in) {
                            let part = ProxyEvent::Part(part.clone());
                            deeds.extend(end.step(Duration::from_millis(1), part));
                        }
                    }
                    ProxyDeed::Introduction(new) => {
                        let taken = desk.with(|roll, hub, _| roll.introduced(1, &new, hub));
                        way.push_str(
                            &taken.map_or_else(|why| why.to_string(), |()| "i".to_owned()),
                        );
                        desk.deal()?;
                    }
                    ProxyDeed::Kept(revision) => {
                        way.push('k');
                        desk.roll.goes_by(1, revision);
                    }
                    ProxyDeed::Declined(revision, why) => {
                        way.push('d');
                        desk.roll.declined(1, revision, why);
                    }
                    _ => way.push('s'),
                }
            }
            Ok(!ended)
        })?;
        let part = desk.roll.part("one");
        let shape = part.map_or(0, |part| {
            part.networks.len() + part.links.len() + part.rules.len()
        });
        way.push_str(&"x".repeat(shape));
        let depth = match (heard, is_in) {
            (0, _) => Depth::Refused,
            (_, false) => Depth::Inside,
            (_, true) => Depth::Whole,
        };
        Ok(Reached::new(depth, &way))
    }
}
