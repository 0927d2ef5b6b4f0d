//! May this agent come in, and what becomes of what it says?

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::super::Agent;
use super::super::overlay::{Control, now_unix_ms};
use super::Session;
use crate::overlay::message::JoinAnswer;
use crate::overlay::roll::{Guest, Hub};
use crate::overlay::via::call::CALLS_MAX;
use crate::overlay::via::listen::{Admission, Question};

impl Agent {
    /// One more question that waits already, or is about to be asked: where all parts are to be made anew
    /// in any case, whoever is at the door is waited for until then.
    pub(in super::super) async fn next_question(&mut self, until: Instant) -> Option<Question> {
        let Control::Proxy(proxy) = &mut self.control else {
            return None;
        };
        if let Ok(question) = proxy.questions.try_recv() {
            return Some(question);
        }
        if !proxy.is_stale || !proxy.door.somebody_comes() {
            return None;
        }
        let question = timeout_at(until, proxy.questions.recv());
        question.await.ok().flatten()
    }

    /// Answers an agent, or a host that joins.
    pub(in super::super) fn asked(&mut self, question: Question) {
        let networks = self.own.networks.clone();
        let Control::Proxy(proxy) = &mut self.control else {
            return;
        };
        let introduction = proxy.introduction.clone();
        let name = proxy.name.clone();
        let hub = Hub {
            name: &name,
            introduction: &introduction,
            networks: &networks,
        };
        match question {
            Question::Hello {
                session,
                from,
                certificate,
                hello,
                answer,
            } => {
                let guest = Guest {
                    session,
                    from: from.to_string(),
                    hello: &hello,
                    expires_unix_s: certificate.life.to_unix_s,
                    now_unix_ms: now_unix_ms(),
                };
                let admitted = proxy.roll.admit(&guest, &hub).map(|before| {
                    if let Some(before) = before {
                        proxy.sessions.remove(&before);
                    }
                    let (dealing, parts) = watch::channel(None);
                    let (asking, asked) = mpsc::channel(CALLS_MAX);
                    let kept = Session {
                        parts: dealing,
                        asked: asking,
                    };
                    proxy.sessions.insert(session, kept);
                    proxy.apart.remove(&hello.name);
                    proxy.is_stale = true;
                    info!(agent = hello.name, %from, "an agent is here");
                    Admission {
                        proxy: name.clone(),
                        parts,
                        asked,
                    }
                });
                // Who has gone meanwhile is told by its session.
                let _ = answer.send(admitted.map_err(|error| error.to_string()));
            }
            Question::Introduction(session, introduction) => {
                match proxy.roll.introduced(session, &introduction, &hub) {
                    Ok(()) => proxy.is_stale = true,
                    Err(error) => {
                        warn!("what an agent says of itself does not count: {error}");
                        proxy.roll.declined(session, 0, error.to_string());
                    }
                }
            }
            Question::Kept(session, revision) => proxy.roll.goes_by(session, revision),
            Question::Lacks(session, revision, missing) => {
                proxy.roll.lacks(session, revision, missing);
            }
            Question::Declined(session, revision, why) => {
                warn!(revision, "an agent declines its part: {why}");
                proxy.roll.declined(session, revision, why);
            }
            Question::Sign {
                session,
                certificate,
                request,
                answer,
            } => {
                let signed = proxy.sign(session, &certificate, &request);
                let _ = answer.send(signed.map_err(|error| format!("{error:#}")));
            }
            Question::Gone(session) => {
                proxy.sessions.remove(&session);
                if let Some(agent) = proxy.roll.gone(session) {
                    info!(agent, "an agent is gone; its links stay");
                    proxy.apart.insert(agent, now_unix_ms());
                }
            }
            Question::Join(join, answer) => {
                let joined =
                    proxy
                        .redeem(&join, &self.store)
                        .unwrap_or_else(|error| JoinAnswer::Refused {
                            why: format!("{error:#}"),
                        });
                let _ = answer.send(joined);
            }
        }
    }
}
