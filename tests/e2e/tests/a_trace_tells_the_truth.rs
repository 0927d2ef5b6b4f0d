//! The promise: `vnetctl trace` says what would happen to a frame, the kernel's program and the
//! same steps on the host agree, the frame itself then fares so, and asking leaves no mark.

use anyhow::{Context, Result, ensure};
use e2e::frame::{BROADCAST, GROUP, HEADER_BYTES, expect, guest, header, numbered};
use e2e::settings::Settings;
use e2e::stage::{Family, PORT, Stage, link_to, mesh_settings};
use e2e::{ask, books};
use lab::{Host, Mac, TapGuest, in_lab};
use vnet_agent::api::{LedgerValues, Stats, TraceReport, Verdict};
use vnet_agent::model::Target;
use vnet_common::reason::Reason;

/// The frame that `trace` makes of two addresses and a length.
fn frame(from: Mac, to: Mac, bytes: usize) -> Vec<u8> {
    let mut frame = header(from, to, [0x88, 0xb6]);
    frame.resize(bytes, 0);
    frame
}

fn trace(host: &Host, from: Mac, to: Mac, bytes: usize, more: &[&str]) -> Result<TraceReport> {
    let words = [from.to_string(), to.to_string(), bytes.to_string()];
    let [from, to, bytes] = &words;
    let verb = [
        "trace",
        "--source",
        from,
        "--destination",
        to,
        "--bytes",
        bytes,
    ];
    ask::ask(host, &[&verb, more].concat())
}

/// What one frame did to a ledger.
fn verdict_between(
    before: &LedgerValues,
    after: &LedgerValues,
) -> Result<(Verdict, Option<Reason>)> {
    ensure!(
        after.received_packets == before.received_packets + 1,
        "{before:?}, {after:?}"
    );
    let rose = |field: fn(&LedgerValues) -> u64| field(after) > field(before);
    let reason = after.dropped_by_reason.iter().find(|(reason, count)| {
        before.dropped_by_reason.get(reason).copied().unwrap_or(0) < **count
    });
    let verdict = if rose(|ledger| ledger.forwarded) {
        Verdict::Forwarded
    } else if rose(|ledger| ledger.delivered) {
        Verdict::Delivered
    } else if rose(|ledger| ledger.slow_path) {
        Verdict::SlowPath
    } else if rose(|ledger| ledger.dropped) {
        Verdict::Dropped
    } else {
        Verdict::Passed
    };
    Ok((verdict, reason.map(|(reason, _)| *reason)))
}

/// Traces a frame twice and then sends it; the books say what became of it.
fn told_and_done(
    host: &Host,
    sender: &TapGuest,
    from: Mac,
    to: Mac,
    bytes: usize,
) -> Result<TraceReport> {
    let before = books::settled(host)?;
    let first = trace(host, from, to, bytes, &["--from", sender.port()])?;
    let again = trace(host, from, to, bytes, &["--from", sender.port()])?;
    ensure!(books::settled(host)? == before, "asking has left a mark");
    // The kernel's bytes name the CPU that it was asked on.
    let but_for_the_cpu = |report: &TraceReport| TraceReport {
        kernel: None,
        ..report.clone()
    };
    ensure!(
        but_for_the_cpu(&first) == but_for_the_cpu(&again),
        "asked twice: {first:?}, {again:?}"
    );
    ensure!(
        first.agree == Some(true),
        "kernel and host do not agree: {first:?}"
    );
    sender.send(&frame(from, to, bytes))?;
    let after = books::settled(host)?;
    let done = verdict_between(
        books::port(&before, sender.port())?,
        books::port(&after, sender.port())?,
    )?;
    ensure!(
        (first.verdict, first.reason) == done,
        "told {first:?}, done {done:?}"
    );
    // Once the flow is known the answer is the same.
    let known = trace(host, from, to, bytes, &["--from", sender.port()])?;
    ensure!(
        (known.verdict, known.reason, &known.target)
            == (first.verdict, first.reason, &first.target)
    );
    ensure!(
        known.agree == Some(true),
        "kernel and host do not agree: {known:?}"
    );
    Ok(first)
}

fn one_of_everything(own: u8) -> Settings {
    mesh_settings(Family::Ipv4, own, 2)
        .port("tap1", guest(10 + own))
        .port("tap9", guest(9))
        .rule("any", &guest(50).to_string(), "drop = true")
        .rule(
            &guest(1).to_string(),
            &guest(51).to_string(),
            "flood = true",
        )
        .link("to-nobody", "10.0.0.77")
        .rule("any", &guest(52).to_string(), "link = \"to-nobody\"")
}

