//! Do connections of whole IP stacks arrive intact, with everything that a kernel leaves to its NIC?
//!
//! Two namespaces as guests on two hosts, offloads on. They speak TCP over IPv4 and IPv6, and once
//! more inside of a VXLAN tunnel of their own, whose frames are tunnels in a tunnel.

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use e2e::frame::guest;
use e2e::settings::Settings;
use e2e::stage::{DEVICE, address, link_to, name};
use e2e::transfer::transfer;
use e2e::{ask, books};
use lab::{Agent, Host, LIMIT, Lab, NamespaceGuest, Station, UnderlaySettings};

use crate::places::{self, Setup, outside_bytes};

const PORT: &str = "veth1";
/// Some rounds through a window, and thousands of frames.
const STREAM_BYTES: u32 = 4 << 20;

/// A way for a connection from guest one to guest two.
const ADDRESSES: [(&str, &str); 3] = [
    ("TCP over IPv4", "192.168.7.2:5201"),
    ("TCP over IPv6", "[fd00:7::2]:5201"),
    ("TCP over the guests' own VXLAN", "172.16.0.2:5201"),
];

/// Beyond what any header's length could hide.
const DATAGRAM_BYTES_MAX: u8 = 40;

struct Site {
    _agent: Agent,
    guest: NamespaceGuest,
    host: Host,
}

/// Runs all connections.
///
/// # Errors
///
/// One is not intact; the error names it.
pub fn run(lab: &Lab, setup: &Setup) -> Result<()> {
    let underlay = lab.underlay(UnderlaySettings {
        mtu: setup.mtu,
        offloads: setup.offloads,
        ..Default::default()
    })?;
    let mut sites = Vec::new();
    for number in [1, 2] {
        let host = lab.host(name(number))?;
        underlay.connect(&host, DEVICE)?;
        // As NICs have it: what belongs together, the kernel joins.
        host.run(["ethtool", "-K", DEVICE, "gro", "on"])?;
        let station = Station::new(PORT, guest(number))
            .address(&format!("192.168.7.{number}/24"))
            .address(&format!("fd00:7::{number}/64"))
            .mtu(setup.mtu - outside_bytes(setup.families[0]))
            .offloading();
        let guest = host.namespace_guest(station)?;
        let other = 3 - number;
        make_tunnel(&guest, number, other)?;
        let agent = host.agent(&settings(number, setup).text())?;
        sites.push(Site {
            _agent: agent,
            guest,
            host,
        });
    }
    for site in &sites {
        ask::until_healthy(&site.host)?;
    }
    // What guests said before there was a link is not at issue.
    let before: Vec<u64> = sites.iter().map(lost).collect::<Result<_>>()?;
    let [one, two] = sites.as_slice() else {
        unreachable!("two sites")
    };
    for (name, address) in ADDRESSES {
        transfer(&one.guest, &two.guest, address, STREAM_BYTES)
            .with_context(|| format!("{name}/remote/{}", setup.doors.name))?;
    }
    for (own, other) in [
        ("192.168.7.1:0", "192.168.7.2:5300"),
        ("[fd00:7::1]:0", "[fd00:7::2]:5300"),
    ] {
        short_datagrams(&one.guest, &two.guest, own, other)
            .with_context(|| format!("short datagrams to {other}/{}", setup.doors.name))?;
    }
    if setup.doors.underlay[1] == places::TC {
        ensure_joined(&one.guest, two)?;
    }
    for (site, before) in sites.iter().zip(before) {
        let lost = lost(site)? - before;
        let name = site.host.name();
        ensure!(
            lost == 0,
            "{lost} frames were lost at {name}: {:?}",
            books::settled(&site.host)?
        );
    }
    Ok(())
}

/// The kernel joins packets of a tunnel before our program sees them.
fn ensure_joined(from: &NamespaceGuest, to: &Site) -> Result<()> {
    let before = (packets(&to.host)?, received(&to.host)?);
    transfer(from, &to.guest, ADDRESSES[0].1, STREAM_BYTES)?;
    let packets = packets(&to.host)? - before.0;
    let frames = received(&to.host)? - before.1;
    ensure!(
        frames * 2 < packets,
        "{packets} packets came as {frames} frames"
    );
    Ok(())
}

/// Packets that the underlay's device has received.
fn packets(host: &Host) -> Result<u64> {
    let path = format!("/sys/class/net/{DEVICE}/statistics/rx_packets");
    Ok(host
        .inside(|| std::fs::read_to_string(path))??
        .trim()
        .parse()?)
}

/// Frames in which they came to our program.
fn received(host: &Host) -> Result<u64> {
    let stats = books::settled(host)?;
    let underlay = stats.underlays.first().context("there is no underlay")?;
    Ok(underlay.ledger.received_packets)
}

/// Frames that were dropped or refused, of all books of a host.
fn lost(site: &Site) -> Result<u64> {
    let stats = books::settled(&site.host)?;
    let ledgers = books::all(&stats);
    Ok(ledgers
        .iter()
        .map(|(_, ledger)| ledger.dropped + ledger.refused)
        .sum())
}

fn make_tunnel(guest: &NamespaceGuest, own: u8, other: u8) -> Result<()> {
    for line in [
        format!(
            "ip link add vxlan0 type vxlan id 99 dstport 4789 dev eth0 \
             local 192.168.7.{own} remote 192.168.7.{other}"
        ),
        format!("ip address add 172.16.0.{own}/24 dev vxlan0"),
        "ip link set vxlan0 up".to_owned(),
    ] {
        guest.run(line.split_whitespace())?;
    }
    Ok(())
}

fn settings(own: u8, setup: &Setup) -> Settings {
    let place = usize::from(own - 1);
    let other = 3 - own;
    let (port, underlay) = (setup.doors.port[place], setup.doors.underlay[place]);
    let addresses = format!("addresses = [\"{}\"]", guest(own));
    Settings::on(&format!("device = \"{DEVICE}\"\n{underlay}"))
        .port_with(PORT, &format!("{addresses}\n{port}"))
        .link(&link_to(other), &address(setup.families[0], other))
        .way(guest(other), &link_to(other))
        .flood()
}

/// Sends datagrams of no bytes and more, which make the shortest packets that IP stacks send, unpadded
/// and, on a veth, still marked as a tunnel's when they come out of ours.
fn short_datagrams(
    from: &NamespaceGuest,
    to: &NamespaceGuest,
    own: &str,
    other: &str,
) -> Result<()> {
    let receiver = to.inside(|| UdpSocket::bind(other))??;
    let sender = from.inside(|| UdpSocket::bind(own))??;
    receiver.set_read_timeout(Some(LIMIT))?;
    let data: Vec<u8> = (1..=DATAGRAM_BYTES_MAX).collect();
    for length in 0..=data.len() {
        let sent = data.get(..length).unwrap_or_default();
        sender.send_to(sent, other)?;
        let mut buffer = [0; 100];
        let came = receiver.recv(&mut buffer);
        let came = came.with_context(|| format!("{length} bytes"))?;
        ensure!(
            buffer.get(..came) == Some(sent),
            "{length} bytes became {came}"
        );
    }
    Ok(())
}
