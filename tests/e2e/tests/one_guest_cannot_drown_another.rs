//! The promise: a guest that floods is held to its own budget of the slow path: others' frames
//! pass, others' broadcasts too, the agent lives and answers, and every frame too many is counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use e2e::frame::{BROADCAST, expect, guest, number_of, numbered};
use e2e::stage::{Family, PORT, Stage, link_to, mesh_settings};
use e2e::stream::during;
use e2e::{ask, books};
use lab::{LIMIT, TapGuest, in_lab};
use vnet_common::reason::Reason;

/// Sends broadcasts until it is told to stop; returns how many.
fn flood(from: &TapGuest, over: &AtomicBool, sent: &AtomicU64) -> Result<u64> {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        from.send(&numbered(from.mac(), BROADCAST, number, 60))?;
        number += 1;
        sent.store(number, Ordering::Relaxed);
    }
    Ok(number)
}

#[test]
fn a_flood_of_broadcasts_harms_nobody_else() {
    in_lab("flood", |lab| {
        let stage = Stage::new(lab, 2, |own| {
            let settings = mesh_settings(Family::Ipv4, own, 2);
            let small = format!(
                "addresses = [\"{}\"]\nslow_path_rate = 100\nslow_path_burst = 50",
                guest(66)
            );
            if own == 1 {
                settings.port_with("tap1", &small)
            } else {
                settings
            }
        })?;
        let (one, two) = stage.two()?;
        let flooder = one.host.tap_guest("tap1", guest(66))?;
        ask::until(&one.host, "both ports forward", |status| status.ports == 2)?;
        let pid = ask::status(&one.host)?.pid;

        let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let (outcome, flooded) = thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(&flooder, &over, &sent));
            let mut rounds = 0;
            let outcome = during(&one.guest, &two.guest, |stream| {
                while rounds < 4 || sent.load(Ordering::Relaxed) < 5000 {
                    stream.flow_on(500)?;
                    rounds += 1;
                    // The agent has time for others.
                    assert!(ask::status(&one.host)?.healthy);
                }
                Ok(())
            });
            over.store(true, Ordering::Relaxed);
            flooding.join().map(|flooded| (outcome, flooded))
        })
        .ok()
        .context("the flooder panicked")?;
        outcome?.must_be_perfect(2000)?;
        let flooded = flooded?;

        let stats = books::check_host(&one.host)?;
        let ledger = books::port(&stats, "tap1")?;
        let held = books::dropped(ledger, Reason::SlowPathRate);
        assert_eq!(ledger.received_packets, flooded);
        assert_eq!(ledger.slow_path + held, flooded, "{ledger:?}");
        assert!(held > flooded / 2, "{ledger:?}");
        assert_eq!(ask::status(&one.host)?.pid, pid, "the agent lives");
        // The neighbour's budget is untouched.
        assert_eq!(
            books::dropped(books::port(&stats, PORT)?, Reason::SlowPathRate),
            0
        );
        Ok(())
    });
}

/// Broadcasts of others reach their goal in the middle of the flood.
#[test]
fn others_keep_their_own_budget() {
    in_lab("budget", |lab| {
        let stage = Stage::new(lab, 2, |own| {
            let settings = mesh_settings(Family::Ipv4, own, 2);
            let small = format!(
                "addresses = [\"{}\"]\nslow_path_rate = 10\nslow_path_burst = 5",
                guest(66)
            );
            if own == 1 {
                settings.port_with("tap1", &small)
            } else {
                settings
            }
        })?;
        let (one, two) = stage.two()?;
        let flooder = one.host.tap_guest("tap1", guest(66))?;
        ask::until(&one.host, "both ports forward", |status| status.ports == 2)?;
        let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| -> Result<()> {
            let flooding = scope.spawn(|| flood(&flooder, &over, &sent));
            let worked = (0..100).try_for_each(|number| {
                let frame = numbered(guest(1), BROADCAST, number, 100);
                one.guest.send(&frame)?;
                // Between those of the flooder that had budget left.
                loop {
                    let received = two.guest.receive(LIMIT)?.context("it does not arrive")?;
                    if received == frame {
                        return Ok(());
                    }
                    assert!(number_of(&received).is_some() && received[6..12] == guest(66).0);
                }
            });
            over.store(true, Ordering::Relaxed);
            flooding.join().ok().context("the flooder panicked")??;
            worked
        })?;
        let stats = books::check_host(&one.host)?;
        assert_eq!(books::port(&stats, PORT)?.slow_path, 100);
        Ok(())
    });
}

/// Links that pass on what they hear, in a ring: hosts know a copy of what they have had.
#[test]
fn a_ring_of_flooding_links_brings_a_frame_to_everyone_once() {
    in_lab("ring", |lab| {
        let stage = Stage::new(lab, 3, |own| {
            let others = (1..=3).filter(|&other| other != own);
            let alone = e2e::settings::Settings::new()
                .port(PORT, guest(own))
                .flood();
            others.fold(alone, |settings, other| {
                let address = e2e::stage::address(Family::Ipv4, other);
                settings.link_with(&link_to(other), &address, "flood = \"always\"")
            })
        })?;
        let frame = numbered(guest(1), BROADCAST, 1, 60);
        stage.sites[0].guest.send(&frame)?;
        let mut known = 0;
        for (number, site) in stage.sites.iter().enumerate() {
            let heard = if number == 0 {
                &[][..]
            } else {
                &[frame.clone()][..]
            };
            expect(&site.guest, heard)?;
            let stats = books::settled(&site.host)?;
            assert_eq!(books::dropped(&stats.agent.ledger, Reason::HopLimit), 0);
            let dropped = &stats.agent.slow_path_dropped_by_reason;
            known += dropped.get(&Reason::Reflection).copied().unwrap_or(0);
        }
        assert_eq!(
            known, 2,
            "the two far from the sender send each other a copy"
        );
        Ok(())
    });
}