#[test]
fn of_every_end_that_a_guests_frame_can_come_to() {
    in_lab("ends", |lab| {
        let stage = Stage::start(lab, 2, one_of_everything)?;
        let (one, two) = stage.two()?;
        let local = one.host.tap_guest("tap1", guest(11))?;
        for site in [one, two] {
            ask::until_link(
                &site.host,
                &link_to(if site.guest.mac() == guest(1) { 2 } else { 1 }),
                vnet_agent::api::LinkState::Up,
            )?;
        }
        ask::until(&one.host, "both ports forward", |status| status.ports == 2)?;
        ask::until(&one.host, "nobody answers", |status| {
            status
                .problems
                .iter()
                .any(|problem| problem.message.contains("does not answer"))
        })?;
        let link = |name: &str| Some(Target::Link(name.into()));
        let port = |name: &str| Some(Target::Port(name.into()));
        let own = guest(1);
        use Verdict::{Delivered, Dropped, Forwarded, SlowPath};
        let cases = [
            (own, guest(2), 100, Forwarded, None, link("to-two")),
            (own, guest(2), HEADER_BYTES, Forwarded, None, link("to-two")),
            (own, guest(2), 1436, Forwarded, None, link("to-two")),
            (own, guest(2), 1437, Dropped, Some(Reason::TooBig), None),
            (own, guest(11), 100, Delivered, None, port("tap1")),
            (own, BROADCAST, 100, SlowPath, None, None),
            (own, GROUP, 100, SlowPath, None, None),
            (own, guest(51), 100, SlowPath, None, None),
            // The default rule.
            (own, guest(99), 100, SlowPath, None, None),
            (own, own, 100, Dropped, Some(Reason::Reflection), None),
            (own, guest(50), 100, Dropped, Some(Reason::Rule), None),
            (own, guest(9), 100, Dropped, Some(Reason::PortAbsent), None),
            (
                own,
                guest(52),
                100,
                Dropped,
                Some(Reason::LinkUnresolved),
                None,
            ),
            (
                guest(60),
                guest(2),
                100,
                Dropped,
                Some(Reason::ForeignSource),
                None,
            ),
            (
                GROUP,
                guest(2),
                100,
                Dropped,
                Some(Reason::InvalidSource),
                None,
            ),
        ];
        for (from, to, bytes, verdict, reason, target) in cases {
            let report = told_and_done(&one.host, &one.guest, from, to, bytes)
                .with_context(|| format!("{from} to {to}, {bytes} bytes"))?;
            assert_eq!(
                (report.verdict, report.reason),
                (verdict, reason),
                "{report:?}"
            );
            assert_eq!(report.target, target, "{report:?}");
            if verdict == SlowPath && to != GROUP {
                let copies = [Target::Port("tap1".into()), Target::Link("to-two".into())];
                assert!(
                    copies.iter().all(|copy| report.copies.contains(copy)),
                    "{report:?}"
                );
            }
            local.receive_all_until_quiet(std::time::Duration::from_millis(1))?;
        }
        let too_big = trace(&one.host, own, guest(2), 1437, &[])?;
        assert!(too_big.mtu_note.is_some_and(|note| note.contains("1422")));
        Ok(())
    });
}

#[test]
fn of_a_frame_that_comes_over_a_link() {
    in_lab("link", |lab| {
        let stage = Stage::start(lab, 2, one_of_everything)?;
        let (one, two) = stage.two()?;
        for (site, other) in [(one, 2), (two, 1)] {
            ask::until_link(&site.host, &link_to(other), vnet_agent::api::LinkState::Up)?;
        }
        let ledger = |stats: &Stats| books::link(stats, "to-one").cloned();
        for (to, expected) in [
            (guest(2), (Verdict::Delivered, None)),
            (BROADCAST, (Verdict::SlowPath, None)),
        ] {
            let before = books::settled(&two.host)?;
            let report = trace(&two.host, guest(1), to, 100, &["--from", "link:to-one"])?;
            assert_eq!(report.agree, Some(true), "{report:?}");
            assert_eq!((report.verdict, report.reason), expected, "{report:?}");
            assert_eq!(books::settled(&two.host)?, before, "asking leaves no mark");
            one.guest.send(&frame(guest(1), to, 100))?;
            expect(&two.guest, &[frame(guest(1), to, 100)])?;
            let after = books::settled(&two.host)?;
            let done = verdict_between(&ledger(&before)?, &ledger(&after)?)?;
            assert_eq!(done, expected);
        }
        Ok(())
    });
}

