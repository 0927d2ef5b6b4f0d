//! Which way does a frame take over all hosts just now?
//!
//! The proxy asks each host on the way for a trace, this one included, one after the other; a host
//! that stands alone asks itself. The asking is a task of its own: what is known of the hosts is
//! copied for it, and the agent's task goes on. [`overlay::walk`](crate::overlay::walk) says whom to
//! ask, and what comes of the answers. Bounded in number, size and time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use vnet_common::reason::Reason;

use super::Agent;
use super::overlay::Control;
use crate::api::{
    Answer, Ask, FrameBytes, LiveRule, Refusal, Request, RouteQuery, TraceReport, TraceRequest,
    Unasked, Verdict,
};
use crate::model::Target;
use crate::model::frame::{
    BYTES_MAX, BYTES_MIN_ON_WIRE, ETHERTYPE_EXPERIMENTAL, HEADER_BYTES, made_up,
};
use crate::overlay::message::Reply;
use crate::overlay::via::call::Outgoing;
use crate::overlay::walk::{
    Atlas, Frame, Heard, Known, Left, NoStart, Question, Start, Walk, Went,
};

/// Frames whose way is looked for at one time.
const WALKS_MAX: usize = 4;
/// For one host.
const HOST_TIMEOUT: Duration = Duration::from_millis(1500);
/// For all of them: shorter than those who pass the question on wait.
const WALK_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer of a host: a trace of the longest frame is shorter.
const TRACE_BYTES_MAX: usize = 512 << 10;

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
        match timeout_at(until, answer).await {
            Ok(report) => report.map(heard),
            Err(_) => Err(Unasked::Silent {
                waited_ms: u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }
}

async fn ask_here(
    asks: Option<&mpsc::WeakSender<Request>>,
    request: TraceRequest,
) -> Result<TraceReport, Unasked> {
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
        Ok(Ok(Answer::Trace(report))) => Ok(*report),
        Ok(Err(refusal)) => Err(Unasked::Refused {
            message: refusal.message,
        }),
        Ok(Ok(_)) | Err(_) => Err(stopping()),
    }
}

async fn ask_there(
    session: &mpsc::Sender<Outgoing>,
    request: &TraceRequest,
) -> Result<TraceReport, Unasked> {
    let (answer, answered) = oneshot::channel();
    let outgoing = Outgoing {
        method: "POST".to_owned(),
        path: "/v1/trace".to_owned(),
        body: serde_json::to_string(request).unwrap_or_default(),
        answer,
    };
    let busy = || Unasked::Refused {
        message: "it has as many questions before it as it takes".to_owned(),
    };
    session.try_send(outgoing).map_err(|_| busy())?;
    let reply = answered.await.map_err(|_| busy())?;
    read(&reply)
}

/// What another host says: bytes from outside.
fn read(reply: &Reply) -> Result<TraceReport, Unasked> {
    if reply.body.len() > TRACE_BYTES_MAX {
        return Err(Unasked::Nonsense {
            message: format!("an answer of {} bytes", reply.body.len()),
        });
    }
    match reply.status {
        200 => parsed(&reply.body),
        _ => {
            let refusal: Refusal = parsed(&reply.body)?;
            Err(Unasked::Refused {
                message: refusal.message,
            })
        }
    }
}

fn parsed<T: DeserializeOwned>(body: &str) -> Result<T, Unasked> {
    serde_json::from_str(body).map_err(|error| Unasked::Nonsense {
        message: error.to_string(),
    })
}

/// A trace as the walk wants it.
fn heard(report: TraceReport) -> Heard {
    let went = went(&report);
    Heard {
        rule: report.rule.map(|rule| LiveRule {
            network: rule.network,
            source: rule.source,
            destination: rule.destination,
            to: rule.to,
            strength: rule.strength,
            origin: rule.origin,
            note: rule.note,
        }),
        flow_cached: report.flow_cached,
        door: report.door,
        kernel: report.kernel.map(|run| run.action),
        agree: report.agree,
        went,
    }
}

