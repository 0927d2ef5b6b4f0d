//! How does a request to a path become an [`Ask`], and its answer a response?
//!
//! Input: HTTP requests with JSON bodies. Output: [`Request`]s to the agent's task; its answers,
//! or one form of error for everything that can go wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::KeepAlive;
use axum::response::{IntoResponse, Response, Sse};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::metrics::{self, Scrape};
use super::openapi::{self, EVENTS, METRICS, OPERATIONS, Operation};
use super::pass::{PassOn, pass_on};
use super::query::{
    DeleteLinkQuery, DeleteRuleQuery, DropsQuery, FlowsQuery, NoQuery, RouteQuery, RulesQuery,
};
use super::stream::{KEEP_ALIVE, LISTENERS_MAX, Teller};
use super::{
    Answer, Ask, BODY_BYTES_MAX, ChangeOutcome, FLOWS_LIMIT_DEFAULT, FLOWS_LIMIT_MAX, ManyRules,
    NewInvite, NewLink, NewRule, NewTopology, RULES_BYTES_MAX, Refusal, Request,
    TOPOLOGY_BYTES_MAX, TraceRequest, Undo,
};
use crate::identity::Certificate;

/// For the body of a request.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// For the agent's task to answer: shorter than the client's patience, so that it learns why.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Who is at the other end, for the log.
#[derive(Clone, Default)]
pub struct Asker {
    uid: Option<u32>,
    pid: Option<i32>,
    /// By the certificate, where he is elsewhere.
    name: Option<Arc<str>>,
}

impl Asker {
    /// The process at the other end of a connection.
    pub fn of(stream: &UnixStream) -> Self {
        match stream.peer_cred() {
            Ok(peer) => Self {
                uid: Some(peer.uid()),
                pid: peer.pid(),
                name: None,
            },
            Err(_) => Self::default(),
        }
    }

    /// The holder of a certificate.
    pub fn named(certificate: &Certificate) -> Self {
        Self {
            name: Some(certificate.name.as_str().into()),
            ..Self::default()
        }
    }
}

type Asks = State<mpsc::Sender<Request>>;
type Who = axum::Extension<Asker>;

/// The paths of the API, served by whoever receives from `asks`; those that are about the whole
/// overlay by the proxy, where `pass` leads to it.
pub fn router(asks: mpsc::Sender<Request>, events: Teller, pass: PassOn) -> Router {
    let simple = |ask: fn() -> Ask| {
        get(
            move |State(asks): Asks, query: Parameters<NoQuery>| async move {
                query?;
                answer(asks, ask()).await
            },
        )
    };
    let whole = Router::new()
        .route("/v1/agents", simple(|| Ask::Agents))
        .route(
            "/v1/topology",
            simple(|| Ask::Topology).post(apply_topology),
        )
        .route("/v1/topology/undo", post(undo_topology))
        .route("/v1/topology/history", simple(|| Ask::TopologyHistory))
        .route("/v1/topology/rollout", simple(|| Ask::Rollout))
        .route("/v1/topology/route", get(route_of_a_frame))
        .layer(from_fn_with_state(pass, pass_on));
    Router::new()
        .merge(whole)
        .route("/v1/status", simple(|| Ask::Status))
        .route("/v1/interfaces", simple(|| Ask::Interfaces))
        .route("/v1/links", simple(|| Ask::Links).post(add_link))
        .route("/v1/links/{name}", delete(delete_link))
        .route(
            "/v1/rules",
            get(list_rules)
                .post(add_rule)
                .patch(change_rules)
                .delete(delete_rule),
        )
        .route("/v1/stats", simple(|| Ask::Stats))
        .route("/v1/flows", get(list_flows))
        .route("/v1/drops", get(list_drops))
        .route("/v1/trace", post(trace))
        .route("/v1/configuration", get(show_configuration))
        .route(EVENTS, get(listen).layer(Extension(events)))
        .route("/v1/agents/{name}", delete(forget_agent))
        .route("/v1/invites", post(invite))
        .route(METRICS, get(scrape))
        .route(openapi::PATH, get(describe))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(asks)
}

