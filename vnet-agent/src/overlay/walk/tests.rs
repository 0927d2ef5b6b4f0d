//! The reference is the model's own route: hosts that do what the model says are walked as it goes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use vnet_common::addr::Cookie;
use vnet_common::rule::{Destination, Source};

use super::*;
use crate::model::topology::sample::{GUEST, STRANGER, link, rule, some_topology, three};
use crate::model::topology::{Hop, Role, Target, Vm, Why};
use crate::model::{RuleOrigin, Secrets};
use crate::overlay::message::IntroducedPort;

/// What the proxy would know of hosts that do what the topology says.
fn atlas(mut topology: Topology) -> Atlas {
    for (host, number) in topology.hosts.iter_mut().zip(1u8..) {
        if host.underlay().is_none() {
            host.address = Some(IpAddr::from([10, 1, 0, number]));
        }
    }
    let mut secrets = Secrets::default();
    for ((one, other), number) in topology.pairs().into_iter().zip(1..) {
        secrets.deal(one, other, Cookie(number));
    }
    let ours = topology
        .hosts
        .iter()
        .filter(|host| host.role != Role::Foreign);
    let hosts = ours.map(|host| {
        let here = topology.vms.iter().filter(|vm| vm.host == host.name);
        let known = Known {
            underlay: host.underlay().into_iter().collect(),
            ports: here.map(port).collect(),
            links: topology.part(&host.name, 1, &secrets).unwrap().links,
            revision: Some(1),
            dealt_revision: Some(1),
        };
        (host.name.clone(), known)
    });
    Atlas {
        hosts: hosts.collect(),
        proxy: "proxy".into(),
        topology: Some(topology),
    }
}

fn port(vm: &Vm) -> IntroducedPort {
    IntroducedPort {
        device: vm.device.clone(),
        network: vm.network.clone(),
        stations: vec![vm.mac],
        is_open: false,
    }
}

fn start_of(vm: &Vm) -> Start {
    Start {
        host: vm.host.clone(),
        device: vm.device.clone(),
        network: vm.network.clone(),
    }
}

fn frame(source: Mac, destination: Mac) -> Frame {
    Frame {
        source,
        destination,
        bytes: 60,
    }
}

fn over(link: &str) -> Went {
    Went::Over(Left {
        link: link.into(),
        over: None,
        remote: "192.0.2.1".parse().unwrap(),
        kind: Transport::Udp,
        why: String::new(),
        since_unix_ms: None,
        guest_mtu_bytes: None,
    })
}

fn dropped() -> Heard {
    Heard {
        went: vec![Went::Dropped(Some(Reason::Rule), "a rule says drop".into())],
        ..Heard::default()
    }
}

/// A host that does what the model says: between two hosts there is one link here, by the name of the
/// other end.
fn honest(router: &Router<'_>, vm: &Vm, destination: Mac, question: &Question) -> Heard {
    let came = match &question.from {
        Place::Port(device) => Came::Interface(device.clone()),
        Place::Link(name) => Came::Edge(name.strip_prefix("to-").unwrap().to_owned()),
        other => panic!("{other}"),
    };
    let hop = router.hop(
        &vm.network,
        question.host.clone(),
        came,
        vm.mac,
        destination,
    );
    let went = hop.fates.into_iter().map(|fate| match fate {
        Fate::Interface { device, .. } => Went::Into(device),
        Fate::Edge { host, .. } | Fate::Leaves { host } => over(&format!("to-{host}")),
        Fate::Dropped(why) => Went::Dropped(None, why.to_string()),
    });
    Heard {
        went: went.collect(),
        ..Heard::default()
    }
}

/// The way of a frame, where `instead` may have another word than the model's.
fn walked(
    atlas: &Atlas,
    vm: &Vm,
    destination: Mac,
    mut instead: impl FnMut(&Question) -> Option<Result<Heard, Unasked>>,
) -> LiveRoute {
    let router = Router::new(atlas.topology.as_ref().unwrap());
    let mut walk = Walk::new(atlas, start_of(vm), frame(vm.mac, destination));
    while let Some(question) = walk.next() {
        let answer = instead(&question);
        walk.heard(answer.unwrap_or_else(|| Ok(honest(&router, vm, destination, &question))));
    }
    walk.end()
}

