//! Which way does a frame take over all hosts just now?
//!
//! The proxy asks each host on the way for a trace, this one included, one after the other; a host
//! that stands alone asks itself. The asking is a task of its own: what is known of the hosts is
//! copied for it, and the agent's task goes on. [`overlay::walk`](crate::overlay::walk) says whom to
//! ask, and what comes of the answers. Bounded in number, size and time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Agent;
use super::overlay::{Control, now_unix_ms};
use crate::api::{
    Answer, Ask, FrameBytes, Refusal, Request, RouteQuery, TraceRequest, Unasked, heard,
};
use crate::model::frame::{
    BYTES_MAX, BYTES_MIN_ON_WIRE, ETHERTYPE_EXPERIMENTAL, HEADER_BYTES, made_up,
};
use crate::overlay::via::call::Outgoing;
use crate::overlay::walk::{Atlas, Frame, Heard, Known, NoStart, Question, Start, Walk};

/// Frames whose way is looked for at one time.
const WALKS_MAX: usize = 4;
/// For one host.
const HOST_TIMEOUT: Duration = Duration::from_millis(1500);
/// For all of them: shorter than those who pass the question on wait.
const WALK_TIMEOUT: Duration = Duration::from_secs(5);

/// What looking for ways needs of this host.
pub(super) struct Routes {
    room: Arc<Semaphore>,
    here: Option<mpsc::WeakSender<Request>>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(WALKS_MAX)),
            here: None,
        }
    }
}

impl Routes {
    /// Where this host's own traces are asked for.
    pub(super) fn ask_here(&mut self, asks: mpsc::WeakSender<Request>) {
        self.here = Some(asks);
    }
}

/// Whom a host is asked by.
pub(super) enum Line {
    /// By its own task.
    Here(Option<mpsc::WeakSender<Request>>),
    /// By its connection.
    There(mpsc::Sender<Outgoing>),
    /// By nothing, since then.
    Apart(Option<u64>),
}

/// A frame whose way is being looked for.
pub(super) struct Finding {
    atlas: Atlas,
    lines: BTreeMap<String, Line>,
    start: Start,
    frame: Frame,
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Agent {
    /// What is to be asked for a frame's way.
    pub(super) fn find_route(&self, query: RouteQuery) -> Result<Finding, Refusal> {
        let room = Arc::clone(&self.routes.room).try_acquire_owned();
        let room = room.map_err(|_| {
            Refusal::unavailable(format!(
                "the ways of {WALKS_MAX} frames are being looked for"
            ))
            .cure("try again in a moment")
        })?;
        let length = query.bytes.unwrap_or(BYTES_MIN_ON_WIRE);
        if !(HEADER_BYTES..=BYTES_MAX).contains(&length) {
            let message = format!("a frame has {HEADER_BYTES} to {BYTES_MAX} bytes");
            return Err(Refusal::invalid(message));
        }
        let (atlas, mut lines) = match &self.control {
            Control::Proxy(proxy) => proxy.atlas(&self.own.networks),
            _ => self.atlas_of_one(),
        };
        let here = Line::Here(self.routes.here.clone());
        lines.insert(self.settings.name.clone(), here);
        let (source, its) = atlas.station(&query.source).map_err(refusal)?;
        let (destination, _) = atlas.station(&query.destination).map_err(refusal)?;
        let network = query.network.or(its);
        let start = atlas.start(network.as_deref(), source).map_err(refusal)?;
        let ethertype = query.ethertype.unwrap_or(ETHERTYPE_EXPERIMENTAL);
        Ok(Finding {
            atlas,
            lines,
            start,
            frame: Frame {
                source,
                destination,
                bytes: length,
            },
            bytes: made_up(source, destination, ethertype, length),
            _room: room,
        })
    }

    /// What a host knows that stands alone.
    fn atlas_of_one(&self) -> (Atlas, BTreeMap<String, Line>) {
        let name = self.settings.name.clone();
        let introduction = self.introduction();
        let known = Known {
            underlay: introduction.underlay,
            ports: introduction.ports,
            links: self.configuration.links.clone(),
            revision: None,
            dealt_revision: None,
        };
        let atlas = Atlas {
            hosts: BTreeMap::from([(name.clone(), known)]),
            proxy: name,
            topology: None,
        };
        (atlas, BTreeMap::new())
    }
}

impl Finding {
    /// Asks the hosts, and answers.
    pub(super) async fn answer(self, reply: oneshot::Sender<Result<Answer, Refusal>>) {
        let until = Instant::now() + WALK_TIMEOUT;
        let mut walk = Walk::new(&self.atlas, self.start.clone(), self.frame);
        while let Some(question) = walk.next() {
            let answer = self.ask(&question, until).await;
            walk.heard(answer);
        }
        // Who asked may have gone.
        let _ = reply.send(Ok(Answer::Route(Box::new(walk.end()))));
    }