/// For whoever may read numbers and nothing else.
pub fn metrics_router(asks: mpsc::Sender<Request>) -> Router {
    let elsewhere = async |uri: Uri| {
        Fault::from(
            Refusal::not_found(format!("there is no path {}", uri.path()))
                .cure(format!("the only path here is GET {METRICS}")),
        )
    };
    Router::new()
        .route(METRICS, get(scrape))
        .fallback(elsewhere)
        .with_state(asks)
}

/// For whoever is to hear nothing but this.
pub(super) fn refusing(refusal: Refusal) -> Router {
    Router::new().fallback(async move || Fault::from(refusal))
}

/// A refusal as a response.
pub(super) fn fault(status: StatusCode, refusal: Refusal) -> Response {
    Fault::new(status, refusal).into_response()
}

type Parameters<T> = Result<Query<T>, QueryRejection>;

async fn add_link(State(asks): Asks, who: Who, body: Body) -> Result<Reply, Fault> {
    let link = read::<NewLink>(body).await?.try_into()?;
    change(asks, who, Ask::AddLink(link)).await
}

async fn delete_link(
    State(asks): Asks,
    who: Who,
    name: Result<Path<String>, PathRejection>,
    query: Parameters<DeleteLinkQuery>,
) -> Result<Reply, Fault> {
    let Path(name) = name.map_err(|error| Refusal::invalid(error.body_text()))?;
    let force = query?.force;
    change(asks, who, Ask::DeleteLink { name, force }).await
}

/// Nobody needs the links' cookies who does not have them already.
async fn show_configuration(State(asks): Asks, query: Parameters<NoQuery>) -> Result<Reply, Fault> {
    query?;
    let Reply(mut shown) = answer(asks, Ask::Configuration).await?;
    if let Answer::Configuration(configuration) = &mut shown {
        for link in &mut configuration.links {
            link.cookie = None;
        }
    }
    Ok(Reply(shown))
}

async fn forget_agent(
    State(asks): Asks,
    who: Who,
    name: Result<Path<String>, PathRejection>,
    query: Parameters<NoQuery>,
) -> Result<Reply, Fault> {
    let Path(name) = name.map_err(|error| Refusal::invalid(error.body_text()))?;
    query?;
    change(asks, who, Ask::ForgetAgent { name }).await
}

async fn invite(State(asks): Asks, body: Body) -> Result<Reply, Fault> {
    let wanted = read::<NewInvite>(body).await?;
    answer(asks, Ask::Invite(wanted)).await
}

async fn apply_topology(State(asks): Asks, body: Body) -> Result<Reply, Fault> {
    let wanted = read_up_to::<NewTopology>(body, TOPOLOGY_BYTES_MAX).await?;
    answer(asks, Ask::ApplyTopology(Box::new(wanted))).await
}

async fn undo_topology(State(asks): Asks, body: Body) -> Result<Reply, Fault> {
    let wanted = read::<Undo>(body).await?;
    answer(asks, Ask::UndoTopology(wanted)).await
}

async fn list_rules(State(asks): Asks, query: Parameters<RulesQuery>) -> Result<Reply, Fault> {
    let network = query?.0.network;
    answer(asks, Ask::Rules { network }).await
}

async fn add_rule(State(asks): Asks, who: Who, body: Body) -> Result<Reply, Fault> {
    let rule = read::<NewRule>(body).await?.into();
    change(asks, who, Ask::AddRule(rule)).await
}

async fn change_rules(State(asks): Asks, who: Who, body: Body) -> Result<Reply, Fault> {
    let ManyRules { delete, add } = read_up_to::<ManyRules>(body, RULES_BYTES_MAX).await?;
    let add = add.into_iter().map(Into::into).collect();
    change(asks, who, Ask::ChangeRules { delete, add }).await
}

