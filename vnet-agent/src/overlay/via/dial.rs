//! An agent's end of the control channel: one task that dials, listens and says what is to be said.
//!
//! What it is to do is decided in [`session`](super::super::session). It holds one connection at a
//! time; the newest part that was offered waits in a watch channel for the agent's task.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::client::TlsStream;
use tracing::{debug, info, warn};

use super::super::message::{BYTES_MAX, Hello, Introduction, Missing, Reply, ToAgent};
use super::super::refusal::tls_error;
use super::super::session::{AgentDeed, AgentEnd, AgentEvent, DIALS_MAX, Parting};
use super::call::{CALLS_MAX, Incoming, Outgoing, Pending};
use super::control_tls::AgentTls;
use super::line::{Heard, Line, LineError};
use crate::model::part::Part;

/// How the agent and the proxy stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The proxy's name, while they are together.
    pub proxy: Option<String>,
    /// Since when it is as it is.
    pub since: SystemTime,
    /// Why they are apart.
    pub why: Option<String>,
}

/// What the agent's task has for this one.
#[derive(Debug)]
pub enum Command {
    /// A part is on disk and in force.
    Kept(u64),
    /// A part is not.
    Declined(u64, String),
    /// It is, and this of it is missing.
    Lacks(u64, Vec<Missing>),
    /// Ask for a certificate.
    Renew(Vec<u8>),
}

/// The answer to [`Command::Renew`]: certificate and authority, or why there is none.
pub type Renewed = Result<(Vec<u8>, Vec<u8>), String>;

/// What the task is given.
#[derive(Debug)]
pub struct Dialler {
    /// Where the proxy is: `10.0.0.1:6082`.
    pub proxy: String,
    /// What the agent says of itself at first.
    pub hello: Hello,
    /// How it shows who it is.
    pub tls: watch::Receiver<AgentTls>,
    /// What it has.
    pub introductions: watch::Receiver<Introduction>,
    /// What the agent's task says.
    pub commands: mpsc::Receiver<Command>,
    /// What this host's users ask of the proxy.
    pub asked: mpsc::Receiver<Outgoing>,
    /// Takes what the proxy asks.
    pub asking: mpsc::Sender<Incoming>,
    /// Takes the newest part.
    pub offered: watch::Sender<Option<Part>>,
    /// Takes answers to requests for certificates.
    pub renewed: mpsc::Sender<Renewed>,
    /// Takes how they stand.
    pub standing: watch::Sender<Standing>,
}

type Stream = TlsStream<TcpStream>;

/// Attempts to make the connection. The first that gets there counts.
#[derive(Default)]
struct Dialling {
    attempts: JoinSet<std::io::Result<Stream>>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Dialling {
    /// One more; the oldest of too many is given up.
    fn begin(&mut self, tls: AgentTls, proxy: String) {
        let attempt = self.attempts.spawn(async move { tls.dial(&proxy).await });
        self.oldest_first.push_back(attempt);
        if self.oldest_first.len() > DIALS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
    }

    fn is_idle(&self) -> bool {
        self.attempts.is_empty()
    }

    /// What becomes of one. May be cancelled.
    async fn ended(&mut self) -> std::io::Result<Stream> {
        loop {
            match self.attempts.join_next().await {
                Some(Ok(ended)) => return ended,
                // It was given up.
                Some(Err(_)) => {}
                None => return std::future::pending().await,
            }
        }
    }
}

/// Holds the connection to the proxy for as long as the agent runs.
pub async fn run(dialler: Dialler) {
    let started = Instant::now();
    let end = AgentEnd::new(dialler.hello.clone(), Duration::ZERO);
    let mut task = Task {
        dialler,
        end,
        started,
        line: None,
        dialling: Dialling::default(),
        pending: Pending::default(),
        replies: mpsc::channel(CALLS_MAX),
    };
    while let Some(event) = task.next().await {
        let now = task.started.elapsed();
        let deeds = task.end.step(now, event);
        for deed in deeds {
            task.carry_out(deed).await;
        }
    }
}

struct Task {
    dialler: Dialler,
    end: AgentEnd,
    started: Instant,
    line: Option<Line<Stream>>,
    dialling: Dialling,
    /// What has been asked of the proxy.
    pending: Pending,
    /// The answers to what the proxy has asked.
    replies: (mpsc::Sender<Reply>, mpsc::Receiver<Reply>),
}

impl Task {
    /// What happens next; nothing when the agent is gone. What came is looked at before the clock
    /// is: after a pause of this process nobody is taken for silent who is not.
    async fn next(&mut self) -> Option<AgentEvent> {
        let due = self.started + self.end.due();
        tokio::select! {
            biased;
            heard = hear(&mut self.line) => Some(heard),
            dialled = self.dialling.ended() => {
                self.dialling = Dialling::default();
                Some(match dialled {
                    Ok(stream) => {
                        self.line = Some(Line::new(stream, BYTES_MAX));
                        AgentEvent::Dialled
                    }
                    Err(error) => broken(&error),
                })
            }
            command = self.dialler.commands.recv() => Some(match command? {
                Command::Kept(revision) => AgentEvent::Kept(revision),
                Command::Declined(revision, why) => AgentEvent::Declined(revision, why),
                Command::Lacks(revision, missing) => AgentEvent::Lacks(revision, missing),
                Command::Renew(request) => AgentEvent::Renew(request),
            }),
            Some(asked) = self.dialler.asked.recv() => Some(self.ask(asked)),
            Some(reply) = self.replies.1.recv() => Some(AgentEvent::Reply(reply)),
            changed = self.dialler.introductions.changed() => {
                changed.ok()?;
                let introduction = self.dialler.introductions.borrow_and_update().clone();
                Some(AgentEvent::Introduction(introduction))
            }
            () = sleep_until(due) => Some(AgentEvent::Tick),
        }
    }

