//! What a proxy says to an agent.

use std::time::Duration;

use sim::host::SimHost;
use vnet_agent::model::{Network, Part, Transport};
use vnet_agent::overlay::message::{BYTES_MAX, ToAgent, encode};
use vnet_agent::overlay::session::{AgentDeed, AgentEnd, AgentEvent, Parting};
use vnet_common::addr::{Cookie, NetworkId};

use super::super::{same, words_of};
use super::{GUEST_ONE, conversations, hello, line, listen};
use crate::engine::{Depth, Floor, Limits, Reached, Target};

/// What a proxy says to an agent.
pub(in crate::target) struct FromProxy;

const WHOLE: &str = r"BEGIN
NETWORK blue 7
NETWORK green 8
HOST root AT proxy 6081 eth0 ADDRESS 10.0.0.9 PROXY
HOST root AT one 6081 eth0 ADDRESS 10.0.0.1
HOST root AT two 6081 eth0 ADDRESS 10.0.0.2
VM vm1 52:54:00:00:00:01 ON one tap0 IN blue
VM vm2 52:54:00:00:00:01 ON one tap1 IN green
VM vm3 52:54:00:00:00:02 ON two tap0 IN blue
ADD
LINK UDP proxy one FLOOD ALWAYS
LINK UDP one two CARRIES blue FLOOD NEVER
FORWARD FLOOD one ANY NONE IN blue
FORWARD EDGE one ANY 52:54:00:00:00:02 one two IN blue
FORWARD DROP one NOT 52:54:00:00:00:01 ANY IN blue
FORWARD EDGE one ANY ANY one proxy IN green
END
";

impl FromProxy {
    fn part(revision: u64) -> Part {
        let whole = vnet_agent::language::read("t", WHOLE.as_bytes()).unwrap();
        let mut secrets = vnet_agent::model::Secrets::default();
        for (one, other) in whole.pairs() {
            secrets.deal(one, other, Cookie(7));
        }
        whole.part("one", revision, &secrets).unwrap()
    }
}

impl Target for FromProxy {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let accepted = line(&ToAgent::Accepted {
            proxy: "proxy".to_owned(),
        });
        let part = |revision| Self::part(revision);
        let mut with_more = part(3);
        with_more.networks.push(Network {
            name: "red".to_owned(),
            id: NetworkId::new(9).unwrap(),
        });
        let mut carried = with_more.links[0].clone();
        carried.name = "spare".to_owned();
        carried.remote = "10.0.0.2".parse().unwrap();
        carried.kind = Transport::Tcp;
        with_more.links[1].fallback = Some("to-proxy".to_owned());
        with_more.links.push(carried);
        let mut with_less = part(4);
        with_less.links.clear();
        with_less.rules.clear();
        let renewed = ToAgent::Renewed {
            certificate: vec![1, 2, 3],
            authority: vec![4],
        };
        let refused = ToAgent::Refused {
            why: "no".to_owned(),
        };
        let say = |part: Part| line(&ToAgent::Part(part));
        conversations(&[
            vec![
                accepted.clone(),
                say(part(1)),
                line(&ToAgent::Alive),
                say(with_more.clone()),
            ],
            vec![
                accepted.clone(),
                say(with_more),
                say(with_less),
                say(part(2)),
            ],
            vec![accepted, line(&renewed), line(&refused)],
        ])
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "accepted",
            "refused",
            "part",
            "renewed",
            "not_renewed",
            "alive",
            "blue",
            "green",
            "red",
            "to-proxy",
            "to-two",
            "10.0.0.1",
            "10.0.0.2",
            "10.0.0.9",
            "tap0",
            "tap1",
            "eth0",
            "any",
            "none",
            "not",
            "flood",
            "drop",
            "link",
            "port",
            "udp",
            "tcp",
            "tls",
            "always",
            "never",
            "from_ports",
            "true",
            "false",
            "null",
            "[]",
            "{}",
            "\"say\"",
            "0000000000000007",
            "!",
        ])
    }

    fn is_text(&self) -> bool {
        true
    }

    fn inputs(&self) -> u64 {
        2000
    }

    fn limits(&self) -> Limits {
        Limits {
            held_bytes: (1_000_000, 1000),
            asked_bytes: (5_000_000, 20_000),
        }
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 35,
            whole_percent: 15,
            trails: 80,
        }
    }

    /// Parts are taken in whole or not at all, and never backwards.
    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let whole = vnet_agent::language::read("t", WHOLE.as_bytes()).map_err(|f| f.to_string())?;
        let mut host = SimHost::new(&whole, "one");
        host.start();
        host.finish();
        let now = Duration::ZERO;
        let mut end = AgentEnd::new(hello("one", "10.0.0.1", GUEST_ONE), now);
        let mut way = String::new();
        let mut taken = 0;
        end.step(now, AgentEvent::Tick);
        end.step(now, AgentEvent::Dialled);
        let heard = listen::<ToAgent>(input, BYTES_MAX, |said| {
            let event = match said {
                Ok(said) => AgentEvent::Heard(said),
                Err(why) => AgentEvent::Lost(why),
            };
            for deed in end.step(Duration::from_millis(1), event) {
                match deed {
                    AgentDeed::Keep(part) => {
                        let before = (host.revision(), host.image().clone());
                        let revision = part.revision;
                        let answer = host.offer(part);
                        host.finish();
                        match &answer {
                            Ok(()) if host.revision() < before.0 => {
                                return Err("an older part is taken".to_owned());
                            }
                            Ok(()) => taken += 1,
                            Err(_) => {
                                let after = (host.revision(), host.image().clone());
                                same(&after, &before, "a part is declined, and changes something")?;
                            }
                        }
                        if !host.is_settled() {
                            return Err(format!(
                                "the same part twice gives steps: {:?}",
                                host.steps()
                            ));
                        }
                        way.push_str(answer.as_ref().map_or_else(String::as_str, |()| "t"));
                        let event = match answer {
                            Ok(()) => AgentEvent::Kept(revision),
                            Err(why) => AgentEvent::Declined(revision, why),
                        };
                        end.step(Duration::from_millis(1), event);
                    }
                    AgentDeed::HangUp(Parting::Lost(_)) => way.push('l'),
                    AgentDeed::HangUp(why) => way.push_str(&why.to_string()),
                    AgentDeed::Say(message) => {
                        encode(&message).map_err(|error| error.to_string())?;
                    }
                    AgentDeed::TakeCertificate(_) => way.push('c'),
                    _ => {}
                }
            }
            Ok(true)
        })?;
        let depth = match (heard, taken) {
            (0, _) => Depth::Refused,
            (_, 0) => Depth::Inside,
            _ => Depth::Whole,
        };
        Ok(Reached::new(depth, &way))
    }
}
