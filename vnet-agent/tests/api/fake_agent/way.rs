//! Which way does a frame take, as the fake agent has it?

use vnet_agent::api::{
    Answer, Forwarding, LiveFate, LiveHop, LiveRoute, LiveRule, Place, Refusal, RouteQuery, Unasked,
};
use vnet_agent::model::door::Door;
use vnet_agent::model::{RuleOrigin, Target, Transport};
use vnet_common::rule::{Destination, Source};

use super::{GUEST_ONE, GUEST_TWO, STRANGER};

/// From guest one over a star in which host two is apart; a frame from a stranger has no way.
pub fn route(query: &RouteQuery) -> Result<Answer, Refusal> {
    if query.source == STRANGER.to_string() {
        return Err(Refusal::not_found("no host has a port with that address").cure("look"));
    }
    let hop = |number: u32, host: &str, from: Place| LiveHop {
        number,
        after: number.checked_sub(1).filter(|before| *before > 0),
        host: host.into(),
        from_host: None,
        from,
        unasked: None,
        rule: None,
        model_rule: None,
        flow_cached: false,
        door: Some(Door::Xdp),
        kernel: Some("XDP_REDIRECT".into()),
        agree: Some(true),
        revision: Some(7),
        dealt_revision: Some(7),
        fates: Vec::new(),
    };
    let rule = |destination, to, strength| LiveRule {
        network: "blue".into(),
        source: Source::Any,
        destination,
        to,
        strength,
        origin: RuleOrigin::Proxy,
        note: None,
    };
    let way = |link: &str, to: &str, hop| Forwarding {
        link: link.into(),
        over: None,
        to: Some(to.into()),
        remote: Some([10, 0, 0, 1].into()),
        kind: Transport::Udp,
        why: Some("its other end answers over udp".into()),
        since_unix_ms: None,
        guest_mtu_bytes: Some(1430),
        hop: Some(hop),
        stop: None,
    };
    let to_proxy = Target::Link("to-hub".into());
    let first = LiveHop {
        rule: Some(rule(Destination::Any, to_proxy, 4)),
        fates: vec![LiveFate::Forwarded(way("to-hub", "hub", 2))],
        ..hop(1, "one", Place::Port("tap0".into()))
    };
    let to_two = Forwarding {
        kind: Transport::Tls,
        why: Some("its other end does not answer over udp, for 3 s".into()),
        ..way("to-two", "two", 3)
    };
    let second = LiveHop {
        from_host: Some("one".into()),
        rule: Some(LiveRule {
            origin: RuleOrigin::Api,
            ..rule(Destination::Is(GUEST_TWO), Target::Link("to-two".into()), 9)
        }),
        revision: Some(6),
        fates: vec![LiveFate::Forwarded(to_two)],
        ..hop(2, "hub", Place::Link("to-one".into()))
    };
    let third = LiveHop {
        from_host: Some("hub".into()),
        unasked: Some(Unasked::Apart {
            since_unix_ms: Some(1),
        }),
        model_rule: Some("any -> 52:54:00:00:00:02 = interface tap0 (the VM is here)".into()),
        door: None,
        kernel: None,
        agree: None,
        fates: vec![LiveFate::Delivered {
            device: "tap0".into(),
            vms: vec!["vm2".into()],
        }],
        ..hop(3, "two", Place::Link("to-hub".into()))
    };
    Ok(Answer::Route(Box::new(LiveRoute {
        source: GUEST_ONE,
        destination: GUEST_TWO,
        network: "blue".into(),
        bytes: query.bytes.unwrap_or(60),
        hops: vec![first, second, third],
        has_model: true,
        differs: Some("on hub it goes elsewhere".into()),
    })))
}