async fn delete_rule(
    State(asks): Asks,
    who: Who,
    query: Parameters<DeleteRuleQuery>,
) -> Result<Reply, Fault> {
    let DeleteRuleQuery {
        network,
        source,
        destination,
    } = query?.0;
    change(
        asks,
        who,
        Ask::DeleteRule {
            network,
            source,
            destination,
        },
    )
    .await
}

async fn list_flows(State(asks): Asks, query: Parameters<FlowsQuery>) -> Result<Reply, Fault> {
    let FlowsQuery {
        network,
        limit,
        sort,
    } = query?.0;
    let limit = limit.unwrap_or(FLOWS_LIMIT_DEFAULT);
    if limit > FLOWS_LIMIT_MAX {
        let message = format!("{limit} flows at once are too many");
        return Err(Refusal::invalid(message)
            .cure(format!(
                "ask for at most {FLOWS_LIMIT_MAX}, or for one network"
            ))
            .into());
    }
    answer(
        asks,
        Ask::Flows {
            network,
            limit,
            sort,
        },
    )
    .await
}

async fn list_drops(State(asks): Asks, query: Parameters<DropsQuery>) -> Result<Reply, Fault> {
    let all = query?.all;
    answer(asks, Ask::Drops { all }).await
}

async fn route_of_a_frame(
    State(asks): Asks,
    query: Parameters<RouteQuery>,
) -> Result<Reply, Fault> {
    answer(asks, Ask::Route(query?.0)).await
}

async fn trace(State(asks): Asks, body: Body) -> Result<Reply, Fault> {
    let request = read::<TraceRequest>(body).await?;
    answer(asks, Ask::Trace(request)).await
}

/// What Prometheus reads: three answers, taken one after the other.
async fn scrape(State(asks): Asks, query: Parameters<NoQuery>) -> Result<Response, Fault> {
    query?;
    let Answer::Status(status) = answer(asks.clone(), Ask::Status).await?.0 else {
        return Err(unfitting());
    };
    let Answer::Stats(stats) = answer(asks.clone(), Ask::Stats).await?.0 else {
        return Err(unfitting());
    };
    let Answer::Links(links) = answer(asks, Ask::Links).await?.0 else {
        return Err(unfitting());
    };
    let scrape = Scrape {
        status: *status,
        stats: *stats,
        links,
    };
    let text = metrics::text(scrape).map_err(|_| unfitting())?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// Whether a connection has become a stream, which may last.
#[derive(Clone, Default)]
pub struct Streaming(Arc<AtomicBool>);

impl Streaming {
    /// Whether it has.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that happens from now on.
async fn listen(
    Extension(events): Extension<Teller>,
    Extension(streaming): Extension<Streaming>,
    query: Parameters<NoQuery>,
) -> Result<Response, Fault> {
    query?;
    let Some(listener) = events.listen() else {
        let message = format!("{LISTENERS_MAX} listen already");
        return Err(Refusal::unavailable(message)
            .cure("end one of them (`vnetctl watch`), or try again later")
            .into());
    };
    streaming.0.store(true, Ordering::Relaxed);
    let alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(listener.stream())
        .keep_alive(alive)
        .into_response())
}

/// What this API is, for programs.
async fn describe(query: Parameters<NoQuery>) -> Result<Response, Fault> {
    query?;
    Ok(respond(StatusCode::OK, &openapi::document()))
}

fn unfitting() -> Fault {
    Refusal::internal("the agent's answer does not fit the question").into()
}

async fn unknown_path(uri: Uri) -> Fault {
    let paths: Vec<String> = OPERATIONS.iter().map(Operation::to_string).collect();
    Refusal::not_found(format!("there is no path {}", uri.path()))
        .cure(format!("the paths are: {}", paths.join("; ")))
        .into()
}

async fn unknown_method(method: Method, uri: Uri) -> Fault {
    let is_this = |operation: &&Operation| match operation.path.split_once('{') {
        Some((before, _)) => uri.path().starts_with(before),
        None => uri.path() == operation.path,
    };
    let methods: Vec<&str> = OPERATIONS
        .iter()
        .filter(is_this)
        .map(|operation| operation.method)
        .collect();
    let methods = methods.join(", ");
    let refusal = Refusal::invalid(format!("{method} is not for {}", uri.path()))
        .cure(format!("use {methods}"));
    let mut fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, refusal);
    fault.allow = HeaderValue::from_str(&methods).ok();
    fault
}

