//! How is a request of the API passed on over the control channel, and which answer belongs to it?
//!
//! Either end may ask the other: agents pass on what is about the whole, the proxy asks for traces.
//! Bounded in number, so that nobody's questions pile up at the other end.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use super::super::message::{Asked, Call, Reply};

/// Requests that wait for answers at one time, on one connection and in one direction.
pub const CALLS_MAX: usize = 16;

/// A request for the other end.
pub type Outgoing = Asked<oneshot::Sender<Reply>>;

/// A request of the other end.
#[derive(Debug)]
pub struct Incoming {
    /// Who asks, by its certificate.
    pub from: String,
    /// What.
    pub call: Call,
    /// Takes the answer.
    pub answer: mpsc::Sender<Reply>,
}

/// What has been asked and not answered yet.
#[derive(Debug, Default)]
pub struct Pending {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Reply>>,
}

impl Pending {
    /// Numbers that are not used by other connections' requests: an answer that comes late is nobody's.
    pub const fn of_session(session: u64) -> Self {
        Self {
            last: session << 32,
            waiting: BTreeMap::new(),
        }
    }

    /// What to say to the other end; nothing where too many wait already.
    pub fn add(&mut self, asked: Outgoing) -> Option<Call> {
        self.waiting.retain(|_, answer| !answer.is_closed());
        if self.waiting.len() >= CALLS_MAX {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        self.waiting.insert(self.last, asked.answer);
        Some(Call {
            number: self.last,
            method: asked.method,
            path: asked.path,
            body: asked.body,
        })
    }

    /// Hands an answer to whoever waits for it.
    pub fn answered(&mut self, reply: Reply) {
        if let Some(answer) = self.waiting.remove(&reply.number) {
            // Who asked may have gone.
            let _ = answer.send(reply);
        }
    }

    /// Nobody will be answered any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> (Outgoing, oneshot::Receiver<Reply>) {
        let (answer, answered) = oneshot::channel();
        let asked = Outgoing {
            method: "GET".into(),
            path: "/v1/topology".into(),
            body: String::new(),
            answer,
        };
        (asked, answered)
    }

    #[test]
    fn each_gets_its_own_answer_and_late_ones_are_nobodys() {
        let mut pending = Pending::of_session(3);
        let ((first, mut one), (second, mut two)) = (asked(), asked());
        let first = pending.add(first).unwrap();
        let second = pending.add(second).unwrap();
        let reply = |number| Reply {
            number,
            status: 200,
            body: number.to_string(),
        };
        for number in [second.number, 1, first.number, second.number] {
            pending.answered(reply(number));
        }
        assert_eq!(one.try_recv().unwrap(), reply(first.number));
        assert_eq!(two.try_recv().unwrap(), reply(second.number));
    }

    #[test]
    fn so_many_wait_and_no_more_and_those_who_gave_up_do_not_count() {
        let mut pending = Pending::default();
        let mut waiting: Vec<_> = (0..CALLS_MAX)
            .map(|_| {
                let (asked, answered) = asked();
                assert!(pending.add(asked).is_some());
                answered
            })
            .collect();
        let (one_more, mut refused) = asked();
        assert!(pending.add(one_more).is_none());
        assert!(refused.try_recv().is_err(), "it is told");
        waiting.pop();
        assert!(pending.add(asked().0).is_some());
        pending.clear();
        assert!(
            waiting
                .iter_mut()
                .all(|answered| answered.try_recv().is_err())
        );
    }
}
