//! Frames that others make: packets from the wire, and what guests have sent up to the agent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use frames::actor::{AGENT, LINKS, WIRE};
use frames::chance::{A_BUSY_HOST, corpus};
use frames::heap::Heap;
use frames::runner::{Door, Runner};
use frames::sound;
use frames::stage::Stage;
use frames::vector::Vector;
use frames::world;
use vnet_agent::model::PortDevice;
use vnet_agent::overlay::flood::FloodTable;
use vnet_agent::overlay::slow_path::{Receivers, parse};
use vnet_agent::overlay::too_big;
use vnet_agent::settings::Settings;
use vnet_common::addr::{Cookie, LinkId, PortId};
use vnet_common::reason::Reason;
use vnet_common::table::flow::Origin;
use vnet_common::table::ledger::Ledger;
use vnet_common::wire::slow::Slow;
use zerocopy::IntoBytes;

use super::ORDINARY;
use crate::engine::{Depth, Floor, Limits, Reached, Target};

fn busy_host() -> Heap {
    let mut heap = Heap::new();
    let vector: Vector = toml::from_str(A_BUSY_HOST).unwrap();
    let entries = world::entries(&vector, &[], heap.stage()).unwrap();
    heap.write(&entries).unwrap();
    heap
}

fn frames_at(door: Door) -> Vec<Vec<u8>> {
    let heap = Heap::new();
    let all = corpus(heap.stage()).unwrap().into_iter();
    let here = all.filter(|(at, _)| *at == door).map(|(_, bytes)| bytes);
    here.filter(|bytes| bytes.len() < 2000).collect()
}

/// A host on which frames for many have many ways to go.
const FLOODING: &str = r#"
[underlay]
device = "wire"
[[network]]
name = "blue"
id = 7
[[port]]
name = "guest_one"
network = "blue"
addresses = "any"
[[port]]
name = "neighbour"
network = "blue"
addresses = ["52:54:00:00:00:02"]
[[link]]
name = "to_two"
remote = "10.0.0.2"
networks = ["blue"]
cookie = "0123456789abcdef"
flood = "always"
[[link]]
name = "to_three"
remote = "10.0.0.3"
networks = ["blue"]
cookie = "3333333333333333"
[[rule]]
network = "blue"
destination = "none"
flood = true
[[rule]]
network = "blue"
source = "52:54:00:00:00:63"
destination = "any"
drop = true
"#;

/// What came in and what was dropped, by ledger.
type Before = BTreeMap<u32, Ledger>;

/// What changed in which ledger; every frame has one outcome.
fn changes(before: &Before, after: &Before) -> Result<String, String> {
    let mut way = String::new();
    for (slot, now) in after {
        if !now.is_balanced() {
            return Err(format!("ledger {slot} is out of balance: {now:?}"));
        }
        let then = before.get(slot).copied().unwrap_or(Ledger::ZERO);
        if now.received.packets == then.received.packets && now.sent.packets == then.sent.packets {
            continue;
        }
        way.push(char::from(b'a' + u8::try_from(slot % 26).unwrap()));
        for reason in Reason::ALL {
            let number = usize::from(reason.number());
            if now.dropped[number] != then.dropped[number] {
                way.push_str(reason.name());
            }
        }
        for (letter, one, other) in [
            ('F', now.forwarded, then.forwarded),
            ('D', now.delivered, then.delivered),
            ('S', now.slow_path, then.slow_path),
            ('A', now.answered, then.answered),
            ('P', now.passed, then.passed),
        ] {
            if one != other {
                way.push(letter);
            }
        }
    }
    Ok(way)
}

/// Packets from the wire.
pub(super) struct Wire {
    heap: Heap,
    links: BTreeMap<u32, (IpAddr, Cookie)>,
}

