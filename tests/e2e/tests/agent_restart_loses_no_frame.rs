//! The promise: the data plane outlives the agent. Whether it is killed, asked to stop, or started
//! again, every frame arrives once, and the next agent goes on with the books of the last.

use std::path::Path;

use anyhow::Result;
use e2e::frame::{BROADCAST, expect, guest, numbered};
use e2e::stage::{Family, PORT, Stage};
use e2e::stranger::has_program;
use e2e::stream::{Stream, during};
use e2e::{ask, books};
use lab::{Agent, LIMIT, in_lab};

/// Frames that must have flowed between two events.
const BETWEEN: u64 = 3000;

/// Does something to both agents, again and again, in the middle of a stream.
fn while_streaming(
    name: &str,
    family: Family,
    what: impl Fn(&mut Agent, &Stream<'_>) -> Result<()>,
) {
    in_lab(name, |lab| {
        let mut stage = Stage::mesh(lab, 2, family)?;
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let outcome = during(&one.guest, &two.guest, |stream| {
            for _ in 0..2 {
                for agent in [&mut one.agent, &mut two.agent] {
                    stream.flow_on(BETWEEN)?;
                    what(agent, stream)?;
                    stream.flow_on(BETWEEN)?;
                }
            }
            Ok(())
        })?;
        outcome.must_be_perfect(8 * BETWEEN)?;
        for site in [one, two] {
            ask::until_healthy(&site.host)?;
            books::settled(&site.host)?;
        }
        Ok(())
    });
}

#[test]
fn when_it_is_killed_and_comes_back() {
    while_streaming("kill", Family::Ipv4, |agent, stream| {
        agent.kill();
        stream.flow_on(BETWEEN)?;
        agent.restart()
    });
}

#[test]
fn when_it_is_stopped_and_comes_back_over_ipv6() {
    while_streaming("stop", Family::Ipv6, |agent, stream| {
        agent.terminate()?;
        stream.flow_on(BETWEEN)?;
        agent.restart()
    });
}

#[test]
fn when_it_is_killed_in_the_middle_of_starting() {
    in_lab("starting", |lab| {
        let mut stage = Stage::pair(lab)?;
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let outcome = during(&one.guest, &two.guest, |stream| {
            one.agent.kill();
            // After more and more of its start: reading, loading, adopting, attaching, ready.
            for pause_ms in (0..600).step_by(40) {
                let binaries = lab::Binaries::find()?;
                let settings = one.agent.settings_file().as_os_str();
                let words = [
                    binaries.agent.as_os_str(),
                    "run".as_ref(),
                    "--config".as_ref(),
                    settings,
                ];
                let starting = one.host.start("starting.log", words)?;
                std::thread::sleep(std::time::Duration::from_millis(pause_ms));
                drop(starting);
                stream.flow_on(200)?;
            }
            one.agent.restart()
        })?;
        outcome.must_be_perfect(3000)?;
        ask::until_healthy(&one.host)?;
        books::settled(&one.host)?;
        Ok(())
    });
}

#[test]
fn the_next_agent_goes_on_with_the_books() {
    in_lab("books", |lab| {
        let mut stage = Stage::pair(lab)?;
        let frame = |number| numbered(guest(1), guest(2), number, 100);
        let before = {
            let (one, two) = stage.two()?;
            (0..100).try_for_each(|number| one.guest.send(&frame(number)))?;
            one.guest.send(&numbered(guest(1), BROADCAST, 1, 60))?;
            let mut all: Vec<_> = (0..100).map(frame).collect();
            // The broadcast takes another way, and may be overtaken, not lost.
            all.push(numbered(guest(1), BROADCAST, 1, 60));
            let mut received = Vec::new();
            while received.len() < all.len() {
                received.extend(two.guest.receive(LIMIT)?);
            }
            received.sort();
            all.sort();
            assert_eq!(received, all);
            books::check_host(&one.host)?
        };
        let flows_before = ask::flows(&stage.site(1)?.host)?;
        stage.site(1)?.agent.kill();
        let (one, two) = stage.two()?;
        (100..150).try_for_each(|number| one.guest.send(&frame(number)))?;
        expect(&two.guest, &(100..150).map(frame).collect::<Vec<_>>())?;
        stage.site(1)?.agent.restart()?;
        let (one, two) = stage.two()?;
        ask::until_healthy(&one.host)?;

        let after = books::settled(&one.host)?;
        let mut expected = before.clone();
        let port = &mut expected.ports[0].ledger;
        port.received_packets += 50;
        port.received_bytes += 5000;
        port.forwarded += 50;
        expected.links[0].ledger.sent_packets += 50;
        expected.links[0].ledger.sent_bytes += 5000;
        assert_eq!(after.ports, expected.ports);
        assert_eq!(after.links, expected.links);
        assert_eq!(after.underlays, expected.underlays);
        assert_eq!(after.agent.ledger, expected.agent.ledger);
        let flow = |flows: &vnet_agent::api::Flows| {
            flows
                .flows
                .iter()
                .find(|flow| flow.destination == guest(2))
                .map(|flow| flow.packets)
        };
        assert_eq!(
            (flow(&flows_before), flow(&ask::flows(&one.host)?)),
            (Some(100), Some(150))
        );

        // The slow path works again as well.
        let broadcast = numbered(guest(1), BROADCAST, 2, 60);
        one.guest.send(&broadcast)?;
        expect(&two.guest, &[broadcast])
    });
}

#[test]
fn a_stopped_agent_leaves_its_data_plane_and_takes_its_socket() {
    in_lab("left", |lab| {
        let mut stage = Stage::pair(lab)?;
        let site = stage.site(1)?;
        site.agent.terminate()?;
        assert!(has_program(&site.host, PORT)? && has_program(&site.host, "eth0")?);
        assert!(!site.host.agent_socket().exists());
        let pins = site
            .host
            .inside(|| Path::new("/sys/fs/bpf/vnet").is_dir())?;
        assert!(pins);
        assert!(site.agent.log()?.contains("vnet-agent teardown"));
        let asked = ask::attempt(&site.host, "status")?;
        assert_eq!(asked.status, 1);
        assert!(asked.stderr.contains("agent.sock"), "{}", asked.stderr);
        Ok(())
    });
}