    async fn ask(&self, question: &Question, until: Instant) -> Result<Heard, Unasked> {
        let request = TraceRequest {
            from: Some(question.from.clone()),
            network: Some(self.start.network.clone()),
            frame: FrameBytes(self.bytes.clone()),
        };
        let asked = Instant::now();
        if asked >= until {
            return Err(Unasked::NoTime);
        }
        let until = until.min(asked + HOST_TIMEOUT);
        let answer = async {
            match self.lines.get(&question.host) {
                Some(Line::Here(asks)) => ask_here(asks.as_ref(), request).await,
                Some(Line::There(session)) => ask_there(session, &request).await,
                Some(Line::Apart(since)) => Err(Unasked::Apart {
                    since_unix_ms: *since,
                }),
                None => Err(Unasked::Apart {
                    since_unix_ms: None,
                }),
            }
        };
        timeout_at(until, answer).await.unwrap_or_else(|_| {
            Err(Unasked::Silent {
                waited_ms: u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
        })
    }
}

async fn ask_here(
    asks: Option<&mpsc::WeakSender<Request>>,
    request: TraceRequest,
) -> Result<Heard, Unasked> {
    let stopping = || Unasked::Refused {
        message: "the agent is stopping".to_owned(),
    };
    let asks = asks.and_then(mpsc::WeakSender::upgrade);
    let asks = asks.ok_or_else(stopping)?;
    let (reply, answer) = oneshot::channel();
    let ask = Ask::Trace(request);
    asks.send(Request { ask, reply })
        .await
        .map_err(|_| stopping())?;
    match answer.await {
        Ok(Ok(Answer::Trace(report))) => Ok(heard::of(*report)),
        Ok(Err(refusal)) => Err(Unasked::Refused {
            message: refusal.message,
        }),
        Ok(Ok(_)) | Err(_) => Err(stopping()),
    }
}

async fn ask_there(
    session: &mpsc::Sender<Outgoing>,
    request: &TraceRequest,
) -> Result<Heard, Unasked> {
    let (answer, answered) = oneshot::channel();
    let outgoing = Outgoing {
        method: "POST".to_owned(),
        path: "/v1/trace".to_owned(),
        body: serde_json::to_string(request).unwrap_or_default(),
        answer,
    };
    // Where there is no answer, the connection is over, or too much is asked by it.
    let unasked = || match session.is_closed() {
        true => Unasked::Apart {
            since_unix_ms: Some(now_unix_ms()),
        },
        false => Unasked::Refused {
            message: "it has as many questions before it as it takes".to_owned(),
        },
    };
    session.try_send(outgoing).map_err(|_| unasked())?;
    let reply = answered.await.map_err(|_| unasked())?;
    heard::read(&reply)
}

fn refusal(error: NoStart) -> Refusal {
    match &error {
        NoStart::Nobody { .. } | NoStart::NoSource(_) => Refusal::invalid(error.to_string()),
        NoStart::Unknown { .. } => Refusal::not_found(error.to_string()).cure(
            "`vnetctl topology show` says who is where; a port learns its address from frames",
        ),
        NoStart::Ambiguous { .. } => {
            Refusal::conflict(error.to_string()).cure("say which is meant: --network NAME")
        }
    }
}
