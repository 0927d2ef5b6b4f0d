//! The promise: whatever guests may send arrives as they sent it. Payloads are equal, every length
//! and checksum is right inside and outside of the tunnel, work that was left to a NIC is done or
//! handed on to who takes it, and the books have every frame.

mod judge;
mod matrix;
mod places;
mod rows;
mod wire;

use anyhow::Result;
use e2e::frame::{guest, numbered};
use lab::{LIMIT, Offloads, TapSettings, UnderlaySettings, in_lab};

use judge::Taker;
use places::Doors;
use rows::{Kind, ROWS, Way};

/// Every port and every underlay device has an XDP program.
const XDP: Doors = Doors {
    name: "XDP",
    port: [""; 3],
    underlay: [""; 3],
};

#[test]
fn finished_frames_through_xdp() {
    in_lab("xdp", |lab| {
        matrix::run(lab, &XDP, &[Kind::Finished], UnderlaySettings::default())
    });
}

#[test]
fn finished_frames_through_xdp_over_a_larger_underlay() {
    in_lab("xdp-large", |lab| {
        let underlay = UnderlaySettings {
            mtu: 3400,
            ..Default::default()
        };
        matrix::run(lab, &XDP, &[Kind::Finished], underlay)
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
