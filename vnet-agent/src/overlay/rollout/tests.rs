//! Frames arrive once, whoever has heard of what; and a host that does not follow turns all back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use vnet_common::addr::{Cookie, Mac};
use vnet_common::rule::{Destination, Source};

use super::table::{Decision, Table};
use super::*;
use crate::model::part::Part;
use crate::model::sample::{link, network};
use crate::model::{Flooding, Link, Rule, RuleOrigin, Target};
use crate::overlay::message::Missing;

const HOSTS: usize = 5;

fn name(host: usize) -> String {
    format!("h{host}")
}

fn address(host: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(host + 1).unwrap()])
}

fn station(host: usize) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, u8::try_from(host + 1).unwrap()])
}

fn places() -> BTreeMap<String, Place> {
    let place = |host| Place {
        addresses: vec![address(host)],
        stations: vec![("blue".into(), station(host), "tap0".into())],
    };
    (0..HOSTS).map(|host| (name(host), place(host))).collect()
}

fn to(host: usize) -> Target {
    Target::Link(format!("to-h{host}"))
}

fn rule(source: Source, destination: Destination, to: Target) -> Rule {
    Rule {
        network: "blue".into(),
        source,
        destination,
        to,
        origin: RuleOrigin::Proxy,
    }
}

/// For each station, each host's next host on the way to it: a tree.
type Ways = Vec<Vec<Option<usize>>>;

fn some_tree(root: usize) -> impl Strategy<Value = Vec<Option<usize>>> {
    let order = Just((0..HOSTS).filter(|h| *h != root).collect::<Vec<_>>()).prop_shuffle();
    (
        order,
        prop::collection::vec(any::<prop::sample::Index>(), HOSTS),
    )
        .prop_map(move |(order, parents)| {
            let mut next = vec![None; HOSTS];
            let mut there = vec![root];
            for (host, parent) in order.into_iter().zip(parents) {
                next[host] = Some(*parent.get(&there));
                there.push(host);
            }
            next
        })
}

fn some_ways() -> impl Strategy<Value = Ways> {
    (0..HOSTS).map(some_tree).collect::<Vec<_>>()
}

/// How a host says where a station is: with a rule for it, by its default, or with rules about who
/// sends.
#[derive(Clone, Copy, Debug)]
enum Saying {
    Exact,
    Default,
    Senders,
}

fn some_saying() -> impl Strategy<Value = Vec<Saying>> {
    let saying = prop_oneof![
        Just(Saying::Exact),
        Just(Saying::Default),
        Just(Saying::Senders)
    ];
    prop::collection::vec(saying, HOSTS)
}

fn part(host: usize, ways: &Ways, saying: Saying) -> Part {
    let next: BTreeMap<usize, usize> = (0..HOSTS)
        .filter_map(|goal| Some((goal, ways[goal][host]?)))
        .collect();
    let mut rules = vec![rule(Source::Any, Destination::None, Target::Flood)];
    let often = next.values().max().copied();
    for (&goal, &over) in &next {
        let destination = Destination::Is(station(goal));
        match saying {
            Saying::Default if Some(over) == often => {}
            Saying::Senders => {
                let some = Source::Not(station(host));
                rules.push(rule(some, destination, to(over)));
                let own = Source::Is(station(host));
                rules.push(rule(own, destination, to(over)));
            }
            _ => rules.push(rule(Source::Any, destination, to(over))),
        }
    }
    if let (Saying::Default, Some(over)) = (saying, often) {
        rules.push(rule(Source::Any, Destination::Any, to(over)));
    }
    let mut neighbours: BTreeSet<usize> = next.values().copied().collect();
    // The other ends of the links by which others send here.
    for tree in ways {
        let others = (0..HOSTS).filter(|&other| tree[other] == Some(host));
        neighbours.extend(others);
    }
    let links = neighbours.into_iter().map(|other| Link {
        name: format!("to-h{other}"),
        remote: address(other),
        networks: vec!["blue".into()],
        cookie: Some(Cookie(1)),
        flood: Flooding::Never,
        ..link("any", 1, &["blue"])
    });
    Part {
        revision: 0,
        networks: vec![network("blue", 7)],
        links: links.collect(),
        rules,
    }
}

