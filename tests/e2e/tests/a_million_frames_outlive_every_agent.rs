//! The promise: while agents are killed, restarted, upgraded to a build with other programs and
//! downgraded again, under load, a million frames arrive: each once, in its turn, and in the books
//! of both hosts.

use anyhow::{Result, ensure};
use e2e::build::digest_on;
use e2e::stage::{DEVICE, PORT, Site, Stage};
use e2e::stream::{Stream, during};
use e2e::{ask, books};
use lab::{Agent, Binaries, Host, in_lab};

const FRAMES: u64 = 1_000_000;
/// Frames that must have arrived between two events.
const BETWEEN: u64 = 3000;

/// One agent after the other: none, the same, one of another build, and the first build again.
fn replace_agents(
    host: &Host,
    agent: &mut Agent,
    usual: &Binaries,
    other: &Binaries,
    stream: &Stream<'_>,
) -> Result<()> {
    let programs = || -> Result<_> { Ok([digest_on(host, PORT)?, digest_on(host, DEVICE)?]) };
    let before = programs()?;
    agent.kill();
    stream.flow_on(BETWEEN)?;
    agent.restart()?;
    stream.flow_on(BETWEEN)?;
    ensure!(programs()? == before, "another program without an upgrade");

    agent.restart_from(other)?;
    let changed = programs()?;
    let is_changed = before.iter().zip(&changed).all(|(old, new)| old != new);
    ensure!(is_changed, "the other build has the same programs");
    stream.flow_on(BETWEEN)?;

    // And the other way, with nobody asked to stop.
    agent.kill();
    agent.restart_from(usual)?;
    ensure!(
        programs()? == before,
        "the downgrade brought something else"
    );
    stream.flow_on(BETWEEN)
}

/// What passed, by the books of the host that sent and of the host that received.
fn passed(from: &Site, to: &Site) -> Result<[u64; 6]> {
    ask::until_healthy(&from.host)?;
    ask::until_healthy(&to.host)?;
    let (sent, received) = (books::check_host(&from.host)?, books::check_host(&to.host)?);
    books::check_pair(&sent, "to-two", &received, "to-one")?;
    let (port, link) = (books::port(&sent, PORT)?, books::link(&received, "to-one")?);
    Ok([
        port.received_packets,
        port.forwarded,
        books::link(&sent, "to-two")?.sent_packets,
        link.received_packets,
        link.delivered,
        books::port(&received, PORT)?.sent_packets,
    ])
}

#[test]
fn a_million_frames_arrive_while_agents_are_killed_and_replaced() {
    in_lab("million", |lab| {
        let usual = Binaries::find()?;
        let other = Binaries::find_with_log()?;
        let mut stage = Stage::pair(lab)?;
        let [one, two] = &mut stage.sites[..] else {
            unreachable!("two sites")
        };
        let outcome = during(&one.guest, &two.guest, |stream| {
            while stream.arrived() < FRAMES {
                replace_agents(&one.host, &mut one.agent, &usual, &other, stream)?;
                replace_agents(&two.host, &mut two.agent, &usual, &other, stream)?;
            }
            Ok(())
        })?;
        outcome.must_be_perfect(FRAMES)?;
        assert_eq!(passed(one, two)?, [outcome.sent; 6]);
        Ok(())
    });
}
