//! Which kinds of frames are there, and what must become of each?
//!
//! A row makes what a guest sends, in the words of `tests/frames`, and says what its receiver must
//! have in the end: finished frames, in this order.

use anyhow::{Context, Result, ensure};
use frames::build::build;
use frames::finish::{cut, unfinished};
use frames::stage::Stage;
use lab::{Cut, Mac, Segments, Unfinished, VnetHeader};

/// What the door of the sender must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Finished frames: any door takes them.
    Finished,
    /// The checksum is left to the NIC.
    Unfinished,
    /// One frame stands for many TCP segments.
    Segments,
    /// One frame stands for many UDP datagrams.
    Datagrams,
}

impl Kind {
    /// Whether one frame stands for many.
    pub const fn is_many(self) -> bool {
        matches!(self, Self::Segments | Self::Datagrams)
    }
}

/// A kind of frame.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What people call it.
    pub name: &'static str,
    /// What it asks of the door.
    pub kind: Kind,
    /// Whether it goes to everybody.
    pub is_for_all: bool,
    make: fn(&Way) -> Result<Sample>,
}

/// From whom to whom, and how large.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The sender's number.
    pub from: u8,
    /// The receiver's number.
    pub to: u8,
    /// The largest packet of the network, in bytes.
    pub mtu: usize,
    /// So that no two frames are alike.
    pub seed: usize,
}

/// What is sent, and what must come.
#[derive(Clone, Debug)]
pub struct Sample {
    /// By the sender, in this order.
    pub sent: Vec<(VnetHeader, Vec<u8>)>,
    /// When all that was left to do is done.
    pub expected: Vec<Vec<u8>>,
}

impl Row {
    /// What to send this way.
    ///
    /// # Errors
    ///
    /// It is no frame that `tests/frames` can build.
    pub fn sample(&self, way: &Way) -> Result<Sample> {
        (self.make)(way).with_context(|| format!("the row {}", self.name))
    }
}

impl Way {
    fn macs(&self) -> String {
        let mac = |number| Mac([0x52, 0x54, 0, 0, 0, number]);
        format!("ethernet {} -> {}", mac(self.from), mac(self.to))
    }

    fn group(&self, group: &str) -> String {
        format!(
            "ethernet {} -> {group}",
            Mac([0x52, 0x54, 0, 0, 0, self.from])
        )
    }

    fn ip(&self, version: u8) -> String {
        let (from, to, seed) = (self.from, self.to, self.seed);
        match version {
            4 => format!("ipv4 192.168.7.{from} -> 192.168.7.{to} df id={seed}"),
            _ => format!("ipv6 fd00:7::{from:x} -> fd00:7::{to:x}"),
        }
    }

    fn tcp(&self) -> String {
        // Near the end of the numbers, so that long streams begin anew at 0.
        let sequence = 4_294_960_000_u32.wrapping_add(u32::from(self.to));
        let port = 40_000 + self.seed;
        format!("tcp {port} -> 5201 sequence={sequence} acknowledges=99 push")
    }

    fn udp(&self) -> String {
        format!("udp {} -> 5000", 40_000 + self.seed)
    }

    fn data(&self, bytes: usize) -> String {
        format!("payload {bytes} seed={}", self.seed)
    }
}

fn bytes_of(layers: &[String]) -> Result<Vec<u8>> {
    Ok(build(layers, &Stage::default(), None)?.bytes)
}

fn finished(layers: &[String]) -> Result<Sample> {
    finished_ones(&[layers])
}

fn finished_ones(frames: &[&[String]]) -> Result<Sample> {
    let expected: Vec<_> = frames
        .iter()
        .map(|layers| bytes_of(layers))
        .collect::<Result<_>>()?;
    let sent = expected
        .iter()
        .map(|frame| (VnetHeader::NONE, frame.clone()))
        .collect();
    Ok(Sample { sent, expected })
}