impl Wire {
    pub(super) fn new() -> Self {
        let heap = busy_host();
        let links = LINKS.iter().map(|link| {
            let ledger = Stage::link_ledger(link.name).unwrap();
            let far = match link.is_ipv6 {
                true => IpAddr::from(link.far.ipv6),
                false => IpAddr::from(link.far.ipv4),
            };
            (ledger, (far, link.cookie))
        });
        Self {
            links: links.collect(),
            heap,
        }
    }
}

/// Source and cookies of a Geneve packet, as a reader that is not ours finds them.
fn claims(packet: &[u8]) -> Option<(IpAddr, Vec<u64>)> {
    let parsed = SlicedPacket::from_ethernet(packet).ok()?;
    let source = match parsed.net? {
        NetSlice::Ipv4(ip) => IpAddr::from(ip.header().source_addr()),
        NetSlice::Ipv6(ip) => IpAddr::from(ip.header().source_addr()),
        NetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Udp(udp)) = parsed.transport else {
        return None;
    };
    let geneve = udp.payload();
    let options = 4 * usize::from(geneve.first()? & 0x3f);
    let mut options = geneve.get(8..8 + options)?;
    let mut cookies = Vec::new();
    while let [high, low, kind, words, ..] = *options {
        let length = 4 + 4 * usize::from(words & 0x1f);
        let option = options.get(..length)?;
        if (high, low, kind, words & 0x1f) == (0xff, 0x76, 1, 6) {
            cookies.push(u64::from_be_bytes(option.get(4..12)?.try_into().ok()?));
        }
        options = &options[length..];
    }
    Some((source, cookies))
}

impl Target for Wire {
    fn seeds(&self) -> Vec<Vec<u8>> {
        frames_at(Door::Underlay)
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let cookies = LINKS
            .iter()
            .map(|link| link.cookie.0.to_be_bytes().to_vec());
        let headers = [
            vec![0xff, 0x76, 1, 6],
            vec![0x65, 0x58],
            vec![0x17, 0xc1],
            vec![0, 0, 7],
        ];
        cookies.chain(headers).collect()
    }

    fn inputs(&self) -> u64 {
        8000
    }

    fn limits(&self) -> Limits {
        ORDINARY
    }

    fn floor(&self) -> Floor {
        Floor {
            inside_percent: 40,
            whole_percent: 13,
            trails: 30,
        }
    }

    /// A link's books have nothing in them that did not come from its other end with its cookie.
    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let before = self.heap.tables().ledgers();
        let device = self.heap.stage().device(WIRE).unwrap();
        self.heap
            .run(Door::Underlay, device, input, 1)
            .map_err(|error| error.to_string())?;
        let after = self.heap.tables().ledgers();
        let _ = self.heap.take_events();
        let way = changes(&before, &after)?;
        let mut is_admitted = false;
        for (ledger, (far, cookie)) in &self.links {
            let received = |books: &Before| books.get(ledger).map_or(0, |l| l.received.packets);
            if received(&after) == received(&before) {
                continue;
            }
            is_admitted = true;
            let Some((source, cookies)) = claims(input) else {
                return Err(format!("admitted, and it is no packet of ours: {way}"));
            };
            let is_proved = *cookie == Cookie::NONE || cookies.last() == Some(&cookie.0);
            if source != *far || !is_proved {
                return Err(format!("admitted from {source} with {cookies:x?}: {way}"));
            }
        }
        let depth = match (is_admitted, way.contains('P') || way.is_empty()) {
            (true, _) => Depth::Whole,
            (false, false) => Depth::Inside,
            (false, true) => Depth::Refused,
        };
        Ok(Reached::new(depth, &way))
    }
}

/// What programs send up to the agent, and what it writes back.
pub(super) struct SlowPath {
    heap: Heap,
    receivers: Receivers,
}

