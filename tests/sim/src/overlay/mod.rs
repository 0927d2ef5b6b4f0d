//! Agents and a proxy that find each other, lose each other, and deal and take parts.
//!
//! Input: a [`Plan`]. Output: the hosts as they are at any time, and what their VMs received. Both
//! ends of the control channel, the proxy's memory, the star, the parts and how they become tables
//! are the agent's own code; what is here is what sockets, disks and processes do ([`line`], [`member`],
//! [`hub`]).

mod hub;
mod line;
mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vnet_agent::model::Part;
use vnet_agent::model::topology::Topology;

use self::hub::Proxy;
use self::line::Line;
use self::member::Member;
use crate::host::SimHost;
use crate::plan::{Chance, Fault, Plan, What};
use crate::world::{Conditions, World};

const MS: u64 = 1_000_000;
/// How long a process takes for one step of a change.
const STEP_NS: u64 = MS / 5;
/// Between two looks at what could not be done.
const LOOK_NS: u64 = 1000 * MS;

/// What happens on the control channel, or to a process.
#[derive(Clone, Debug)]
enum Event {
    /// An agent's clock.
    Tick { agent: String },
    /// The clock of the proxy's end of a connection.
    ProxyTick { line: u64 },
    /// An attempt to connect has come to something.
    Connected { line: u64 },
    /// The first of what is on its way arrives.
    Arrives { line: u64, to_proxy: bool },
    /// A process takes its next step of a change, or begins with the next.
    Works { host: String, run: u64 },
    /// The proxy looks after what it could not do.
    Look { run: u64 },
    /// A fault begins.
    Begins(Fault),
    /// It is over.
    Ends(Fault),
}

/// All of it.
pub struct Overlay {
    /// The hosts, and the network between them.
    pub world: World,
    /// What the hosts and VMs are.
    pub topology: Topology,
    chance: Chance,
    delay_us: (u64, u64),
    proxy: Proxy,
    members: BTreeMap<String, Member>,
    lines: BTreeMap<u64, Line>,
    cut: BTreeSet<String>,
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
    /// The highest revision that each host ever went by.
    highest: BTreeMap<String, u64>,
}

impl Overlay {
    /// Everybody starts within a few milliseconds.
    pub fn new(plan: &Plan) -> Self {
        let proxy = plan.topology.hosts[0].name.clone();
        let names = plan.topology.hosts.iter().map(|host| host.name.clone());
        let hosts = names.map(|name| {
            let host = match name == proxy {
                true => SimHost::new(&plan.topology, &name),
                false => SimHost::member(&plan.topology, &name),
            };
            (name, host)
        });
        let conditions = Conditions {
            loss_per_mille: plan.loss_per_mille,
            delay_ns: plan.delay_us.0 * 1000,
            jitter_ns: plan.delay_us.1 * 1000,
        };
        let world = World::of(hosts.collect(), conditions, plan.seed);
        let mut overlay = Self {
            chance: Chance::new(!plan.seed),
            topology: plan.topology.clone(),
            delay_us: plan.delay_us,
            proxy: Proxy::new(proxy.clone()),
            members: BTreeMap::new(),
            lines: BTreeMap::new(),
            cut: BTreeSet::new(),
            events: BTreeMap::new(),
            made: 0,
            highest: BTreeMap::new(),
            world,
        };
        overlay.start_proxy();
        for host in plan.topology.hosts.iter().skip(1) {
            overlay.start_agent(&host.name.clone());
        }
        overlay
    }

    /// Has these faults happen from now on.
    pub fn inflict(&mut self, faults: &[Fault]) {
        for fault in faults {
            self.after(fault.at_ms * MS, Event::Begins(fault.clone()));
        }
    }

