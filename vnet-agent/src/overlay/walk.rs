//! Which way does a frame take over all hosts just now, as these say themselves?
//!
//! Input: what the proxy knows of the hosts ([`Atlas`]), and what each one answers. Output: whom to
//! ask next, and where the frame comes in there; in the end the whole way, and where it is not the
//! model's. Where a host cannot be asked, the model speaks for it: its kernel forwards on. Answers
//! are what anybody may have said: whatever is in them, the walk ends, and is of bounded size.

mod atlas;
mod compare;
mod found;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use vnet_common::addr::Mac;
use vnet_common::reason::Reason;

use self::atlas::OtherEnd;
pub use self::atlas::{Atlas, Known, NoStart, Start};
pub use self::found::{Forwarding, LiveFate, LiveHop, LiveRoute, LiveRule, Stop, Unasked};
use crate::model::door::Door;
use crate::model::place::Place;
use crate::model::topology::{self, Came, Fate, LinkKind, Router, Topology};
use crate::model::{Target, Transport};

/// Hosts on one way: what the outer TTL of a frame begins with.
pub const DEPTH_MAX: u32 = 64;
/// Hosts on all ways of one frame.
pub const HOPS_MAX: usize = 256;
/// Ways that a frame takes from one host.
const FATES_MAX: usize = 256;
/// The longest text of a host's that is handed on, in characters.
const TEXT_MAX: usize = 300;

/// What is asked of a host next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The host.
    pub host: String,
    /// Where the frame comes in there.
    pub from: Place,
}

/// What a host says that it does with the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The rule that decides.
    pub rule: Option<LiveRule>,
    /// Whether the flow is known already.
    pub flow_cached: bool,
    /// Where the program is.
    pub door: Option<Door>,
    /// What it answered.
    pub kernel: Option<String>,
    /// Whether the host's own steps came to the same.
    pub agree: Option<bool>,
    /// What becomes of the frame.
    pub went: Vec<Went>,
}

/// What a host says that becomes of the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Went {
    /// Into this device.
    Into(String),
    /// Out over a link.
    Over(Left),
    /// Nowhere.
    Dropped(Option<Reason>, String),
    /// Something else, in words.
    Otherwise(String),
}

/// A link that a frame leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The one that was decided on.
    pub link: String,
    /// The one that its frames take meanwhile.
    pub over: Option<String>,
    /// Where that one's other end is.
    pub remote: IpAddr,
    /// What they travel in.
    pub kind: Transport,
    /// Why.
    pub why: String,
    /// Since when.
    pub since_unix_ms: Option<u64>,
    /// The MTU that is left to guests.
    pub guest_mtu_bytes: Option<u32>,
}

/// A frame, as far as its way depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who sends it.
    pub source: Mac,
    /// Whom it is for.
    pub destination: Mac,
    /// How long it is.
    pub bytes: u32,
}

/// A frame's way, as far as it is known.
pub struct Walk<'a> {
    atlas: &'a Atlas,
    model: Option<(&'a Topology, Router<'a>)>,
    frame: Frame,
    start: Start,
    hops: Vec<LiveHop>,
    seen: BTreeMap<(String, Place), u32>,
    waiting: VecDeque<usize>,
}

impl<'a> Walk<'a> {
    /// A frame that leaves a guest.
    pub fn new(atlas: &'a Atlas, start: Start, frame: Frame) -> Self {
        let topology = atlas.topology.as_ref();
        let from = Place::Port(start.device.clone());
        let host = start.host.clone();
        let mut walk = Self {
            atlas,
            model: topology.map(|topology| (topology, Router::new(topology))),
            frame,
            start,
            hops: Vec::new(),
            seen: BTreeMap::new(),
            waiting: VecDeque::new(),
        };
        walk.arrive(host, from, None);
        walk
    }

    /// Whom to ask now; nobody once the way is known.
    pub fn next(&self) -> Option<Question> {
        let hop = self.hops.get(*self.waiting.front()?)?;
        Some(Question {
            host: hop.host.clone(),
            from: hop.from.clone(),
        })
    }

    /// Takes the answer of the host that was to be asked.
    pub fn heard(&mut self, answer: Result<Heard, Unasked>) {
        let Some(place) = self.waiting.pop_front() else {
            return;
        };
        let Some(mut hop) = self.hops.get(place).cloned() else {
            return;
        };
        match answer {
            Ok(heard) => self.believe(&mut hop, heard),
            Err(why) => self.go_by_the_model(&mut hop, why),
        }
        if let Some(kept) = self.hops.get_mut(place) {
            *kept = hop;
        }
    }

