//! Who belongs to the overlay that is measured? A proxy with a LAN and agents with a guest each, on
//! one underlay, that have nothing but a certificate and the proxy's address.
//!
//! Made anew for every round. The agents are started first and stand still until the proxy
//! is ready, so that a star begins with all of them at once, and with nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use lab::{Agent, Binaries, Host, LIMIT, Lab, Mac, TapGuest, Underlay, UnderlaySettings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vnet_agent::api::{AgentStatus, Agents, TopologyStatus};
use vnet_agent::identity::life::{AUTHORITY_LIFE, HOST_LIFE};
use vnet_agent::identity::{Authority, Role};
use vnet_agent::language;
use vnet_agent::model::topology::Topology;

use crate::ask::ask;
use crate::frame::frame;
use crate::taps::TAP;

/// The network of all guests.
pub const NETWORK: &str = "blue";
/// Between two looks.
const MOMENT: Duration = Duration::from_millis(1);
/// How long the frames are that show that there is a way.
const FRAME_BYTES: usize = 64;

/// A host with its agent and its guest; on the proxy, a machine of its LAN.
#[derive(Debug)]
pub struct Member {
    /// What it is called.
    pub name: String,
    /// The agent, before the guest whose device it may still be looking at.
    pub agent: Option<Agent>,
    /// The guest.
    pub guest: TapGuest,
    /// The host.
    pub host: Host,
    settings: String,
}

/// The proxy and agents.
#[derive(Debug)]
pub struct Constellation {
    /// The proxy first, then the agents.
    pub members: Vec<Member>,
    _underlay: Underlay,
}

/// How long it took until something was so.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until it was in force everywhere.
    pub in_force: Duration,
    /// Until frames had gone all the ways that there should be.
    pub crossed: Duration,
}

/// The guest of the member with this number.
fn guest(number: usize) -> Mac {
    let [.., high, low] = number.to_be_bytes();
    Mac([0x52, 0x54, 0, 1, high, low])
}

/// The certificates of one overlay.
pub struct Papers {
    authority: Authority,
}

impl Papers {
    /// A new authority.
    ///
    /// # Errors
    ///
    /// There is no such certificate.
    pub fn new() -> Result<Self> {
        Ok(Self {
            authority: Authority::create("bench", now_s()?, AUTHORITY_LIFE)?,
        })
    }

    /// The file of a host, which is made.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn of(&self, host: &Host, name: &str, role: Role) -> Result<PathBuf> {
        let path = host.directory().join("identity.pem");
        let bundle = self.authority.issue(name, role, now_s()?, HOST_LIFE)?;
        fs::write(&path, bundle.to_text())?;
        Ok(path)
    }
}

fn now_s() -> Result<u64> {
    Ok(SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs())
}

impl Constellation {
    /// A proxy and so many agents. The agents run and stand still, the proxy runs and knows nobody.
    /// The number tells them from others in the lab.
    ///
    /// # Errors
    ///
    /// One does not start.
    pub fn new(lab: &Lab, number: u32, count: usize) -> Result<Self> {
        let underlay = lab.underlay(UnderlaySettings::default())?;
        let papers = Papers::new()?;
        let mut members = Vec::new();
        let mut proxy = String::new();
        for place in 0..=count {
            let host = lab.host(&format!("member-{number}-{place}"))?;
            let uplink = underlay.connect(&host, "eth0")?;
            let is_proxy = place == 0;
            let (name, role) = match is_proxy {
                true => ("proxy".to_owned(), Role::Proxy),
                false => (format!("host{place}"), Role::Agent),
            };
            let identity = papers.of(&host, &name, role)?;
            if is_proxy {
                proxy = uplink.ipv4.context("the underlay has no IPv4")?.to_string();
            }
            members.push(Member {
                settings: match is_proxy {
                    true => proxy_settings(&name, &identity),
                    false => agent_settings(&name, &identity, &proxy, guest(place)),
                },
                name,
                agent: None,
                guest: host.tap_guest(TAP, guest(place))?,
                host,
            });
        }
        let mut constellation = Self {
            members,
            _underlay: underlay,
        };
        constellation.start()?;
        Ok(constellation)
    }

    fn start(&mut self) -> Result<()> {
        let (proxy, agents) = self
            .members
            .split_first_mut()
            .context("a constellation has a proxy")?;
        thread::scope(|scope| {
            let starting: Vec<_> = agents
                .iter_mut()
                .map(|member| scope.spawn(|| member.start()))
                .collect();
            let mut ended = starting.into_iter().map(|thread| {
                let panicked = |_| anyhow!("a thread panicked");
                thread.join().map_err(panicked)?
            });
            ended.try_for_each(|result| result)
        })?;
        for member in &*agents {
            member.signal(Signal::SIGSTOP)?;
        }
        proxy.start()
    }

    /// Lets the agents go, all at once, and waits until the star is whole: every agent goes by its
    /// part, and a frame has come from each guest to the LAN, and from there to each.
    ///
    /// # Errors
    ///
    /// It does not become whole.
    pub fn form(&self) -> Result<Took> {
        let began = Instant::now();
        for member in self.agents() {
            member.signal(Signal::SIGCONT)?;
        }
        self.until_current(began)?;
        let in_force = began.elapsed();
        let hub = (1..self.members.len()).flat_map(|place| [(place, 0), (0, place)]);
        self.until_crossed(hub.collect())?;
        Ok(Took {
            in_force,
            crossed: began.elapsed(),
        })
    }

