//! The promise: the route of a frame is what the hosts themselves do with it now, hop by hop over all
//! of them, asked on any. What is not as the model says is said in a line, and a host that cannot be
//! asked does not end it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::ask;
use e2e::firewall::{self, Passes};
use e2e::frame::guest;
use e2e::overlay::{Overlay, agents};
use e2e::rung::{until_on, until_ready};
use e2e::stage::{Family, Stage, mesh_settings};
use lab::{Host, in_lab, try_eventually};
use vnet_agent::api::{Forwarding, LinkState, LiveFate, LiveHop, LiveRoute, Place, Stop, Unasked};
use vnet_agent::model::Transport;
use vnet_common::reason::Reason;

/// From one guest to another, or to all.
fn route(on: &Host, from: u8, to: &str) -> Result<LiveRoute> {
    let source = guest(from).to_string();
    ask::ask(on, &["topology", "route", &source, to])
}

fn between(on: &Host, from: u8, to: u8) -> Result<LiveRoute> {
    route(on, from, &guest(to).to_string())
}

fn hosts(route: &LiveRoute) -> Vec<&str> {
    route.hops.iter().map(|hop| hop.host.as_str()).collect()
}

fn way(hop: &LiveHop) -> Result<&Forwarding> {
    match hop.fates.as_slice() {
        [LiveFate::Forwarded(way)] => Ok(way),
        other => anyhow::bail!("{other:?}"),
    }
}

fn arrives_in(hop: &LiveHop) -> Option<&str> {
    match hop.fates.as_slice() {
        [LiveFate::Delivered { device, .. }] => Some(device),
        _ => None,
    }
}

/// Every host was asked, and its program and its own steps came to the same.
fn is_true(route: &LiveRoute) -> Result<()> {
    for hop in &route.hops {
        let is_sure = hop.unasked.is_none() && hop.agree == Some(true) && hop.door.is_some();
        ensure!(is_sure, "{hop:?}");
        ensure!(hop.revision == hop.dealt_revision, "{hop:?}");
    }
    Ok(())
}

#[test]
fn over_the_star_with_a_rule_by_hand_a_cut_path_and_a_host_that_is_gone() {
    in_lab("route-star", |lab| {
        let mut overlay = Overlay::new(lab, 3)?;
        overlay.until_all_reach_all()?;
        let proxy = overlay.proxy.host.clone();
        let one = overlay.agents[0].host.clone();
        of_the_whole_star(&overlay)?;

        // A rule by hand, of which the proxy knows nothing.
        let (from, to) = (guest(2), guest(4));
        let rule = format!("--network blue --from {from} --to {to}");
        ask::change(&one, &format!("rule add {rule} --drop"))?;
        let broken = between(&proxy, 2, 4)?;
        assert_eq!(hosts(&broken), ["one"]);
        let [LiveFate::Dropped { reason, .. }] = broken.hops[0].fates.as_slice() else {
            anyhow::bail!("{broken:?}")
        };
        assert_eq!(*reason, Some(Reason::Rule));
        let rule_said = broken.hops[0].rule.as_ref().context("a rule decides")?;
        assert_eq!(rule_said.to_string(), format!("{from} -> {to} = drop"));
        let said = broken.differs.context("it differs")?;
        ensure!(
            said.starts_with("on one it is dropped: a rule says drop"),
            "{said}"
        );
        ensure!(
            said.ends_with("by the model: over udp to proxy (any -> any = edge to proxy)"),
            "{said}"
        );
        ask::change(&one, &format!("rule delete {rule}"))?;

        // A path that lets no UDP pass: the same way, on another rung.
        until_ready(&overlay, &overlay.agents[0])?;
        let site = one.uplink()?;
        firewall::set(&overlay.underlay, &site, Passes::NoUdp)?;
        until_on(&overlay, &overlay.agents[0], Transport::Tls)?;
        let lower = between(&one, 2, 3)?;
        assert_eq!(hosts(&lower), ["one", "proxy", "two"]);
        is_true(&lower)?;
        let rungs = (way(&lower.hops[0])?, way(&lower.hops[1])?);
        assert_eq!(
            (rungs.0.kind, rungs.1.kind),
            (Transport::Tls, Transport::Udp)
        );
        let why = rungs.0.why.as_deref().context("it says why")?;
        ensure!(why.contains("does not answer over udp"), "{why}");
        assert_eq!((lower.differs, &rungs.0.over), (None, &None));
        firewall::set(&overlay.underlay, &site, Passes::Everything)?;
        until_on(&overlay, &overlay.agents[0], Transport::Udp)?;

        // One that says nothing, for a while.
        let stopped = overlay.agents[2].agent.id().context("it runs")?.to_string();
        one.run(["kill", "-STOP", &stopped])?;
        let silent = between(&proxy, 2, 4);
        one.run(["kill", "-CONT", &stopped])?;
        let silent = silent?;
        assert_eq!(hosts(&silent), ["one", "proxy", "three"]);
        let last = &silent.hops[2];
        let said_nothing = matches!(
            last.unasked,
            Some(Unasked::Silent { .. } | Unasked::Apart { .. })
        );
        ensure!(said_nothing && arrives_in(last) == Some("vm0"), "{last:?}");
        overlay.until_whole()?;

        // A host whose agent has gone: its kernel forwards on, and the model speaks for it.
        overlay.agents[2].agent.terminate()?;
        try_eventually("the proxy notices", || {
            let known = agents(&proxy)?.agents;
            let gone = known
                .iter()
                .any(|a| a.name == "three" && a.connection.is_none());
            Ok(gone.then_some(()))
        })?;
        let alone = between(&one, 2, 4)?;
        assert_eq!(hosts(&alone), ["one", "proxy", "three"]);
        let last = &alone.hops[2];
        let is_apart = matches!(
            last.unasked,
            Some(Unasked::Apart {
                since_unix_ms: Some(_)
            })
        );
        ensure!(is_apart && arrives_in(last) == Some("vm0"), "{last:?}");
        let back = between(&one, 4, 3)?;
        assert_eq!(hosts(&back), ["three", "proxy", "two"]);
        ensure!(
            back.hops[0].unasked.is_some() && back.hops[1].unasked.is_none(),
            "{back:?}"
        );
        assert_eq!((alone.differs, back.differs), (None, None));
        Ok(())
    });
}

