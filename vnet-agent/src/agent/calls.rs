//! What may the other end of the control channel ask of this host's API, and what does it get?
//!
//! Agents ask the proxy what is about the whole, and change it where the proxy's settings say so; the
//! proxy asks agents for traces. Nothing else: above all not for what is secret.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::info;

use crate::api::Refusal;
use crate::overlay::message::{CALL_BYTES_MAX, Call, Reply};
use crate::overlay::via::call::Incoming;

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// What may be asked by any agent.
const QUESTIONS: [(&str, &str); 5] = [
    ("GET", "/v1/agents"),
    ("GET", "/v1/topology"),
    ("GET", "/v1/topology/history"),
    ("GET", "/v1/topology/rollout"),
    ("GET", "/v1/topology/route"),
];
/// What changes the whole.
const CHANGES: [(&str, &str); 2] = [("POST", "/v1/topology"), ("POST", "/v1/topology/undo")];
/// What the proxy may ask of an agent.
const OF_AGENTS: [(&str, &str); 1] = [("POST", "/v1/trace")];

/// Who may ask what.
#[derive(Clone, Debug)]
pub(super) enum Rights {
    /// Agents of the proxy: questions all of them, changes these.
    Agents(BTreeSet<String>),
    /// The proxy of an agent.
    Proxy,
}

impl Rights {
    fn check(&self, from: &str, call: &Call) -> Result<(), Refusal> {
        let path = call.path.split('?').next().unwrap_or_default();
        let is_in = |list: &[(&str, &str)]| list.contains(&(call.method.as_str(), path));
        match self {
            Self::Proxy if is_in(&OF_AGENTS) => Ok(()),
            Self::Agents(_) if is_in(&QUESTIONS) => Ok(()),
            Self::Agents(may_change) if is_in(&CHANGES) => {
                if may_change.contains(from) || is_only_a_plan(&call.body) {
                    return Ok(());
                }
                let message = format!("{from}'s users may not change the whole overlay");
                let cure = format!(
                    "do it on the proxy's host, or allow it there: may_change = [{from:?}] under \
                     [control]"
                );
                Err(Refusal::forbidden(message).cure(cure))
            }
            _ => {
                let message = format!("{} {path} is not passed on", call.method);
                Err(Refusal::forbidden(message).cure("ask on the host that it is about"))
            }
        }
    }
}

fn is_change(call: &Call) -> bool {
    let path = call.path.split('?').next().unwrap_or_default();
    CHANGES.contains(&(call.method.as_str(), path))
}

fn is_only_a_plan(body: &str) -> bool {
    let body: Option<serde_json::Value> = serde_json::from_str(body).ok();
    body.is_some_and(|body| body["dry_run"] == serde_json::Value::Bool(true))
}

/// Answers what the other ends ask. May be aborted at any moment.
pub(super) async fn answer(mut asked: mpsc::Receiver<Incoming>, router: Router, rights: Rights) {
    while let Some(Incoming { from, call, answer }) = asked.recv().await {
        let number = call.number;
        match rights.check(&from, &call) {
            Ok(()) => {
                let router = router.clone();
                tokio::spawn(async move {
                    if is_change(&call) {
                        info!(from, path = call.path, "passed on by an agent");
                    }
                    let asked = timeout(PATIENCE, ask(router, call)).await;
                    let reply = asked.unwrap_or_else(|_| {
                        refused(number, &Refusal::unavailable("it takes too long"))
                    });
                    // Who asked has gone.
                    let _ = answer.send(reply).await;
                });
            }
            Err(refusal) => {
                info!(from, "refused: {refusal}");
                let _ = answer.try_send(refused(number, &refusal));
            }
        }
    }
}

async fn ask(router: Router, call: Call) -> Reply {
    let number = call.number;
    let request = Request::builder()
        .method(call.method.as_str())
        .uri(call.path.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(call.body));
    let Ok(request) = request else {
        return refused(number, &Refusal::invalid("this is no request"));
    };
    let response = TowerToHyperService::new(router).call(request).await;
    let Ok(response) = response;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), CALL_BYTES_MAX).await;
    let text = body
        .ok()
        .and_then(|bytes| String::from_utf8(bytes.into()).ok());
    match text {
        Some(body) => Reply {
            number,
            status,
            body,
        },
        None => {
            let message = "the answer is too long for the control channel";
            let refusal = Refusal::unavailable(message).cure("ask on the proxy's own host");
            refused(number, &refusal)
        }
    }
}

fn refused(number: u64, refusal: &Refusal) -> Reply {
    Reply {
        number,
        status: refusal.kind.status().as_u16(),
        body: serde_json::to_string(refusal).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, path: &str, body: &str) -> Call {
        Call {
            number: 1,
            method: method.into(),
            path: path.into(),
            body: body.into(),
        }
    }

    #[test]
    fn questions_are_free_changes_are_not_and_secrets_stay_where_they_are() {
        let agents = Rights::Agents(BTreeSet::from(["two".to_owned()]));
        let allowed = |from, call: &Call| agents.check(from, call).is_ok();
        let change = call("POST", "/v1/topology", r#"{"dry_run": false}"#);
        let plan = call("POST", "/v1/topology", r#"{"dry_run": true}"#);
        for question in ["/v1/agents", "/v1/topology", "/v1/topology/route?x=1"] {
            assert!(allowed("one", &call("GET", question, "")), "{question}");
        }
        assert!(allowed("two", &change) && !allowed("one", &change));
        assert!(is_change(&change) && !is_change(&call("POST", "/v1/trace", "{}")));
        assert!(allowed("one", &plan));
        for (method, path) in [
            ("GET", "/v1/configuration"),
            ("POST", "/v1/invites"),
            ("DELETE", "/v1/agents/one"),
            ("POST", "/v1/trace"),
            ("GET", "/v1/topology/../configuration"),
        ] {
            assert!(!allowed("two", &call(method, path, "")), "{method} {path}");
        }
        let why = agents.check("one", &change).unwrap_err();
        assert!(why.cure.unwrap().contains("may_change = [\"one\"]"));
        let of_proxy = |call: &Call| Rights::Proxy.check("proxy", call).is_ok();
        assert!(of_proxy(&call("POST", "/v1/trace", "{}")));
        assert!(!of_proxy(&call("POST", "/v1/links", "{}")));
        assert!(!of_proxy(&call("GET", "/v1/configuration", "")));
    }
}
