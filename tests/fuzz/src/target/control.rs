//! The control channel: what an agent, a proxy or a stranger may say to the other end.
//!
//! An input is a conversation: each line is the text of one message, which gets its length in front,
//! or with a `!` bytes as they are. It comes in pieces that the connection has cut by chance.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sim::host::SimHost;
use vnet_agent::identity::{Authority, Invites, Role};
use vnet_agent::model::{Configuration, Network, Part, Transport};
use vnet_agent::overlay::message::{
    BYTES_MAX, Capacities, Hello, IntroducedPort, Introduction, Join, Pieces, STRANGER_BYTES_MAX,
    ToAgent, ToProxy, VERSION, encode,
};
use vnet_agent::overlay::roll::{Guest, Hub, Kept, Roll};
use vnet_agent::overlay::session::{
    AgentDeed, AgentEnd, AgentEvent, Parting, ProxyDeed, ProxyEnd, ProxyEvent,
};
use vnet_agent::settings::Settings;
use vnet_common::addr::{Cookie, Mac, NetworkId};

use super::{ORDINARY, same, words_of};
use crate::engine::{Depth, Floor, Limits, Reached, Target};

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
pub(super) struct FromAgent;

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

/// What a proxy says to an agent.
pub(super) struct FromProxy;

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

/// What somebody says who has a token, or says so.
pub(super) struct Stranger {
    authority: Authority,
}

/// Stands for the secret that was dealt; and nothing for a request that is right.
const SECRET: [u8; 16] = [7; 16];
const REQUEST: &[u8] = include_bytes!("request.der");
const NOW_UNIX_S: u64 = 1_800_000_000;
const LIFE: Duration = Duration::from_secs(3600);

impl Stranger {
    pub(super) fn new() -> Self {
        Self {
            authority: Authority::create("test", NOW_UNIX_S, LIFE).unwrap(),
        }
    }
}

impl Target for Stranger {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let join = |secret: [u8; 16]| Join {
            version: VERSION,
            secret: secret.to_vec(),
            request: REQUEST.to_vec(),
        };
        let short = Join {
            request: Vec::new(),
            ..join(SECRET)
        };
        conversations(&[
            vec![line(&short)],
            vec![line(&join(SECRET))],
            vec![line(&join([8; 16])), line(&short)],
        ])
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words_of(&[
            "version", "secret", "request", "[]", "null", "1", "7", "!", "48,130",
        ])
    }

    fn is_text(&self) -> bool {
        true
    }

    fn inputs(&self) -> u64 {
        1500
    }

    fn limits(&self) -> Limits {
        ORDINARY
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 15,
            whole_percent: 3,
            trails: 20,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let mut invites = Invites::default();
        let dealt = invites
            .add("one", Role::Agent, NOW_UNIX_S + 10, NOW_UNIX_S)
            .map_err(|error| error.to_string())?;
        let mut depth = Depth::Refused;
        let mut way = String::new();
        listen::<Join>(input, STRANGER_BYTES_MAX, |said| {
            let join = match said {
                Ok(join) => join,
                Err(why) => {
                    way.push_str(why.split(" at line").next().unwrap_or_default());
                    return Ok(false);
                }
            };
            depth = depth.max(Depth::Inside);
            let is_known = join.secret == SECRET;
            let secret = if is_known {
                dealt.to_vec()
            } else {
                join.secret
            };
            match invites.redeem(&secret, NOW_UNIX_S) {
                Ok(_) if !is_known => return Err("somebody without a token is let in".to_owned()),
                Ok(invite) => {
                    let request = match join.request.as_slice() {
                        [] => REQUEST,
                        request => request,
                    };
                    let signed =
                        self.authority
                            .sign(request, &invite.host, invite.role, NOW_UNIX_S, LIFE);
                    match signed {
                        Ok(_) => depth = Depth::Whole,
                        Err(error) => way.push_str(&error.to_string()),
                    }
                }
                Err(error) => way.push_str(&error.to_string()),
            }
            Ok(true)
        })?;
        Ok(Reached::new(depth, &way))
    }
}