fn parts(ways: &Ways, sayings: &[Saying]) -> Parts {
    let part = |host: usize| (name(host), part(host, ways, sayings[host]));
    (0..HOSTS).map(part).collect()
}

/// Sends a frame through hosts that go by these parts; the host that it ends at, or where and why it
/// does not arrive.
fn walk(parts: &Parts, from: usize, goal: usize) -> Result<usize, String> {
    let (mut host, mut came) = (from, None);
    for _ in 0..=HOSTS {
        let part = &parts[&name(host)];
        let own = [(station(host), "tap0")];
        let table = Table::new(part.rules.iter(), own.into_iter());
        match table.decide(station(from), station(goal)) {
            Decision::Own(_) => return Ok(host),
            Decision::Rule(Target::Link(link)) => {
                let link = part.links.iter().find(|known| known.name == *link);
                let link = link.ok_or(format!("h{host} has no such link"))?;
                let next = (0..HOSTS).find(|&other| address(other) == link.remote);
                let next = next.ok_or("nobody is there")?;
                if came == Some(next) {
                    return Err(format!("h{host} sends it back to h{next}"));
                }
                let back = parts[&name(next)].links.iter();
                if !back.clone().any(|back| back.remote == address(host)) {
                    return Err(format!("h{next} does not admit h{host}"));
                }
                (came, host) = (Some(host), next);
            }
            other => return Err(format!("h{host}: {other:?}")),
        }
    }
    Err("it goes round".into())
}