    /// Nobody is asked where there is no proxy, or too much is asked: who asks learns that.
    fn ask(&mut self, asked: Outgoing) -> AgentEvent {
        match self.end.is_together() {
            true => self
                .pending
                .add(asked)
                .map_or(AgentEvent::Tick, AgentEvent::Call),
            false => AgentEvent::Tick,
        }
    }

    async fn carry_out(&mut self, deed: AgentDeed) {
        match deed {
            AgentDeed::Dial => {
                let tls = self.dialler.tls.borrow_and_update().clone();
                let proxy = self.dialler.proxy.clone();
                if !self.dialling.is_idle() {
                    self.stand(None, Some(Parting::Silence));
                }
                self.dialling.begin(tls, proxy);
            }
            AgentDeed::HangUp(why) => {
                self.line = None;
                self.dialling = Dialling::default();
                self.pending.clear();
                self.stand(None, Some(why));
            }
            AgentDeed::Say(message) => {
                // What cannot be sent shows when the line is listened to.
                if let Some(Err(error)) = self.line.as_mut().map(|line| line.say(&message)) {
                    warn!("the proxy cannot be told: {error}");
                    self.line = None;
                }
            }
            AgentDeed::Together(proxy) => self.stand(Some(proxy), None),
            AgentDeed::Call(call) => {
                let incoming = Incoming {
                    from: self
                        .dialler
                        .standing
                        .borrow()
                        .proxy
                        .clone()
                        .unwrap_or_default(),
                    call,
                    answer: self.replies.0.clone(),
                };
                // It asks again if it wants to know.
                let _ = self.dialler.asking.try_send(incoming);
            }
            AgentDeed::Replied(reply) => self.pending.answered(reply),
            AgentDeed::Keep(part) => {
                self.dialler.offered.send_replace(Some(part));
            }
            AgentDeed::TakeCertificate(answer) => {
                // Who asked has gone: then nobody wants it.
                let _ = self.dialler.renewed.try_send(answer);
            }
        }
    }

    /// Says once what is new.
    fn stand(&self, proxy: Option<String>, why: Option<Parting>) {
        let why = why.map(|why| why.to_string());
        let address = &self.dialler.proxy;
        let before = self.dialler.standing.borrow().clone();
        match (&proxy, &why) {
            (Some(name), _) => info!(proxy = name, address, "together with the proxy"),
            (None, Some(why)) if before.proxy.is_some() || before.why.as_ref() != Some(why) => {
                warn!(address, "apart from the proxy: {why}");
            }
            (None, why) => debug!(address, ?why, "still apart from the proxy"),
        }
        let since = match before.proxy == proxy {
            true => before.since,
            false => SystemTime::now(),
        };
        self.dialler
            .standing
            .send_replace(Standing { proxy, since, why });
    }
}

async fn hear(line: &mut Option<Line<Stream>>) -> AgentEvent {
    let Some(line) = line else {
        return std::future::pending().await;
    };
    match line.heard::<ToAgent>().await {
        Ok(Heard::Message(said)) => AgentEvent::Heard(said),
        Ok(Heard::Stir) => AgentEvent::Stir,
        Err(LineError::Broken(error)) => broken(&error),
        Err(error) => AgentEvent::Lost(error.to_string()),
    }
}

/// The proxy's TLS says no after ours has said yes: then a connection breaks that was made.
fn broken(error: &std::io::Error) -> AgentEvent {
    match tls_error(error) {
        Some(why) => AgentEvent::Distrusted(why.to_string()),
        None => AgentEvent::Lost(error.to_string()),
    }
}
