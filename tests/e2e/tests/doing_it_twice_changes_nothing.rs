//! The promise: where nothing differs nothing is written, however often the agent looks.

use anyhow::Result;
use e2e::ask;
use e2e::frame::{BROADCAST, expect, guest, numbered};
use e2e::settings::Settings;
use e2e::signal::said;
use e2e::stage::{Family, PORT, mesh_settings};
use lab::{Agent, Binaries, Host, Lab, in_lab};

/// What the agent says of every step that it takes in the kernel.
const STEP: &str = "runtime: taking";

/// The agents' programs, told to say more than usual.
fn talkative(lab: &Lab) -> Result<Binaries> {
    let binaries = Binaries::find()?;
    let script = lab.directory().join("talkative");
    let filter = "info,vnet_agent::act=debug";
    let text = format!(
        "#!/bin/sh\nVNET_LOG={filter} exec {} \"$@\"\n",
        binaries.agent.display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(Binaries {
        agent: script,
        ..binaries
    })
}

/// Has the agent look at the host some times, and returns how many steps it took meanwhile.
fn steps_while_looking(host: &Host, agent: &Agent) -> Result<usize> {
    let before = said(&agent.log()?, STEP);
    for round in 0..10 {
        // Something that it hears of, and that is none of its business.
        host.run(format!("ip link add other{round} type veth peer name far{round}").split(' '))?;
        host.run(format!("ip address add 10.77.{round}.1/24 dev other{round}").split(' '))?;
        ask::status(host)?;
        host.run(format!("ip link delete other{round}").split(' '))?;
        ask::status(host)?;
    }
    Ok(said(&agent.log()?, STEP) - before)
}

#[test]
fn looking_again_writes_nothing() {
    in_lab("twice", |lab| {
        let binaries = talkative(lab)?;
        let (one, two, _underlay) = lab.two_hosts(lab::UnderlaySettings::default())?;
        let _guests = [
            one.tap_guest(PORT, guest(1))?,
            two.tap_guest(PORT, guest(2))?,
        ];
        let settings =
            |own| mesh_settings(Family::Ipv4, own, 2).port_with("tap1", "addresses = \"learn\"");
        let learner = one.tap_guest("tap1", guest(3))?;
        let mut agent = one.agent_from(&binaries, &settings(1).text())?;
        let _other = two.agent(&settings(2).text())?;
        ask::until_healthy(&one)?;
        learner.send(&numbered(guest(3), BROADCAST, 1, 60))?;
        expect(&_guests[1], &[numbered(guest(3), BROADCAST, 1, 60)])?;
        lab::try_eventually("the address is learned", || {
            Ok(ask::interface(&one, "tap1")?.learned)
        })?;
        assert!(
            said(&agent.log()?, STEP) > 5,
            "it says so when it takes one"
        );
        assert_eq!(steps_while_looking(&one, &agent)?, 0, "{}", agent.log()?);

        // Nor does a restart change more than it must: the generations of the networks, so that
        // flows ask the rules once more.
        let before = said(&agent.log()?, STEP);
        agent.restart()?;
        ask::until_healthy(&one)?;
        let log = agent.log()?;
        let steps: Vec<_> = log
            .lines()
            .filter(|line| line.contains(STEP))
            .skip(before)
            .collect();
        assert!(
            steps.iter().all(|step| step.contains("SetNetwork")),
            "{steps:#?}"
        );
        assert_eq!(steps_while_looking(&one, &agent)?, 0, "{}", agent.log()?);
        Ok(())
    });
}

#[test]
fn adding_what_is_there_already_changes_nothing() {
    in_lab("again", |lab| {
        let binaries = talkative(lab)?;
        let host = lab.host("one")?;
        let _guest = host.tap_guest(PORT, guest(1))?;
        let agent = host.agent_from(&binaries, &Settings::new().port(PORT, guest(1)).text())?;
        let rule = format!("rule add --network blue --to {} --drop", guest(5));
        let link = format!(
            "link add over --remote 10.0.0.9 --network blue --cookie {}",
            e2e::settings::COOKIE
        );
        for line in [&rule, &link] {
            ask::change(&host, line)?;
        }
        let before = said(&agent.log()?, STEP);
        for line in [&rule, &link] {
            let again = ask::attempt(&host, line)?.successful()?;
            assert!(again.stdout.contains("unchanged"), "{}", again.stdout);
        }
        assert_eq!(said(&agent.log()?, STEP), before);
        Ok(())
    });
}