    /// The whole way.
    pub fn end(self) -> LiveRoute {
        let differs = self.difference();
        LiveRoute {
            source: self.frame.source,
            destination: self.frame.destination,
            network: self.start.network,
            bytes: self.frame.bytes,
            hops: self.hops,
            has_model: self.model.is_some(),
            differs,
        }
    }

    fn believe(&mut self, hop: &mut LiveHop, heard: Heard) {
        hop.rule = heard.rule.map(clipped_rule);
        hop.flow_cached = heard.flow_cached;
        hop.door = heard.door;
        hop.kernel = heard.kernel.map(clipped);
        hop.agree = heard.agree;
        for went in heard.went.into_iter().take(FATES_MAX) {
            let fate = match went {
                Went::Into(device) => self.delivered(&hop.host, clipped(device)),
                Went::Over(left) => LiveFate::Forwarded(self.left(hop, left)),
                Went::Dropped(reason, message) => LiveFate::Dropped {
                    reason,
                    message: clipped(message),
                },
                Went::Otherwise(message) => LiveFate::Otherwise {
                    message: clipped(message),
                },
            };
            hop.fates.push(fate);
        }
    }

    fn delivered(&self, host: &str, device: String) -> LiveFate {
        let vms = self.model.iter().flat_map(|(topology, _)| &topology.vms);
        let there = vms.filter(|vm| vm.host == host && vm.device == device);
        let vms = there.map(|vm| vm.name.clone()).collect();
        LiveFate::Delivered { device, vms }
    }

    fn left(&mut self, hop: &LiveHop, left: Left) -> Forwarding {
        let taken = left.over.as_ref().unwrap_or(&left.link);
        let end = self.atlas.other_end(&hop.host, taken, Some(left.remote));
        let way = Forwarding {
            link: clipped(left.link),
            over: left.over.map(clipped),
            to: None,
            remote: Some(left.remote),
            kind: left.kind,
            why: Some(clipped(left.why)).filter(|why| !why.is_empty()),
            since_unix_ms: left.since_unix_ms,
            guest_mtu_bytes: left.guest_mtu_bytes,
            hop: None,
            stop: None,
        };
        self.onwards(hop, way, end)
    }

    /// What the model says of a host that cannot be asked.
    fn go_by_the_model(&mut self, hop: &mut LiveHop, why: Unasked) {
        let is_there = match &why {
            Unasked::Apart { .. } | Unasked::Silent { .. } | Unasked::NoTime => true,
            // It is asked, and does not know the port or the link: the model does not speak for it.
            Unasked::Refused { .. } | Unasked::Nonsense { .. } => false,
        };
        hop.unasked = Some(match why {
            Unasked::Refused { message } => Unasked::Refused {
                message: clipped(message),
            },
            Unasked::Nonsense { message } => Unasked::Nonsense {
                message: clipped(message),
            },
            other => other,
        });
        let Some(modelled) = self.modelled(hop) else {
            return;
        };
        hop.model_rule = Some(compare::deciders(&modelled));
        for fate in modelled.fates {
            let fate = match fate {
                Fate::Interface { device, .. } => self.delivered(&hop.host, device),
                Fate::Edge { host, kind } => self.modelled_way(hop, host, kind, is_there),
                Fate::Leaves { host } => self.modelled_way(hop, host, LinkKind::Plain, is_there),
                Fate::Dropped(why) => LiveFate::Dropped {
                    reason: None,
                    message: why.to_string(),
                },
            };
            hop.fates.push(fate);
        }
    }

    fn modelled(&self, hop: &LiveHop) -> Option<topology::Hop> {
        let (_, router) = self.model.as_ref()?;
        let came = came(hop)?;
        let Frame {
            source,
            destination,
            ..
        } = self.frame;
        let network = &self.start.network;
        Some(router.hop(network, hop.host.clone(), came, source, destination))
    }

