//! The proxy's end of the control channel: one task that accepts, and one a connection.
//!
//! What a connection is to do is decided in [`session`](super::super::session); who may come in, by
//! the agent's own task, which is asked through one channel. Until a connection has shown a
//! certificate it is bounded in number (all together, and from one address), time and bytes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::super::message::{
    BYTES_MAX, Hello, Introduction, Join, JoinAnswer, Missing, Reply, STRANGER_BYTES_MAX,
};
use super::super::refusal::{Turned, TurnedCounts};
use super::super::session::{Parting, ProxyDeed, ProxyEnd, ProxyEvent};
use super::call::{CALLS_MAX, Incoming, Outgoing, Pending};
use super::control_tls::{Came, ProxyTls};
use super::line::{Heard, Line, LineError};
use crate::identity::Certificate;
use crate::identity::revoked::Revoked;
use crate::model::part::Part;

/// For a connection to show who it is.
const HANDSHAKE_MAX: Duration = Duration::from_secs(1);
/// For a host with a token to say it, and take the answer.
const JOIN_MAX: Duration = Duration::from_secs(5);
/// Connections that have not shown yet who they are: all, and those from one address.
const UNKNOWN_MAX: (usize, usize) = (128, 32);
/// Connections that have.
const MEMBERS_MAX: usize = 1024;
/// Questions that wait for the agent's task.
pub const QUESTIONS_MAX: usize = 256;

/// What the agent's task is asked or told.
#[derive(Debug)]
pub enum Question {
    /// May this agent come in? Its part comes by the channel in the answer.
    Hello {
        /// By which connection.
        session: u64,
        /// From where.
        from: SocketAddr,
        /// Who it is.
        certificate: Certificate,
        /// What it says.
        hello: Box<Hello>,
        /// Takes the answer.
        answer: oneshot::Sender<Result<Admission, String>>,
    },
    /// The agent of this connection has something else now.
    Introduction(u64, Introduction),
    /// It goes by this revision.
    Kept(u64, u64),
    /// It does not go by this one.
    Declined(u64, u64, String),
    /// It goes by this one, and this is missing.
    Lacks(u64, u64, Vec<Missing>),
    /// It wants a certificate for this request, and for as long as the one it has.
    Sign {
        /// By which connection.
        session: u64,
        /// The one it has.
        certificate: Certificate,
        /// PKCS #10, DER.
        request: Vec<u8>,
        /// Takes the answer.
        answer: oneshot::Sender<Result<Signed, String>>,
    },
    /// This connection is over.
    Gone(u64),
    /// A host has a token.
    Join(Join, oneshot::Sender<JoinAnswer>),
}

/// Certificate, authority, and for how long it is good from now.
pub type Signed = (Vec<u8>, Vec<u8>, Duration);

/// What an agent is let in with.
#[derive(Debug)]
pub struct Admission {
    /// The proxy's name.
    pub proxy: String,
    /// Its part, and every later one. When the sender is gone, the connection is to end.
    pub parts: watch::Receiver<Option<Arc<Part>>>,
    /// What the proxy asks of it.
    pub asked: mpsc::Receiver<Outgoing>,
}

/// What all connections share.
#[derive(Debug)]
pub struct Door {
    /// How the proxy shows who it is.
    pub tls: watch::Receiver<ProxyTls>,
    /// To the agent's task.
    pub questions: mpsc::Sender<Question>,
    /// Takes what agents ask of the API.
    pub asking: mpsc::Sender<Incoming>,
    /// Whose certificates count no more.
    revoked: watch::Receiver<Arc<Revoked>>,
    /// Who was turned away.
    pub turned: Mutex<TurnedCounts>,
    unknown: Mutex<BTreeMap<IpAddr, usize>>,
    members: Arc<Semaphore>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters are right after a panic too.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// A door with nobody at it.
    pub fn new(
        tls: watch::Receiver<ProxyTls>,
        questions: mpsc::Sender<Question>,
        asking: mpsc::Sender<Incoming>,
        revoked: watch::Receiver<Arc<Revoked>>,
    ) -> Self {
        Self {
            tls,
            revoked,
            questions,
            asking,
            turned: Mutex::default(),
            unknown: Mutex::default(),
            members: Arc::new(Semaphore::new(MEMBERS_MAX)),
        }
    }

