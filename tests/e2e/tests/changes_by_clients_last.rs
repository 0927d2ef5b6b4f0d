//! The promise: links and rules that a client adds or deletes take effect at once and outlive the
//! agent; when somebody edits the settings file, the file wins and says what it set aside.

use anyhow::Result;
use e2e::frame::{expect, expect_nothing, guest, numbered};
use e2e::settings::{COOKIE, Settings};
use e2e::stage::{Family, PORT, Stage, mesh_settings};
use e2e::stream::during;
use e2e::{ask, books, signal};
use lab::{Lab, TapGuest, in_lab};
use vnet_agent::api::LinkState;
use vnet_common::reason::Reason;

fn arrives(from: &TapGuest, to: &TapGuest, number: u64) -> Result<()> {
    let frame = numbered(from.mac(), to.mac(), number, 100);
    from.send(&frame)?;
    expect(to, &[frame])
}

fn does_not_arrive(from: &TapGuest, to: &TapGuest) -> Result<()> {
    from.send(&numbered(from.mac(), to.mac(), 99, 100))?;
    expect_nothing(to)
}

/// Two hosts that know nothing but their guests.
fn strangers(lab: &Lab) -> Result<Stage> {
    Stage::new(lab, 2, |own| Settings::new().port(PORT, guest(own)))
}

/// Has the agent of host `own` learn the way to the other by commands.
fn introduce(stage: &Stage, own: u8) -> Result<()> {
    let other = 3 - own;
    let host = &stage.sites[usize::from(own) - 1].host;
    ask::change(
        host,
        &format!("link add over --remote 10.0.0.{other} --network blue --cookie {COOKIE}"),
    )?;
    ask::change(
        host,
        &format!("rule add --network blue --to {} --link over", guest(other)),
    )?;
    ask::until_link(host, "over", LinkState::Up).map(drop)
}

#[test]
fn links_and_rules_take_effect_at_once() {
    in_lab("once", |lab| {
        let stage = strangers(lab)?;
        let (one, two) = stage.two()?;
        does_not_arrive(&one.guest, &two.guest)?;
        introduce(&stage, 1)?;
        // Half a way: host two does not know who that is.
        does_not_arrive(&one.guest, &two.guest)?;
        introduce(&stage, 2)?;
        arrives(&one.guest, &two.guest, 1)?;
        arrives(&two.guest, &one.guest, 2)?;
        // The ports have less room than before there were links.
        assert_eq!(e2e::stranger::mtu_of(&one.host, PORT)?, 1422);

        // A rule that others depend on is no trap: a link with rules goes by force only.
        let refused = ask::attempt(&one.host, "link delete over")?;
        assert_eq!(refused.status, 1);
        assert!(refused.stderr.contains("force it"), "{}", refused.stderr);
        arrives(&one.guest, &two.guest, 3)?;
        ask::change(
            &one.host,
            &format!("rule delete --network blue --from any --to {}", guest(2)),
        )?;
        does_not_arrive(&one.guest, &two.guest)?;
        ask::change(&one.host, "link delete over")?;
        assert!(ask::links(&one.host)?.is_empty());
        // What still comes from host two is from nobody now.
        does_not_arrive(&two.guest, &one.guest)?;
        let stats = books::check_host(&one.host)?;
        assert_eq!(
            books::dropped(books::underlay(&stats, "eth0")?, Reason::UnknownPeer),
            1
        );
        assert_eq!(
            books::dropped(books::port(&stats, PORT)?, Reason::NoRule),
            2
        );
        assert_eq!(
            e2e::stranger::mtu_of(&one.host, PORT)?,
            1500,
            "nothing limits it any more"
        );
        Ok(())
    });
}

#[test]
fn they_outlive_an_agent_that_is_killed() {
    in_lab("kill", |lab| {
        let mut stage = strangers(lab)?;
        introduce(&stage, 1)?;
        introduce(&stage, 2)?;
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let before = (ask::links(&one.host)?, ask::rules(&one.host)?);
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(1000)?;
            for agent in [&mut one.agent, &mut two.agent] {
                agent.kill();
                agent.restart()?;
                stream.flow_on(1000)?;
            }
            Ok(())
        })?;
        outcome.must_be_perfect(3000)?;
        let log = one.agent.log()?;
        assert!(log.contains("what clients changed since is kept"), "{log}");
        let rules = ask::rules(&one.host)?;
        assert_eq!(rules, before.1);
        let names = |links: &[vnet_agent::api::LinkStatus]| {
            links
                .iter()
                .map(|link| link.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&ask::links(&one.host)?), names(&before.0));
        let source = ask::status(&one.host)?.configuration_source;
        assert!(
            source.ends_with("agent.toml, and changes made since"),
            "{source}"
        );
        Ok(())
    });
}

