//! Who sends, who receives, and what is between them?
//!
//! ```text
//!  sender ─┐
//!  takers ─┴ one ───────── two ───────── three
//!                           └ takers      └ takers
//! ```
//!
//! Host one has links to two only, and two to both: what is for three's guests takes two hops. On
//! each host one taker takes every unfinished frame, and one none.

use std::thread;

use anyhow::{Result, bail};
use e2e::ask;
use e2e::frame::guest;
use e2e::settings::{BLUE, Settings};
use e2e::stage::{DEVICE, Family, address, link_to, name};
use lab::{Agent, Host, Lab, Offloads, TapGuest, TapSettings, Underlay, UnderlaySettings};

use crate::judge::Taker;

/// The sender's port on host one, and its number.
pub const SENDER: (&str, u8) = ("tap0", 1);

/// The headers and the option of a link.
pub const fn outside_bytes(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 78,
        Family::Ipv6 => 98,
    }
}

/// How far it is to a guest.
pub const TOPOLOGIES: [&str; 3] = ["same host", "remote", "two hops"];
/// What a guest takes, by the ports `tap1` and `tap2`: what the setup says, and nothing.
pub const RECEIVERS: [&str; 2] = ["offloads", "none"];

/// By which programs frames come in.
#[derive(Clone, Copy, Debug)]
pub struct Doors {
    /// What people call them.
    pub name: &'static str,
    /// The line under `[[port]]`, by host.
    pub port: [&'static str; 3],
    /// The line under `[underlay]`, by host.
    pub underlay: [&'static str; 3],
}

/// What a run of the matrix goes through.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// By which programs.
    pub doors: Doors,
    /// Which lines links have: `plain = true`, or a cookie.
    pub secret: &'static str,
    /// Over which outer headers: from one to two, and from two to three.
    pub families: [Family; 2],
    /// The underlay's largest packet, in bytes.
    pub mtu: u32,
    /// Whether frames cross it as they leave a host, however large and unfinished.
    pub offloads: bool,
    /// What the guests on `tap1` take.
    pub takes: Offloads,
}

impl Setup {
    /// Links with cookies over IPv4 on a wire with 1500 bytes.
    pub const fn through(doors: Doors) -> Self {
        Self {
            doors,
            secret: COOKIE,
            families: [Family::Ipv4; 2],
            mtu: 1500,
            offloads: false,
            takes: Offloads::ALL,
        }
    }

