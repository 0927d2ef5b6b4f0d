//! The promise: the star goes over UDP where UDP passes, and over TLS where it does not. It finds out by
//! itself, says why, and climbs back when UDP passes again, with nothing lost but what was sent until
//! it was noticed.

use anyhow::{Context, Result, ensure};
use e2e::firewall::{self, Passes};
use e2e::overlay::{self, Overlay};
use e2e::pings::Pings;
use e2e::rung::{connection, until_on, until_ready};
use e2e::{ask, books};
use lab::{Host, UnderlaySettings, in_lab, try_eventually};
use vnet_agent::api::LinkState;
use vnet_agent::model::Transport;

/// Frames that the proxy passed on from agent one: over UDP, and over TLS.
fn passed_on(proxy: &Host) -> Result<(u64, u64)> {
    let stats = ask::stats(proxy)?;
    let of = |link| Ok::<_, anyhow::Error>(books::link(&stats, link)?.forwarded);
    Ok((of("to-one")?, of("tls-to-one")?))
}

#[test]
fn udp_that_stops_passing_is_noticed_and_udp_that_passes_again_too() {
    in_lab("rungs", |lab| {
        let overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        let [one, _two] = &overlay.agents[..] else {
            unreachable!("two agents")
        };
        let proxy = &overlay.proxy.host;
        let site = one.host.uplink()?;
        until_on(&overlay, one, Transport::Udp)?;
        until_ready(&overlay, one)?;
        ensure!(passed_on(proxy)?.1 == 0, "TLS without need");

        let pings = Pings::start(&one.guest, 3)?;
        firewall::set(&overlay.underlay, &site, Passes::NoUdp)?;
        until_on(&overlay, one, Transport::Tls)?;
        let before = passed_on(proxy)?;
        pings.until_more()?;
        let after = passed_on(proxy)?;
        ensure!(
            after.0 == before.0 && after.1 >= before.1 + 20,
            "over UDP and TLS {before:?}, then {after:?}"
        );
        let shown = one.host.attempt_vnetctl(["links"])?.successful()?.stdout;
        let line = shown.lines().find(|line| line.starts_with("to-proxy"));
        ensure!(
            line.is_some_and(|l| l.contains("tls") && l.contains("does not answer over udp")),
            "{shown}"
        );
        ask::until_healthy(&one.host)?;

        firewall::set(&overlay.underlay, &site, Passes::Everything)?;
        until_on(&overlay, one, Transport::Udp)?;
        let before = passed_on(proxy)?;
        pings.until_more()?;
        let after = passed_on(proxy)?;
        ensure!(
            after.0 >= before.0 + 20,
            "over UDP and TLS {before:?}, then {after:?}"
        );
        let echoes = pings.stop()?;
        let lost = echoes.lost_in_one_gap()?;
        println!("{lost} of {} pings lost, one each 10 ms", echoes.sent);
        ensure!(lost > 0, "UDP always passed: {echoes:?}");
        // What one end sent over TLS is what the other got by it.
        let there = connection(&one.host, "tls-to-proxy")?;
        let here = connection(proxy, "tls-to-one")?;
        ensure!(
            there.sent == here.arrived && here.refused == 0 && there.connections == 1,
            "{there:?} {here:?}"
        );
        Ok(())
    });
}

#[test]
fn a_site_that_lets_only_outgoing_tcp_pass_is_in() {
    in_lab("tcp-only", |lab| {
        let overlay = Overlay::behind(lab, 2, |underlay, site| match site.ipv4 {
            // The first of the agents.
            Some(address) if address.octets()[3] == 2 => {
                firewall::set(underlay, site, Passes::OutgoingTcp)
            }
            _ => Ok(()),
        })?;
        overlay.until_all_reach_all()?;
        let [one, two] = &overlay.agents[..] else {
            unreachable!("two agents")
        };
        until_on(&overlay, one, Transport::Tls)?;
        until_on(&overlay, two, Transport::Udp)?;
        for host in [&one.host, &two.host, &overlay.proxy.host] {
            ask::until_healthy(host)?;
        }
        ensure!(connection(&one.host, "tls-to-proxy")?.opened_here);
        // A direct link that cannot be is made up for in the same way.
        overlay.apply(&overlay.with_a_short_cut()?)?;
        try_eventually("the direct link takes the star", || {
            let link = ask::link(&one.host, "to-two")?;
            let takes_star = link.instead.as_deref() == Some("to-proxy");
            Ok((link.state == LinkState::FallenBack && takes_star).then_some(()))
        })?;
        let pings = Pings::start(&one.guest, 3)?;
        pings.until_more()?;
        pings.stop()?.never_twice()?;
        overlay.until_all_reach_all()
    });
}

#[test]
fn an_agent_behind_nat_is_in() {
    in_lab("nat", |lab| {
        let mut overlay = Overlay::new(lab, 1)?;
        // A router with an address of the underlay stands before a site whose addresses nobody knows.
        let private = lab.underlay(UnderlaySettings {
            ipv6: false,
            ..UnderlaySettings::default()
        })?;
        let router = lab.host("router")?;
        overlay.underlay.connect(&router, "wan")?;
        let inside = private.connect(&router, "lan")?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        let masquerade = router.directory().join("masquerade.nft");
        std::fs::write(
            &masquerade,
            "table ip nat {\nchain out {\ntype nat hook postrouting priority 100;\n\
             oifname wan masquerade\n}\n}\n",
        )?;
        router.run(["nft", "-f", &masquerade.display().to_string()])?;

        let host = lab.host("two")?;
        private.connect(&host, "eth0")?;
        let gateway = inside
            .ipv4
            .context("the router has an address")?
            .to_string();
        host.run(["ip", "route", "add", "default", "via", &gateway])?;
        let place = overlay::place(host, &overlay.authority, 2)?;
        overlay.agents.push(place);
        overlay.until_whole()?;
        overlay.until_all_reach_all()?;
        let [one, two] = &overlay.agents[..] else {
            unreachable!("two agents")
        };
        until_on(&overlay, one, Transport::Udp)?;
        until_on(&overlay, two, Transport::Tls)?;
        ask::until_healthy(&two.host)?;
        ask::until_healthy(&overlay.proxy.host)?;
        let seen = connection(&overlay.proxy.host, "tls-to-two")?.peer;
        let outside = router.uplink()?.ipv4.context("the router has an address")?;
        ensure!(seen.is_some_and(|peer| peer.ip() == outside), "{seen:?}");
        let link = ask::link(&two.host, "to-proxy")?;
        ensure!(
            link.rung.why.contains("does not answer over udp"),
            "{link:?}"
        );
        Ok(())
    });
}
