//! How do an agent and the proxy find each other, and notice that they have lost each other?
//!
//! Input: what happened, and the time. Output: what to do. No clock and no socket is in here: time
//! is a distance from the start of whoever runs it. The agent's end is [`AgentEnd`]:
//!
//! ```text
//!           due                dialled                 accepted
//!   Apart ---------> Dialling ---------> Introduced ------------> Together
//!     ^                 | failed,            | refused, lost,         | lost, silence
//!     |                 | silence            | silence                |
//!     +-----------------+--------------------+------------------------+
//!          waits a little: longer where it was refused than where nobody was there
//! ```
//!
//! and the proxy's, one for each connection, is [`ProxyEnd`]:
//!
//! ```text
//!              hello             admitted
//!   Expecting -------> Asking -------------> Together
//!       |                 | refused              | lost, silence, its certificate is over
//!       +-----------------+----------------------+----------> the connection ends
//!        too slow, lost, not what one says first
//! ```
//!
//! Nothing is ever taken away from the kernel because a session ends: both go by their last state.
//! Every new session begins with the agent's part, and who keeps parts knows one that he has: so it
//! does not matter which messages a broken connection has swallowed.

use std::time::Duration;

use super::message::{Hello, Introduction, ToAgent, ToProxy, VERSION};
use crate::model::part::Part;

/// Who has nothing to say says so this often.
pub const ALIVE_EVERY: Duration = Duration::from_millis(150);
/// Who has said nothing for so long is not there any more.
pub const SILENCE_MAX: Duration = Duration::from_millis(600);
/// For a connection to be made, its handshake included. A packet that is lost on the way is sent
/// again by the kernel after a second only: dialling anew is faster.
pub const DIAL_MAX: Duration = Duration::from_millis(400);
/// For an agent to say who it is, once the connection is made.
pub const HELLO_MAX: Duration = Duration::from_secs(2);
/// Before the first attempt after a connection was lost, and what it grows to.
const APART: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(160));
/// The same for who was refused: somebody has to do something about it.
const REFUSED: (Duration, Duration) = (Duration::from_millis(160), Duration::from_secs(5));

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    /// It could not be made, or broke.
    Lost(String),
    /// The other end has gone silent.
    Silence,
    /// The proxy does not want this agent.
    Refused(String),
    /// The other end said something that makes no sense here.
    Nonsense(String),
    /// The agent's certificate is over.
    Expired,
}

impl std::fmt::Display for Parting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(why) => write!(f, "{why}"),
            Self::Silence => f.write_str("it has gone silent"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Nonsense(why) => write!(f, "it makes no sense: {why}"),
            Self::Expired => f.write_str("the certificate is over"),
        }
    }
}

/// Both ends notice silence in the same way.
#[derive(Clone, Copy, Debug)]
struct Pulse {
    heard: Duration,
    said: Duration,
}

impl Pulse {
    const fn new(now: Duration) -> Self {
        Self {
            heard: now,
            said: now,
        }
    }

    fn is_silent(&self, now: Duration) -> bool {
        now >= self.heard + SILENCE_MAX
    }

    fn owes(&self, now: Duration) -> bool {
        now >= self.said + ALIVE_EVERY
    }

    fn due(&self) -> Duration {
        (self.heard + SILENCE_MAX).min(self.said + ALIVE_EVERY)
    }
}

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
    /// Ask for a new certificate, with this request.
    Renew(Vec<u8>),
}

/// What an agent is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentDeed {
    /// Make the connection.
    Dial,
    /// End it, or the attempt to make it.
    HangUp(Parting),
    /// Say this.
    Say(ToProxy),
    /// It is together with this proxy.
    Together(String),
    /// Keep this part, and tell.
    Keep(Part),
    /// This is the answer to a request for a certificate: certificate and authority.
    TakeCertificate(Result<(Vec<u8>, Vec<u8>), String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgentState {
    Apart { until: Duration },
    Dialling { since: Duration },
    Introduced,
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
            AgentState::Introduced | AgentState::Together => self.pulse.due(),
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
                self.part_from(now, Parting::Silence)
            }
            AgentState::Introduced | AgentState::Together if self.pulse.is_silent(now) => {
                self.part_from(now, Parting::Silence)
            }
            AgentState::Introduced | AgentState::Together if self.pulse.owes(now) => {
                self.say(now, ToProxy::Alive)
            }
            _ => Vec::new(),
        }
    }

    fn dialled(&mut self, now: Duration) -> Vec<AgentDeed> {
        if !matches!(self.state, AgentState::Dialling { .. }) {
            return Vec::new();
        }
        self.state = AgentState::Introduced;
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
            (AgentState::Introduced, ToAgent::Accepted { proxy }) => {
                self.state = AgentState::Together;
                self.wait = (APART.0, REFUSED.0);
                vec![AgentDeed::Together(proxy)]
            }
            (AgentState::Together, ToAgent::Part(part)) => vec![AgentDeed::Keep(part)],
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
            AgentState::Introduced | AgentState::Together => {
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
        ToAgent::Alive => "alive",
    }
}

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

#[cfg(test)]
mod tests;