/// A hop as both tell it.
fn told(hop: &LiveHop) -> (String, Option<String>, BTreeSet<String>) {
    let fates = hop.fates.iter().map(|fate| match fate {
        LiveFate::Delivered { device, .. } => format!("into {device}"),
        LiveFate::Forwarded(way) => match way.stop {
            Some(Stop::Loop | Stop::Twice) => "again".to_owned(),
            _ => format!("to {}", way.to.as_deref().unwrap_or("?")),
        },
        LiveFate::Dropped { message, .. } => message.clone(),
        LiveFate::Otherwise { message } => message.clone(),
    });
    (hop.host.clone(), hop.from_host.clone(), fates.collect())
}

fn modelled(hop: &Hop) -> (String, Option<String>, BTreeSet<String>) {
    let from_host = match &hop.came {
        Came::Edge(host) => Some(host.clone()),
        Came::Interface(_) => None,
    };
    let fates = hop.fates.iter().map(|fate| match fate {
        Fate::Interface { device, .. } => format!("into {device}"),
        Fate::Edge { host, .. } | Fate::Leaves { host } => format!("to {host}"),
        Fate::Dropped(Why::Loop) => "again".to_owned(),
        Fate::Dropped(why) => why.to_string(),
    });
    (hop.host.clone(), from_host, fates.collect())
}

/// An overlay, one of its VMs and an address.
fn some_frame() -> impl Strategy<Value = (Atlas, Vm, Mac)> {
    let to = select([&GUEST[..], &[STRANGER, Mac::BROADCAST]].concat());
    let with_vms = some_topology().prop_filter("nobody sends", |t| !t.vms.is_empty());
    (with_vms, any::<Index>(), to).prop_map(|(topology, index, to)| {
        let vm = index.get(&topology.vms).clone();
        (atlas(topology), vm, to)
    })
}

/// Anything that a host may say.
fn some_words(names: Vec<String>) -> impl Strategy<Value = Heard> {
    let name = prop_oneof![select(names), "(?s).{0,400}"];
    let one = prop_oneof![
        name.clone().prop_map(Went::Into),
        (name.clone(), prop::option::of(name.clone())).prop_map(|(link, other)| {
            let Went::Over(left) = over(&link) else {
                unreachable!()
            };
            Went::Over(Left {
                over: other,
                ..left
            })
        }),
        name.clone().prop_map(|why| Went::Dropped(None, why)),
        name.clone().prop_map(Went::Otherwise),
    ];
    let rule = name.prop_map(|note| LiveRule {
        network: "blue".into(),
        source: Source::Any,
        destination: Destination::Any,
        to: crate::model::Target::Drop,
        strength: 0,
        origin: RuleOrigin::Api,
        note: Some(note),
    });
    (prop::collection::vec(one, 0..12), prop::option::of(rule)).prop_map(|(went, rule)| Heard {
        went,
        rule,
        ..Heard::default()
    })
}

proptest! {
    #[test]
    fn hosts_that_do_as_the_model_says_are_walked_as_it_goes((atlas, vm, to) in some_frame()) {
        let router = Router::new(atlas.topology.as_ref().unwrap());
        let live = walked(&atlas, &vm, to, |_| None);
        let hops: Vec<_> = live.hops.iter().map(told).collect();
        let wanted: Vec<_> = router.from_vm(&vm, to).iter().map(modelled).collect();
        prop_assert_eq!(hops, wanted);
        prop_assert_eq!(live.differs, None);
        prop_assert!(live.has_model);
    }

    #[test]
    fn the_model_speaks_for_hosts_that_cannot_be_asked(
        (atlas, vm, to) in some_frame(),
        absent in prop::collection::vec(any::<bool>(), 5),
    ) {
        let names: Vec<&String> = atlas.hosts.keys().collect();
        let is_absent = |host: &str| {
            let place = names.iter().position(|name| *name == host).unwrap();
            absent.get(place) == Some(&true)
        };
        let apart = || Unasked::Apart { since_unix_ms: Some(5) };
        let all = walked(&atlas, &vm, to, |_| None);
        let live = walked(&atlas, &vm, to, |q| is_absent(&q.host).then(|| Err(apart())));
        let hops: Vec<_> = live.hops.iter().map(told).collect();
        let wanted: Vec<_> = all.hops.iter().map(told).collect();
        prop_assert_eq!(hops, wanted);
        prop_assert_eq!(live.differs, None);
        for hop in &live.hops {
            prop_assert_eq!(hop.unasked.clone(), is_absent(&hop.host).then(apart));
            prop_assert_eq!(hop.model_rule.is_some(), is_absent(&hop.host));
        }
    }

    #[test]
    fn a_host_that_does_otherwise_is_named((atlas, vm, to) in some_frame(), at in any::<Index>()) {
        let all = walked(&atlas, &vm, to, |_| None);
        let is_drop = |fate: &LiveFate| matches!(fate, LiveFate::Dropped { .. });
        let odd = at.get(&all.hops);
        prop_assume!(!odd.fates.iter().all(is_drop));
        let mut number = 0;
        let live = walked(&atlas, &vm, to, |_| {
            number += 1;
            (number == odd.number).then(|| Ok(dropped()))
        });
        let said = live.differs.unwrap();
        prop_assert!(said.starts_with(&format!("on {} it is dropped: a rule says drop", odd.host)), "{}", said);
        prop_assert_eq!(said.lines().count(), 1);
    }

    #[test]
    fn whatever_hosts_say_the_walk_ends_and_is_small(
        (atlas, vm, words) in some_frame().prop_flat_map(|(atlas, vm, _)| {
            let links = atlas.hosts.values().flat_map(|known| &known.links);
            let mut names: Vec<String> = links.map(|link| link.name.clone()).collect();
            names.push("eth0".into());
            let words = prop::collection::vec(some_words(names), 1..20);
            (Just(atlas), Just(vm), words)
        }),
    ) {
        let mut asked = 0;
        let mut words = words.iter().cycle();
        let live = walked(&atlas, &vm, Mac::BROADCAST, |_| {
            asked += 1;
            words.next().cloned().map(Ok)
        });
        prop_assert_eq!(asked, live.hops.len());
        prop_assert!(asked <= HOPS_MAX);
        let places: BTreeSet<_> = live.hops.iter().map(|hop| (&hop.host, &hop.from)).collect();
        prop_assert_eq!(places.len(), asked, "no place is asked twice");
        for hop in &live.hops {
            prop_assert!(serde_json::to_string(hop).unwrap().len() < 12 * 10_000);
        }
        prop_assert!(live.differs.is_none_or(|said| !said.contains('\n')));
    }
}