#[test]
fn of_captured_packets_and_frames() {
    in_lab("pcap", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, two) = stage.two()?;
        let outer = stage
            .underlay
            .capture_at(&two.host.uplink()?, "udp port 6081")?;
        let frames: Vec<_> = (0..5)
            .map(|number| numbered(guest(1), guest(2), number, 200))
            .collect();
        frames.iter().try_for_each(|frame| one.guest.send(frame))?;
        expect(&two.guest, &frames)?;
        let recording = outer.stop()?;
        assert_eq!(recording.count()?, 5);
        let file = recording.file().display().to_string();
        let before = books::settled(&two.host)?;
        let words = [
            "-o",
            "json",
            "trace",
            "--pcap",
            &file,
            "--from",
            "underlay:eth0",
        ];
        let output = two.host.attempt_vnetctl(words)?.successful()?;
        assert_eq!(books::settled(&two.host)?, before, "asking leaves no mark");
        let reports = serde_json::Deserializer::from_str(&output.stdout).into_iter::<TraceReport>();
        let reports: Vec<_> = reports
            .collect::<Result<_, _>>()
            .with_context(|| output.stdout.clone())?;
        assert_eq!(reports.len(), 5);
        for (report, frame) in reports.iter().zip(&frames) {
            assert_eq!(
                (report.agree, report.verdict),
                (Some(true), Verdict::Delivered),
                "{report:?}"
            );
            let kernel = report.kernel.as_ref().context("the kernel was asked")?;
            assert_eq!(&kernel.output_hex.0, frame, "what the guest received");
        }
        Ok(())
    });
}

#[test]
fn a_question_without_an_answer_says_why() {
    in_lab("why", |lab| {
        let stage = Stage::pair(lab)?;
        let (one, _) = stage.two()?;
        let (from, to) = (guest(77).to_string(), guest(2).to_string());
        for (more, words) in [
            (vec![], "no port here has the address 52:54:00:00:00:4d"),
            (vec!["--from", "tap7"], "tap7 is not a port"),
            (vec!["--from", "link:to-tow"], "there is no link to-tow"),
            (
                vec!["--from", "underlay:tap0"],
                "tap0 is not the underlay device",
            ),
        ] {
            let verb = [vec!["trace", "--source", &from, "--destination", &to], more].concat();
            let refused = one.host.attempt_vnetctl(verb)?;
            assert_eq!(refused.status, 1);
            assert!(refused.stderr.contains(words), "{}", refused.stderr);
        }
        let _ = PORT;
        Ok(())
    });
}

#[test]
fn asking_learns_nothing_and_spends_nothing() {
    in_lab("dry", |lab| {
        let stage = Stage::start(lab, 1, |_| {
            let small = "addresses = \"learn\"\nslow_path_rate = 1\nslow_path_burst = 2";
            Settings::new()
                .port_with(PORT, small)
                .port("tap1", guest(2))
                .flood()
        })?;
        let site = &stage.sites[0];
        let two = site.host.tap_guest("tap1", guest(2))?;
        ask::until(&site.host, "both ports forward", |status| status.ports == 2)?;
        let from_port = ["--from", PORT];
        // Anybody could be the guest there, as long as nobody has shown up.
        for stranger in [1, 66, 77] {
            for _ in 0..3 {
                let report = trace(&site.host, guest(stranger), BROADCAST, 60, &from_port)?;
                assert_eq!(
                    (report.verdict, report.agree),
                    (Verdict::SlowPath, Some(true)),
                    "{report:?}"
                );
            }
        }
        assert_eq!(ask::interface(&site.host, PORT)?.learned, None);
        // There are two frames' worth of budget, and asking has not touched it.
        let sent = [
            frame(guest(1), BROADCAST, 60),
            frame(guest(1), BROADCAST, 61),
        ];
        sent.iter().try_for_each(|frame| site.guest.send(frame))?;
        expect(&two, &sent)?;
        let foreign = trace(&site.host, guest(66), guest(2), 60, &from_port)?;
        assert_eq!(
            (foreign.reason, foreign.agree),
            (Some(Reason::ForeignSource), Some(true))
        );
        Ok(())
    });
}