#[test]
fn they_are_set_aside_when_the_file_is_edited() {
    in_lab("edited", |lab| {
        for by_signal in [true, false] {
            let host = lab.host(if by_signal { "signalled" } else { "restarted" })?;
            let one = host.tap_guest(PORT, guest(1))?;
            let two = host.tap_guest("tap1", guest(2))?;
            let settings = Settings::new().port(PORT, guest(1)).port("tap1", guest(2));
            let mut agent = host.agent(&settings.text())?;
            ask::change(
                &host,
                &format!("rule add --network blue --to {} --drop", guest(2)),
            )?;
            does_not_arrive(&one, &two)?;
            let edited = settings.rule("any", &guest(7).to_string(), "drop = true");
            agent.write_settings(&edited.text())?;
            if by_signal {
                signal::reload(&agent)?;
                arrives(&one, &two, 1)?;
                // And it stays that way.
                agent.restart()?;
            } else {
                agent.restart()?;
                let log = agent.log()?;
                assert!(log.contains("was edited: it counts"), "{log}");
                assert!(log.contains("configuration.json.old"), "{log}");
            }
            arrives(&one, &two, 2)?;
            assert_eq!(ask::rules(&host)?.len(), 3);
            let old = host.directory().join("state/configuration.json.old");
            assert!(std::fs::read_to_string(old)?.contains(&guest(2).to_string()));
        }
        Ok(())
    });
}

#[test]
fn a_refused_change_changes_nothing() {
    in_lab("refused", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, _) = stage.two()?;
        let before = (ask::links(&one.host)?, ask::rules(&one.host)?);
        let cookie = format!("--cookie {COOKIE}");
        for (line, words) in [
            (
                format!("link add to-two --remote 10.0.0.9 --network blue {cookie}"),
                "to-two",
            ),
            (
                format!("link add other --remote 10.0.0.2 --network blue {cookie}"),
                "10.0.0.2",
            ),
            (
                format!("link add other --remote 10.0.0.9 --network red {cookie}"),
                "red",
            ),
            ("link delete nothing".to_owned(), "nothing"),
            (
                format!("rule add --network red --to {} --drop", guest(9)),
                "red",
            ),
            (
                format!("rule add --network blue --to {} --link to-tow", guest(9)),
                "to-tow",
            ),
            (
                format!("rule delete --network blue --from any --to {}", guest(9)),
                "any",
            ),
        ] {
            let refused = ask::attempt(&one.host, &line)?;
            assert_eq!(refused.status, 1, "{line}");
            assert!(refused.stderr.contains(words), "{line}: {}", refused.stderr);
        }
        assert_eq!((ask::links(&one.host)?, ask::rules(&one.host)?), before);
        assert!(
            !one.host
                .directory()
                .join("state/configuration.json")
                .exists()
        );
        Ok(())
    });
}

#[test]
fn reconfiguring_under_load_loses_and_doubles_nothing() {
    in_lab("load", |lab| {
        let stage = Stage::new(lab, 3, |own| mesh_settings(Family::Ipv4, own, 3))?;
        let [one, two, three] = &stage.sites[..] else {
            unreachable!("three sites")
        };
        // Host three can pass on what is for guest two.
        let outcome = during(&one.guest, &two.guest, |stream| {
            stream.flow_on(1000)?;
            for _ in 0..5 {
                let over =
                    |link: &str| format!("rule add --network blue --to {} --link {link}", guest(2));
                ask::change(&one.host, &over("to-three"))?;
                stream.flow_on(500)?;
                ask::change(&one.host, &over("to-two"))?;
                stream.flow_on(500)?;
                ask::change(
                    &one.host,
                    &format!(
                        "rule add --network blue --from {} --to {} --link to-two",
                        guest(1),
                        guest(2)
                    ),
                )?;
                stream.flow_on(500)?;
                ask::change(
                    &one.host,
                    &format!(
                        "rule delete --network blue --from {} --to {}",
                        guest(1),
                        guest(2)
                    ),
                )?;
                stream.flow_on(500)?;
            }
            Ok(())
        })?;
        outcome.must_be_perfect(10_000)?;
        let stats = books::settled(&three.host)?;
        assert!(
            books::link(&stats, "to-two")?.sent_packets > 1000,
            "some went the long way"
        );
        Ok(())
    });
}