    /// Waits until every agent is connected and goes by its latest part.
    fn until_current(&self, began: Instant) -> Result<()> {
        let count = self.agents().len();
        let socket = self.proxy()?.host.agent_socket();
        loop {
            let agents: Agents = ask(&socket, "/v1/agents")?;
            let current = agents.agents.iter().filter(|agent| is_current(agent));
            let current = current.count();
            if current == count {
                return Ok(());
            }
            ensure!(
                began.elapsed() < LIMIT,
                "{current} of {count} agents go by their parts: {agents:?}"
            );
            thread::sleep(MOMENT);
        }
    }

    /// Waits until a frame has gone from one member's guest to another's, for all of these.
    ///
    /// # Errors
    ///
    /// One does not arrive.
    pub fn until_crossed(&self, mut ways: Vec<(usize, usize)>) -> Result<()> {
        let began = Instant::now();
        let of = |place: usize| {
            let member = self.members.get(place);
            member.with_context(|| format!("there is no member {place}"))
        };
        while !ways.is_empty() {
            for &(from, to) in &ways {
                let (from, to) = (of(from)?, of(to)?);
                let frame = frame(from.guest.mac(), to.guest.mac(), FRAME_BYTES);
                from.guest.send(&frame)?;
            }
            thread::sleep(MOMENT);
            for (place, member) in self.members.iter().enumerate() {
                while let Some(frame) = member.guest.receive(Duration::ZERO)? {
                    ways.retain(|&(from, to)| {
                        let stations = [guest(to).0, guest(from).0].concat();
                        to != place || !frame.starts_with(&stations)
                    });
                }
            }
            ensure!(
                began.elapsed() < LIMIT,
                "no frame has gone from one to the other: {ways:?}"
            );
        }
        Ok(())
    }

    /// Every agent's guest to every other's.
    #[must_use]
    pub fn all_ways(&self) -> Vec<(usize, usize)> {
        let agents = 1..self.members.len();
        agents
            .clone()
            .flat_map(|from| agents.clone().map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .collect()
    }

    /// The overlay as it is.
    ///
    /// # Errors
    ///
    /// The proxy does not say.
    pub fn topology(&self) -> Result<Topology> {
        let socket = self.proxy()?.host.agent_socket();
        let status: TopologyStatus = ask(&socket, "/v1/topology")?;
        Ok(status.topology)
    }

    /// Has `vnetctl` apply a topology, which ends when it is in force everywhere; then waits until frames
    /// have gone every way from agent to agent.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn apply(&self, wanted: &Topology) -> Result<Took> {
        let in_force = self.apply_only(wanted)?;
        let began = Instant::now();
        self.until_crossed(self.all_ways())?;
        let crossed = in_force + began.elapsed();
        ensure!(
            self.topology()? == wanted.clone().normal(),
            "it is not what was applied"
        );
        Ok(Took { in_force, crossed })
    }

    /// The same, and sends no frames.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn apply_only(&self, wanted: &Topology) -> Result<Duration> {
        let proxy = self.proxy()?;
        let file = proxy.host.directory().join("wanted.vnet");
        fs::write(&file, language::print(wanted))?;
        let mut command = proxy.host.command(Binaries::find()?.vnetctl);
        command
            .env("VNET_SOCKET", proxy.host.agent_socket())
            .args(["topology", "apply"])
            .arg(&file);
        let began = Instant::now();
        lab::attempt(&mut command)?.successful()?;
        Ok(began.elapsed())
    }

    /// All but the proxy.
    #[must_use]
    pub fn agents(&self) -> &[Member] {
        self.members.get(1..).unwrap_or_default()
    }

    /// The proxy.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn proxy(&self) -> Result<&Member> {
        self.members.first().context("there is no proxy")
    }
}

impl Member {
    fn start(&mut self) -> Result<()> {
        self.agent = Some(self.host.agent(&self.settings)?);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.agent.as_ref().and_then(Agent::id);
        let id = id.context("the agent does not run")?;
        kill(Pid::from_raw(i32::try_from(id)?), signal)?;
        Ok(())
    }
}

impl Drop for Constellation {
    fn drop(&mut self) {
        // The proxy first: so that nobody is let go just to dial it again.
        for member in &mut self.members {
            member.agent = None;
        }
    }
}

fn is_current(agent: &AgentStatus) -> bool {
    let connection = agent.connection.as_ref();
    connection.is_some_and(|connection| {
        connection.revision.is_some() && connection.revision == agent.dealt_revision
    })
}

fn agent_settings(name: &str, identity: &Path, proxy: &str, guest: Mac) -> String {
    let identity = identity.display();
    format!(
        "[agent]\nname = \"{name}\"\n\n[underlay]\ndevice = \"eth0\"\ndoor = \"xdp\"\n\n\
         [control]\nrole = \"agent\"\nproxy = \"{proxy}:6082\"\nidentity = \"{identity}\"\n\n\
         [[port]]\nname = \"{TAP}\"\nnetwork = \"{NETWORK}\"\naddresses = [\"{guest}\"]\n\
         door = \"xdp\"\n"
    )
}

fn proxy_settings(name: &str, identity: &Path) -> String {
    let identity = identity.display();
    format!(
        "[agent]\nname = \"{name}\"\n\n[underlay]\ndevice = \"eth0\"\ndoor = \"xdp\"\n\n\
         [control]\nrole = \"proxy\"\nlisten = \"0.0.0.0:6082\"\nidentity = \"{identity}\"\n\n\
         [[network]]\nname = \"{NETWORK}\"\nid = 7\n\n\
         [[port]]\nname = \"{TAP}\"\nnetwork = \"{NETWORK}\"\naddresses = \"any\"\ndoor = \"xdp\"\n"
    )
}
