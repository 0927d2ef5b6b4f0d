//! The promise: a proxy and agents that have nothing but certificates and ports become one LAN. It
//! lives on while the proxy's agent is dead, and is whole again when it is back; who has no right to
//! be there gets nothing but a counted refusal.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::ask;
use e2e::overlay::{self, CONTROL, Overlay, agent_settings, agents, is_together, reaches};
use lab::{Host, in_lab, try_eventually};

fn turned_away(proxy: &Host, why: &str) -> Result<u64> {
    let counts: BTreeMap<String, u64> = agents(proxy)?.turned_away;
    Ok(counts.get(why).copied().unwrap_or(0))
}

#[test]
fn guests_on_all_hosts_and_the_proxys_lan_are_neighbours() {
    in_lab("star-forms", |lab| {
        let overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        for place in &overlay.agents {
            ask::until_healthy(&place.host)?;
            let links = ask::links(&place.host)?;
            let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
            assert_eq!(names, ["to-proxy", "tls-to-proxy"]);
        }
        assert!(agents(&overlay.proxy.host)?.turned_away.is_empty());
        Ok(())
    });
}

#[test]
fn frames_go_on_without_the_proxys_agent_and_the_agents_return_to_it() {
    in_lab("star-heals", |lab| {
        let mut overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        let before = agents(&overlay.proxy.host)?;
        overlay.proxy.agent.kill();
        for place in &overlay.agents {
            let host = &place.host;
            try_eventually("the agent notices that the proxy is gone", || {
                Ok((!is_together(host)?).then_some(()))
            })?;
        }
        // Guests that have known each other since before, through the proxy's kernel.
        assert!(reaches(&overlay.agents[0].guest, 3)?, "one to two");
        assert!(reaches(&overlay.agents[0].guest, 1)?, "one to the LAN");
        // An agent that starts meanwhile goes by what it has.
        overlay.agents[1].agent.restart()?;
        assert!(reaches(&overlay.agents[1].guest, 2)?, "two to one");
        overlay.proxy.agent.restart()?;
        overlay.until_whole()?;
        overlay.until_all_reach_all()?;
        let dealt = |agents: &vnet_agent::api::Agents| -> Vec<_> {
            let revisions = agents.agents.iter().map(|agent| agent.dealt_revision);
            revisions.collect()
        };
        // Nothing has changed, so nobody got anything new.
        assert_eq!(dealt(&agents(&overlay.proxy.host)?), dealt(&before));
        Ok(())
    });
}

#[test]
fn a_path_that_was_cut_for_a_while_comes_back_by_itself() {
    in_lab("star-cut", |lab| {
        let overlay = Overlay::new(lab, 1)?;
        overlay.until_all_reach_all()?;
        let host = &overlay.agents[0].host;
        let uplink = host.uplink()?;
        overlay.underlay.set_connected(&uplink, false)?;
        try_eventually("the agent notices that the path is cut", || {
            Ok((!is_together(host)?).then_some(()))
        })?;
        std::thread::sleep(Duration::from_secs(2));
        overlay.underlay.set_connected(&uplink, true)?;
        overlay.until_whole()?;
        overlay.until_all_reach_all()
    });
}

