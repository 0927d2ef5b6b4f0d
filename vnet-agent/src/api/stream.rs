//! What has just happened on this host?
//!
//! Input: what the agent tells ([`Teller`]). Output: the same, as a stream of server-sent events
//! (WHATWG HTML, section 9.2) to everyone who listens. Nothing is kept for those who do not: who
//! begins to listen asks `status` for what is. Who listens too slowly is told how much was missed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::sse;
use futures::Stream;
use futures::stream::unfold;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Events that wait for a slow listener; older ones are lost to it.
const WAITING_MAX: usize = 256;
/// Listeners at one time.
pub const LISTENERS_MAX: usize = 16;
/// How often a silent stream shows that it is alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What sort of thing.
    pub kind: EventKind,
    /// What it is about (`link to-two`, `port tap0`).
    pub subject: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub cure: Option<String>,
}

/// The sorts of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Something that is configured does not work (any more).
    Problem,
    /// Something has not come yet: a device, a neighbour's answer.
    Waiting,
    /// A problem or a wait has ended.
    Over,
    /// A port has shown its address.
    Learned,
    /// Somebody changed the configuration.
    Changed,
    /// This listener was too slow: events are missing here.
    Missed,
    /// The agent stops; the data plane forwards on. The stream ends.
    Stopping,
}

impl EventKind {
    /// Its name in the stream.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Waiting => "waiting",
            Self::Over => "over",
            Self::Learned => "learned",
            Self::Changed => "changed",
            Self::Missed => "missed",
            Self::Stopping => "stopping",
        }
    }
}

impl Event {
    /// Something that happens now.
    pub fn now(kind: EventKind, subject: impl Into<String>, message: impl Into<String>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_unix_ms = since.map_or(0, |since| since.as_millis());
        Self {
            at_unix_ms: u64::try_from(at_unix_ms).unwrap_or(u64::MAX),
            kind,
            subject: subject.into(),
            message: message.into(),
            cure: None,
        }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn cure(mut self, cure: &str) -> Self {
        self.cure = Some(cure.to_owned()).filter(|cure| !cure.is_empty());
        self
    }
}

/// Where events are told. Clones tell the same listeners.
#[derive(Clone, Debug)]
pub struct Teller {
    sender: Sender<Arc<Event>>,
    room: Arc<Semaphore>,
}

impl Default for Teller {
    fn default() -> Self {
        let (sender, _) = channel(WAITING_MAX);
        Self {
            sender,
            room: Arc::new(Semaphore::new(LISTENERS_MAX)),
        }
    }
}

impl Teller {
    /// Tells all who listen now; nobody may.
    pub fn tell(&self, event: Event) {
        let _ = self.sender.send(Arc::new(event));
    }

    /// A listener to everything from now on; nothing where there are as many as there may be.
    pub fn listen(&self) -> Option<Listener> {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some(Listener {
            events: self.sender.subscribe(),
            has_ended: false,
            _permit: permit,
        })
    }
}

/// Who listens.
#[derive(Debug)]
pub struct Listener {
    events: Receiver<Arc<Event>>,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    /// The next event; nothing after the last.
    async fn next(&mut self) -> Option<Arc<Event>> {
        if self.has_ended {
            return None;
        }
        match self.events.recv().await {
            Ok(event) => {
                self.has_ended = event.kind == EventKind::Stopping;
                Some(event)
            }
            Err(RecvError::Lagged(missed)) => Some(Arc::new(Event::now(
                EventKind::Missed,
                "events",
                format!("{missed} events came faster than they were read"),
            ))),
            Err(RecvError::Closed) => None,
        }
    }

    /// The events as they go over the wire.
    pub fn stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        unfold(self, async |mut listener| {
            let event = listener.next().await?;
            let data = serde_json::to_string(&*event).unwrap_or_default();
            let told = sse::Event::default().event(event.kind.word()).data(data);
            Some((Ok(told), listener))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> Event {
        Event::now(EventKind::Problem, "link to-two", number.to_string())
    }

    #[tokio::test]
    async fn every_listener_hears_everything_from_its_beginning_on() {
        let teller = Teller::default();
        teller.tell(event(1));
        let mut first = teller.listen().unwrap();
        teller.tell(event(2));
        let mut second = teller.listen().unwrap();
        teller.tell(Event::now(EventKind::Stopping, "agent", "it stops"));
        assert_eq!(first.next().await.unwrap().message, "2");
        assert_eq!(first.next().await.unwrap().kind, EventKind::Stopping);
        assert_eq!(second.next().await.unwrap().kind, EventKind::Stopping);
        assert_eq!(first.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_how_much_it_missed() {
        let teller = Teller::default();
        let mut listener = teller.listen().unwrap();
        for number in 0..WAITING_MAX + 7 {
            teller.tell(event(number));
        }
        let missed = listener.next().await.unwrap();
        assert_eq!(missed.kind, EventKind::Missed);
        assert!(missed.message.starts_with("7 events"), "{missed:?}");
        assert_eq!(listener.next().await.unwrap().message, "7");
    }

    #[test]
    fn listeners_are_bounded_and_make_room_when_they_go() {
        let teller = Teller::default();
        let mut listeners: Vec<_> = (0..LISTENERS_MAX)
            .map(|_| teller.listen().unwrap())
            .collect();
        assert!(teller.listen().is_none());
        listeners.pop();
        assert!(teller.listen().is_some());
    }
}
