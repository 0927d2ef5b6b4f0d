//! The promise: the strongest rule that matches decides (thesis proposal, section 3.1): exact over
//! `not` over `any`, the destination before the source, `none` below all, and among equals the
//! newer; whatever the order in which they came.

use anyhow::Result;
use e2e::ask;
use e2e::chance::Chance;
use e2e::frame::{guest, numbered};
use e2e::listener::while_listening;
use e2e::settings::Settings;
use e2e::stage::{PORT, Stage};
use lab::{Mac, in_lab};
use vnet_common::rule::{Destination, Shape, Source};

/// Rules lead to one of these ports.
const PORTS: [&str; 3] = ["tap1", "tap2", "tap3"];

/// A rule, and the port that it leads to.
type Rule = (Source, Destination, usize);

/// Every shape, about guests 1 and 9.
fn some_rules(chance: &mut Chance) -> Vec<Rule> {
    let someone = |chance: &mut Chance| guest(*chance.one_of(&[1, 9]));
    let mut rules: Vec<Rule> = Vec::new();
    for _ in 0..10 {
        let source = match chance.below(3) {
            0 => Source::Any,
            1 => Source::Not(someone(chance)),
            _ => Source::Is(someone(chance)),
        };
        let destination = match chance.below(4) {
            0 => Destination::None,
            1 => Destination::Any,
            2 => Destination::Not(someone(chance)),
            _ => Destination::Is(someone(chance)),
        };
        // Adding the same rule again makes it the newest.
        rules.retain(|(s, d, _)| (*s, *d) != (source, destination));
        rules.push((source, destination, chance.below(PORTS.len())));
    }
    rules
}

/// Which port a frame goes to, by reading the list.
fn by_the_book(rules: &[Rule], from: Mac, to: Mac) -> Option<usize> {
    let matching = rules
        .iter()
        .enumerate()
        .filter(|(_, (source, destination, _))| source.matches(from) && destination.matches(to));
    let strongest = matching
        .max_by_key(|(age, (source, destination, _))| (Shape::of(*source, *destination), *age));
    strongest.map(|(_, (_, _, port))| *port)
}

fn words(rule: &Rule) -> Vec<String> {
    let (source, destination, port) = rule;
    let line = ["rule", "add", "--network", "blue", "--from"].map(str::to_owned);
    let mut words = line.to_vec();
    words.extend([
        source.to_string(),
        "--to".into(),
        destination.to_string(),
        "--port".into(),
        PORTS[*port].into(),
    ]);
    words
}

#[test]
fn whatever_the_rules_and_their_order() {
    in_lab("rules", |lab| {
        let stage = Stage::start(lab, 1, |_| {
            let from_anyone = Settings::new().port_with(PORT, "addresses = \"any\"");
            PORTS.iter().fold(from_anyone, |settings, port| {
                settings.port_with(port, "addresses = \"learn\"")
            })
        })?;
        let site = &stage.sites[0];
        let [a, b, c] = PORTS.map(|port| site.host.tap_guest(port, guest(0)));
        let (a, b, c) = (a?, b?, c?);
        ask::until(&site.host, "all ports forward", |status| status.ports == 4)?;
        let mut chance = Chance::seeded(0x0123_4567);
        let mut added: Vec<Rule> = Vec::new();
        for round in 0..4 {
            let rules = some_rules(&mut chance);
            for rule in &rules {
                added.retain(|(s, d, _)| (*s, *d) != (rule.0, rule.1));
                added.push(*rule);
                site.host.attempt_vnetctl(words(rule))?.successful()?;
            }
            let mut expected: [Vec<Vec<u8>>; 3] = Default::default();
            let received = while_listening([&a, &b, &c], || {
                for (from, to) in [(1, 9), (9, 1), (1, 5), (9, 5), (5, 1), (5, 9), (5, 6)] {
                    let frame = numbered(guest(from), guest(to), round, 60);
                    site.guest.send(&frame)?;
                    if let Some(port) = by_the_book(&added, guest(from), guest(to)) {
                        expected[port].push(frame);
                    }
                }
                Ok(())
            })?;
            assert_eq!(received, expected, "round {round}: {added:?}");
        }
        // The list shows them in the order in which they are asked.
        let listed: Vec<_> = ask::rules(&site.host)?
            .into_iter()
            .map(|rule| rule.strength)
            .collect();
        assert!(listed.is_sorted_by(|a, b| a >= b), "{listed:?}");
        assert_eq!(listed.len(), added.len());
        Ok(())
    });
}

#[test]
fn a_rule_of_ones_own_takes_the_place_of_a_ports() -> Result<()> {
    in_lab("own", |lab| {
        let stage = Stage::start(lab, 1, |_| {
            PORTS.iter().zip(2..).fold(
                Settings::new().port(PORT, guest(1)),
                |settings, (port, number)| settings.port(port, guest(number)),
            )
        })?;
        let site = &stage.sites[0];
        let [a, b, _c] = PORTS.map(|port| site.host.tap_guest(port, guest(0)));
        let (a, b) = (a?, b?);
        ask::until(&site.host, "all ports forward", |status| status.ports == 4)?;
        let frame = numbered(guest(1), guest(2), 1, 60);
        site.guest.send(&frame)?;
        e2e::frame::expect(&a, std::slice::from_ref(&frame))?;
        ask::change(
            &site.host,
            &format!("rule add --network blue --to {} --port tap2", guest(2)),
        )?;
        site.guest.send(&frame)?;
        e2e::frame::expect(&b, std::slice::from_ref(&frame))?;
        e2e::frame::expect_nothing(&a)?;
        // Once it goes, the port has its address again.
        ask::change(
            &site.host,
            &format!("rule delete --network blue --from any --to {}", guest(2)),
        )?;
        site.guest.send(&frame)?;
        e2e::frame::expect(&a, &[frame])
    });
    Ok(())
}
