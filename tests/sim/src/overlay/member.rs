//! An agent of the overlay: the task that talks to the proxy, and the one that takes parts.

use vnet_agent::model::Part;
use vnet_agent::overlay::message::{Hello, ToAgent, VERSION};
use vnet_agent::overlay::session::{AgentDeed, AgentEnd, AgentEvent};

use super::line::Came;
use super::{Event, Overlay, STEP_NS};

/// An agent.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Which process it is: a number for each.
    run: u64,
    /// Its end of the control channel, while it runs.
    pub(super) end: Option<AgentEnd>,
    line: Option<u64>,
    /// The newest part that was offered.
    offered: Option<Part>,
    /// The revision that it brings about now.
    taking: Option<u64>,
}

impl Overlay {
    pub(super) fn start_agent(&mut self, name: &str) {
        let known = self.members.get(name);
        if known.is_some_and(|member| member.end.is_some()) {
            return;
        }
        let now = self.now();
        let run = self.chance.any();
        let host = self.world.hosts.get_mut(name).unwrap();
        host.start();
        let hello = Hello {
            version: VERSION,
            name: name.to_owned(),
            software: "sim".to_owned(),
            schema: 1,
            instance: run,
            held: host.held().map(|part| part.revision),
            introduction: host.introduction(),
        };
        let member = Member {
            run,
            end: Some(AgentEnd::new(hello, now)),
            ..Member::default()
        };
        self.members.insert(name.to_owned(), member);
        self.work_later(name, run);
        let late_ns = self.way_ns();
        self.after(
            late_ns,
            Event::Tick {
                agent: name.to_owned(),
            },
        );
    }

    pub(super) fn work_later(&mut self, name: &str, run: u64) {
        let host = name.to_owned();
        self.after(STEP_NS, Event::Works { host, run });
    }

    pub(super) fn crash_agent(&mut self, name: &str) {
        self.world.hosts.get_mut(name).unwrap().crash();
        let member = self.members.get_mut(name).unwrap();
        let line = member.line.take();
        *member = Member::default();
        // Its kernel says so.
        if let Some(line) = line {
            self.close(line, true);
        }
    }

    pub(super) fn tick_agent(&mut self, name: &str) {
        let now = self.now();
        let due = self.members[name].end.as_ref().map(AgentEnd::due);
        match due {
            Some(due) if due <= now => self.tell_agent(name, AgentEvent::Tick),
            _ => {}
        }
    }

    /// An attempt to connect has got somewhere.
    pub(super) fn connected(&mut self, number: u64) {
        let Some(agent) = self.lines.get(&number).map(|line| line.agent.clone()) else {
            return;
        };
        let is_wanted = self.members[&agent].line == Some(number);
        if !is_wanted || self.cut.contains(&agent) {
            return;
        }
        if self.proxy.is_running {
            self.welcome(number, &agent);
            self.tell_agent(&agent, AgentEvent::Dialled);
        } else {
            self.tell_agent(&agent, AgentEvent::Lost("nobody is there".to_owned()));
        }
    }

    pub(super) fn arrives(&mut self, number: u64, to_proxy: bool) {
        if !self.gets_through(number, to_proxy) {
            return;
        }
        if to_proxy {
            return self.arrives_at_proxy(number);
        }
        let line = self.lines.get_mut(&number).unwrap();
        let agent = line.agent.clone();
        let came = line.take::<ToAgent>(false);
        if self.members[&agent].line != Some(number) {
            return;
        }
        match came {
            None => {}
            Some(Came::Messages(messages)) if messages.is_empty() => {
                self.tell_agent(&agent, AgentEvent::Stir);
            }
            Some(Came::Messages(messages)) => {
                for message in messages {
                    // One message may be the last that is heard of this connection.
                    if self.members[&agent].line == Some(number) {
                        self.tell_agent(&agent, AgentEvent::Heard(message));
                    }
                }
            }
            Some(Came::Nonsense(why)) => self.tell_agent(&agent, AgentEvent::Lost(why)),
            Some(Came::Closed) => {
                self.tell_agent(&agent, AgentEvent::Lost("closed".to_owned()));
            }
        }
    }

    fn tell_agent(&mut self, name: &str, event: AgentEvent) {
        let now = self.now();
        let Some(end) = self.members.get_mut(name).unwrap().end.as_mut() else {
            return;
        };
        let deeds = end.step(now, event);
        let due = end.due();
        let due_ns = u64::try_from(due.as_nanos()).unwrap();
        self.at(
            due_ns,
            Event::Tick {
                agent: name.to_owned(),
            },
        );
        for deed in deeds {
            self.do_of_agent(name, deed);
        }
    }

    fn do_of_agent(&mut self, name: &str, deed: AgentDeed) {
        match deed {
            AgentDeed::Dial => {
                let line = self.dial(name);
                self.members.get_mut(name).unwrap().line = Some(line);
            }
            AgentDeed::HangUp(_) => {
                let member = self.members.get_mut(name).unwrap();
                if let Some(line) = member.line.take() {
                    self.close(line, true);
                }
            }
            AgentDeed::Say(message) => {
                if let Some(line) = self.members[name].line {
                    self.say(line, true, &message);
                }
            }
            AgentDeed::Keep(part) => {
                let member = self.members.get_mut(name).unwrap();
                member.offered = Some(part);
                let run = member.run;
                self.work_later(name, run);
            }
            // Nobody asks for a certificate here.
            _ => {}
        }
    }

    /// The agent's own task: one step of what is to be done, or the next part.
    pub(super) fn agent_works(&mut self, name: &str, run: u64) {
        let member = self.members.get_mut(name).unwrap();
        if member.run != run {
            return;
        }
        let host = self.world.hosts.get_mut(name).unwrap();
        if host.step() {
            return self.work_later(name, run);
        }
        if let Some(revision) = member.taking.take() {
            self.tell_agent(name, AgentEvent::Kept(revision));
            return self.work_later(name, run);
        }
        let Some(part) = member.offered.take() else {
            return;
        };
        let revision = part.revision;
        match host.offer(part) {
            Ok(()) => {
                member.taking = Some(revision);
                self.work_later(name, run);
            }
            Err(why) => self.tell_agent(name, AgentEvent::Declined(revision, why)),
        }
    }

    /// Its host has changed.
    pub(super) fn agent_sees(&mut self, name: &str) {
        let member = &self.members[name];
        if member.end.is_none() {
            return;
        }
        let run = member.run;
        let host = self.world.hosts.get_mut(name).unwrap();
        host.reconcile();
        let introduction = host.introduction();
        self.work_later(name, run);
        self.tell_agent(name, AgentEvent::Introduction(introduction));
    }
}
