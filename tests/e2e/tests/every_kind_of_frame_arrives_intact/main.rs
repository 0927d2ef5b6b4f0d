//! The promise: whatever guests may send arrives as they sent it. Payloads are equal, every length
//! and checksum is right inside and outside of the tunnel, work that was left to a NIC is done or
//! handed on to who takes it, and the books have every frame.

mod judge;
mod limits;
mod matrix;
mod places;
mod rows;
mod streams;
mod wire;

use anyhow::Result;
use e2e::frame::{guest, numbered};
use e2e::stage::Family;
use lab::{LIMIT, Luggage, Offloads, TapSettings, in_lab, on_debians_kernel};

use judge::Taker;
use places::{Doors, PLAIN, Setup};
use rows::{Kind, ROWS, Way};

/// XDP programs wherever a frame may meet one. (A guest that takes unfinished frames has its port
/// at TC: the frames for it are passed up there.)
const XDP: Doors = Doors {
    name: "XDP",
    port: [places::XDP; 3],
    underlay: [places::XDP; 3],
};
/// TC programs only.
const TC: Doors = Doors {
    name: "TC",
    port: [places::TC; 3],
    underlay: [places::TC; 3],
};
/// Ports at TC, and on the underlay XDP, which passes up what the kernel is to join.
const JOINED: Doors = Doors {
    name: "joined",
    port: [places::TC; 3],
    underlay: [places::XDP; 3],
};
/// Every host another way.
const MIXED: Doors = Doors {
    name: "mixed",
    port: [places::TC, places::XDP, places::XDP],
    underlay: [places::TC, places::XDP, places::TC],
};
/// As the agents think best.
const AUTO: Doors = Doors {
    name: "auto",
    port: [places::AUTO; 3],
    underlay: [places::AUTO; 3],
};

const FINISHED: [Kind; 1] = [Kind::Finished];
const ALL: [Kind; 4] = [
    Kind::Finished,
    Kind::Unfinished,
    Kind::Segments,
    Kind::Datagrams,
];

/// An underlay that brings datagrams in one piece is beyond a TC door: see `limits`.
const ALL_BUT_DATAGRAMS: [Kind; 3] = [Kind::Finished, Kind::Unfinished, Kind::Segments];

#[test]
fn finished_frames_through_xdp() {
    in_lab("xdp", |lab| {
        matrix::run(lab, &Setup::through(XDP), &FINISHED)
    });
}

#[test]
fn finished_frames_through_xdp_on_large_links_of_both_families() {
    in_lab("xdp-large", |lab| {
        let setup = Setup {
            secret: PLAIN,
            families: [Family::Ipv6, Family::Ipv4],
            mtu: 3400,
            ..Setup::through(XDP)
        };
        matrix::run(lab, &setup, &FINISHED)
    });
}

#[test]
fn all_frames_through_tc() {
    in_lab("tc", |lab| matrix::run(lab, &Setup::through(TC), &ALL));
}

#[test]
fn all_frames_through_tc_on_large_links_of_both_families() {
    in_lab("tc-large", |lab| {
        let setup = Setup {
            secret: PLAIN,
            families: [Family::Ipv4, Family::Ipv6],
            mtu: 9000,
            ..Setup::through(TC)
        };
        matrix::run(lab, &setup, &ALL)
    });
}

#[test]
fn all_frames_through_tc_over_an_underlay_with_offloads() {
    in_lab("tc-offloads", |lab| {
        let setup = Setup {
            offloads: true,
            ..Setup::through(TC)
        };
        matrix::run(lab, &setup, &ALL_BUT_DATAGRAMS)
    });
}

#[test]
fn all_frames_where_xdp_passes_up_to_tc() {
    in_lab("joined", |lab| {
        matrix::run(lab, &Setup::through(JOINED), &ALL)
    });
}

#[test]
fn all_frames_between_hosts_with_different_doors() {
    in_lab("mixed", |lab| {
        matrix::run(lab, &Setup::through(MIXED), &ALL)
    });
}

