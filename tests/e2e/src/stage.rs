//! Who is on the stage? Hosts on one underlay, each with an agent and a guest on a tap.
//!
//! Host `one` has guest 1 on `tap0` and the underlay addresses 10.0.0.1 and fd00::1, host `two`
//! guest 2, and so on; a link is called after where it leads: `to-two`. Everybody knows the way
//! to everybody's guest, and frames for unknown stations go to all.

use anyhow::{Context, Result};
use lab::{Agent, Host, Lab, TapGuest, Underlay, UnderlaySettings};

use crate::ask;
use crate::frame::guest;
use crate::settings::Settings;

/// The port of every site.
pub const PORT: &str = "tap0";
/// The underlay device of every site.
pub const DEVICE: &str = "eth0";

/// What the outer packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4: guests have an MTU of 1422 over an underlay with 1500.
    Ipv4,
    /// IPv6: 1402.
    Ipv6,
}

/// One host with its agent and its guest.
#[derive(Debug)]
pub struct Site {
    /// The agent; before the guest, whose device it may still be looking at.
    pub agent: Agent,
    /// The guest on [`PORT`].
    pub guest: TapGuest,
    /// The host.
    pub host: Host,
}

/// Several of them on one underlay.
#[derive(Debug)]
pub struct Stage {
    /// Site n has the guest and the underlay addresses n + 1.
    pub sites: Vec<Site>,
    /// What is between them.
    pub underlay: Underlay,
}

/// The name of the host with this number.
pub fn name(number: u8) -> &'static str {
    ["zero", "one", "two", "three", "four", "five"]
        .get(usize::from(number))
        .copied()
        .unwrap_or("many")
}

/// The name of a link to the host with this number.
pub fn link_to(number: u8) -> String {
    format!("to-{}", name(number))
}

/// The underlay address of the host with this number.
pub fn address(family: Family, number: u8) -> String {
    match family {
        Family::Ipv4 => format!("10.0.0.{number}"),
        Family::Ipv6 => format!("fd00::{number}"),
    }
}

/// Everybody has links to everybody.
pub fn mesh_settings(family: Family, own: u8, count: u8) -> Settings {
    let others = (1..=count).filter(|&other| other != own);
    let alone = Settings::new().port(PORT, guest(own)).flood();
    others.fold(alone, |settings, other| {
        settings
            .link(&link_to(other), &address(family, other))
            .way(guest(other), &link_to(other))
    })
}

/// Everybody has a link to host one, which passes on what it hears.
pub fn star_settings(family: Family, own: u8, count: u8) -> Settings {
    let others = (1..=count).filter(|&other| other != own);
    let alone = Settings::new().port(PORT, guest(own)).flood();
    if own != 1 {
        let with_hub = alone.link(&link_to(1), &address(family, 1));
        return others.fold(with_hub, |settings, other| {
            settings.way(guest(other), &link_to(1))
        });
    }
    others.fold(alone, |settings, other| {
        settings
            .link_with(
                &link_to(other),
                &address(family, other),
                "flood = \"always\"",
            )
            .way(guest(other), &link_to(other))
    })
}

impl Stage {
    /// Two hosts, over IPv4.
    ///
    /// # Errors
    ///
    /// An agent does not start.
    pub fn pair(lab: &Lab) -> Result<Self> {
        Self::mesh(lab, 2, Family::Ipv4)
    }

    /// Hosts with links from each to each.
    ///
    /// # Errors
    ///
    /// An agent does not start.
    pub fn mesh(lab: &Lab, count: u8, family: Family) -> Result<Self> {
        Self::new(lab, count, |own| mesh_settings(family, own, count))
    }

    /// Hosts with links to host one.
    ///
    /// # Errors
    ///
    /// An agent does not start.
    pub fn star(lab: &Lab, count: u8) -> Result<Self> {
        Self::new(lab, count, |own| star_settings(Family::Ipv4, own, count))
    }

    /// Hosts whose agents are told this; returns when all of them are content.
    ///
    /// # Errors
    ///
    /// An agent does not start, or complains.
    pub fn new(lab: &Lab, count: u8, settings: impl Fn(u8) -> Settings) -> Result<Self> {
        let stage = Self::start(lab, count, settings)?;
        for site in &stage.sites {
            ask::until_healthy(&site.host)?;
        }
        Ok(stage)
    }

    /// The same, content or not.
    ///
    /// # Errors
    ///
    /// An agent does not start.
    pub fn start(lab: &Lab, count: u8, settings: impl Fn(u8) -> Settings) -> Result<Self> {
        let underlay = lab.underlay(UnderlaySettings::default())?;
        let mut sites = Vec::new();
        for number in 1..=count {
            let host = lab.host(name(number))?;
            underlay.connect(&host, DEVICE)?;
            let guest = host.tap_guest(PORT, guest(number))?;
            let agent = host.agent(&settings(number).text())?;
            sites.push(Site { agent, guest, host });
        }
        Ok(Self { sites, underlay })
    }

    /// The first two sites.
    ///
    /// # Errors
    ///
    /// There are fewer.
    pub fn two(&self) -> Result<(&Site, &Site)> {
        match self.sites.as_slice() {
            [one, two, ..] => Ok((one, two)),
            _ => anyhow::bail!("there are no two sites"),
        }
    }

    /// The site with this number.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn site(&mut self, number: usize) -> Result<&mut Site> {
        let place = number
            .checked_sub(1)
            .and_then(|place| self.sites.get_mut(place));
        place.with_context(|| format!("there is no site {number}"))
    }
}
