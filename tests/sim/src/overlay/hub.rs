//! The proxy: its ends of the connections, its memory, its disk, and the turns that it takes.
//!
//! In the order of the agent's own code: everything that changed something has all parts made anew;
//! they are on disk before anything is done, done here before anybody is told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vnet_agent::overlay::message::{Hello, Introduction, ToProxy};
use vnet_agent::overlay::roll::{Guest, Hub, Kept, Roll};
use vnet_agent::overlay::session::{ProxyDeed, ProxyEnd, ProxyEvent};
use vnet_common::addr::Cookie;

use super::line::Came;
use super::{Event, LOOK_NS, MS, Overlay};
use crate::plan::Stage;

/// What a connection asks of the proxy's own task.
#[derive(Debug)]
enum Question {
    Hello(u64, Box<Hello>),
    Introduction(u64, Introduction),
    Kept(u64, u64),
    Declined(u64, u64, String),
    Gone(u64),
}

/// The proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) name: String,
    run: u64,
    pub(super) is_running: bool,
    roll: Roll,
    /// What is on disk: text, as the agent has it.
    pub(super) disk: String,
    pub(super) is_disk_full: bool,
    pub(super) ends_in: Option<Stage>,
    pub(super) trouble: Option<String>,
    sessions: BTreeMap<u64, ProxyEnd>,
    questions: VecDeque<Question>,
    is_stale: bool,
    /// Its own part is being brought about.
    is_taking: bool,
}

impl Proxy {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            run: 0,
            is_running: false,
            roll: Roll::default(),
            disk: serde_json::to_string(&Kept::default()).unwrap(),
            is_disk_full: false,
            ends_in: None,
            trouble: None,
            sessions: BTreeMap::new(),
            questions: VecDeque::new(),
            is_stale: true,
            is_taking: false,
        }
    }

    pub(super) fn nothing(&self) -> String {
        serde_json::to_string(&Kept::default()).unwrap()
    }

    pub(super) fn forget(&mut self) {
        self.disk = self.nothing();
    }

    pub(super) fn dealt(&self, host: &str) -> Option<u64> {
        self.roll.part(host).map(|part| part.revision)
    }

    pub(super) fn knows(&self, agent: &str) -> Option<&Introduction> {
        self.roll.kept().agents.get(agent)
    }

    pub(super) fn declined(&self, agent: &str) -> Option<String> {
        let presence = self.roll.present().get(agent)?;
        presence.declined.as_ref().map(|(_, why)| why.clone())
    }
}

/// What the clock on the wall says when the first proxy starts.
const BEGAN_UNIX_MS: u64 = 1_800_000_000_000;

impl Overlay {
    pub(super) fn start_proxy(&mut self) {
        if self.proxy.is_running {
            return;
        }
        let kept: Kept = serde_json::from_str(&self.proxy.disk).unwrap();
        let run = self.chance.any();
        self.proxy.run = run;
        self.proxy.is_running = true;
        self.proxy.roll = Roll::new(kept);
        self.proxy.is_stale = true;
        let name = self.proxy.name.clone();
        self.world.hosts.get_mut(&name).unwrap().start();
        self.work_later(&name, run);
        self.after(LOOK_NS, Event::Look { run });
    }

    pub(super) fn crash_proxy(&mut self) {
        if !self.proxy.is_running {
            return;
        }
        self.proxy.is_running = false;
        self.proxy.run = 0;
        self.proxy.is_taking = false;
        self.proxy.ends_in = None;
        self.proxy.questions.clear();
        self.world.hosts.get_mut(&self.proxy.name).unwrap().crash();
        for line in std::mem::take(&mut self.proxy.sessions).into_keys() {
            self.close(line, false);
        }
    }

    /// A connection is made.
    pub(super) fn welcome(&mut self, line: u64, agent: &str) {
        let now = self.now();
        let year = Duration::from_secs(365 * 24 * 3600);
        let end = ProxyEnd::new(agent.to_owned(), year, now);
        let due_ns = u64::try_from(end.due().as_nanos()).unwrap();
        self.proxy.sessions.insert(line, end);
        self.at(due_ns, Event::ProxyTick { line });
    }

    pub(super) fn tick_proxy(&mut self, line: u64) {
        let now = self.now();
        let due = self.proxy.sessions.get(&line).map(ProxyEnd::due);
        if due.is_some_and(|due| due <= now) {
            self.tell_proxy(line, ProxyEvent::Tick);
        }
    }

    pub(super) fn arrives_at_proxy(&mut self, number: u64) {
        let came = self.lines.get_mut(&number).unwrap().take::<ToProxy>(true);
        match came {
            None => {}
            Some(Came::Messages(messages)) if messages.is_empty() => {
                self.tell_proxy(number, ProxyEvent::Stir);
            }
            Some(Came::Messages(messages)) => {
                for message in messages {
                    self.tell_proxy(number, ProxyEvent::Heard(message));
                }
            }
            Some(Came::Nonsense(why)) => self.tell_proxy(number, ProxyEvent::Nonsense(why)),
            Some(Came::Closed) => {
                self.tell_proxy(number, ProxyEvent::Lost("closed".to_owned()));
            }
        }
    }

