//! Was everything on the wire as it must be, and is everything in the books?
//!
//! Input: recordings of what the cables brought to hosts two and three, and the books of all hosts
//! before and after. Output: what is amiss, one line each.

use anyhow::{Context, Result};
use e2e::books;
use e2e::stage::{Family, address};
use frames::sound::{faults, faults_of_unfinished};
use lab::Capture;
use vnet_agent::api::Stats;

use crate::places::{Places, SENDER};

const ETHERNET_INSIDE: [u8; 2] = [0x65, 0x58];

/// Recordings under way, and the books before.
#[derive(Debug)]
pub struct Watch {
    captures: Vec<Capture>,
    before: Vec<Stats>,
}

/// How a phase went, as far as senders and receivers know.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Frames that the sender sent.
    pub sent: u64,
    /// Frames that each taker received, by host.
    pub received: [[u64; 2]; 3],
    /// Whether each of them was one frame all the way.
    pub are_single: bool,
}

impl Watch {
    /// Begins to record.
    ///
    /// # Errors
    ///
    /// There is no tcpdump.
    pub fn begin(places: &Places) -> Result<Self> {
        let mut captures = Vec::new();
        let mut before = Vec::new();
        for (number, site) in (1..).zip(&places.sites) {
            before.push(books::settled(&site.host)?);
            if number > 1 {
                // What is longer than recordings keep is somebody else's to judge.
                let to = [Family::Ipv4, Family::Ipv6].map(|family| address(family, number));
                let filter = format!(
                    "udp port 6081 and less 9216 and (dst host {})",
                    to.join(" or dst host ")
                );
                let uplink = site.host.uplink()?;
                captures.push(places.underlay.capture_at(&uplink, &filter)?);
            }
        }
        Ok(Self { captures, before })
    }

    /// Ends, and says what is amiss.
    ///
    /// # Errors
    ///
    /// Nothing can be said.
    pub fn end(self, places: &Places, traffic: &Traffic, offloads: bool) -> Result<Vec<String>> {
        let mut amiss = Vec::new();
        let mut after = Vec::new();
        for site in &places.sites {
            match books::check_host(&site.host) {
                Ok(stats) => after.push(stats),
                Err(error) => {
                    amiss.push(format!("books: {error:#}"));
                    after.push(books::settled(&site.host).unwrap_or_default());
                }
            }
        }
        let mut on_the_wire = Vec::new();
        for (number, capture) in (2..).zip(self.captures) {
            let packets = capture.stop()?.frames()?;
            let mut frames = 0_u64;
            for packet in &packets {
                let faults = if offloads {
                    faults_of_unfinished(packet)
                } else {
                    faults(packet)
                };
                if !faults.is_empty() {
                    let shown = frames::decode::decode(packet).join(" / ");
                    amiss.push(format!("wire to {number}: {}: {shown}", faults.join(", ")));
                }
                frames += u64::from(inside(packet) == Some(&ETHERNET_INSIDE));
            }
            on_the_wire.push(frames);
        }
        let books = Books {
            before: &self.before,
            after: &after,
        };
        amiss.extend(books.of_hosts(traffic)?);
        // A cable that brings frames whole may bring some that no recording keeps.
        if !offloads || traffic.are_single {
            amiss.extend(books.of_cables(traffic, &on_the_wire)?);
        }
        Ok(amiss)
    }
}

/// What the Geneve header of a packet says is inside.
fn inside(packet: &[u8]) -> Option<&[u8]> {
    let ip_bytes = if packet.get(12..14)? == [8, 0] {
        20
    } else {
        40
    };
    packet.get(14 + ip_bytes + 8 + 2..)?.get(..2)
}

struct Books<'a> {
    before: &'a [Stats],
    after: &'a [Stats],
}

impl Books<'_> {
    /// A number of a host's books, counted since the beginning.
    fn since(&self, host: usize, of: impl Fn(&Stats) -> Result<u64>) -> Result<u64> {
        let (before, after) = (&self.before[host], &self.after[host]);
        let since = of(after)?.checked_sub(of(before)?);
        since.context("a count went back")
    }

    fn of_hosts(&self, traffic: &Traffic) -> Result<Vec<String>> {
        let mut amiss = Vec::new();
        let from_sender =
            self.since(
                0,
                |stats| Ok(books::port(stats, SENDER.0)?.received_packets),
            )?;
        if from_sender != traffic.sent {
            amiss.push(format!(
                "books of one: {} frames were sent, {from_sender} counted",
                traffic.sent
            ));
        }
        for (host, received) in traffic.received.iter().enumerate() {
            for (taker, &came) in received.iter().enumerate() {
                let device = format!("tap{}", taker + 1);
                let counted =
                    self.since(host, |stats| Ok(books::port(stats, &device)?.sent_packets))?;
                // A frame that is many may be cut behind the count, and many may be joined there.
                if traffic.are_single && counted != came {
                    amiss.push(format!(
                        "books of {}: {device} was sent {counted}, {came} came",
                        host + 1
                    ));
                }
            }
            for (name, ledger) in books::all(&self.after[host]) {
                if ledger.dropped + ledger.refused > 0 {
                    amiss.push(format!(
                        "books of {}: {name} dropped {:?} and was refused {}",
                        host + 1,
                        ledger.dropped_by_reason,
                        ledger.refused
                    ));
                }
            }
        }
        Ok(amiss)
    }

    fn of_cables(&self, traffic: &Traffic, on_the_wire: &[u64]) -> Result<Vec<String>> {
        let mut amiss = Vec::new();
        let ends = [(1, "to-two", "to-one"), (2, "to-three", "to-two")];
        for ((to, there, back), &passed) in ends.into_iter().zip(on_the_wire) {
            let sent = self.since(to - 1, |stats| Ok(books::link(stats, there)?.sent_packets))?;
            let received =
                self.since(to, |stats| Ok(books::link(stats, back)?.received_packets))?;
            if received != passed || traffic.are_single && sent != passed {
                amiss.push(format!(
                    "cable to {}: {sent} sent by {there}, {passed} passed, {received} received",
                    to + 1
                ));
            }
        }
        Ok(amiss)
    }
}
