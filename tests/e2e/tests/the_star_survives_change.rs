//! The promise: guests with a direct link of their own do not notice that the proxy is gone, an agent
//! may get another address, and a star whose path comes back is whole again, TLS or UDP.

use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::ask;
use e2e::firewall::{self, Passes};
use e2e::overlay::{Overlay, is_together};
use e2e::pings::Pings;
use e2e::rung::{until_on, until_ready};
use lab::{in_lab, try_eventually};
use vnet_agent::api::LinkState;
use vnet_agent::model::Transport;

/// Longer than connections live without a word.
const CUT: Duration = Duration::from_secs(6);

#[test]
fn guests_with_a_direct_link_do_not_notice_that_the_proxy_is_gone() {
    in_lab("no-proxy", |lab| {
        let mut overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        overlay.apply(&overlay.with_a_short_cut()?)?;
        for (place, name) in overlay.agents.iter().zip(["to-two", "to-one"]) {
            ask::until_link(&place.host, name, LinkState::Up)?;
        }
        let pings = Pings::start(&overlay.agents[0].guest, 3)?;
        let uplink = overlay.proxy.host.uplink()?;
        overlay.proxy.agent.kill();
        pings.until_more()?;
        overlay.underlay.set_connected(&uplink, false)?;
        for place in &overlay.agents {
            try_eventually("the agent notices that the proxy is gone", || {
                let link = ask::link(&place.host, "to-proxy")?;
                let is_gone = link.state == LinkState::Down && !is_together(&place.host)?;
                Ok(is_gone.then_some(()))
            })?;
        }
        pings.until_more()?;
        overlay.underlay.set_connected(&uplink, true)?;
        overlay.proxy.agent.restart()?;
        overlay.until_whole()?;
        pings.until_more()?;
        let echoes = pings.stop()?;
        ensure!(echoes.lost_in_one_gap()? == 0, "{:?}", echoes.gaps());
        overlay.until_all_reach_all()
    });
}

#[test]
fn an_agent_that_gets_another_address_is_found_there() {
    in_lab("moves", |lab| {
        let overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        let one = &overlay.agents[0].host;
        one.run(["ip", "-4", "address", "flush", "dev", "eth0"])?;
        one.run(["ip", "address", "add", "10.0.0.77/24", "dev", "eth0"])?;
        let proxy = &overlay.proxy.host;
        try_eventually("the proxy's link leads to the new address", || {
            let link = ask::link(proxy, "to-one")?;
            let is_there = link.remote.to_string() == "10.0.0.77";
            Ok((is_there && link.state == LinkState::Up).then_some(()))
        })?;
        overlay.until_whole()?;
        overlay.until_all_reach_all()?;
        until_on(&overlay, &overlay.agents[0], Transport::Udp)?;
        until_ready(&overlay, &overlay.agents[0])
    });
}

#[test]
fn a_star_over_tls_comes_back_with_its_path_and_with_its_proxy() {
    in_lab("tls-returns", |lab| {
        let mut overlay = Overlay::behind(lab, 1, |underlay, site| {
            firewall::set(underlay, site, Passes::OutgoingTcp)
        })?;
        overlay.until_all_reach_all()?;
        until_on(&overlay, &overlay.agents[0], Transport::Tls)?;
        let uplink = overlay.agents[0].host.uplink()?;
        let pings = Pings::start(&overlay.agents[0].guest, 1)?;
        overlay.underlay.set_connected(&uplink, false)?;
        std::thread::sleep(CUT);
        overlay.underlay.set_connected(&uplink, true)?;
        let returned = Instant::now();
        pings.until_more()?;
        println!("20 pings after the path's return: {:?}", returned.elapsed());
        pings.stop()?.never_twice()?;
        overlay.until_whole()?;
        until_on(&overlay, &overlay.agents[0], Transport::Tls)?;

        overlay.proxy.agent.restart()?;
        overlay.until_whole()?;
        until_on(&overlay, &overlay.agents[0], Transport::Tls)?;
        overlay.until_all_reach_all()
    });
}