#[test]
fn who_has_no_right_to_be_there_gets_a_counted_refusal() {
    in_lab("star-refuses", |lab| {
        let overlay = Overlay::new(lab, 1)?;
        let proxy = &overlay.proxy.host;
        let stranger = lab.host("three")?;
        overlay.underlay.connect(&stranger, "eth0")?;
        let other = overlay::authority(lab, &stranger, "other-ca")?;
        overlay::identity(&stranger, &other, "three", "agent", "90d")?;
        let settings = agent_settings(&stranger);
        let mut agent = stranger.agent(&settings)?;
        // It does not believe this proxy either, and tells so first.
        let status = ask::until(&stranger, "it is apart from the proxy", |status| {
            status
                .problems
                .iter()
                .any(|p| p.message.contains("invalid peer certificate"))
        })?;
        assert!(status.ports == 0 && status.links.total == 0, "{status:?}");
        assert!(turned_away(proxy, "it does not believe our certificate")? > 0);
        agent.terminate()?;

        // It believes this proxy, and shows the other authority's certificate.
        let path = stranger.directory().join("identity.pem");
        let text = std::fs::read_to_string(&path)?;
        let end = "-----END CERTIFICATE-----\n";
        let parts: Vec<&str> = text.split_inclusive(end).collect();
        let right = std::fs::read_to_string(overlay.authority.join("ca.pem"))?;
        std::fs::write(&path, [parts[0], &right, parts[2]].concat())?;
        agent.restart()?;
        try_eventually(
            "the proxy counts a certificate of another authority",
            || {
                let count = turned_away(proxy, "a certificate of another authority")?;
                Ok((count > 0).then_some(()))
            },
        )?;
        agent.terminate()?;

        // Of the right authority, and over.
        overlay::identity(&stranger, &overlay.authority, "three", "agent", "1s")?;
        std::thread::sleep(Duration::from_secs(2));
        agent.restart()?;
        try_eventually("the proxy counts a certificate that is over", || {
            Ok((turned_away(proxy, "a certificate that is over")? > 0).then_some(()))
        })?;
        agent.terminate()?;

        // Of the right authority, and another agent's name.
        overlay::identity(&stranger, &overlay.authority, "one", "agent", "90d")?;
        let named = format!("{settings}\n[agent]\nname = \"one\"\n");
        agent.write_settings(&named)?;
        agent.restart()?;
        try_eventually("the proxy refuses a second agent of one name", || {
            Ok((turned_away(proxy, "not admitted")? > 0).then_some(()))
        })?;
        let status = ask::until(&stranger, "it knows why", |status| {
            status
                .problems
                .iter()
                .any(|p| p.message.contains("two cannot have one name"))
        })?;
        assert_eq!(status.links.total, 0, "{status:?}");

        // Without any.
        let spoken = proxy.inside(|| -> Result<()> {
            let mut stream = std::net::TcpStream::connect(CONTROL)?;
            std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n")?;
            Ok(())
        })?;
        spoken?;
        try_eventually("the proxy counts who speaks no TLS", || {
            Ok((turned_away(proxy, "no TLS 1.3")? > 0).then_some(()))
        })?;
        overlay.until_whole()?;
        let known: Vec<_> = agents(proxy)?.agents.into_iter().map(|a| a.name).collect();
        assert_eq!(known, ["one"]);
        Ok(())
    });
}

#[test]
fn a_token_brings_one_host_in_once() {
    in_lab("star-joins", |lab| {
        let overlay = Overlay::new(lab, 0)?;
        let proxy = &overlay.proxy.host;
        let invited = proxy.vnetctl(["ca", "invite", "one", "--expires", "1h"])?;
        let token = invited["token"].as_str().context("no token")?.to_owned();
        let host = lab.host("one")?;
        overlay.underlay.connect(&host, "eth0")?;
        let path = |name: &str| host.directory().join(name).display().to_string();
        let join = |identity: &str| {
            let (identity, config) = (path(identity), path("joined.toml"));
            let words = ["join", &token, "--identity", &identity, "--config", &config];
            host.attempt_vnetctl(words)
        };
        join("identity.pem")?.successful()?;
        let again = join("second.pem")?;
        assert!(!again.success(), "{again:?}");
        assert!(
            again.stderr.contains("does not know this token"),
            "{again:?}"
        );
        assert_eq!(turned_away(proxy, "a token that is not good")?, 1);

        let settings = std::fs::read_to_string(path("joined.toml"))?;
        let _agent = host.agent(&settings)?;
        try_eventually("the new agent is together with the proxy", || {
            Ok(is_together(&host)?.then_some(()))
        })?;
        Ok(())
    });
}

#[test]
fn certificates_are_renewed_and_the_connection_stays() {
    in_lab("star-renews", |lab| {
        let mut overlay = Overlay::new(lab, 0)?;
        let host = lab.host("one")?;
        overlay.underlay.connect(&host, "eth0")?;
        overlay::identity(&host, &overlay.authority, "one", "agent", "9s")?;
        let agent = host.agent(&agent_settings(&host))?;
        let connection = || -> Result<Option<_>> {
            let agents = agents(&overlay.proxy.host)?.agents;
            Ok(agents.into_iter().find_map(|agent| agent.connection))
        };
        let first = try_eventually("the agent is there", connection)?;
        let renewed = try_eventually("its certificate is renewed", || {
            Ok(connection()?.filter(|now| {
                now.certificate_expires_unix_s > first.certificate_expires_unix_s + 2
            }))
        })?;
        assert_eq!(
            renewed.since_unix_ms, first.since_unix_ms,
            "another connection"
        );
        drop(agent);
        overlay.proxy.agent.terminate()
    });
}
