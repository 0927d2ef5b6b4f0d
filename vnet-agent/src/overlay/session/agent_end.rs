//! An agent's end of the control channel.

use std::time::Duration;

use super::{ACCEPT_MAX, APART, DIAL_MAX, Parting, Pulse, REFUSED};
use crate::model::part::Part;
use crate::overlay::message::{Call, Hello, Introduction, Missing, Reply, ToAgent, ToProxy};

/// What happened to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// Time has passed.
    Tick,
    /// The connection is made.
    Dialled,
    /// It is not, or not any more.
    Lost(String),
    /// One end does not believe the other's certificate.
    Distrusted(String),
    /// The proxy said something.
    Heard(ToAgent),
    /// It is saying something long.
    Stir,
    /// The agent has something else now.
    Introduction(Introduction),
    /// A part is on disk and in force.
    Kept(u64),
    /// A part is not.
    Declined(u64, String),
    /// A part is, and this of it is missing.
    Lacks(u64, Vec<Missing>),
    /// Ask this of the proxy.
    Call(Call),
    /// This is the answer to what the proxy asks.
    Reply(Reply),
    /// Ask for a new certificate, with this request.
    Renew(Vec<u8>),
}

/// What an agent is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentDeed {
    /// Make the connection, beside the attempts to make it that are still going on.
    Dial,
    /// End it, or all attempts to make it.
    HangUp(Parting),
    /// Say this.
    Say(ToProxy),
    /// It is together with this proxy.
    Together(String),
    /// The proxy asks this.
    Call(Call),
    /// It answers.
    Replied(Reply),
    /// Keep this part, and tell.
    Keep(Part),
    /// This is the answer to a request for a certificate: certificate and authority.
    TakeCertificate(Result<(Vec<u8>, Vec<u8>), String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgentState {
    Apart { until: Duration },
    Dialling { since: Duration },
    Introduced { until: Duration },
    Together,
}

/// The agent's end.
#[derive(Clone, Debug)]
pub struct AgentEnd {
    hello: Hello,
    state: AgentState,
    pulse: Pulse,
    /// How long it waits next, by whether it was refused.
    wait: (Duration, Duration),
}

impl AgentEnd {
    /// An agent that says this of itself, and dials at once.
    pub const fn new(hello: Hello, now: Duration) -> Self {
        Self {
            hello,
            state: AgentState::Apart { until: now },
            pulse: Pulse::new(now),
            wait: (APART.0, REFUSED.0),
        }
    }

    /// When [`AgentEvent::Tick`] is due.
    pub fn due(&self) -> Duration {
        match self.state {
            AgentState::Apart { until } => until,
            AgentState::Dialling { since } => since + DIAL_MAX,
            AgentState::Introduced { until } => until.min(self.pulse.due()),
            AgentState::Together => self.pulse.due(),
        }
    }

    /// Whether the proxy has accepted it.
    pub fn is_together(&self) -> bool {
        self.state == AgentState::Together
    }

    /// Takes in what happened.
    pub fn step(&mut self, now: Duration, event: AgentEvent) -> Vec<AgentDeed> {
        match event {
            AgentEvent::Tick => self.tick(now),
            AgentEvent::Dialled => self.dialled(now),
            AgentEvent::Lost(why) => self.part_from(now, Parting::Lost(why)),
            AgentEvent::Distrusted(why) => self.part_from(now, Parting::Refused(why)),
            AgentEvent::Heard(said) => self.heard(now, said),
            AgentEvent::Stir => {
                self.pulse.heard = now;
                Vec::new()
            }
            AgentEvent::Introduction(introduction) => self.introduce(now, introduction),
            AgentEvent::Kept(revision) => {
                self.hello.held = self.hello.held.max(Some(revision));
                self.say_together(now, ToProxy::Kept { revision })
            }
            AgentEvent::Declined(revision, why) => {
                self.say_together(now, ToProxy::Declined { revision, why })
            }
            AgentEvent::Lacks(revision, missing) => {
                self.say_together(now, ToProxy::Lacks { revision, missing })
            }
            AgentEvent::Call(call) => self.say_together(now, ToProxy::Call(call)),
            AgentEvent::Reply(reply) => self.say_together(now, ToProxy::Reply(reply)),
            AgentEvent::Renew(request) => self.say_together(now, ToProxy::Renew { request }),
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<AgentDeed> {
        match self.state {
            AgentState::Apart { until } if now >= until => {
                self.state = AgentState::Dialling { since: now };
                vec![AgentDeed::Dial]
            }
            AgentState::Dialling { since } if now >= since + DIAL_MAX => {
                self.state = AgentState::Dialling { since: now };
                vec![AgentDeed::Dial]
            }
            AgentState::Introduced { until } if now >= until => {
                self.part_from(now, Parting::Silence)
            }
            AgentState::Introduced { .. } | AgentState::Together if self.pulse.is_silent(now) => {
                self.part_from(now, Parting::Silence)
            }
            AgentState::Introduced { .. } | AgentState::Together if self.pulse.owes(now) => {
                self.say(now, ToProxy::Alive)
            }
            _ => Vec::new(),
        }
    }

    fn dialled(&mut self, now: Duration) -> Vec<AgentDeed> {
        if !matches!(self.state, AgentState::Dialling { .. }) {
            return Vec::new();
        }
        self.state = AgentState::Introduced {
            until: now + ACCEPT_MAX,
        };
        self.pulse = Pulse::new(now);
        self.say(now, ToProxy::Hello(Box::new(self.hello.clone())))
    }

    fn heard(&mut self, now: Duration, said: ToAgent) -> Vec<AgentDeed> {
        self.pulse.heard = now;
        match (self.state, said) {
            (AgentState::Apart { .. } | AgentState::Dialling { .. }, _) | (_, ToAgent::Alive) => {
                Vec::new()
            }
            (_, ToAgent::Refused { why }) => self.part_from(now, Parting::Refused(why)),
            (AgentState::Introduced { .. }, ToAgent::Accepted { proxy }) => {
                self.state = AgentState::Together;
                self.wait = (APART.0, REFUSED.0);
                vec![AgentDeed::Together(proxy)]
            }
            (AgentState::Together, ToAgent::Part(part)) => vec![AgentDeed::Keep(part)],
            (AgentState::Together, ToAgent::Call(call)) => vec![AgentDeed::Call(call)],
            (AgentState::Together, ToAgent::Reply(reply)) => vec![AgentDeed::Replied(reply)],
            (
                AgentState::Together,
                ToAgent::Renewed {
                    certificate,
                    authority,
                },
            ) => vec![AgentDeed::TakeCertificate(Ok((certificate, authority)))],
            (AgentState::Together, ToAgent::NotRenewed { why }) => {
                vec![AgentDeed::TakeCertificate(Err(why))]
            }
            (_, said) => {
                let why = format!("not at this time: {}", word(&said));
                self.part_from(now, Parting::Nonsense(why))
            }
        }
    }

    fn introduce(&mut self, now: Duration, introduction: Introduction) -> Vec<AgentDeed> {
        if self.hello.introduction == introduction {
            return Vec::new();
        }
        self.hello.introduction = introduction.clone();
        match self.state {
            // The proxy may have heard the hello already.
            AgentState::Introduced { .. } | AgentState::Together => {
                self.say(now, ToProxy::Introduction(introduction))
            }
            AgentState::Apart { .. } | AgentState::Dialling { .. } => Vec::new(),
        }
    }

    fn say_together(&mut self, now: Duration, what: ToProxy) -> Vec<AgentDeed> {
        if self.is_together() {
            self.say(now, what)
        } else {
            Vec::new()
        }
    }

    fn say(&mut self, now: Duration, what: ToProxy) -> Vec<AgentDeed> {
        self.pulse.said = now;
        vec![AgentDeed::Say(what)]
    }

    fn part_from(&mut self, now: Duration, why: Parting) -> Vec<AgentDeed> {
        if matches!(self.state, AgentState::Apart { .. }) {
            return Vec::new();
        }
        let (wait, most) = match why {
            Parting::Refused(_) | Parting::Nonsense(_) | Parting::Expired => {
                (&mut self.wait.1, REFUSED.1)
            }
            Parting::Lost(_) | Parting::Silence => (&mut self.wait.0, APART.1),
        };
        let until = now + *wait;
        *wait = wait.saturating_mul(2).min(most);
        self.state = AgentState::Apart { until };
        vec![AgentDeed::HangUp(why)]
    }
}

const fn word(said: &ToAgent) -> &'static str {
    match said {
        ToAgent::Accepted { .. } => "accepted",
        ToAgent::Refused { .. } => "refused",
        ToAgent::Part(_) => "a part",
        ToAgent::Renewed { .. } | ToAgent::NotRenewed { .. } => "a certificate",
        ToAgent::Call(_) | ToAgent::Reply(_) => "a question",
        ToAgent::Alive => "alive",
    }
}