#[test]
fn all_frames_where_agents_pick_the_doors() {
    in_lab("auto", |lab| {
        let setup = Setup {
            offloads: true,
            ..Setup::through(AUTO)
        };
        matrix::run(lab, &setup, &ALL_BUT_DATAGRAMS)
    });
}

#[test]
fn connections_of_guests_with_offloads() {
    in_lab("streams", |lab| streams::run(lab, &Setup::through(TC)));
}

#[test]
fn connections_of_guests_with_offloads_over_ipv6() {
    in_lab("streams-ipv6", |lab| {
        let setup = Setup {
            families: [Family::Ipv6; 2],
            ..Setup::through(TC)
        };
        streams::run(lab, &setup)
    });
}

#[test]
fn connections_of_guests_with_offloads_where_xdp_passes_up_to_tc() {
    in_lab("streams-joined", |lab| {
        streams::run(lab, &Setup::through(JOINED))
    });
}

/// Filters at the TC doors: Debian's kernel has no links for them, and taps of a kernel before 6.2
/// know no joined datagrams.
#[test]
fn all_frames_through_tc_on_debians_kernel() {
    let name = "all_frames_through_tc_on_debians_kernel";
    let luggage = || Luggage::for_a_lab()?.tool("tcpdump");
    on_debians_kernel(name, luggage, || {
        in_lab("tc-older", |lab| {
            let takes = Offloads {
                udp: false,
                ..Offloads::ALL
            };
            let setup = Setup {
                takes,
                ..Setup::through(TC)
            };
            matrix::run(lab, &setup, &ALL_BUT_DATAGRAMS)
        });
        Ok(())
    });
}

#[test]
fn connections_of_guests_with_offloads_on_debians_kernel() {
    let name = "connections_of_guests_with_offloads_on_debians_kernel";
    on_debians_kernel(name, Luggage::for_a_lab, || {
        in_lab("streams-older", |lab| {
            streams::run(lab, &Setup::through(TC))
        });
        Ok(())
    });
}

/// What the judge asks is what a plain Linux bridge gives: nothing here is peculiar to an overlay.
#[test]
fn a_plain_bridge_passes_the_same_judge() {
    in_lab("bridge", |lab| {
        let host = lab.host("one")?;
        let tap = |name: &str, number, offloads| {
            let offloads = Some(offloads);
            host.tap_guest_with(
                name,
                guest(number),
                TapSettings {
                    mtu: 1500,
                    offloads,
                },
            )
        };
        let sender = tap("tap0", 1, Offloads::NONE)?;
        let takers = [(11, Offloads::ALL), (12, Offloads::NONE)];
        let takers = takers.map(|(number, offloads)| -> Result<Taker> {
            let guest = tap(&format!("tap{}", number - 10), number, offloads)?;
            Ok(Taker { guest, offloads })
        });
        let takers: Vec<_> = takers.into_iter().collect::<Result<_>>()?;
        host.bridge("br0", &["tap0", "tap1", "tap2"])?;
        for (number, taker) in (11..).zip(&takers) {
            // So that the bridge knows where it is.
            let hello = numbered(guest(number), guest(1), 0, 60);
            taker.guest.send(&hello)?;
        }
        for (number, taker) in (11..).zip(&takers) {
            taker.guest.receive_all_until_quiet(matrix::QUIET)?;
            for (seed, row) in (100..).zip(ROWS).filter(|(_, row)| !row.is_for_all) {
                let way = Way {
                    from: 1,
                    to: number,
                    mtu: 1500,
                    seed,
                };
                let sample = row.sample(&way)?;
                for (header, frame) in &sample.sent {
                    sender.send_unfinished(*header, frame)?;
                }
                judge::receive(taker, row.kind, &sample, LIMIT)
                    .map_err(|(_, error)| error.context(row.name))?;
            }
        }
        Ok(())
    });
}