fn of_the_whole_star(overlay: &Overlay) -> Result<()> {
    let proxy = &overlay.proxy.host;
    let one = &overlay.agents[0].host;
    let asked = between(one, 2, 4)?;
    assert_eq!(hosts(&asked), ["one", "proxy", "three"]);
    is_true(&asked)?;
    let [first, middle, last] = asked.hops.as_slice() else {
        unreachable!("three hops")
    };
    assert_eq!(first.from, Place::Port("vm0".into()));
    assert_eq!(middle.from, Place::Link("to-one".into()));
    assert_eq!(last.from, Place::Link("to-proxy".into()));
    assert_eq!(way(first)?.to.as_deref(), Some("proxy"));
    assert_eq!(
        (way(middle)?.link.as_str(), way(middle)?.hop),
        ("to-three", Some(3))
    );
    let rule = middle.rule.as_ref().context("a rule decides")?;
    assert_eq!(
        rule.to_string(),
        format!("any -> {} = link to-three", guest(4))
    );
    assert_eq!((rule.strength, rule.network.as_str()), (9, "blue"));
    assert_eq!(arrives_in(last), Some("vm0"));
    assert_eq!((asked.has_model, &asked.differs), (true, &None));
    // The same on the proxy; the flow tables may have been asked between.
    let on_proxy = between(proxy, 2, 4)?;
    assert_eq!(hosts(&on_proxy), hosts(&asked));

    // From the LAN, from names, and what is too big.
    let lan = between(one, 1, 2)?;
    assert_eq!(hosts(&lan), ["proxy", "one"]);
    assert_eq!(lan.hops[0].from, Place::Port("lan0".into()));
    assert_eq!(lan.differs, None);
    let name = |number: u8| format!("vm-{}", guest(number).to_string().replace(':', ""));
    let words = ["topology", "route", &name(2), &name(3), "--bytes", "1490"];
    let large: LiveRoute = ask::ask(one, &words)?;
    let [LiveFate::Dropped { reason, message }] = large.hops[0].fates.as_slice() else {
        anyhow::bail!("{large:?}")
    };
    assert_eq!(*reason, Some(Reason::TooBig));
    ensure!(message.contains("must use an MTU of"), "{message}");

    // For many: all of their ways.
    let all = route(one, 2, "broadcast")?;
    is_true(&all)?;
    assert_eq!(hosts(&all), ["one", "proxy", "three", "two"]);
    let given = all.hops.iter().flat_map(|hop| &hop.fates);
    let given = given.filter_map(|fate| match fate {
        LiveFate::Delivered { device, .. } => Some(device.as_str()),
        _ => None,
    });
    assert_eq!(given.collect::<Vec<_>>(), ["lan0", "vm0", "vm0"]);
    assert_eq!(all.differs, None);

    let began = Instant::now();
    let shown = one.attempt_vnetctl(["topology", "route", &name(2), &name(4)])?;
    let shown = shown.successful()?.stdout;
    println!("{shown}{} ms", began.elapsed().as_millis());
    ensure!(
        shown.contains("\nhop 2     proxy, in by link to-one (from one)\n"),
        "{shown}"
    );
    ensure!(shown.ends_with("model     the same way\n"), "{shown}");
    Ok(())
}