    fn tell_proxy(&mut self, line: u64, event: ProxyEvent) {
        let now = self.now();
        let Some(end) = self.proxy.sessions.get_mut(&line) else {
            return;
        };
        let deeds = end.step(now, event);
        let due_ns = u64::try_from(end.due().as_nanos()).unwrap();
        self.at(due_ns, Event::ProxyTick { line });
        for deed in deeds {
            let question = match deed {
                ProxyDeed::Say(message) => {
                    self.say(line, false, &message);
                    continue;
                }
                ProxyDeed::HangUp(_) => {
                    self.proxy.sessions.remove(&line);
                    self.close(line, false);
                    Question::Gone(line)
                }
                ProxyDeed::Ask(hello) => Question::Hello(line, hello),
                ProxyDeed::Introduction(introduction) => Question::Introduction(line, introduction),
                ProxyDeed::Kept(revision) => Question::Kept(line, revision),
                ProxyDeed::Declined(revision, why) => Question::Declined(line, revision, why),
                // Nobody asks for a certificate here.
                _ => continue,
            };
            self.proxy.questions.push_back(question);
            let (name, run) = (self.proxy.name.clone(), self.proxy.run);
            self.work_later(&name, run);
        }
    }

    /// Its host has changed.
    pub(super) fn proxy_sees(&mut self) {
        if !self.proxy.is_running {
            return;
        }
        let (name, run) = (self.proxy.name.clone(), self.proxy.run);
        self.world.hosts.get_mut(&name).unwrap().reconcile();
        self.proxy.is_stale = true;
        self.work_later(&name, run);
    }

    pub(super) fn look(&mut self, run: u64) {
        if self.proxy.run == run {
            self.proxy_works(run);
            self.after(LOOK_NS, Event::Look { run });
        }
    }

    /// The proxy's own task: one step of what is to be done, or the next turn.
    pub(super) fn proxy_works(&mut self, run: u64) {
        if self.proxy.run != run || !self.proxy.is_running {
            return;
        }
        let name = self.proxy.name.clone();
        if self.world.hosts.get_mut(&name).unwrap().step() {
            return self.work_later(&name, run);
        }
        if std::mem::take(&mut self.proxy.is_taking) {
            if self.proxy.ends_in == Some(Stage::Taken) {
                return self.crash_proxy();
            }
            self.deliver();
        }
        if let Some(question) = self.proxy.questions.pop_front() {
            self.answer(question);
        }
        self.deal();
        if self.proxy.is_running && (self.proxy.is_taking || !self.proxy.questions.is_empty()) {
            self.work_later(&name, run);
        }
    }

    fn answer(&mut self, question: Question) {
        let introduction = self.world.hosts[&self.proxy.name].introduction();
        let hub = Hub {
            name: &self.proxy.name,
            introduction: &introduction,
            networks: &self.topology.networks,
        };
        let roll = &mut self.proxy.roll;
        match question {
            Question::Hello(line, hello) => {
                let guest = Guest {
                    session: line,
                    from: "somewhere".to_owned(),
                    hello: &hello,
                    expires_unix_s: u64::MAX,
                    now_unix_ms: BEGAN_UNIX_MS,
                };
                let event = match roll.admit(&guest, &hub) {
                    Ok(before) => {
                        self.proxy.is_stale = true;
                        if let Some(before) = before {
                            self.tell_proxy(before, ProxyEvent::Lost("another".to_owned()));
                        }
                        ProxyEvent::Admitted(self.proxy.name.clone())
                    }
                    Err(error) => ProxyEvent::Refused(error.to_string()),
                };
                self.tell_proxy(line, event);
            }
            Question::Introduction(line, introduction) => {
                match roll.introduced(line, &introduction, &hub) {
                    Ok(()) => self.proxy.is_stale = true,
                    Err(error) => roll.declined(line, 0, error.to_string()),
                }
            }
            Question::Kept(line, revision) => roll.goes_by(line, revision),
            Question::Declined(line, revision, why) => roll.declined(line, revision, why),
            Question::Gone(line) => {
                roll.gone(line);
            }
        }
    }

    /// Makes all parts anew where something has changed.
    fn deal(&mut self) {
        if !std::mem::take(&mut self.proxy.is_stale) {
            return;
        }
        let host = &self.world.hosts[&self.proxy.name];
        self.proxy.roll.goes_by_itself(host.revision());
        let introduction = host.introduction();
        let hub = Hub {
            name: &self.proxy.name,
            introduction: &introduction,
            networks: &self.topology.networks,
        };
        let now_unix_ms = BEGAN_UNIX_MS + self.world.now_ns() / MS;
        let chance = &mut self.chance;
        let dealt = self
            .proxy
            .roll
            .deal(&hub, now_unix_ms, || Ok::<_, String>(Cookie(chance.any())));
        if self.proxy.ends_in == Some(Stage::Dealt) {
            return self.crash_proxy();
        }
        let stored = dealt.and_then(|_| match self.proxy.is_disk_full {
            true => Err("no space left on device".to_owned()),
            false => {
                self.proxy.disk = serde_json::to_string(self.proxy.roll.kept()).unwrap();
                Ok(())
            }
        });
        if self.proxy.ends_in == Some(Stage::Stored) {
            return self.crash_proxy();
        }
        let own = self.proxy.roll.part(&self.proxy.name).cloned();
        let host = self.world.hosts.get_mut(&self.proxy.name).unwrap();
        let taken = stored.and_then(|()| host.offer(own.unwrap()));
        match &taken {
            Ok(()) => self.proxy.is_taking = true,
            // It is tried again with the next turn.
            Err(_) => self.proxy.is_stale = true,
        }
        self.proxy.trouble = taken.err();
    }

    /// Gives each agent that is there its part.
    fn deliver(&mut self) {
        let present = self.proxy.roll.present().iter();
        let parts: Vec<_> = present
            .filter_map(|(name, presence)| {
                Some((presence.session, self.proxy.roll.part(name)?.clone()))
            })
            .collect();
        for (line, part) in parts {
            self.tell_proxy(line, ProxyEvent::Part(part));
        }
    }
}
