//! How do connections to the agent's socket become HTTP?
//!
//! Input: connections from whoever may use the socket. Output: requests to the paths of the API,
//! bounded in time and number. One request a connection: a socket on the same host is cheap to
//! open, and an idle client holds nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Request;
use super::route::{Asker, router};

/// Connections served at one time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection as a whole, the reading of the answer included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// For connections to finish when the agent stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Until connections are accepted again after the kernel refused one.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves the API until `shutdown` is ready; connections that are busy then get two seconds.
///
/// Asks go to `asks`; where that is full the client is told to try again, where its receiver is
/// gone that the agent is stopping. Dropping the future ends all connections at once.
pub async fn serve(
    listener: UnixListener,
    asks: mpsc::Sender<Request>,
    shutdown: impl Future<Output = ()>,
) {
    let router = router(asks);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            // The semaphore is never closed, and its permits end with their connections.
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (accepted, permit) = accepted => match accepted {
                Ok((stream, _)) => {
                    let router = router.clone();
                    connections.spawn(async move {
                        let _permit = permit;
                        serve_one(stream, router).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the agent's socket");
                    sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    let _ = timeout(SHUTDOWN_TIMEOUT, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

async fn serve_one(stream: UnixStream, router: Router) {
    let service = TowerToHyperService::new(router.layer(axum::Extension(Asker::of(&stream))));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection on the agent's socket broke"),
        Err(_) => tracing::debug!("a connection on the agent's socket took too long"),
    }
}