    /// How many were turned away, by reason.
    pub fn counts(&self) -> TurnedCounts {
        locked(&self.turned).clone()
    }

    fn turn(&self, why: Turned, from: SocketAddr) {
        let mut turned = locked(&self.turned);
        let count = turned.entry(why).or_insert(0);
        *count = count.saturating_add(1);
        // Whoever wants to fill the log gets a line for each power of two.
        if count.is_power_of_two() {
            info!(%from, count, "turned away: {why}");
        }
    }

    /// Whether somebody is at the door who has not shown yet who he is.
    pub fn somebody_comes(&self) -> bool {
        !locked(&self.unknown).is_empty()
    }

    /// A place for somebody who has not shown yet who he is.
    fn unknown(self: &Arc<Self>, from: IpAddr) -> Option<Unknown> {
        let mut unknown = locked(&self.unknown);
        let (all, each) = UNKNOWN_MAX;
        if unknown.values().sum::<usize>() >= all {
            return None;
        }
        let count = unknown.entry(from).or_insert(0);
        if *count >= each {
            return None;
        }
        *count += 1;
        Some(Unknown {
            door: Arc::clone(self),
            from,
        })
    }
}

/// Holds a place until it is dropped.
struct Unknown {
    door: Arc<Door>,
    from: IpAddr,
}

impl Drop for Unknown {
    fn drop(&mut self) {
        let mut unknown = locked(&self.door.unknown);
        if let Some(count) = unknown.get_mut(&self.from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                unknown.remove(&self.from);
            }
        }
    }
}

/// Accepts connections for as long as the agent runs.
pub async fn run(listener: TcpListener, door: Arc<Door>) {
    let mut session = 0_u64;
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, say: those that are open will end.
                warn!("no connection can be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = door.unknown(from.ip()) else {
            door.turn(Turned::TooMany, from);
            continue;
        };
        session = session.wrapping_add(1);
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            if let Err(why) = receive(stream, from, session, &door, place).await {
                door.turn(why, from);
            }
        });
    }
}

async fn receive(
    stream: TcpStream,
    from: SocketAddr,
    session: u64,
    door: &Arc<Door>,
    place: Unknown,
) -> Result<(), Turned> {
    let tls = door.tls.borrow().clone();
    let came = timeout(HANDSHAKE_MAX, tls.accept(stream))
        .await
        .map_err(|_| Turned::TooSlow)??;
    match came {
        Came::Stranger(stream) => {
            let joined = join(*stream, &door.questions);
            timeout(JOIN_MAX, joined)
                .await
                .map_err(|_| Turned::TooSlow)?
        }
        Came::Member(_, certificate) if door.revoked.borrow().covers(&certificate) => {
            Err(Turned::Revoked)
        }
        Came::Member(stream, certificate) => {
            let members = Arc::clone(&door.members).try_acquire_owned();
            let member = members.map_err(|_| Turned::TooMany)?;
            drop(place);
            attend(*stream, certificate, from, session, door, member).await
        }
    }
}

async fn join(
    stream: TlsStream<TcpStream>,
    questions: &mpsc::Sender<Question>,
) -> Result<(), Turned> {
    let mut line = Line::new(stream, STRANGER_BYTES_MAX);
    let said = loop {
        match line.heard::<Join>().await {
            Ok(Heard::Message(said)) => break said,
            Ok(Heard::Stir) => {}
            Err(_) => return Err(Turned::Nonsense),
        }
    };
    let (answer, answered) = oneshot::channel();
    let asked = questions.send(Question::Join(said, answer)).await;
    let answer = match (asked, answered.await) {
        (Ok(()), Ok(answer)) => answer,
        _ => return Ok(()),
    };
    let is_refused = matches!(answer, JoinAnswer::Refused { .. });
    if line.say(&answer).is_ok() {
        line.end().await;
    }
    match is_refused {
        true => Err(Turned::BadToken),
        false => Ok(()),
    }
}

