//! May this holder of a certificate do what he asks for? Whatever changes something is logged with
//! his name.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::info;

use super::rights::{self, Right};
use super::{Door, STREAMS_MAX, locked};
use crate::api::openapi::EVENTS;
use crate::api::route::{BODY_TIMEOUT, fault};
use crate::api::{Refusal, TOPOLOGY_BYTES_MAX};
use crate::identity::{Certificate, Role};
use crate::overlay::refusal::Turned;

/// One connection, as far as its rights go.
#[derive(Clone)]
pub(super) struct Guard {
    door: Arc<Door>,
    certificate: Arc<Certificate>,
    from: SocketAddr,
    /// The place of its stream of events, as long as the connection is there.
    stream: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

/// As much of a plan as says that it is one.
#[derive(Deserialize)]
struct Plan {
    #[serde(default)]
    dry_run: bool,
}

impl Guard {
    pub(super) fn new(door: Arc<Door>, certificate: Certificate, from: SocketAddr) -> Self {
        Self {
            door,
            certificate: Arc::new(certificate),
            from,
            stream: Arc::default(),
        }
    }

    fn forbidden(&self, why: Turned, cure: String) -> Response {
        self.door.turn(why, self.from);
        let Certificate { name, role, .. } = &*self.certificate;
        let message = format!("{name} has a certificate for the role {role}");
        let refusal = Refusal::forbidden(message).cure(cure);
        fault(StatusCode::FORBIDDEN, refusal)
    }

    fn for_operators(&self, what: &str) -> Response {
        let cure = format!(
            "readers ask and plan; {what} needs an operator's: vnetctl ca issue NAME --role operator"
        );
        self.forbidden(Turned::Forbidden, cure)
    }

    /// The request, if it may be asked; with its body where that had to be looked into.
    async fn pass(&self, request: Request) -> Result<Request, Response> {
        let right = rights::of(request.method(), request.uri().path());
        match (self.certificate.role, right) {
            (Role::Operator, _) | (Role::Reader, Right::Ask) => Ok(request),
            (Role::Reader, Right::Plan) => self.plan(request).await,
            (Role::Reader, Right::Change) => {
                let what = format!("{} {}", request.method(), request.uri().path());
                Err(self.for_operators(&what))
            }
            (Role::Agent | Role::Proxy, _) => {
                let cure = "the API is for people: vnetctl ca issue NAME --role operator, or \
                            --role reader";
                Err(self.forbidden(Turned::WrongRole, cure.to_owned()))
            }
        }
    }

    async fn plan(&self, request: Request) -> Result<Request, Response> {
        let (head, body) = request.into_parts();
        let bytes = match timeout(BODY_TIMEOUT, to_bytes(body, TOPOLOGY_BYTES_MAX)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => {
                let message =
                    format!("the body breaks off, or has more than {TOPOLOGY_BYTES_MAX} bytes");
                let refusal = Refusal::invalid(message);
                return Err(fault(StatusCode::PAYLOAD_TOO_LARGE, refusal));
            }
            Err(_) => {
                let refusal = Refusal::invalid("the body does not come");
                return Err(fault(StatusCode::REQUEST_TIMEOUT, refusal));
            }
        };
        let is_plan = serde_json::from_slice::<Plan>(&bytes).is_ok_and(|plan| plan.dry_run);
        match is_plan {
            true => Ok(Request::from_parts(head, Body::from(bytes))),
            false => Err(self.for_operators("a change of the whole overlay")),
        }
    }

    /// Takes a place for a stream, where it asks for one; answers that there is none.
    fn crowded(&self, request: &Request) -> Option<Response> {
        if request.uri().path() != EVENTS {
            return None;
        }
        match Arc::clone(&self.door.streams).try_acquire_owned() {
            Ok(place) => {
                *locked(&self.stream) = Some(place);
                None
            }
            Err(_) => {
                self.door.turn(Turned::TooMany, self.from);
                let message = format!("{STREAMS_MAX} listen from elsewhere already");
                let cure = "end one of them (`vnetctl watch`), or listen on the host itself";
                let refusal = Refusal::unavailable(message).cure(cure);
                Some(fault(StatusCode::SERVICE_UNAVAILABLE, refusal))
            }
        }
    }
}

/// Lets a request through, or not.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match guard.pass(request).await {
        Ok(request) => match guard.crowded(&request) {
            None => next.run(request).await,
            Some(crowded) => crowded,
        },
        Err(refused) => refused,
    };
    if rights::of(&method, &path) != Right::Ask {
        let Certificate { name, role, .. } = &*guard.certificate;
        let status = response.status().as_u16();
        info!(%role, name, from = %guard.from, status, "{method} {path}");
    }
    response
}
