//! The proxy's end of one agent's control channel.

use std::time::Duration;

use super::{HELLO_MAX, Parting, Pulse};
use crate::model::part::Part;
use crate::overlay::message::{
    Call, Hello, Introduction, Missing, Reply, ToAgent, ToProxy, VERSION,
};

/// What happened to one of the proxy's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyEvent {
    /// Time has passed.
    Tick,
    /// The agent said something.
    Heard(ToProxy),
    /// It is saying something long.
    Stir,
    /// The connection broke.
    Lost(String),
    /// What came is no message.
    Nonsense(String),
    /// The agent is in; this is what the proxy is called.
    Admitted(String),
    /// It is not.
    Refused(String),
    /// This is the agent's part now.
    Part(Part),
    /// Ask this of the agent.
    Call(Call),
    /// This is the answer to what the agent asks.
    Reply(Reply),
    /// This is the answer to its request: certificate, authority, and for how long from now.
    Renewed(Result<(Vec<u8>, Vec<u8>, Duration), String>),
}

/// What the proxy is to do about one of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyDeed {
    /// Say this.
    Say(ToAgent),
    /// End it.
    HangUp(Parting),
    /// Ask whether this agent may come in.
    Ask(Box<Hello>),
    /// The agent has something else now.
    Introduction(Introduction),
    /// The agent goes by this revision.
    Kept(u64),
    /// The agent does not.
    Declined(u64, String),
    /// It asks this.
    Call(Call),
    /// It answers.
    Replied(Reply),
    /// It does, and this is missing.
    Lacks(u64, Vec<Missing>),
    /// Make a certificate for this request.
    Sign(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyState {
    Expecting { until: Duration },
    Asking,
    Together,
    Over,
}

/// The proxy's end of one connection, whose certificate has been verified.
#[derive(Clone, Debug)]
pub struct ProxyEnd {
    /// The name in the certificate.
    name: String,
    /// When the certificate is over.
    expires: Duration,
    state: ProxyState,
    pulse: Pulse,
    /// What the agent is known to have, or was sent.
    delivered: Option<u64>,
    /// What it should have.
    wanted: Option<Part>,
}

impl ProxyEnd {
    /// A connection of the agent of this name, whose certificate is good for so long.
    pub fn new(name: String, good_for: Duration, now: Duration) -> Self {
        Self {
            name,
            expires: now.saturating_add(good_for),
            state: ProxyState::Expecting {
                until: now + HELLO_MAX,
            },
            pulse: Pulse::new(now),
            delivered: None,
            wanted: None,
        }
    }

    /// When [`ProxyEvent::Tick`] is due.
    pub fn due(&self) -> Duration {
        match self.state {
            ProxyState::Expecting { until } => until,
            _ => self.pulse.due(),
        }
        .min(self.expires)
    }

    /// Takes in what happened.
    pub fn step(&mut self, now: Duration, event: ProxyEvent) -> Vec<ProxyDeed> {
        if self.state == ProxyState::Over {
            return Vec::new();
        }
        match event {
            ProxyEvent::Tick => self.tick(now),
            ProxyEvent::Heard(said) => {
                self.pulse.heard = now;
                self.heard(now, said)
            }
            ProxyEvent::Stir => {
                self.pulse.heard = now;
                Vec::new()
            }
            ProxyEvent::Lost(why) => self.end(Parting::Lost(why)),
            ProxyEvent::Nonsense(why) => self.end(Parting::Nonsense(why)),
            ProxyEvent::Admitted(proxy) => self.admitted(now, proxy),
            ProxyEvent::Refused(why) => self.refuse(now, why),
            ProxyEvent::Part(part) => {
                self.wanted = Some(part);
                self.deliver(now)
            }
            ProxyEvent::Call(call) if self.state == ProxyState::Together => {
                self.say(now, ToAgent::Call(call))
            }
            ProxyEvent::Reply(reply) if self.state == ProxyState::Together => {
                self.say(now, ToAgent::Reply(reply))
            }
            ProxyEvent::Call(_) | ProxyEvent::Reply(_) => Vec::new(),
            ProxyEvent::Renewed(Ok((certificate, authority, good_for))) => {
                self.expires = now.saturating_add(good_for);
                self.say(
                    now,
                    ToAgent::Renewed {
                        certificate,
                        authority,
                    },
                )
            }
            ProxyEvent::Renewed(Err(why)) => self.say(now, ToAgent::NotRenewed { why }),
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<ProxyDeed> {
        match self.state {
            _ if now >= self.expires => {
                let why = "the certificate is over";
                let mut deeds = self.refuse(now, why.to_owned());
                deeds.pop();
                deeds.push(ProxyDeed::HangUp(Parting::Expired));
                deeds
            }
            ProxyState::Expecting { until } if now >= until => self.end(Parting::Silence),
            ProxyState::Expecting { .. } => Vec::new(),
            _ if self.pulse.is_silent(now) => self.end(Parting::Silence),
            _ if self.pulse.owes(now) => self.say(now, ToAgent::Alive),
            _ => Vec::new(),
        }
    }

    fn heard(&mut self, now: Duration, said: ToProxy) -> Vec<ProxyDeed> {
        match (self.state, said) {
            (ProxyState::Expecting { .. }, ToProxy::Hello(hello)) => self.greeted(now, hello),
            (ProxyState::Asking | ProxyState::Together, ToProxy::Alive) => Vec::new(),
            (ProxyState::Asking | ProxyState::Together, ToProxy::Introduction(introduction)) => {
                vec![ProxyDeed::Introduction(introduction)]
            }
            (ProxyState::Together, ToProxy::Kept { revision }) => vec![ProxyDeed::Kept(revision)],
            (ProxyState::Together, ToProxy::Declined { revision, why }) => {
                vec![ProxyDeed::Declined(revision, why)]
            }
            (ProxyState::Together, ToProxy::Lacks { revision, missing }) => {
                vec![ProxyDeed::Lacks(revision, missing)]
            }
            (ProxyState::Together, ToProxy::Call(call)) => vec![ProxyDeed::Call(call)],
            (ProxyState::Together, ToProxy::Reply(reply)) => vec![ProxyDeed::Replied(reply)],
            (ProxyState::Together, ToProxy::Renew { request }) => vec![ProxyDeed::Sign(request)],
            _ => self.end(Parting::Nonsense("not at this time".to_owned())),
        }
    }

    fn greeted(&mut self, now: Duration, hello: Box<Hello>) -> Vec<ProxyDeed> {
        if hello.version != VERSION {
            let why = format!(
                "it speaks version {} of the control channel, this proxy version {VERSION}: bring \
                 both to the same release",
                hello.version
            );
            return self.refuse(now, why);
        }
        if hello.name != self.name {
            let why = format!(
                "it calls itself {:?}, and its certificate is for {:?}: set name under [agent] to \
                 that, or issue another certificate",
                hello.name, self.name
            );
            return self.refuse(now, why);
        }
        self.delivered = hello.held;
        self.state = ProxyState::Asking;
        vec![ProxyDeed::Ask(hello)]
    }

    fn admitted(&mut self, now: Duration, proxy: String) -> Vec<ProxyDeed> {
        if self.state != ProxyState::Asking {
            return Vec::new();
        }
        self.state = ProxyState::Together;
        let mut deeds = self.say(now, ToAgent::Accepted { proxy });
        // The first part goes out in any case: the agent compares.
        self.delivered = None;
        deeds.extend(self.deliver(now));
        deeds
    }

    fn deliver(&mut self, now: Duration) -> Vec<ProxyDeed> {
        let Some(part) = &self.wanted else {
            return Vec::new();
        };
        if self.state != ProxyState::Together || self.delivered == Some(part.revision) {
            return Vec::new();
        }
        self.delivered = Some(part.revision);
        let part = part.clone();
        self.say(now, ToAgent::Part(part))
    }

    fn say(&mut self, now: Duration, what: ToAgent) -> Vec<ProxyDeed> {
        self.pulse.said = now;
        vec![ProxyDeed::Say(what)]
    }

    fn refuse(&mut self, now: Duration, why: String) -> Vec<ProxyDeed> {
        let mut deeds = self.say(now, ToAgent::Refused { why: why.clone() });
        deeds.extend(self.end(Parting::Refused(why)));
        deeds
    }

    fn end(&mut self, why: Parting) -> Vec<ProxyDeed> {
        self.state = ProxyState::Over;
        vec![ProxyDeed::HangUp(why)]
    }
}
