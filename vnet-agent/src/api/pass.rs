//! Who answers a question about the whole overlay, where this agent is not the proxy?
//!
//! Input: requests to the paths that are the proxy's. Output: they are passed on as they are, and so
//! are the answers; where there is no proxy to be asked, that is said. Bounded in size and time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Refusal;
use crate::overlay::message::{Asked, CALL_BYTES_MAX, Reply};

/// For the body to come, and for the answer: together shorter than the client's patience.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(7);

/// A request that the proxy is to answer.
pub type Passed = Asked<oneshot::Sender<Reply>>;

/// Where questions about the whole go: nowhere else, unless somebody says where.
#[derive(Clone, Debug, Default)]
pub struct PassOn(Arc<RwLock<Option<mpsc::Sender<Passed>>>>);

impl PassOn {
    /// From now on they go here.
    pub fn to(&self, to: mpsc::Sender<Passed>) {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(to);
    }

    fn place(&self) -> Option<mpsc::Sender<Passed>> {
        let place = self.0.read().unwrap_or_else(PoisonError::into_inner);
        place.clone()
    }
}

/// Passes a request on, where there is somebody to pass it to.
pub async fn pass_on(State(pass): State<PassOn>, request: Request, next: Next) -> Response {
    match pass.place() {
        Some(to) => match passed(&to, request).await {
            Ok(response) => response,
            Err((status, refusal)) => (status, Json(refusal)).into_response(),
        },
        None => next.run(request).await,
    }
}

type Refused = (StatusCode, Refusal);

async fn passed(to: &mpsc::Sender<Passed>, request: Request) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query();
    let path = path.map_or("/", |path| path.as_str()).to_owned();
    let (answer, answered) = oneshot::channel();
    let passed = Passed {
        method: head.method.as_str().to_owned(),
        path,
        body: text(body).await?,
        answer,
    };
    to.try_send(passed)
        .map_err(|_| unreachable("too many wait for its answers"))?;
    let reply = match timeout(ANSWER_TIMEOUT, answered).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => return Err(unreachable("this host is apart from it")),
        Err(_) => {
            return Err(unreachable(
                "it has not answered; a change may still happen",
            ));
        }
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((status, json, reply.body).into_response())
}

async fn text(body: Body) -> Result<String, Refused> {
    let too_long = || {
        let message = format!("a request to the proxy has at most {CALL_BYTES_MAX} bytes here");
        let refusal = Refusal::invalid(message).cure("ask on the proxy's own host");
        (StatusCode::PAYLOAD_TOO_LARGE, refusal)
    };
    let read = timeout(BODY_TIMEOUT, to_bytes(body, CALL_BYTES_MAX)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return Err(too_long()),
        Err(_) => {
            let refusal = Refusal::invalid("the body does not come");
            return Err((StatusCode::REQUEST_TIMEOUT, refusal));
        }
    };
    String::from_utf8(bytes.into()).map_err(|_| {
        let refusal = Refusal::invalid("the body is no text");
        (StatusCode::BAD_REQUEST, refusal)
    })
}

fn unreachable(why: &str) -> Refused {
    let message = format!("the overlay's proxy cannot be asked: {why}");
    let refusal = Refusal::unavailable(message)
        .cure("`vnetctl status` says where it is, and how this host and the proxy stand");
    (StatusCode::SERVICE_UNAVAILABLE, refusal)
}