impl SlowPath {
    pub(super) fn new() -> Self {
        let heap = busy_host();
        let Settings { configuration, .. } = Settings::parse(FLOODING, "t").unwrap();
        let device = |(port, name): (usize, &str)| PortDevice {
            name: name.to_owned(),
            port,
            learned: None,
        };
        let devices: Vec<_> = ["guest_one", "neighbour"]
            .into_iter()
            .enumerate()
            .map(device)
            .collect();
        let network = heap.stage().network("blue").unwrap();
        let ports = devices.iter().zip(11..);
        let links = configuration.links.iter().zip(0..);
        let receivers = Receivers {
            table: FloodTable::new(&configuration, &devices),
            networks: [(network, configuration.networks[0].name.clone())].into(),
            ports: ports
                .map(|(port, number)| (port.name.clone(), PortId(number)))
                .collect(),
            links: links
                .map(|(link, number)| (link.name.clone(), LinkId(number)))
                .collect(),
            ..Receivers::default()
        };
        Self { heap, receivers }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<String, String> {
        let before = self.heap.tables().ledgers();
        let device = self.heap.stage().device(AGENT).unwrap();
        self.heap
            .run(Door::Agent, device, bytes, 1)
            .map_err(|error| error.to_string())?;
        let _ = self.heap.take_events();
        changes(&before, &self.heap.tables().ledgers())
    }

    fn came_up(&mut self, header: &Slow, frame: &[u8]) -> Result<Reached, String> {
        if header.kind == Slow::TOO_BIG {
            let Some(answer) = too_big::answer(frame, header.mtu()) else {
                return Ok(Reached::new(Depth::Inside, "no answer"));
            };
            let faults = sound::faults(&answer);
            if !faults.is_empty() {
                return Err(format!("an answer that is wrong: {faults:?}"));
            }
            return Ok(match self.receivers.back_to_sender(header) {
                Ok(back) => {
                    let way = self.write(&[back.as_bytes(), &answer].concat())?;
                    Reached::new(Depth::Whole, &format!("answer {way}"))
                }
                Err(reason) => Reached::new(Depth::Inside, reason.name()),
            });
        }
        let copies = match self.receivers.copies(header, frame) {
            Ok(copies) => copies,
            Err(reason) => return Ok(Reached::new(Depth::Inside, reason.name())),
        };
        let most = self.receivers.ports.len() + self.receivers.links.len();
        if copies.len() > most {
            return Err(format!("{} copies for {most}", copies.len()));
        }
        let mut way = String::new();
        for copy in copies {
            let origin = header.origin();
            let is_back = origin.as_port() == Some(copy.port()) && copy.kind == Slow::DELIVER
                || origin.as_link() == Some(copy.link()) && copy.kind == Slow::SEND;
            if is_back {
                return Err("a copy goes back where the frame came from".to_owned());
            }
            way += &self.write(&[copy.as_bytes(), frame].concat())?;
        }
        Ok(Reached::new(Depth::Whole, &way))
    }
}

impl Target for SlowPath {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let network = self.heap.stage().network("blue").unwrap();
        let port = Origin::port(PortId(11));
        let link = Origin::link(LinkId(0));
        let mut seeds = frames_at(Door::Agent);
        for frame in frames_at(Door::Port) {
            for header in [
                Slow::to_agent(Slow::FRAME, 64, network, port),
                Slow::to_agent(Slow::FRAME, 3, network, link),
                Slow::too_big(1400, network, port),
                Slow::too_big(1280, network, link),
            ] {
                seeds.push([header.as_bytes(), &frame].concat());
            }
        }
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
            inside_percent: 55,
            whole_percent: 20,
            trails: 24,
        }
    }

    fn try_one(&mut self, input: &[u8]) -> Result<Reached, String> {
        let way = self.write(input)?;
        match parse(input) {
            Ok((header, frame)) => self.came_up(&header, frame),
            Err(_) if way.contains(Reason::SlowHeader.name()) => {
                Ok(Reached::new(Depth::Refused, &way))
            }
            Err(_) => Ok(Reached::new(Depth::Inside, &way)),
        }
    }
}