/// The frame with its checksum left to the NIC; inside the first `outside` bytes nothing is.
fn left_to_nic(layers: &[String], outside: usize) -> Result<Sample> {
    let whole = bytes_of(layers)?;
    let (front, frame) = whole.split_at(outside);
    let left = unfinished(frame)?;
    let header = VnetHeader {
        unfinished: Some(Unfinished {
            start: u16::try_from(outside + left.start)?,
            offset: u16::try_from(left.offset)?,
        }),
        ..VnetHeader::NONE
    };
    Ok(Sample {
        sent: vec![(header, [front, &left.bytes].concat())],
        expected: vec![whole],
    })
}

/// The frame as one that stands for many.
fn many(layers: &[String], kind: Cut, data_bytes: u16) -> Result<Sample> {
    let whole = bytes_of(layers)?;
    let left = unfinished(&whole)?;
    let header = VnetHeader {
        unfinished: Some(Unfinished {
            start: u16::try_from(left.start)?,
            offset: u16::try_from(left.offset)?,
        }),
        segments: Some(Segments {
            cut: kind,
            data_bytes,
            header_bytes: u16::try_from(left.headers)?,
        }),
        is_checked: false,
    };
    let expected = cut(&whole, usize::from(data_bytes))?;
    ensure!(expected.len() > 1, "it is not many");
    Ok(Sample {
        sent: vec![(header, left.bytes)],
        expected,
    })
}

const VLAN: &str = "vlan 42 pcp=5";
const SERVICE_VLAN: &str = "service-vlan 1007 pcp=3";
/// The data of a frame that is many, in all and for each.
const MANY_BYTES: usize = 8000;
const EACH_BYTES: u16 = 1300;

/// Layers as owned lines.
macro_rules! layers {
    ($($line:expr),+ $(,)?) => { [$($line.to_string()),+] };
}

const fn row(name: &'static str, kind: Kind, make: fn(&Way) -> Result<Sample>) -> Row {
    Row {
        name,
        kind,
        is_for_all: false,
        make,
    }
}

const fn for_all(name: &'static str, kind: Kind, make: fn(&Way) -> Result<Sample>) -> Row {
    Row {
        name,
        kind,
        is_for_all: true,
        make,
    }
}

fn vxlan(way: &Way) -> [String; 8] {
    // Between stations that only the guests know.
    layers![
        way.macs(),
        way.ip(4),
        format!("udp {} -> 4789 checksum=0", 50_000 + way.seed),
        "vxlan 99",
        "ethernet 02:aa:00:00:00:01 -> 02:aa:00:00:00:02",
        "ipv4 172.16.0.1 -> 172.16.0.2 df",
        way.tcp(),
        way.data(700),
    ]
}
/// Ethernet, IPv4, UDP, VXLAN.
const VXLAN_HEADERS: usize = 14 + 20 + 8 + 8;

