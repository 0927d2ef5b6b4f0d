//! Who belongs to the overlay? A proxy with a LAN and agents with a guest each, that have nothing but
//! a certificate and the proxy's address.
//!
//! The proxy is at 10.0.0.1 and its LAN machine at 10.9.0.1; agent n at 10.0.0.n + 1 and its guest at
//! 10.9.0.n + 1.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::{
    Agent, Host, Lab, NamespaceGuest, Station, Underlay, UnderlaySettings, Uplink, try_eventually,
};
use vnet_agent::api::{AgentStatus, Agents, OverlayStatus};

use crate::ask;
use crate::frame::guest;

/// Where the proxy listens.
pub const CONTROL: &str = "10.0.0.1:6082";

/// A host of the overlay, its agent and its guest; on the proxy, a machine of its LAN.
#[derive(Debug)]
pub struct Place {
    /// The agent.
    pub agent: Agent,
    /// The guest.
    pub guest: NamespaceGuest,
    /// The host.
    pub host: Host,
}

/// The proxy and agents.
#[derive(Debug)]
pub struct Overlay {
    /// The proxy.
    pub proxy: Place,
    /// The agents.
    pub agents: Vec<Place>,
    /// What is between them.
    pub underlay: Underlay,
    /// Where the authority is.
    pub authority: PathBuf,
}

/// Makes an authority in a directory of the lab.
///
/// # Errors
///
/// `vnetctl` does not.
pub fn authority(lab: &Lab, host: &Host, name: &str) -> Result<PathBuf> {
    let directory = lab.directory().join(name);
    let text = directory.display().to_string();
    host.vnetctl(["ca", "init", &text])?;
    Ok(directory)
}

/// Has an authority issue a host's identity, good for so long.
///
/// # Errors
///
/// `vnetctl` does not.
pub fn identity(
    host: &Host,
    authority: &Path,
    name: &str,
    role: &str,
    valid: &str,
) -> Result<PathBuf> {
    let path = host.directory().join("identity.pem");
    drop(std::fs::remove_file(&path));
    let (out, ca) = (path.display().to_string(), authority.display().to_string());
    let words = [
        "ca", "issue", name, "--ca", &ca, "--role", role, "--valid", valid, "--out", &out,
    ];
    host.vnetctl(words)?;
    Ok(path)
}

/// What an agent is told: its ports, `vm0` and those that a test may add, and where the proxy is.
pub fn agent_settings(host: &Host) -> String {
    format!(
        "[underlay]\ndevice = \"eth0\"\ndoor = \"xdp\"\n\n\
         [control]\nrole = \"agent\"\nproxy = \"{CONTROL}\"\nidentity = \"{}\"\n\n\
         [[port]]\nname = \"vm0\"\nnetwork = \"blue\"\naddresses = \"learn\"\ndoor = \"xdp\"\n\n\
         [[port]]\npattern = \"load*\"\nnetwork = \"blue\"\naddresses = \"learn\"\ndoor = \"xdp\"\n",
        host.directory().join("identity.pem").display()
    )
}

/// What the proxy is told: its LAN's port, the networks, and where the authority is.
pub fn proxy_settings(host: &Host, authority: &Path) -> String {
    format!(
        "[underlay]\ndevice = \"eth0\"\ndoor = \"xdp\"\n\n\
         [control]\nrole = \"proxy\"\nlisten = \"0.0.0.0:6082\"\nidentity = \"{}\"\n\
         authority = \"{}\"\n\n\
         [[network]]\nname = \"blue\"\nid = 7\n\n\
         [[port]]\nname = \"lan0\"\nnetwork = \"blue\"\naddresses = \"any\"\ndoor = \"xdp\"\n",
        host.directory().join("identity.pem").display(),
        authority.display()
    )
}

fn guest_of(host: &Host, port: &str, number: u8) -> Result<NamespaceGuest> {
    let station = Station::new(port, guest(number)).address(&format!("10.9.0.{number}/24"));
    host.namespace_guest(station)
}

/// Agent of this number, on a host that is on some underlay: with an identity, a guest, and started.
///
/// # Errors
///
/// It does not start.
pub fn place(host: Host, authority: &Path, number: u8) -> Result<Place> {
    identity(&host, authority, host.name(), "agent", "90d")?;
    let guest = guest_of(&host, "vm0", number + 1)?;
    let agent = host.agent(&agent_settings(&host))?;
    Ok(Place { agent, guest, host })
}

impl Overlay {
    /// A proxy and so many agents, all together and content.
    ///
    /// # Errors
    ///
    /// They do not come together.
    pub fn new(lab: &Lab, count: u8) -> Result<Self> {
        Self::behind(lab, count, |_, _| Ok(()))
    }

