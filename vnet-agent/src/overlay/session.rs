//! How do an agent and the proxy find each other, and notice that they have lost each other?
//!
//! Input: what happened, and the time. Output: what to do. No clock and no socket is in here: time
//! is a distance from the start of whoever runs it. The agent's end is [`AgentEnd`]:
//!
//! ```text
//!           due                dialled                 accepted
//!   Apart ---------> Dialling ---------> Introduced ------------> Together
//!     ^                 | failed             | refused, lost,         | lost, silence
//!     |                 |                    | silence, too slow      |
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

mod agent_end;
mod proxy_end;

use std::time::Duration;

pub use self::agent_end::{AgentDeed, AgentEnd, AgentEvent};
pub use self::proxy_end::{ProxyDeed, ProxyEnd, ProxyEvent};

/// Who has nothing to say says so this often.
pub const ALIVE_EVERY: Duration = Duration::from_millis(150);
/// Who has said nothing for so long is not there any more.
pub const SILENCE_MAX: Duration = Duration::from_millis(600);
/// For a connection to be made, its handshake included, before another is tried beside it. A packet
/// that is lost on the way is sent again by the kernel after a second only: dialling anew is faster. But
/// where the way itself is long, TCP and TLS take two of its round trips and more, and the first attempt
/// may still be the one that gets there.
pub const DIAL_MAX: Duration = Duration::from_millis(400);
/// So many attempts go on at once: the oldest then has had two seconds.
pub const DIALS_MAX: usize = 5;
/// For the proxy to say whether it accepts an agent. It stores what it deals before it listens again, so
/// that it may take a while; one that says for ever that it is alive, and nothing else, is left.
pub const ACCEPT_MAX: Duration = Duration::from_secs(5);
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

#[cfg(test)]
mod tests;