/// The body as a value.
async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Fault> {
    read_up_to(body, BODY_BYTES_MAX).await
}

async fn read_up_to<T: DeserializeOwned>(body: Body, most: usize) -> Result<T, Fault> {
    let bytes = match timeout(BODY_TIMEOUT, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(unreadable(&error, most)),
        Err(_) => {
            let message = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            return Err(Fault::new(
                StatusCode::REQUEST_TIMEOUT,
                Refusal::invalid(message),
            ));
        }
    };
    match Json::<T>::from_bytes(&bytes) {
        Ok(Json(value)) => Ok(value),
        // The text names the field, the line and the column.
        Err(rejection) => Err(Refusal::invalid(with_causes(&rejection)).into()),
    }
}

fn unreadable(error: &axum::Error, most: usize) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            let message = format!("the body has more than {most} bytes");
            return Fault::new(StatusCode::PAYLOAD_TOO_LARGE, Refusal::invalid(message));
        }
        cause = error.source();
    }
    Refusal::invalid(format!("the body broke off: {error}")).into()
}

/// An error's text with those of its causes that it does not repeat.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Asks for a change, and says so in the log: only here it is known who asked.
async fn change(asks: mpsc::Sender<Request>, who: Who, ask: Ask) -> Result<Reply, Fault> {
    let axum::Extension(Asker { uid, pid, name }) = who;
    let name = name.as_deref();
    let reply = answer(asks, ask).await;
    match &reply {
        Ok(Reply(Answer::Change(change))) => {
            tracing::info!(uid, pid, name, "{}: {}", change.outcome, change.subject);
        }
        Ok(_) => {}
        Err(fault) => tracing::info!(uid, pid, name, "a change was refused: {}", fault.refusal),
    }
    reply
}

async fn answer(asks: mpsc::Sender<Request>, ask: Ask) -> Result<Reply, Fault> {
    let (reply, answer) = oneshot::channel();
    asks.try_send(Request { ask, reply })
        .map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Refusal::unavailable("the agent has as many requests waiting as it takes")
                    .cure("try again in a moment")
            }
            mpsc::error::TrySendError::Closed(_) => Refusal::unavailable("the agent is stopping"),
        })?;
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(Reply(answer?)),
        Ok(Err(_)) => Err(
            Refusal::internal("the agent gave up this request without an answer")
                .cure("see the agent's log")
                .into(),
        ),
        Err(_) => Err(Refusal::unavailable(format!(
            "the agent did not answer within {} s; a change may still happen",
            ANSWER_TIMEOUT.as_secs()
        ))
        .cure("try again; if it stays so, see the agent's log")
        .into()),
    }
}

/// An answer as a response.
struct Reply(Answer);

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Answer::Change(change) if change.outcome == ChangeOutcome::Added => StatusCode::CREATED,
            _ => StatusCode::OK,
        };
        respond(status, &self.0)
    }
}

/// A refusal as a response.
struct Fault {
    status: StatusCode,
    allow: Option<HeaderValue>,
    refusal: Refusal,
}

impl Fault {
    const fn new(status: StatusCode, refusal: Refusal) -> Self {
        Self {
            status,
            allow: None,
            refusal,
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.kind.status(), refusal)
    }
}

impl From<QueryRejection> for Fault {
    fn from(rejection: QueryRejection) -> Self {
        Refusal::invalid(with_causes(&rejection)).into()
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = respond(self.status, &self.refusal);
        if let Some(methods) = self.allow {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        response
    }
}

/// JSON with line breaks: people read it with `curl`, and `vnetctl -o json` hands it on as it is.
fn respond(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer has no form in JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