    /// Now.
    pub const fn now_ms(&self) -> u64 {
        self.world.now_ns() / MS
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.world.now_ns())
    }

    fn at(&mut self, time_ns: u64, event: Event) {
        self.made += 1;
        self.events
            .insert((time_ns.max(self.world.now_ns()), self.made), event);
    }

    fn after(&mut self, delay_ns: u64, event: Event) {
        self.at(self.world.now_ns() + delay_ns, event);
    }

    /// One way of the control channel.
    fn way_ns(&mut self) -> u64 {
        (self.delay_us.0 + self.chance.below(self.delay_us.1 + 1)) * 1000
    }

    /// Lets time pass until then.
    pub fn run_until(&mut self, time_ms: u64) {
        let until_ns = time_ms * MS;
        loop {
            let control = self
                .events
                .first_key_value()
                .map(|((time_ns, _), _)| *time_ns);
            let data = self.world.next_ns();
            match (control, data) {
                (_, Some(data))
                    if data <= until_ns && control.is_none_or(|control| data <= control) =>
                {
                    self.world.run_next();
                }
                (Some(control), _) if control <= until_ns => {
                    self.world.wait_until(control);
                    let (_, event) = self.events.pop_first().unwrap();
                    self.happens(event);
                    self.check_revisions();
                }
                _ => break,
            }
        }
        self.world.wait_until(until_ns);
    }

    /// Whatever happens: nobody goes back to what was before.
    fn check_revisions(&mut self) {
        for (name, host) in &self.world.hosts {
            let highest = self.highest.entry(name.clone()).or_insert(0);
            let now = host.revision();
            assert!(now >= *highest, "{name} went from {highest} back to {now}");
            *highest = now;
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Tick { agent } => self.tick_agent(&agent),
            Event::ProxyTick { line } => self.tick_proxy(line),
            Event::Connected { line } => self.connected(line),
            Event::Arrives { line, to_proxy } => self.arrives(line, to_proxy),
            Event::Works { host, run } => self.works(&host, run),
            Event::Look { run } => self.look(run),
            Event::Begins(fault) => self.begins(fault),
            Event::Ends(fault) => self.ends(&fault),
        }
    }

    fn works(&mut self, host: &str, run: u64) {
        match host == self.proxy.name {
            true => self.proxy_works(run),
            false => self.agent_works(host, run),
        }
    }

    fn begins(&mut self, fault: Fault) {
        match &fault.what {
            What::Break(agent) => self.break_line(agent),
            What::CutControl(agent) => {
                self.cut.insert(agent.clone());
            }
            What::CutPath(agent) => {
                let proxy = self.proxy.name.clone();
                self.world.set_cut(agent, &proxy, true);
            }
            What::CrashAgent(agent) => self.crash_agent(agent),
            What::CrashProxy => self.crash_proxy(),
            What::CrashIn(stage) => self.proxy.ends_in = Some(*stage),
            What::DiskFull => self.proxy.is_disk_full = true,
            What::Unplug(host, device) => {
                self.world.hosts.get_mut(host).unwrap().unplug(device);
                self.changed(host);
            }
            What::Renumber(host) => self.renumber(&host.clone()),
            What::Forget => {
                self.crash_proxy();
                // Its own part lies beside what it knew of the others, and stays.
                self.proxy.forget();
            }
        }
        self.after(fault.for_ms * MS, Event::Ends(fault));
    }

    fn ends(&mut self, fault: &Fault) {
        match &fault.what {
            What::Break(_) | What::Renumber(_) => {}
            What::CutControl(agent) => {
                self.cut.remove(agent);
            }
            What::CutPath(agent) => {
                let proxy = self.proxy.name.clone();
                self.world.set_cut(agent, &proxy, false);
            }
            What::CrashAgent(agent) => self.start_agent(agent),
            What::CrashProxy | What::Forget | What::CrashIn(_) => {
                self.proxy.ends_in = None;
                self.start_proxy();
            }
            What::DiskFull => self.proxy.is_disk_full = false,
            What::Unplug(host, _) => {
                self.world.hosts.get_mut(host).unwrap().plug();
                self.changed(host);
            }
        }
    }

    fn renumber(&mut self, host: &str) {
        let address = [10, 0, 1, u8::try_from(self.made % 250).unwrap() + 1].into();
        for other in self.world.hosts.values_mut() {
            other.meet(address);
        }
        self.world.renumber(host, address);
        self.changed(host);
    }

    /// A host has other ports or addresses now: its agent sees it, if it runs.
    fn changed(&mut self, host: &str) {
        match host == self.proxy.name {
            true => self.proxy_sees(),
            false => self.agent_sees(host),
        }
    }

    /// Whether everybody goes by what the proxy deals, and nothing is left to do; else who does not.
    pub fn unsettled(&self) -> Option<String> {
        for (name, member) in &self.members {
            let host = &self.world.hosts[name];
            let dealt = self.proxy.dealt(name);
            // What it says of itself now has been heard.
            if self.proxy.knows(name) != Some(&host.introduction()) {
                return Some(format!("{name}: the proxy does not know what it has"));
            }
            let is_together = member.end.as_ref().is_some_and(|end| end.is_together());
            if !is_together || Some(host.revision()) != dealt || !host.is_settled() {
                let revision = host.revision();
                return Some(format!(
                    "{name}: together {is_together}, by {revision}, dealt {dealt:?}, declined {:?}",
                    self.proxy.declined(name)
                ));
            }
        }
        let host = &self.world.hosts[&self.proxy.name];
        let is_settled =
            host.is_settled() && Some(host.revision()) == self.proxy.dealt(&self.proxy.name);
        (!is_settled).then(|| format!("the proxy: {:?}", self.proxy.trouble))
    }

    /// What the proxy has on its disk now.
    pub fn disk(&self) -> String {
        self.proxy.disk.clone()
    }

    /// A disk with nothing on it.
    pub fn nothing(&self) -> String {
        self.proxy.nothing()
    }

    /// The proxy's process ends, and comes back at once with this on its disk.
    pub fn give_back(&mut self, disk: String) {
        self.crash_proxy();
        self.proxy.disk = disk;
        self.start_proxy();
    }

    /// The same with all of its state directory: what it goes by itself is as old.
    pub fn give_back_all(&mut self, (disk, part): (String, Option<Part>)) {
        self.crash_proxy();
        self.proxy.disk = disk;
        let host = self.world.hosts.get_mut(&self.proxy.name).unwrap();
        host.give_back(part);
        // Its own tables go back with it, and nobody else's.
        self.highest.remove(&self.proxy.name);
        self.start_proxy();
    }

    /// All of the proxy's state directory, as it is now.
    pub fn state(&self) -> (String, Option<Part>) {
        let host = &self.world.hosts[&self.proxy.name];
        (self.disk(), host.held().cloned())
    }

    /// Why an agent does not go by what the proxy has dealt.
    pub fn declined(&self, agent: &str) -> Option<String> {
        self.proxy.declined(agent)
    }

    /// What keeps the proxy from dealing.
    pub fn trouble(&self) -> Option<&str> {
        self.proxy.trouble.as_deref()
    }

    /// Takes a VM away, or gives all back, as its host sees it.
    pub fn replug(&mut self, vm: Option<(&str, &str)>) {
        match vm {
            Some((host, device)) => {
                self.world.hosts.get_mut(host).unwrap().unplug(device);
                self.changed(host);
            }
            None => {
                for name in self.world.hosts.keys().cloned().collect::<Vec<_>>() {
                    self.world.hosts.get_mut(&name).unwrap().plug();
                    self.changed(&name);
                }
            }
        }
    }
}