type Answer<T> = Option<oneshot::Receiver<Result<T, String>>>;

/// One agent's connection.
struct Session<'a> {
    id: u64,
    from: SocketAddr,
    certificate: Certificate,
    door: &'a Door,
    line: Line<TlsStream<TcpStream>>,
    started: Instant,
    end: ProxyEnd,
    admission: Answer<Admission>,
    signed: Answer<Signed>,
    parts: Option<watch::Receiver<Option<Arc<Part>>>>,
    /// What is asked of the agent, and has been.
    asked: Option<mpsc::Receiver<Outgoing>>,
    pending: Pending,
    /// The answers to what it has asked.
    replies: (mpsc::Sender<Reply>, mpsc::Receiver<Reply>),
    parting: Option<Parting>,
}

async fn attend(
    stream: TlsStream<TcpStream>,
    certificate: Certificate,
    from: SocketAddr,
    id: u64,
    door: &Door,
    _member: OwnedSemaphorePermit,
) -> Result<(), Turned> {
    let name = certificate.name.clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let over = Duration::from_secs(certificate.life.to_unix_s);
    let good_for = over.saturating_sub(now.unwrap_or_default());
    let mut session = Session {
        id,
        from,
        certificate,
        door,
        line: Line::new(stream, BYTES_MAX),
        started: Instant::now(),
        end: ProxyEnd::new(name.clone(), good_for, Duration::ZERO),
        admission: None,
        signed: None,
        parts: None,
        asked: None,
        pending: Pending::of_session(id),
        replies: mpsc::channel(CALLS_MAX),
        parting: None,
    };
    let mut is_revoked = false;
    while session.parting.is_none() {
        let shown = session.certificate.clone();
        let event = tokio::select! {
            biased;
            () = revoked(door, &shown) => {
                is_revoked = true;
                break;
            }
            event = session.next() => event,
        };
        let now = session.started.elapsed();
        for deed in session.end.step(now, event) {
            session.carry_out(deed).await;
        }
    }
    let was_admitted = session.parts.is_some();
    let _ = session.door.questions.send(Question::Gone(id)).await;
    let parting = session.parting.take();
    session.line.end().await;
    if is_revoked {
        return Err(Turned::Revoked);
    }
    match parting {
        Some(Parting::Expired) => Err(Turned::Expired),
        Some(Parting::Nonsense(why)) => {
            warn!(%from, agent = name, "turned away: {why}");
            Err(Turned::Nonsense)
        }
        Some(Parting::Refused(why)) => {
            warn!(%from, agent = name, "not admitted: {why}");
            Err(Turned::NotAdmitted)
        }
        Some(Parting::Silence) if !was_admitted => Err(Turned::TooSlow),
        Some(why) => {
            debug!(%from, agent = name, "{why}");
            Ok(())
        }
        None => Ok(()),
    }
}

/// Waits until a certificate is revoked.
async fn revoked(door: &Door, certificate: &Certificate) {
    let mut list = door.revoked.clone();
    let covered = list.wait_for(|list| list.covers(certificate));
    let is_unknown = covered.await.is_err();
    if is_unknown {
        // Nobody can revoke any more.
        std::future::pending().await
    }
}

