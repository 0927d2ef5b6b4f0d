//! What can a TC door not carry? Little, and it is counted by its name.

use anyhow::{Result, ensure};
use e2e::books;
use e2e::frame::{expect_nothing, guest};
use frames::build::build;
use frames::stage::Stage;
use lab::{Lab, Mac, in_lab};
use vnet_common::reason::Reason;

use crate::TC;
use crate::places::{Places, SENDER, Setup, taker_number};
use crate::rows::{Kind, ROWS, Way};

fn places(lab: &Lab, offloads: bool) -> Result<Places> {
    let setup = Setup {
        offloads,
        ..Setup::through(TC)
    };
    Places::new(lab, &setup)
}

/// Receivers on host two.
const REMOTE: usize = 1;

#[test]
fn a_third_vlan_tag_is_one_too_many_for_the_wire() {
    in_lab("tags", |lab| {
        let places = places(lab, false)?;
        let layers = [
            format!("ethernet {} -> {}", guest(SENDER.1), to_remote()),
            "service-vlan 1".to_owned(),
            "vlan 2".to_owned(),
            "vlan 3 type=0x88b5".to_owned(),
            "payload 100".to_owned(),
        ];
        let frame = build(&layers, &Stage::default(), None)?.bytes;
        places.sender.send(&frame)?;
        expect_nothing(&places.sites[REMOTE].takers[0].guest)?;
        let stats = books::check_host(&places.sites[0].host)?;
        let port = books::port(&stats, SENDER.0)?;
        ensure!(
            books::dropped(port, Reason::NestedTags) == 1,
            "nested tags: {port:?}"
        );
        Ok(())
    });
}

fn to_remote() -> Mac {
    guest(taker_number(REMOTE, 0))
}

#[test]
fn datagrams_that_come_joined_are_dropped_by_name() {
    in_lab("datagrams", |lab| {
        let places = places(lab, true)?;
        let mut sent = 0;
        for (seed, row) in (500..).zip(ROWS) {
            if row.kind != Kind::Datagrams {
                continue;
            }
            let way = Way {
                from: SENDER.1,
                to: taker_number(REMOTE, 0),
                mtu: places.mtu,
                seed,
            };
            for (header, frame) in row.sample(&way)?.sent {
                places.sender.send_unfinished(header, &frame)?;
                sent += 1;
            }
        }
        expect_nothing(&places.sites[REMOTE].takers[0].guest)?;
        let stats = books::check_host(&places.sites[REMOTE].host)?;
        let link = books::link(&stats, "to-one")?;
        ensure!(
            sent > 0 && books::dropped(link, Reason::JoinedDatagrams) == sent,
            "of {sent} joined datagrams: {link:?}"
        );
        Ok(())
    });
}
