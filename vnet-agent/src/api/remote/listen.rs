//! How does a connection from elsewhere come in, and what does each cost at most?
//!
//! Until it has shown a certificate it is bounded in number (all together, and from one address), time
//! and bytes; then in number (all together, and of one name) and by the bounds of every connection.
//! Who is turned away hears why, as far as there is anybody to hear it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::guard::{Guard, guard};
use super::places::Place;
use super::tls::{HostTls, linger};
use super::{Door, Heard, Plan, locked};
use crate::api::Refusal;
use crate::api::http::{SHUTDOWN_TIMEOUT, STREAM_TIMEOUT, serve_one};
use crate::api::route::{Asker, refusing};
use crate::identity::Certificate;
use crate::overlay::refusal::Turned;

/// For a connection to show who it is.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);
/// Between two tries to listen at an address that is taken, or not there yet.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// For what was sent to arrive: who has gone without a word holds a stream no longer than this.
const UNHEARD_MAX: Duration = Duration::from_secs(30);

/// Listens where the plan says, until nobody can change it any more; connections that are busy then get
/// two seconds. Dropping the future ends all at once.
pub async fn run(mut plan: watch::Receiver<Plan>, door: Arc<Door>) {
    let mut listener = None;
    let mut connections = JoinSet::new();
    loop {
        let now = plan.borrow_and_update().clone();
        if listener
            .as_ref()
            .is_some_and(|&(at, _)| Some(at) != now.place())
        {
            listener = None;
            // Who came in by it may not stay where it is not wanted.
            connections.shutdown().await;
        }
        match (now.place(), &listener) {
            (Some(address), None) => {
                let heard = hear(address, &door).await;
                listener = heard.map(|listener| (address, listener));
            }
            (None, _) => *locked(&door.heard) = Heard::default(),
            (Some(_), Some(_)) => {}
        }
        let is_deaf = now.place().is_some() && listener.is_none();
        tokio::select! {
            changed = plan.changed() => if changed.is_err() {
                break;
            },
            () = sleep(LISTEN_AGAIN), if is_deaf => {}
            Some(_) = connections.join_next() => {}
            (stream, from) = accept(listener.as_ref().map(|(_, listener)| listener)) => {
                let Some(place) = door.strangers.take(&from.ip()) else {
                    door.turn(Turned::TooMany, from);
                    continue;
                };
                if let Some(tls) = now.tls {
                    connections.spawn(receive(stream, from, tls, place, Arc::clone(&door)));
                }
            }
        }
    }
    drop(listener);
    let _ = timeout(SHUTDOWN_TIMEOUT, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

async fn hear(address: SocketAddr, door: &Door) -> Option<TcpListener> {
    let bound = TcpListener::bind(address).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let mut heard = locked(&door.heard);
    match bound {
        Ok((at, listener)) => {
            info!(address = %at, "the API is served to operators and readers, over TLS");
            heard.at = Some(at);
            heard.deaf = None;
            Some(listener)
        }
        Err(error) => {
            let why = format!("nobody can be heard at {address}: {error}");
            if heard.deaf.as_ref() != Some(&why) {
                warn!("the API over TLS: {why}; it is tried again and again");
            }
            heard.at = None;
            heard.deaf = Some(why);
            None
        }
    }
}

/// The next connection.
async fn accept(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // Out of descriptors, say: those that are open will end.
                warn!("no connection can be accepted: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn receive(
    stream: TcpStream,
    from: SocketAddr,
    tls: HostTls,
    place: Place<IpAddr>,
    door: Arc<Door>,
) {
    prepare(&stream);
    let (stream, certificate) = match timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(came)) => came,
        Ok(Err((why, stream))) => {
            door.turn(why, from);
            if let Some(stream) = stream {
                linger(stream).await;
            }
            return;
        }
        Err(_) => return door.turn(Turned::TooSlow, from),
    };
    if door.revoked.borrow().covers(&certificate) {
        door.turn(Turned::Revoked, from);
        let message = format!("this certificate of {} is revoked", certificate.name);
        let cure = "where the authority is, `vnetctl ca issue` makes another";
        let refusal = Refusal::forbidden(message).cure(cure);
        return serve_one(stream, refusing(refusal), STREAM_TIMEOUT).await;
    }
    let longest = good_for(&certificate).min(STREAM_TIMEOUT);
    let Some(known) = door.known.take(&certificate.name) else {
        door.turn(Turned::TooMany, from);
        let message = format!("{} asks too much at one time", certificate.name);
        let refusal = Refusal::unavailable(message).cure("try again in a moment");
        return serve_one(stream, refusing(refusal), longest).await;
    };
    drop(place);
    debug!(%from, name = certificate.name, "an operator or reader has come");
    let router = router(&door, certificate.clone(), from);
    tokio::select! {
        () = serve_one(stream, router, longest) => {}
        () = revoked(&door, &certificate) => door.turn(Turned::Revoked, from),
    }
    drop(known);
}

/// Waits until a certificate is revoked.
async fn revoked(door: &Door, certificate: &Certificate) {
    let mut list = door.revoked.clone();
    let covered = list.wait_for(|list| list.covers(certificate));
    let is_unknown = covered.await.is_err();
    if is_unknown {
        // Nobody can revoke any more.
        std::future::pending().await
    }
}

fn router(door: &Arc<Door>, certificate: Certificate, from: SocketAddr) -> Router {
    let asker = Asker::named(&certificate);
    let guarded = Guard::new(Arc::clone(door), certificate, from);
    let router = door.router.clone();
    router
        .layer(Extension(asker))
        .layer(from_fn_with_state(guarded, guard))
}

/// Small answers go at once, and who has gone is noticed.
fn prepare(stream: &TcpStream) {
    let patience = u32::try_from(UNHEARD_MAX.as_millis()).unwrap_or(u32::MAX);
    let noticed = setsockopt(stream, TcpUserTimeout, &patience);
    if let Err(error) = stream.set_nodelay(true).and(noticed.map_err(Into::into)) {
        debug!(%error, "a connection cannot be prepared");
    }
}

/// How long its certificate lasts: a stream ends with it.
fn good_for(certificate: &Certificate) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let over = Duration::from_secs(certificate.life.to_unix_s);
    over.saturating_sub(now.unwrap_or_default())
}