fn vm_of(atlas: &Atlas, name: &str) -> Vm {
    let vms = &atlas.topology.as_ref().unwrap().vms;
    vms.iter().find(|vm| vm.name == name).unwrap().clone()
}

#[test]
fn a_dead_link_shows_as_the_way_that_is_taken_and_as_a_difference() {
    let atlas = atlas(three());
    let vm = vm_of(&atlas, "vm1");
    let live = walked(&atlas, &vm, GUEST[1], |question| {
        let Went::Over(left) = over("to-two") else {
            unreachable!()
        };
        let star = Left {
            over: Some("to-proxy".into()),
            ..left
        };
        let is_it = question.host == "one";
        is_it.then(|| {
            Ok(Heard {
                went: vec![Went::Over(star)],
                ..Heard::default()
            })
        })
    });
    let hosts: Vec<&str> = live.hops.iter().map(|hop| hop.host.as_str()).collect();
    assert_eq!(hosts, ["one", "proxy", "two"]);
    assert_eq!(live.hops[1].from, Place::Link("to-one".into()));
    assert_eq!(
        live.differs.unwrap(),
        "on one it goes over to-proxy to proxy, as link to-two is dead; by the model: over udp to two \
         (any -> 52:54:00:00:00:02 = edge to two)"
    );
}

#[test]
fn what_comes_by_a_rung_or_over_an_unknown_link_is_told_apart() {
    let atlas = atlas(three());
    let end =
        |host: &str, link: &str| atlas.other_end(host, link, Some("10.0.0.3".parse().unwrap()));
    let host = |name: &str, link: &str| OtherEnd::Host(name.into(), link.into());
    assert_eq!(end("one", "to-two"), host("two", "to-one"));
    assert_eq!(end("one", "to-proxy"), host("proxy", "to-one"));
    assert_eq!(end("one", "tls-to-proxy"), host("proxy", "tls-to-one"));
    assert_eq!(end("proxy", "to-far"), OtherEnd::Foreign("far".into()));
    assert_eq!(
        end("one", "by-hand"),
        OtherEnd::Unknown(Some("three".into()))
    );
    assert_eq!(end("nobody", "to-two"), OtherEnd::Unknown(None));
}

#[test]
fn a_loop_is_no_second_copy() {
    let mut topology = three();
    topology.links.push(link("two", "three", &["blue"]));
    topology.links.push(link("three", "one", &["blue"]));
    topology.rules = [("one", "two"), ("two", "three"), ("three", "one")]
        .map(|(at, to)| rule(at, Destination::Any, Target::Edge(to.into())))
        .to_vec();
    let atlas = atlas(topology);
    let live = walked(&atlas, &vm_of(&atlas, "vm1"), STRANGER, |_| None);
    let LiveFate::Forwarded(last) = &live.hops.last().unwrap().fates[0] else {
        panic!("{live:?}")
    };
    // Hop two is on two, over the link from one.
    assert_eq!((last.hop, last.stop), (Some(2), Some(Stop::Loop)));
    assert_eq!(live.hops.len(), 4);
}