#[test]
fn over_a_ring_and_a_connection_with_a_direct_link_that_dies() {
    in_lab("route-ring", |lab| {
        let overlay = Overlay::new(lab, 3)?;
        overlay.until_all_reach_all()?;
        let proxy = &overlay.proxy.host;
        let one = &overlay.agents[0].host;
        let file = proxy.directory().join("star.vnet");
        let star = proxy.attempt_vnetctl(["topology", "show"])?.successful()?;
        std::fs::write(&file, &star.stdout)?;
        let on = file.display().to_string();
        let plan = ["topology", "plan", "ring of one, two, three", "--on", &on];
        let ring = proxy.attempt_vnetctl(plan)?.successful()?.stdout;
        overlay.apply(&ring)?;
        overlay.until_all_reach_all()?;
        let direct = between(one, 2, 3)?;
        assert_eq!(hosts(&direct), ["one", "two"]);
        is_true(&direct)?;
        assert_eq!(direct.differs, None);

        // Another kind of link: the agents carry it.
        let by_tcp = ring.replace("LINK UDP one two", "LINK TCP one two");
        ensure!(by_tcp != ring, "{ring}");
        overlay.apply(&by_tcp)?;
        overlay.until_all_reach_all()?;
        let carried = between(one, 3, 2)?;
        assert_eq!(hosts(&carried), ["two", "one"]);
        is_true(&carried)?;
        assert_eq!(way(&carried.hops[0])?.kind, Transport::Tcp);
        assert_eq!(arrives_in(&carried.hops[1]), Some("vm0"));
        overlay.apply(&ring)?;

        // Without UDP the direct link has only the star to fall back to, and that its TLS.
        until_ready(&overlay, &overlay.agents[0])?;
        firewall::set(&overlay.underlay, &one.uplink()?, Passes::NoUdp)?;
        until_on(&overlay, &overlay.agents[0], Transport::Tls)?;
        ask::until_link(one, "to-two", LinkState::FallenBack)?;
        let round = between(one, 2, 3)?;
        assert_eq!(hosts(&round), ["one", "proxy", "two"]);
        let first = way(&round.hops[0])?;
        assert_eq!(first.over.as_deref(), Some("to-proxy"));
        assert_eq!(
            (first.link.as_str(), first.kind),
            ("to-two", Transport::Tls)
        );
        let said = round.differs.context("it differs")?;
        ensure!(
            said.starts_with("on one it goes over to-proxy to proxy, as link to-two is dead"),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn a_host_without_an_overlay_answers_for_itself() {
    in_lab("route-alone", |lab| {
        let stage = Stage::start(lab, 2, |own| mesh_settings(Family::Ipv4, own, 2))?;
        let (one, _) = stage.two()?;
        ask::until_link(&one.host, "to-two", LinkState::Up)?;
        let alone = between(&one.host, 1, 2)?;
        assert_eq!(alone.hops.len(), 1);
        let way = way(&alone.hops[0])?;
        assert_eq!(
            (way.link.as_str(), way.stop),
            ("to-two", Some(Stop::Unknown))
        );
        let there = overlay_address(2);
        assert_eq!(way.remote.map(|remote| remote.to_string()), Some(there));
        assert_eq!((alone.has_model, alone.differs), (false, None));
        let nobody = route(&one.host, 99, "broadcast");
        ensure!(nobody.is_err(), "{nobody:?}");
        Ok(())
    });
}

fn overlay_address(number: u8) -> String {
    e2e::stage::address(Family::Ipv4, number)
}