impl Session<'_> {
    /// What happens next. What came is looked at before the clock is: after a pause of this process
    /// nobody is taken for silent who is not.
    async fn next(&mut self) -> ProxyEvent {
        let due = self.started + self.end.due();
        tokio::select! {
            biased;
            heard = self.line.heard() => match heard {
                Ok(Heard::Message(said)) => ProxyEvent::Heard(said),
                Ok(Heard::Stir) => ProxyEvent::Stir,
                Err(LineError::Message(error)) => ProxyEvent::Nonsense(error.to_string()),
                Err(error) => ProxyEvent::Lost(error.to_string()),
            },
            answer = answered(&mut self.admission) => match answer {
                Ok(Admission { proxy, mut parts, asked }) => {
                    // The part that is there already is one to send.
                    parts.mark_changed();
                    self.parts = Some(parts);
                    self.asked = Some(asked);
                    ProxyEvent::Admitted(proxy)
                }
                Err(why) => ProxyEvent::Refused(why),
            },
            part = newest(&mut self.parts) => match part {
                Some(Some(part)) => ProxyEvent::Part(Part::clone(&part)),
                Some(None) => ProxyEvent::Tick,
                None => ProxyEvent::Lost("the proxy has another connection of it".to_owned()),
            },
            Some(asked) = next_of(&mut self.asked) => match self.pending.add(asked) {
                Some(call) => ProxyEvent::Call(call),
                None => ProxyEvent::Tick,
            },
            Some(reply) = self.replies.1.recv() => ProxyEvent::Reply(reply),
            answer = answered(&mut self.signed) => ProxyEvent::Renewed(answer),
            () = sleep_until(due) => ProxyEvent::Tick,
        }
    }

    async fn carry_out(&mut self, deed: ProxyDeed) {
        let id = self.id;
        let asked = match deed {
            ProxyDeed::Say(message) => {
                if let Err(error) = self.line.say(&message) {
                    self.parting = Some(Parting::Lost(error.to_string()));
                }
                return;
            }
            ProxyDeed::HangUp(why) => {
                self.parting = Some(why);
                return;
            }
            ProxyDeed::Ask(hello) => {
                let (answer, answered) = oneshot::channel();
                self.admission = Some(answered);
                Question::Hello {
                    session: id,
                    from: self.from,
                    certificate: self.certificate.clone(),
                    hello,
                    answer,
                }
            }
            ProxyDeed::Sign(request) => {
                let (answer, answered) = oneshot::channel();
                self.signed = Some(answered);
                Question::Sign {
                    session: id,
                    certificate: self.certificate.clone(),
                    request,
                    answer,
                }
            }
            ProxyDeed::Introduction(introduction) => Question::Introduction(id, introduction),
            ProxyDeed::Kept(revision) => Question::Kept(id, revision),
            ProxyDeed::Declined(revision, why) => Question::Declined(id, revision, why),
            ProxyDeed::Call(call) => {
                let incoming = Incoming {
                    from: self.certificate.name.clone(),
                    call,
                    answer: self.replies.0.clone(),
                };
                // Who asks too much gets no answer, and asks again.
                let _ = self.door.asking.try_send(incoming);
                return;
            }
            ProxyDeed::Replied(reply) => return self.pending.answered(reply),
            ProxyDeed::Lacks(revision, missing) => Question::Lacks(id, revision, missing),
        };
        if self.door.questions.send(asked).await.is_err() {
            self.parting = Some(Parting::Lost("the proxy stops".to_owned()));
        }
    }
}

async fn answered<T>(answer: &mut Answer<T>) -> Result<T, String> {
    let Some(receiver) = answer else {
        return std::future::pending().await;
    };
    let answered = receiver.await;
    *answer = None;
    answered.unwrap_or_else(|_| Err("the proxy stops".to_owned()))
}

/// What is asked next, once anything can be.
async fn next_of(asked: &mut Option<mpsc::Receiver<Outgoing>>) -> Option<Outgoing> {
    match asked {
        Some(asked) => asked.recv().await,
        None => std::future::pending().await,
    }
}

/// The part that is to be sent next; nothing once there will be none any more.
async fn newest(
    parts: &mut Option<watch::Receiver<Option<Arc<Part>>>>,
) -> Option<Option<Arc<Part>>> {
    let Some(parts) = parts else {
        return std::future::pending().await;
    };
    parts.changed().await.ok()?;
    Some(parts.borrow_and_update().clone())
}