/// Every kind, finished ones first.
pub const ROWS: [Row; 36] = [
    row("TCP over IPv4", Kind::Finished, |way| {
        finished(&layers![way.macs(), way.ip(4), way.tcp(), way.data(999)])
    }),
    row("UDP over IPv4", Kind::Finished, |way| {
        finished(&layers![way.macs(), way.ip(4), way.udp(), way.data(1000)])
    }),
    row("TCP over IPv6", Kind::Finished, |way| {
        finished(&layers![way.macs(), way.ip(6), way.tcp(), way.data(1000)])
    }),
    row("UDP over IPv6", Kind::Finished, |way| {
        finished(&layers![way.macs(), way.ip(6), way.udp(), way.data(999)])
    }),
    row("VLAN", Kind::Finished, |way| {
        finished(&layers![
            way.macs(),
            VLAN,
            way.ip(4),
            way.tcp(),
            way.data(300)
        ])
    }),
    row("VLAN 0, a priority only", Kind::Finished, |way| {
        finished(&layers![
            way.macs(),
            "vlan 0 pcp=6",
            way.ip(4),
            way.udp(),
            way.data(300)
        ])
    }),
    row("QinQ", Kind::Finished, |way| {
        finished(&layers![
            way.macs(),
            SERVICE_VLAN,
            VLAN,
            way.ip(6),
            way.udp(),
            way.data(300)
        ])
    }),
    row("VLAN, not IP", Kind::Finished, |way| {
        finished(&layers![way.macs(), "vlan 42 type=0x88b5", way.data(200)])
    }),
    row("a type of its own", Kind::Finished, |way| {
        finished(&layers![
            format!("{} type=0x88b5", way.macs()),
            way.data(46)
        ])
    }),
    row("60 bytes", Kind::Finished, |way| {
        finished(&layers![way.macs(), way.ip(4), way.udp(), way.data(18)])
    }),
    row("60 bytes, padded", Kind::Finished, |way| {
        finished(&layers![
            way.macs(),
            way.ip(4),
            way.udp(),
            way.data(4),
            "padding 14"
        ])
    }),
    row("as large as may be", Kind::Finished, |way| {
        finished(&layers![
            way.macs(),
            way.ip(4),
            way.udp(),
            way.data(way.mtu - 28)
        ])
    }),
    row("as large as may be, IPv6", Kind::Finished, |way| {
        finished(&layers![
            way.macs(),
            way.ip(6),
            way.tcp(),
            way.data(way.mtu - 60)
        ])
    }),
    row("fragments of IPv4", Kind::Finished, |way| {
        let ip = |more: &str| format!("{} protocol=17 {more}", way.ip(4)).replace(" df", "");
        let first = layers![
            way.macs(),
            ip("mf"),
            "bytes 00 07 00 08 07 d8 00 00",
            way.data(992)
        ];
        let later = layers![way.macs(), ip("offset=125"), way.data(1000)];
        finished_ones(&[&first, &later])
    }),
    row("fragments of IPv6", Kind::Finished, |way| {
        let udp = "bytes 00 07 00 08 07 d8 12 34";
        let first = layers![
            way.macs(),
            way.ip(6),
            "fragment 17 mf id=7",
            udp,
            way.data(992)
        ];
        let later = layers![
            way.macs(),
            way.ip(6),
            "fragment 17 offset=125 id=7",
            way.data(1000)
        ];
        finished_ones(&[&first, &later])
    }),
    row("VXLAN of the guest's", Kind::Finished, |way| {
        finished(&vxlan(way))
    }),
    for_all("ARP", Kind::Finished, |way| {
        let (from, mac) = (way.group("broadcast"), Mac([0x52, 0x54, 0, 0, 0, way.from]));
        let asking = format!("bytes 00 01 08 00 06 04 00 01 {}", words(&mac.0));
        let rest = format!(
            "bytes c0 a8 07 {:02x} 00 00 00 00 00 00 c0 a8 07 09",
            way.from
        );
        finished(&layers![
            format!("{from} type=0x0806"),
            asking,
            rest,
            "padding 18"
        ])
    }),
    for_all("IPv6 neighbour discovery", Kind::Finished, |way| {
        finished(&layers![
            way.group("33:33:ff:00:00:03"),
            format!("ipv6 fd00:7::{:x} -> ff02::1:ff00:3 hops=255", way.from),
            "neighbour guest_one -> guest_two",
        ])
    }),
    for_all("LLDP", Kind::Finished, |way| {
        let group = way.group("01:80:c2:00:00:0e");
        // Chassis, port, time to live, end (IEEE 802.1AB).
        let sender = words(&[0x52, 0x54, 0, 0, 0, way.from]);
        let chassis = format!("bytes 02 07 04 {sender}");
        let rest = "bytes 04 03 07 31 31 06 02 00 78 00 00";
        finished(&layers![format!("{group} type=0x88cc"), chassis, rest])
    }),
    for_all("multicast", Kind::Finished, |way| {
        finished(&multicast(way, 300))
    }),
    row("TCP over IPv4, checksum left", Kind::Unfinished, |way| {
        left_to_nic(&layers![way.macs(), way.ip(4), way.tcp(), way.data(999)], 0)
    }),
    row("UDP over IPv4, checksum left", Kind::Unfinished, |way| {
        left_to_nic(
            &layers![way.macs(), way.ip(4), way.udp(), way.data(1000)],
            0,
        )
    }),
    row("TCP over IPv6, checksum left", Kind::Unfinished, |way| {
        left_to_nic(
            &layers![way.macs(), way.ip(6), way.tcp(), way.data(1000)],
            0,
        )
    }),
    row("UDP over IPv6, checksum left", Kind::Unfinished, |way| {
        left_to_nic(&layers![way.macs(), way.ip(6), way.udp(), way.data(999)], 0)
    }),
    row("VLAN, checksum left", Kind::Unfinished, |way| {
        left_to_nic(
            &layers![way.macs(), VLAN, way.ip(4), way.tcp(), way.data(300)],
            0,
        )
    }),
    row("QinQ, checksum left", Kind::Unfinished, |way| {
        let layers = layers![
            way.macs(),
            SERVICE_VLAN,
            VLAN,
            way.ip(6),
            way.udp(),
            way.data(300)
        ];
        left_to_nic(&layers, 0)
    }),
    row(
        "as large as may be, checksum left",
        Kind::Unfinished,
        |way| {
            left_to_nic(
                &layers![way.macs(), way.ip(4), way.tcp(), way.data(way.mtu - 40)],
                0,
            )
        },
    ),
    row(
        "VXLAN of the guest's, checksum left",
        Kind::Unfinished,
        |way| left_to_nic(&vxlan(way), VXLAN_HEADERS),
    ),
    for_all("multicast, checksum left", Kind::Unfinished, |way| {
        left_to_nic(&multicast(way, 301), 0)
    }),
    row("TSO over IPv4", Kind::Segments, |way| {
        let layers = layers![way.macs(), way.ip(4), way.tcp(), way.data(MANY_BYTES)];
        many(&layers, Cut::TcpV4, EACH_BYTES)
    }),
    row("TSO over IPv6", Kind::Segments, |way| {
        let layers = layers![way.macs(), way.ip(6), way.tcp(), way.data(MANY_BYTES)];
        many(&layers, Cut::TcpV6, EACH_BYTES)
    }),
    row("TSO of 60,000 bytes", Kind::Segments, |way| {
        let layers = layers![way.macs(), way.ip(4), way.tcp(), way.data(60_000)];
        many(&layers, Cut::TcpV4, u16::try_from(way.mtu - 40)?)
    }),
    row("UDP GSO over IPv4", Kind::Datagrams, |way| {
        let layers = layers![way.macs(), way.ip(4), way.udp(), way.data(MANY_BYTES)];
        many(&layers, Cut::Udp, EACH_BYTES)
    }),
    row("UDP GSO over IPv6", Kind::Datagrams, |way| {
        let layers = layers![way.macs(), way.ip(6), way.udp(), way.data(MANY_BYTES)];
        many(&layers, Cut::Udp, EACH_BYTES)
    }),
    row("VLAN, TSO", Kind::Segments, |way| {
        let layers = layers![way.macs(), VLAN, way.ip(4), way.tcp(), way.data(MANY_BYTES)];
        many(&layers, Cut::TcpV4, EACH_BYTES)
    }),
    row("QinQ, UDP GSO", Kind::Datagrams, |way| {
        let layers = layers![
            way.macs(),
            SERVICE_VLAN,
            VLAN,
            way.ip(6),
            way.udp(),
            way.data(MANY_BYTES)
        ];
        many(&layers, Cut::Udp, EACH_BYTES)
    }),
];

fn multicast(way: &Way, bytes: usize) -> [String; 4] {
    layers![
        way.group("multicast"),
        format!(
            "ipv4 192.168.7.{} -> 224.0.0.251 ttl=255 id={}",
            way.from, way.seed
        ),
        "udp 5353 -> 5353",
        way.data(bytes),
    ]
}

/// Bytes in the words of the builder.
fn words(bytes: &[u8]) -> String {
    let words: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(" ")
}
