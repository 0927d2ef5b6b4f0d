//! How do connections become HTTP?
//!
//! Input: connections from whoever may use the agent's socket, or may read its metrics over TCP; those
//! that come over TLS are taken in by [`remote`](super::remote).
//! Output: requests to the paths of the API, bounded in time and number. One request a connection:
//! one is cheap to open on the same host, and an idle client holds nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Request;
use super::pass::PassOn;
use super::route::{Asker, Streaming, metrics_router, router};
use super::stream::Teller;

/// Connections served at one time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// The same for readers of metrics, of which there are few.
const SCRAPERS_MAX: usize = 4;
/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes; further ones are refused.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// For a connection as a whole, the reading of the answer included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// For a stream of events as a whole: its reader asks again then.
pub(super) const STREAM_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// For connections to finish when the agent stops.
pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves the API until `shutdown` is ready; connections that are busy then get two seconds.
///
/// Asks go to `asks`; where that is full the client is told to try again, where its receiver is
/// gone that the agent is stopping. Dropping the future ends all connections at once.
pub async fn serve(
    listener: UnixListener,
    asks: mpsc::Sender<Request>,
    events: Teller,
    pass: PassOn,
    shutdown: impl Future<Output = ()>,
) {
    let router = router(asks, events, pass);
    let of = move |stream: &UnixStream| router.clone().layer(Extension(Asker::of(stream)));
    serve_accepted(listener, of, CONNECTIONS_MAX, shutdown).await;
}

/// Serves `GET /metrics` and nothing else, with the same bounds, to whoever can reach `listener`.
pub async fn serve_metrics(
    listener: TcpListener,
    asks: mpsc::Sender<Request>,
    shutdown: impl Future<Output = ()>,
) {
    let router = metrics_router(asks);
    serve_accepted(listener, move |_| router.clone(), SCRAPERS_MAX, shutdown).await;
}

async fn serve_accepted<L: Listener>(
    mut listener: L,
    router_for: impl Fn(&L::Io) -> Router,
    connections_max: usize,
    shutdown: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            // The semaphore is never closed, and its permits end with their connections.
            let permit = Arc::clone(&room).acquire_owned().await;
            // What the kernel refuses is logged, and tried again after a second.
            (listener.accept().await, permit)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            ((stream, _), permit) = accepted => {
                let router = router_for(&stream);
                connections.spawn(async move {
                    let _permit = permit;
                    serve_one(stream, router, STREAM_TIMEOUT).await;
                });
            }
        }
    }
    drop(listener);
    let _ = timeout(SHUTDOWN_TIMEOUT, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// Serves one connection; it lasts at most so long, should it become a stream.
pub(super) async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    longest: Duration,
) {
    let streaming = Streaming::default();
    let router = router.layer(Extension(streaming.clone()));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let mut ended = timeout(CONNECTION_TIMEOUT.min(longest), &mut connection).await;
    if ended.is_err() && streaming.has_begun() {
        let rest = longest.saturating_sub(CONNECTION_TIMEOUT);
        ended = timeout(rest, connection).await;
    }
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
        Err(_) => tracing::debug!("a connection took too long"),
    }
}
