//! The promise: a proxy that comes back with an older state, or has no room for a new one, says so in
//! one sentence with a cure, and nothing changes anywhere.

use anyhow::{Result, ensure};
use e2e::ask;
use e2e::overlay::{Overlay, agents};
use lab::{Host, in_lab, try_eventually};

/// The names of a host's links, without their rungs.
fn links(host: &Host) -> Result<Vec<String>> {
    let links = ask::links(host)?.into_iter();
    let wholes = links.filter(|link| link.rung_of.is_none());
    Ok(wholes.map(|link| link.name).collect())
}

/// A text that makes a mesh of the agents.
fn mesh(proxy: &Host) -> Result<String> {
    let shown = proxy.attempt_vnetctl(["topology", "show"])?;
    ensure!(shown.success(), "{}", shown.stderr);
    let base = proxy.directory().join("base.vnet");
    std::fs::write(&base, shown.stdout)?;
    let on = base.display().to_string();
    let planned = proxy.attempt_vnetctl(["topology", "plan", "mesh over one, two", "--on", &on])?;
    ensure!(planned.success(), "{}", planned.stderr);
    let file = proxy.directory().join("mesh.vnet");
    std::fs::write(&file, planned.stdout)?;
    Ok(file.display().to_string())
}

/// What is wrong on a host, all in one.
fn problems(host: &Host) -> Result<String> {
    let problems = ask::status(host)?.problems.into_iter();
    let said = problems.map(|problem| {
        let cure = problem.cure.unwrap_or_default();
        format!("{}: {}. {cure}", problem.subject, problem.message)
    });
    Ok(said.collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_proxy_with_an_older_state_changes_nothing_and_says_what_to_do() {
    in_lab("older-state", |lab| {
        let mut overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        let host = overlay.proxy.host.clone();
        let state = host.directory().join("state").display().to_string();
        overlay.proxy.agent.terminate()?;
        host.run(["cp", "-a", &state, &format!("{state}.old")])?;
        overlay.proxy.agent.restart()?;
        overlay.until_whole()?;
        let applied = host.attempt_vnetctl(["topology", "apply", &mesh(&host)?])?;
        ensure!(applied.success(), "{}", applied.stderr);
        overlay.until_whole()?;
        let newest = agents(&host)?;

        for what in ["overlay.json", "part.json"] {
            // First the overlay's alone, and then all of it.
            overlay.proxy.agent.terminate()?;
            host.run(["cp", "-a", &format!("{state}.old/{what}"), &state])?;
            overlay.proxy.agent.restart()?;
            let who = match what {
                "overlay.json" => &host,
                _ => &overlay.agents[0].host,
            };
            let said = try_eventually("somebody says what is wrong", || {
                let said = problems(who)?;
                Ok(said
                    .contains("come back with an older state")
                    .then_some(said))
            })?;
            assert!(said.contains("Give it back its state directory"), "{said}");
            for (agent, other) in [(0, "to-two"), (1, "to-one")] {
                let has = links(&overlay.agents[agent].host)?;
                assert!(has.iter().any(|link| link == other), "{has:?}");
            }
            overlay.until_all_reach_all()?;
        }

        // The second of the two cures that are named.
        overlay.proxy.agent.terminate()?;
        host.run(["rm", &format!("{state}/overlay.json")])?;
        overlay.proxy.agent.restart()?;
        overlay.until_whole()?;
        overlay.until_all_reach_all()?;
        let dealt = |agents: &vnet_agent::api::Agents| -> Option<u64> {
            agents
                .agents
                .iter()
                .filter_map(|agent| agent.dealt_revision)
                .max()
        };
        assert!(dealt(&agents(&host)?) > dealt(&newest));
        let said = problems(&overlay.agents[0].host)?;
        assert!(!said.contains("older"), "{said}");
        Ok(())
    });
}

#[test]
fn a_proxy_without_room_for_a_new_state_changes_nothing() {
    in_lab("full-proxy", |lab| {
        let mut overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        let host = overlay.proxy.host.clone();
        let state = host.directory().join("state").display().to_string();
        overlay.proxy.agent.terminate()?;
        let words = format!(
            "cp -a {state} {state}.kept && mount -t tmpfs -o size=128k,mode=0700 none {state} && \
             cp -a {state}.kept/. {state}/"
        );
        host.run(["sh", "-c", &words])?;
        overlay.proxy.agent.restart()?;
        overlay.until_whole()?;
        let file = mesh(&host)?;
        let before = host.vnetctl(["topology", "show"])?;
        let filler = format!("{state}/filler");
        // Fails when the disk is full, which is the point.
        let _ = host.attempt(["dd", "if=/dev/zero", &format!("of={filler}"), "bs=1k"])?;

        let refused = host.attempt_vnetctl(["topology", "apply", &file])?;
        assert_eq!(refused.status, 1, "{}", refused.stdout);
        for word in ["undone", "proxy:", "make room there"] {
            assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
        }
        assert_eq!(host.vnetctl(["topology", "show"])?, before);
        for place in &overlay.agents {
            assert_eq!(links(&place.host)?, ["to-proxy"]);
        }
        overlay.until_all_reach_all()?;

        // The mount is the host's own.
        host.run(["rm", &filler])?;
        let applied = host.attempt_vnetctl(["topology", "apply", &file])?;
        ensure!(applied.success(), "{}", applied.stderr);
        assert_eq!(links(&overlay.agents[0].host)?, ["to-proxy", "to-two"]);
        overlay.until_all_reach_all()
    });
}