fn check(parts: &Parts, stage: &str) -> Result<(), TestCaseError> {
    for from in 0..HOSTS {
        for goal in (0..HOSTS).filter(|goal| *goal != from) {
            let end = walk(parts, from, goal);
            prop_assert_eq!(&end, &Ok(goal), "{}: h{} to h{}", stage, from, goal);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn frames_arrive_in_every_stage_whoever_has_heard_of_it(
        (before, after) in (some_ways(), some_ways()),
        (said_before, said_after) in (some_saying(), some_saying()),
        order in Just((0..HOSTS).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let (before, after) = (parts(&before, &said_before), parts(&after, &said_after));
        let plan = Plan::new(&before, &after, &places());
        prop_assert_eq!(plan.parts(Stage::Before), before);
        prop_assert_eq!(plan.parts(Stage::After), after);
        for pair in plan.stages().windows(2) {
            let (mut now, next) = (plan.parts(pair[0]), plan.parts(pair[1]));
            check(&now, &pair[0].to_string())?;
            for host in &order {
                now.insert(name(*host), next[&name(*host)].clone());
                check(&now, &format!("between {} and {}", pair[0], pair[1]))?;
            }
        }
    }

    #[test]
    fn whatever_hosts_answer_it_ends_in_one_state_or_the_other(
        (before, after) in (some_ways(), some_ways()),
        saying in some_saying(),
        answers in prop::collection::vec((0..HOSTS, 0..8_u8, 0..3000_u64), 0..60),
        absent in 0..HOSTS,
    ) {
        let plan = Plan::new(&parts(&before, &saying), &parts(&after, &saying), &places());
        ends(plan, answers, &name(absent))?;
    }
}

/// Carries out a plan while hosts give these answers, each so long after the one before.
fn ends(plan: Plan, answers: Vec<(usize, u8, u64)>, absent: &str) -> Result<(), TestCaseError> {
    let hosts = (0..HOSTS).map(name).filter(|host| host != absent).collect();
    let mut rollout = Rollout::new(plan, hosts, false, 0);
    let (mut now_ms, mut at) = (0, 0_usize);
    let mut answers = answers.into_iter();
    while now_ms < 1_000_000 {
        while let Some(deed) = rollout.poll(now_ms) {
            let progress = rollout.progress();
            if let Deed::Finish(outcome) = deed {
                prop_assert!(rollout.poll(now_ms + 10_000).is_none());
                let expected = match outcome {
                    Outcome::Done => progress.last,
                    Outcome::Undone { .. } => 0,
                };
                prop_assert_eq!(progress.number, expected);
                return Ok(());
            }
            prop_assert_eq!(at.abs_diff(progress.number), 1, "no stage is left out");
            prop_assert!(!progress.waiting.contains(absent));
            at = progress.number;
        }
        let Some((host, answer, later)) = answers.next() else {
            // Nobody says anything any more.
            now_ms = rollout.due_ms().max(now_ms + 1);
            continue;
        };
        now_ms += later;
        match answer {
            0 => rollout.declined(&name(host), "no", now_ms),
            1 => rollout.taken(&name(host), &[missing("rules: no room")], now_ms),
            _ => rollout.taken(&name(host), &[], now_ms),
        }
    }
    Err(TestCaseError::fail("it does not end"))
}

fn missing(why: &str) -> Missing {
    Missing {
        link: None,
        why: why.into(),
    }
}

fn chain() -> (Parts, Parts) {
    // All by h0, and then each to each by the shortest way of a ring.
    let star = (0..HOSTS).map(|goal| {
        let next = |host| match (host == goal, host == 0 || goal == 0) {
            (true, _) => None,
            (_, true) => Some(goal),
            _ => Some(0),
        };
        (0..HOSTS).map(next).collect()
    });
    let ring = (0..HOSTS).map(|goal| {
        let next = |host: usize| {
            let ahead = (goal + HOSTS - host) % HOSTS;
            let step = if ahead <= HOSTS / 2 { 1 } else { HOSTS - 1 };
            (ahead != 0).then_some((host + step) % HOSTS)
        };
        (0..HOSTS).map(next).collect()
    });
    let exact = [Saying::Exact; HOSTS];
    (
        parts(&star.collect(), &exact),
        parts(&ring.collect(), &exact),
    )
}

fn begun() -> (Rollout, Plan) {
    let (before, after) = chain();
    let plan = Plan::new(&before, &after, &places());
    let all = (0..HOSTS).map(name).collect();
    (Rollout::new(plan.clone(), all, false, 0), plan)
}

fn all_take(rollout: &mut Rollout, now_ms: u64) {
    for host in rollout.progress().waiting {
        rollout.taken(&host, &[], now_ms);
    }
}

#[test]
fn a_ring_takes_as_many_rounds_as_its_ways_have_hops() {
    let (mut rollout, plan) = begun();
    assert_eq!(
        plan.stages(),
        [
            Stage::Before,
            Stage::Links,
            Stage::Round(1),
            Stage::Round(2),
            Stage::After
        ]
    );
    for (now_ms, stage) in (0..).map(|n| n * 100).zip(&plan.stages()[1..]) {
        assert_eq!(rollout.poll(now_ms), Some(Deed::Deal(*stage)));
        all_take(&mut rollout, now_ms + 10);
    }
    assert_eq!(rollout.poll(1000), Some(Deed::Finish(Outcome::Done)));
}

#[test]
fn who_declines_or_lacks_a_link_turns_all_back_and_is_named() {
    for is_lack in [false, true] {
        let (mut rollout, _) = begun();
        rollout.poll(0);
        all_take(&mut rollout, 1);
        assert_eq!(rollout.poll(10), Some(Deed::Deal(Stage::Round(1))));
        match is_lack {
            true => rollout.taken("h2", &[missing("rules: no room")], 20),
            false => rollout.declined("h2", "no room", 20),
        }
        let mut now_ms = 20;
        for stage in [Stage::Links, Stage::Before] {
            now_ms += 300;
            assert_eq!(rollout.poll(now_ms), Some(Deed::Deal(stage)));
            assert!(!rollout.progress().waiting.contains("h2"), "it has failed");
            all_take(&mut rollout, now_ms + 1);
        }
        let why = match is_lack {
            true => "rules: no room",
            false => "no room",
        };
        let undone = Outcome::Undone {
            failed: BTreeMap::from([("h2".into(), why.into())]),
            astray: BTreeSet::new(),
        };
        assert_eq!(rollout.poll(now_ms + 300), Some(Deed::Finish(undone)));
    }
}

#[test]
fn who_vanishes_may_come_back_within_a_stage_and_not_later() {
    let (mut rollout, _) = begun();
    rollout.poll(0);
    for host in ["h0", "h1", "h2", "h4"] {
        rollout.taken(host, &[], 5);
    }
    assert_eq!(rollout.poll(4000), None);
    rollout.taken("h3", &[], 4000);
    assert_eq!(rollout.poll(4500), Some(Deed::Deal(Stage::Round(1))));
    for host in ["h0", "h1", "h2", "h4"] {
        rollout.taken(host, &[], 4600);
    }
    let late_ms = 4500 + run::STAGE_MAX_MS;
    assert_eq!(rollout.poll(late_ms - 1), None);
    assert_eq!(rollout.poll(late_ms), None, "what is under way arrives");
    assert_eq!(rollout.poll(late_ms + 300), Some(Deed::Deal(Stage::Links)));
    assert!(rollout.progress().failed["h3"].contains("not answered"));
}

#[test]
fn frames_for_many_take_the_links_of_both_trees_until_the_end() {
    let (mut before, mut after) = chain();
    for part in after.values_mut() {
        for link in &mut part.links {
            link.flood = Flooding::Always;
        }
    }
    for part in before.values_mut() {
        for link in &mut part.links {
            link.flood = Flooding::FromPorts;
        }
    }
    let plan = Plan::new(&before, &after, &places());
    let flood = |stage, host: &str, name: &str| {
        let part = plan.part(stage, host);
        let link = part.links.iter().find(|link| link.name == name);
        link.map(|link| link.flood)
    };
    // h1 has h0 and h2 as neighbours in the ring, and had h0 alone; h0 had h2.
    for stage in [Stage::Links, Stage::Round(1)] {
        assert_eq!(flood(stage, "h1", "to-h2"), Some(Flooding::Always));
        assert_eq!(flood(stage, "h1", "to-h0"), Some(Flooding::Always));
        assert_eq!(flood(stage, "h0", "to-h2"), Some(Flooding::FromPorts));
    }
    assert_eq!(flood(Stage::After, "h0", "to-h2"), None);
}

#[test]
fn a_new_link_must_be_there_if_its_other_end_is() {
    let lacks = |link: &str| Missing {
        link: Some(link.into()),
        why: format!("link {link}: its other end does not answer"),
    };
    // h1 has a link to h0 already, and gets one to h2.
    for (link, absent, force, fails) in [
        ("to-h2", None, false, true),
        ("to-h2", None, true, false),
        ("to-h2", Some("h2"), false, false),
        ("to-h0", None, false, false),
    ] {
        let (before, after) = chain();
        let plan = Plan::new(&before, &after, &places());
        let mut there: BTreeSet<String> = (0..HOSTS).map(name).collect();
        if let Some(absent) = absent {
            there.remove(absent);
        }
        let mut rollout = Rollout::new(plan, there, force, 0);
        assert_eq!(rollout.poll(0), Some(Deed::Deal(Stage::Links)));
        rollout.taken("h1", &[lacks(link)], 1);
        let failed = rollout.progress().failed;
        assert_eq!(
            failed.contains_key("h1"),
            fails,
            "{link} {absent:?} {force}"
        );
    }
}