    fn modelled_way(
        &mut self,
        hop: &LiveHop,
        to: String,
        kind: LinkKind,
        is_followed: bool,
    ) -> LiveFate {
        let link = self.atlas.link_to(&hop.host, &to, &self.start.network);
        let way = Forwarding {
            link: link.map_or_else(String::new, |link| link.name.clone()),
            over: None,
            to: Some(to),
            remote: link.map(|link| link.remote),
            kind: match kind {
                LinkKind::Udp | LinkKind::Plain => Transport::Udp,
                LinkKind::Tcp => Transport::Tcp,
                LinkKind::Tls => Transport::Tls,
            },
            why: None,
            since_unix_ms: None,
            guest_mtu_bytes: None,
            hop: None,
            stop: None,
        };
        let end = self.atlas.other_end(&hop.host, &way.link, None);
        LiveFate::Forwarded(match is_followed {
            true => self.onwards(hop, way, end),
            false => way,
        })
    }

    /// Follows a link.
    fn onwards(&mut self, hop: &LiveHop, mut way: Forwarding, end: OtherEnd) -> Forwarding {
        let (host, link) = match end {
            OtherEnd::Host(host, link) => (host, link),
            OtherEnd::Foreign(host) => {
                way.to = Some(host);
                way.stop = Some(Stop::Foreign);
                return way;
            }
            OtherEnd::Unknown(host) => {
                way.to = host.or(way.to);
                way.stop = Some(Stop::Unknown);
                return way;
            }
        };
        way.to = Some(host.clone());
        let from = Place::Link(link);
        if let Some(&earlier) = self.seen.get(&(host.clone(), from.clone())) {
            way.hop = Some(earlier);
            way.stop = Some(match self.is_before(earlier, hop) {
                true => Stop::Loop,
                false => Stop::Twice,
            });
        } else if self.depth(hop) >= DEPTH_MAX {
            way.stop = Some(Stop::HopLimit);
        } else if self.hops.len() >= HOPS_MAX {
            way.stop = Some(Stop::TooMany);
        } else {
            way.hop = Some(self.arrive(host, from, Some(hop)));
        }
        way
    }

    /// One more host to be asked. Returns its number.
    fn arrive(&mut self, host: String, from: Place, after: Option<&LiveHop>) -> u32 {
        let number = u32::try_from(self.hops.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let known = self.atlas.hosts.get(&host);
        self.seen.insert((host.clone(), from.clone()), number);
        self.waiting.push_back(self.hops.len());
        self.hops.push(LiveHop {
            number,
            after: after.map(|hop| hop.number),
            revision: known.and_then(|known| known.revision),
            dealt_revision: known.and_then(|known| known.dealt_revision),
            host,
            from,
            from_host: after.map(|hop| hop.host.clone()),
            unasked: None,
            rule: None,
            model_rule: None,
            flow_cached: false,
            door: None,
            kernel: None,
            agree: None,
            fates: Vec::new(),
        });
        number
    }

    /// The hops that lead to this one, itself first.
    fn back_from<'h>(&'h self, hop: &'h LiveHop) -> impl Iterator<Item = &'h LiveHop> {
        let before = |hop: &&'h LiveHop| {
            let place = usize::try_from(hop.after?.saturating_sub(1)).ok()?;
            self.hops.get(place)
        };
        std::iter::successors(Some(hop), before)
    }

    fn is_before(&self, number: u32, hop: &LiveHop) -> bool {
        self.back_from(hop).any(|hop| hop.number == number)
    }

    fn depth(&self, hop: &LiveHop) -> u32 {
        u32::try_from(self.back_from(hop).count()).unwrap_or(u32::MAX)
    }
}

/// Where a frame comes from, in the words of the model.
fn came(hop: &LiveHop) -> Option<Came> {
    match (&hop.from, &hop.from_host) {
        (Place::Port(device), _) => Some(Came::Interface(device.clone())),
        (Place::Link(_), Some(host)) => Some(Came::Edge(host.clone())),
        _ => None,
    }
}

/// A host's text, short and in one line.
fn clipped(text: String) -> String {
    let is_fine = text.len() <= TEXT_MAX && !text.chars().any(char::is_control);
    if is_fine {
        return text;
    }
    let shown = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().take(TEXT_MAX).map(shown).collect()
}

fn clipped_rule(rule: LiveRule) -> LiveRule {
    LiveRule {
        network: clipped(rule.network),
        to: match rule.to {
            Target::Link(name) => Target::Link(clipped(name)),
            Target::Port(device) => Target::Port(clipped(device)),
            other => other,
        },
        note: rule.note.map(clipped),
        ..rule
    }
}

#[cfg(test)]
mod tests;