    /// The same, where something is done to an agent's site before it begins.
    ///
    /// # Errors
    ///
    /// They do not come together.
    pub fn behind(
        lab: &Lab,
        count: u8,
        prepare: impl Fn(&Underlay, &Uplink) -> Result<()>,
    ) -> Result<Self> {
        let underlay = lab.underlay(UnderlaySettings::default())?;
        let host = lab.host("proxy")?;
        underlay.connect(&host, "eth0")?;
        let authority = authority(lab, &host, "ca")?;
        identity(&host, &authority, "proxy", "proxy", "90d")?;
        let lan = guest_of(&host, "lan0", 1)?;
        let agent = host.agent(&proxy_settings(&host, &authority))?;
        let proxy = Place {
            agent,
            guest: lan,
            host,
        };
        let mut agents = Vec::new();
        for number in 1..=count {
            let name = crate::stage::name(number);
            let host = lab.host(name)?;
            prepare(&underlay, &underlay.connect(&host, "eth0")?)?;
            agents.push(place(host, &authority, number)?);
        }
        let overlay = Self {
            proxy,
            agents,
            underlay,
            authority,
        };
        overlay.until_whole()?;
        Ok(overlay)
    }

    /// Waits until every agent is connected and goes by its latest part.
    ///
    /// # Errors
    ///
    /// One does not.
    pub fn until_whole(&self) -> Result<()> {
        let count = self.agents.len();
        let mut last = None;
        let whole = try_eventually("the star is whole", || {
            let now = agents(&self.proxy.host)?;
            let is_whole = now.agents.iter().filter(|agent| is_current(agent)).count() == count;
            last = Some(now);
            Ok(is_whole.then_some(()))
        });
        whole.with_context(|| format!("the proxy says: {last:?}"))
    }

    /// The overlay as a text that the proxy tells, with a direct link between one and two.
    ///
    /// # Errors
    ///
    /// It does not tell.
    pub fn with_a_short_cut(&self) -> Result<String> {
        let shown = self.proxy.host.attempt_vnetctl(["topology", "show"])?;
        let shown = shown.successful()?.stdout;
        let (one, two) = (guest(2), guest(3));
        let more = format!(
            "ADD\nLINK UDP one two FLOOD NEVER\nFORWARD EDGE one ANY {two} one two\n\
             FORWARD EDGE two ANY {one} two one\n"
        );
        Ok(shown.replacen("ADD\n", &more, 1))
    }

    /// Applies a text.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn apply(&self, text: &str) -> Result<()> {
        let file = self.proxy.host.directory().join("lan.vnet");
        std::fs::write(&file, text)?;
        let file = file.display().to_string();
        let applied = self
            .proxy
            .host
            .attempt_vnetctl(["topology", "apply", &file])?;
        applied.successful().map(drop)
    }

    /// Every guest, that of the proxy first.
    pub fn guests(&self) -> Vec<&NamespaceGuest> {
        let all = [&self.proxy].into_iter().chain(&self.agents);
        all.map(|place| &place.guest).collect()
    }

    /// Waits until every guest reaches every other.
    ///
    /// # Errors
    ///
    /// One does not.
    pub fn until_all_reach_all(&self) -> Result<()> {
        for (from, guest) in (1..).zip(self.guests()) {
            for to in (1..=u8::try_from(self.guests().len())?).filter(|to| *to != from) {
                try_eventually(&format!("guest {from} reaches guest {to}"), || {
                    Ok(reaches(guest, to)?.then_some(()))
                })?;
            }
        }
        Ok(())
    }
}

fn is_current(agent: &AgentStatus) -> bool {
    let connection = agent.connection.as_ref();
    connection.is_some_and(|connection| {
        connection.revision.is_some() && connection.revision == agent.dealt_revision
    })
}

/// Who belongs, as the proxy says.
///
/// # Errors
///
/// It does not say.
pub fn agents(proxy: &Host) -> Result<Agents> {
    ask::ask(proxy, &["agents"])
}

/// Whether this agent is together with the proxy.
///
/// # Errors
///
/// It does not say, or has nothing to do with an overlay.
pub fn is_together(host: &Host) -> Result<bool> {
    match ask::status(host)?.overlay {
        Some(OverlayStatus::Agent { proxy, .. }) => Ok(proxy.is_some()),
        other => anyhow::bail!("`{}` is no agent of an overlay: {other:?}", host.name()),
    }
}

/// Whether a guest gets an answer from another: ARP and one ping.
///
/// # Errors
///
/// `ping` cannot run.
pub fn reaches(guest: &NamespaceGuest, to: u8) -> Result<bool> {
    let address = format!("10.9.0.{to}");
    let words = ["ping", "-n", "-c", "1", "-W", "1", &address];
    let output = guest.attempt(words)?;
    ensure!(output.status < 2, "{}", output.stderr);
    Ok(output.success())
}
