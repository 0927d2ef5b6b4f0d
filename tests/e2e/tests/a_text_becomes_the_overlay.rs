//! The promise: the overlay can be read as a text, changed in an editor, and applied. The plan is
//! shown first, a text that would cut somebody off changes nothing, and the last change can be undone.

use anyhow::{Result, ensure};
use e2e::ask;
use e2e::overlay::{Overlay, is_together, proxy_settings, reaches};
use lab::{Host, in_lab, try_eventually};

/// The names of a host's links, without their rungs.
fn links(host: &Host) -> Result<Vec<String>> {
    let links = ask::links(host)?.into_iter();
    let wholes = links.filter(|link| link.rung_of.is_none());
    Ok(wholes.map(|link| link.name).collect())
}

#[test]
fn a_text_is_applied_and_undone() {
    in_lab("text-applied", |lab| {
        let overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        let proxy = &overlay.proxy.host;
        let text = overlay.with_a_short_cut()?;
        let file = proxy.directory().join("lan.vnet");
        std::fs::write(&file, &text)?;
        let file = file.display().to_string();

        let plan = proxy.attempt_vnetctl(["topology", "apply", &file, "--dry-run"])?;
        ensure!(plan.success(), "{}\n{text}", plan.stderr);
        let line = "+ link udp one to two for blue, flood never";
        assert!(plan.stdout.lines().any(|l| l == line), "{}", plan.stdout);
        assert_eq!(links(&overlay.agents[0].host)?, ["to-proxy"]);

        let applied = proxy.attempt_vnetctl(["topology", "apply", &file])?;
        ensure!(applied.success(), "{}", applied.stderr);
        assert!(applied.stdout.ends_with("Applied.\n"), "{}", applied.stdout);
        assert_eq!(links(&overlay.agents[0].host)?, ["to-proxy", "to-two"]);
        assert_eq!(links(&overlay.agents[1].host)?, ["to-one", "to-proxy"]);
        overlay.until_all_reach_all()?;
        let again = proxy.attempt_vnetctl(["topology", "apply", &file])?;
        assert_eq!(again.stdout, "No difference.\n");

        // Who has a link of their own does not need the proxy for what they know already.
        let uplink = proxy.uplink()?;
        overlay.underlay.set_connected(&uplink, false)?;
        assert!(reaches(&overlay.agents[0].guest, 3)?, "one to two");
        overlay.underlay.set_connected(&uplink, true)?;
        overlay.until_whole()?;

        let undone = proxy.attempt_vnetctl(["topology", "undo"])?;
        ensure!(undone.success(), "{}", undone.stderr);
        try_eventually("the direct link is gone", || {
            Ok((links(&overlay.agents[0].host)? == ["to-proxy"]).then_some(()))
        })?;
        overlay.until_all_reach_all()?;
        let history = proxy.vnetctl(["topology", "history"])?;
        assert!(history[0]["undone_unix_ms"].is_u64(), "{history}");
        let nothing = proxy.attempt_vnetctl(["topology", "undo"])?;
        assert!(!nothing.success(), "{}", nothing.stdout);
        Ok(())
    });
}

#[test]
fn a_text_that_cuts_somebody_off_changes_nothing() {
    in_lab("text-refused", |lab| {
        let overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        let proxy = &overlay.proxy.host;
        let shown = proxy.vnetctl(["topology", "show"])?;
        let text = overlay.with_a_short_cut()?;
        let alone = text.lines().filter(|line| !line.contains("two"));
        let alone = alone.collect::<Vec<_>>().join("\n");
        let file = proxy.directory().join("lan.vnet");
        std::fs::write(&file, alone)?;
        let file = file.display().to_string();
        let refused = proxy.attempt_vnetctl(["topology", "apply", &file])?;
        assert!(!refused.success(), "{}", refused.stdout);
        let said = "two is an agent of the overlay, and is left out";
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        assert_eq!(proxy.vnetctl(["topology", "show"])?, shown);

        overlay.until_all_reach_all()
    });
}

#[test]
fn any_agent_answers_for_the_whole_and_changes_it_where_that_is_allowed() {
    in_lab("text-passed-on", |lab| {
        let mut overlay = Overlay::new(lab, 2)?;
        overlay.until_all_reach_all()?;
        let proxy = overlay.proxy.host.clone();
        let one = overlay.agents[0].host.clone();
        for words in [
            &["topology", "show"][..],
            &["topology", "history"],
            &["agents"],
        ] {
            assert_eq!(
                one.vnetctl(words)?["topology"],
                proxy.vnetctl(words)?["topology"]
            );
        }
        let text = overlay.with_a_short_cut()?;
        let file = one.directory().join("lan.vnet");
        std::fs::write(&file, &text)?;
        let file = file.display().to_string();
        let plan = one.attempt_vnetctl(["topology", "apply", &file, "--dry-run"])?;
        ensure!(plan.success(), "{}", plan.stderr);
        let refused = one.attempt_vnetctl(["topology", "apply", &file])?;
        assert!(!refused.success(), "{}", refused.stdout);
        for words in [
            "one's users may not change the whole",
            "may_change = [\"one\"]",
        ] {
            assert!(refused.stderr.contains(words), "{}", refused.stderr);
        }
        assert_eq!(links(&one)?, ["to-proxy"]);

        let settings = proxy_settings(&proxy, &overlay.authority);
        let allowed = settings.replacen(
            "role = \"proxy\"",
            "role = \"proxy\"\nmay_change = [\"one\"]",
            1,
        );
        overlay.proxy.agent.write_settings(&allowed)?;
        overlay.proxy.agent.restart()?;
        overlay.until_whole()?;
        let applied = one.attempt_vnetctl(["topology", "apply", &file])?;
        ensure!(applied.success(), "{}", applied.stderr);
        assert_eq!(links(&one)?, ["to-proxy", "to-two"]);
        let two = &overlay.agents[1].host;
        assert!(!two.attempt_vnetctl(["topology", "undo"])?.success());

        overlay.proxy.agent.kill();
        try_eventually("the agent notices", || {
            Ok((!is_together(&one)?).then_some(()))
        })?;
        let alone = one.attempt_vnetctl(["topology", "show"])?;
        let said = "the overlay's proxy cannot be asked: this host is apart from it";
        assert!(alone.stderr.contains(said), "{}", alone.stderr);
        Ok(())
    });
}