    /// What each of [`RECEIVERS`] takes.
    const fn takers(&self) -> [Offloads; RECEIVERS.len()] {
        [self.takes, Offloads::NONE]
    }
}

/// A door, for `[[port]]` and `[underlay]`.
pub const XDP: &str = "door = \"xdp\"";
/// The other one.
pub const TC: &str = "door = \"tc\"";
/// Whichever the agent finds right.
pub const AUTO: &str = "door = \"auto\"";

/// A link that proves itself.
pub const COOKIE: &str = "cookie = \"5af3107a4000be1d\"";
/// A link that does not.
pub const PLAIN: &str = "plain = true";

/// One host.
#[derive(Debug)]
pub struct Site {
    /// Ends before the taps go.
    _agent: Agent,
    /// On `tap1` and `tap2`.
    pub takers: Vec<Taker>,
    /// The host.
    pub host: Host,
}

/// All of them.
#[derive(Debug)]
pub struct Places {
    /// One, two and three.
    pub sites: Vec<Site>,
    /// On host one.
    pub sender: TapGuest,
    /// What is between the hosts.
    pub underlay: Underlay,
    /// The largest packet that guests may send, in bytes.
    pub mtu: usize,
}

/// The number of a receiver.
pub fn taker_number(topology: usize, receiver: usize) -> u8 {
    u8::try_from(10 * (topology + 1) + receiver + 1).unwrap_or(u8::MAX)
}

fn port_of(receiver: usize) -> String {
    format!("tap{}", receiver + 1)
}

impl Places {
    /// Sets everything up, and waits until all agents are content.
    ///
    /// # Errors
    ///
    /// One is not.
    pub fn new(lab: &Lab, setup: &Setup) -> Result<Self> {
        let outside = setup.families.map(outside_bytes);
        let mtu = setup.mtu - outside[0].max(outside[1]);
        let underlay = lab.underlay(UnderlaySettings {
            mtu: setup.mtu,
            offloads: setup.offloads,
            ..Default::default()
        })?;
        let tap = |offloads| TapSettings {
            mtu: mtu.max(1500),
            offloads: Some(offloads),
        };
        let mut sender = None;
        let mut sites = Vec::new();
        for (topology, number) in (1..=3).enumerate() {
            let host = lab.host(name(number))?;
            underlay.connect(&host, DEVICE)?;
            // As NICs have it: what XDP passes up, the kernel joins. At TC it joins too, but not here: a
            // last segment that is cut on this machine still has the socket of the tap that it came
            // from, which no wire carries. To GRO it is another flow's, so it overtakes the others.
            // `streams` has senders whose segments are alike.
            let gro = match setup.doors.underlay[topology] {
                TC => "off",
                _ => "on",
            };
            host.run(["ethtool", "-K", DEVICE, "gro", gro])?;
            if number == 1 {
                let (port, own) = SENDER;
                sender = Some(host.tap_guest_with(port, guest(own), tap(Offloads::NONE))?);
            }
            let mut takers = Vec::new();
            for (receiver, offloads) in setup.takers().into_iter().enumerate() {
                let mac = guest(taker_number(topology, receiver));
                takers.push(Taker {
                    guest: host.tap_guest_with(&port_of(receiver), mac, tap(offloads))?,
                    offloads,
                });
            }
            sites.push((host, takers, settings(number, setup).text()));
        }
        // At the same time: most of it is waiting for the kernel's look at the programs.
        let sites: Vec<Site> = thread::scope(|scope| {
            let starting: Vec<_> = sites
                .into_iter()
                .map(|(host, takers, text)| {
                    scope.spawn(move || -> Result<Site> {
                        let _agent = host.agent(&text)?;
                        Ok(Site {
                            _agent,
                            takers,
                            host,
                        })
                    })
                })
                .collect();
            let sites = starting.into_iter().map(|site| {
                site.join()
                    .unwrap_or_else(|_| bail!("a thread that starts an agent panicked"))
            });
            sites.collect::<Result<_>>()
        })?;
        for site in &sites {
            ask::until_healthy(&site.host)?;
        }
        Ok(Self {
            sites,
            sender: sender.ok_or_else(|| anyhow::anyhow!("nobody sends"))?,
            underlay,
            mtu: usize::try_from(mtu)?,
        })
    }
}

fn settings(own: u8, setup: &Setup) -> Settings {
    let place = usize::from(own - 1);
    let (port, underlay) = (setup.doors.port[place], setup.doors.underlay[place]);
    let mut settings = Settings::on(&format!("device = \"{DEVICE}\"\n{underlay}")).flood();
    let with_port = |settings: Settings, device: &str, number, port| {
        let address = guest(number);
        settings.port_with(device, &format!("addresses = [\"{address}\"]\n{port}"))
    };
    if own == 1 {
        settings = with_port(settings, SENDER.0, SENDER.1, port);
    }
    for (receiver, offloads) in setup.takers().into_iter().enumerate() {
        let number = taker_number(place, receiver);
        // XDP is refused to a guest that has agreed on offloads: it may use them too.
        let port = if port == XDP && offloads != Offloads::NONE {
            TC
        } else {
            port
        };
        settings = with_port(settings, &port_of(receiver), number, port);
    }
    let neighbours: &[u8] = if own == 2 { &[1, 3] } else { &[2] };
    for &other in neighbours {
        // The host between passes on what it hears.
        let flood = if own == 2 { "flood = \"always\"" } else { "" };
        let family = setup.families[usize::from(own.min(other)) - 1];
        let (name, remote, secret) = (link_to(other), address(family, other), setup.secret);
        settings = settings.and(&format!(
            "[[link]]\nname = \"{name}\"\nremote = \"{remote}\"\nnetworks = [\"{BLUE}\"]\n\
             {secret}\n{flood}"
        ));
    }
    for topology in (0..TOPOLOGIES.len()).filter(|&topology| topology != place) {
        let target = u8::try_from(topology + 1).unwrap_or(u8::MAX);
        let next = if own == 2 { target } else { 2 };
        for receiver in 0..RECEIVERS.len() {
            settings = settings.way(guest(taker_number(topology, receiver)), &link_to(next));
        }
    }
    settings
}