/// So many hosts in a row, each with a link to the next; the model is not known.
fn row(count: u64) -> Atlas {
    let own = crate::model::sample::host_one().links.remove(0);
    let link = |name: &str, cookie| crate::model::Link {
        name: name.into(),
        cookie: Some(Cookie(cookie)),
        ..own.clone()
    };
    let hosts = (1..=count).map(|number| {
        let links = vec![link("back", number), link("on", number + 1)];
        let known = Known {
            links,
            ..Known::default()
        };
        (format!("host{number:03}"), known)
    });
    Atlas {
        hosts: hosts.collect(),
        ..Atlas::default()
    }
}

#[test]
fn a_way_is_as_long_as_the_hop_limit_lets_it_be() {
    let atlas = row(80);
    let start = Start {
        host: "host001".into(),
        device: "tap0".into(),
        network: "blue".into(),
    };
    let mut walk = Walk::new(&atlas, start, frame(GUEST[0], GUEST[1]));
    while walk.next().is_some() {
        walk.heard(Ok(Heard {
            went: vec![over("on")],
            ..Heard::default()
        }));
    }
    let live = walk.end();
    assert_eq!(live.hops.len(), 64);
    let LiveFate::Forwarded(last) = &live.hops[63].fates[0] else {
        panic!("{live:?}")
    };
    assert_eq!((last.hop, last.stop), (None, Some(Stop::HopLimit)));
    assert_eq!((live.has_model, live.differs), (false, None));
}

#[test]
fn a_frame_begins_where_its_address_is_and_else_on_the_proxys_lan() {
    let mut atlas = atlas(three());
    let start = |host: &str, device: &str| {
        Ok(Start {
            host: host.into(),
            device: device.into(),
            network: "blue".into(),
        })
    };
    assert_eq!(atlas.start(None, GUEST[0]), start("one", "tap1"));
    // It has moved, and has been learned there; the model does not know.
    let two = atlas.hosts.get_mut("two").unwrap();
    two.ports[0].stations.push(GUEST[0]);
    atlas.hosts.get_mut("one").unwrap().ports.clear();
    assert_eq!(atlas.start(None, GUEST[0]), start("two", "tap2"));
    let route = Walk::new(
        &atlas,
        atlas.start(None, GUEST[0]).unwrap(),
        frame(GUEST[0], GUEST[1]),
    );
    assert_eq!(
        route.end().differs.unwrap(),
        "vm1 is on two (port tap2); by the model it is on one (port tap1)"
    );
    let unknown = NoStart::Unknown {
        mac: STRANGER,
        network: None,
    };
    assert_eq!(atlas.start(None, STRANGER), Err(unknown));
    let open = |device: &str| IntroducedPort {
        device: device.into(),
        network: "blue".into(),
        stations: Vec::new(),
        is_open: true,
    };
    atlas.hosts.get_mut("one").unwrap().ports = vec![open("lan1")];
    assert_eq!(atlas.start(None, STRANGER), start("one", "lan1"));
    atlas.hosts.get_mut("proxy").unwrap().ports = vec![open("lan0")];
    assert_eq!(atlas.start(None, STRANGER), start("proxy", "lan0"));
    assert_eq!(
        atlas.start(None, Mac::BROADCAST),
        Err(NoStart::NoSource(Mac::BROADCAST))
    );
    let mut green = open("lan2");
    green.network = "green".into();
    atlas.hosts.get_mut("proxy").unwrap().ports.push(green);
    let networks = vec!["blue".to_owned(), "green".to_owned()];
    let mac = STRANGER;
    assert_eq!(
        atlas.start(None, mac),
        Err(NoStart::Ambiguous { mac, networks })
    );
    assert_eq!(atlas.start(Some("blue"), mac), start("proxy", "lan0"));
}

#[test]
fn people_say_names_and_addresses() {
    let atlas = atlas(three());
    assert_eq!(atlas.station("vm2"), Ok((GUEST[1], Some("blue".into()))));
    assert_eq!(atlas.station("broadcast"), Ok((Mac::BROADCAST, None)));
    assert_eq!(atlas.station(&STRANGER.to_string()), Ok((STRANGER, None)));
    let wrong = atlas.station("vm22").unwrap_err().to_string();
    assert_eq!(
        wrong,
        "\"vm22\" is no VM and no address: did you mean \"vm2\"?"
    );
}
