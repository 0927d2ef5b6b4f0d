//! A connection over TCP: opened, or waited for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// How many connections the kernel keeps until they are looked at.
const BACKLOG: u32 = 128;
/// A first packet that was lost is sent again by the kernel after a second, then two, then four: too
/// long for a path that has just come back. So a connection is asked for anew.
const ASK_AGAIN: Duration = Duration::from_millis(300);

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}

/// Opens one, from this address where one is given. Asks again and again, and takes the first that is
/// there. May be cancelled.
///
/// # Errors
///
/// Those of connect(2) and bind(2).
pub async fn open(local: Option<IpAddr>, remote: SocketAddr) -> io::Result<TcpStream> {
    let mut asked = JoinSet::new();
    loop {
        asked.spawn(connect(local, remote));
        tokio::select! {
            Some(answer) = asked.join_next() => return answer.map_err(io::Error::other)?,
            () = tokio::time::sleep(ASK_AGAIN) => {}
        }
    }
}

async fn connect(local: Option<IpAddr>, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(remote)?;
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    let stream = socket.connect(remote).await?;
    // Frames are written many at a time; the last of them must not wait for an answer.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits for others at this address.
///
/// # Errors
///
/// Those of bind(2) and listen(2).
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    // An agent that starts again finds connections of the one before that are about to end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
