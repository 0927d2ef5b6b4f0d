//! The promise: when the path of a direct link between two hosts of the overlay dies, their frames go by
//! the star, which nobody had to say; when it is whole again, they return, and none is lost.

use anyhow::{Context, Result, ensure};
use e2e::overlay::Overlay;
use e2e::pings::Pings;
use e2e::{ask, books};
use lab::{Host, in_lab, try_eventually};
use vnet_agent::api::LinkState;

fn set_apart(overlay: &Overlay, apart: bool) -> Result<()> {
    let uplinks: Vec<_> = overlay
        .agents
        .iter()
        .map(|place| place.host.uplink())
        .collect::<Result<_>>()?;
    overlay
        .underlay
        .set_apart(&uplinks.iter().collect::<Vec<_>>(), apart)
}

/// Waits until both ends of the direct link say so, and know it from answers.
fn until(overlay: &Overlay, state: LinkState) -> Result<()> {
    for (place, name) in overlay.agents.iter().zip(["to-two", "to-one"]) {
        try_eventually(&format!("{name} is {state}"), || {
            let link = ask::link(&place.host, name)?;
            Ok((link.state == state && link.since_unix_ms.is_some()).then_some(()))
        })?;
    }
    Ok(())
}

/// Frames of guests that the proxy has passed on from an agent.
fn passed_on(proxy: &Host, link: &str) -> Result<u64> {
    Ok(books::link(&ask::stats(proxy)?, link)?.forwarded)
}

#[test]
fn a_direct_link_falls_back_to_the_star_and_returns() {
    in_lab("star-instead", |lab| {
        let overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        overlay.apply(&overlay.with_a_short_cut()?)?;
        until(&overlay, LinkState::Up)?;
        let [one, two] = &overlay.agents[..] else {
            unreachable!("two agents")
        };
        let proxy = &overlay.proxy.host;
        let link = ask::link(&one.host, "to-two")?;
        ensure!(link.fallback.as_deref() == Some("to-proxy"), "{link:?}");

        let pings = Pings::start(&one.guest, 3)?;
        let before = [passed_on(proxy, "to-one")?, passed_on(proxy, "to-two")?];
        set_apart(&overlay, true)?;
        until(&overlay, LinkState::FallenBack)?;
        pings.until_more()?;
        let around = [passed_on(proxy, "to-one")?, passed_on(proxy, "to-two")?];
        ensure!(
            around[0] > before[0] + 20 && around[1] > before[1] + 20,
            "the proxy passed on {before:?}, then {around:?}"
        );
        let shown = two.host.attempt_vnetctl(["link", "list"])?.successful()?;
        ensure!(
            shown.stdout.contains("its frames take to-proxy"),
            "{}",
            shown.stdout
        );
        set_apart(&overlay, false)?;
        until(&overlay, LinkState::Up)?;
        pings.until_more()?;
        let echoes = pings.stop()?;
        let lost = echoes.lost_in_one_gap().context("cut and mended")?;
        println!("{lost} of {} pings lost, one each 10 ms", echoes.sent);
        ensure!(lost > 0, "the path was never cut: {echoes:?}");
        Ok(())
    });
}