fn went(report: &TraceReport) -> Vec<Went> {
    let dropped = |reason: Option<Reason>| {
        let text = reason.map_or("nowhere to go", Reason::text);
        let notes = [
            report.mtu_note.as_ref(),
            report.rule.as_ref().and_then(|rule| rule.note.as_ref()),
        ];
        let notes = notes.into_iter().flatten();
        let message = notes.fold(text.to_owned(), |text, note| format!("{text}; {note}"));
        vec![Went::Dropped(reason, message)]
    };
    let over = report.links.iter().map(|link| {
        Went::Over(Left {
            link: link.name.clone(),
            over: link.over.clone(),
            remote: link.remote,
            kind: link.rung.kind,
            why: link.rung.why.clone(),
            since_unix_ms: link.rung.since_unix_ms,
            guest_mtu_bytes: link.guest_mtu_bytes,
        })
    });
    let into = |target: &Target| match target {
        Target::Port(device) => Some(Went::Into(device.clone())),
        _ => None,
    };
    match report.verdict {
        Verdict::Forwarded if report.links.is_empty() => {
            vec![Went::Otherwise(
                "goes on, it does not say over what".to_owned(),
            )]
        }
        Verdict::Forwarded => over.collect(),
        Verdict::Delivered => report.target.iter().filter_map(into).collect(),
        Verdict::SlowPath => {
            let all: Vec<Went> = report.copies.iter().filter_map(into).chain(over).collect();
            match all.is_empty() {
                true => dropped(Some(Reason::NoReceiver)),
                false => all,
            }
        }
        Verdict::Dropped => dropped(report.reason),
        other => vec![Went::Otherwise(other.to_string())],
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Result<TraceReport, Unasked> {
        read(&Reply {
            number: 1,
            status,
            body: body.to_owned(),
        })
    }

    const REPORT: &str = r#"{"from": "port tap0", "network": "blue", "steps": [], "verdict": "VERDICT",
        "reason": REASON, "target": {"port": "tap1"}, "copies": [{"port": "tap1"}, {"port": "tap2"}],
        "rule": null, "flow_cached": false, "kernel": null, "host": {"verdict": "dropped",
        "output_hex": ""}, "agree": null, "outer": null, "mtu_note": "use less"}"#;

    fn report(verdict: &str, reason: &str) -> TraceReport {
        let text = REPORT.replace("VERDICT", verdict).replace("REASON", reason);
        said(200, &text).unwrap()
    }

    #[test]
    fn what_is_no_answer_is_told_from_a_refusal() {
        let refusal = r#"{"kind": "not_found", "message": "there is no link x", "cure": null}"#;
        let message = "there is no link x".to_owned();
        assert_eq!(said(404, refusal), Err(Unasked::Refused { message }));
        let long = " ".repeat(TRACE_BYTES_MAX + 1);
        let lie = REPORT
            .replace("VERDICT", "famous")
            .replace("REASON", "null");
        for (status, body) in [
            (200, ""),
            (200, "[]"),
            (200, refusal),
            (200, &lie),
            (404, "no"),
            (200, &long),
        ] {
            let said = said(status, body);
            assert!(matches!(said, Err(Unasked::Nonsense { .. })), "{said:?}");
        }
    }

    #[test]
    fn a_trace_says_where_a_frame_goes() {
        let into = |device: &str| Went::Into(device.to_owned());
        assert_eq!(went(&report("delivered", "null")), [into("tap1")]);
        assert_eq!(
            went(&report("slow_path", "null")),
            [into("tap1"), into("tap2")]
        );
        let too_big = went(&report("dropped", "\"too-big\""));
        let [Went::Dropped(Some(Reason::TooBig), message)] = too_big.as_slice() else {
            panic!("{too_big:?}")
        };
        assert!(message.ends_with("; use less"), "{message}");
        let silent = went(&report("forwarded", "null"));
        assert!(
            matches!(silent.as_slice(), [Went::Otherwise(_)]),
            "{silent:?}"
        );
    }
}
