//! Does a stream of TCP arrive as it was sent? From one guest (a namespace) to another.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, ensure};
use lab::{LIMIT, NamespaceGuest};

/// Sends so many bytes from one guest to this address and port of the other.
///
/// # Errors
///
/// Something else arrives, or nothing.
pub fn transfer(
    from: &NamespaceGuest,
    to: &NamespaceGuest,
    address: &str,
    bytes: u32,
) -> Result<()> {
    let listener = to.inside(|| TcpListener::bind(address))??;
    let data: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| -> Result<Vec<u8>> {
            listener.set_nonblocking(true)?;
            let accept = || Ok(listener.accept().ok());
            let (mut stream, _) = lab::try_eventually("a connection comes", accept)?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(LIMIT))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received)?;
            Ok(received)
        });
        let sent = from.inside(|| -> Result<()> {
            let address = address.parse()?;
            // A guest that asked for its neighbour before there was a link has given it up for now.
            let connect = || Ok(TcpStream::connect_timeout(&address, LIMIT).ok());
            let mut stream = lab::try_eventually("the other guest is reached", connect)?;
            stream.set_write_timeout(Some(LIMIT))?;
            stream.write_all(&data)?;
            Ok(())
        })?;
        sent.context("sending")?;
        let received = receiver.join().ok().context("the receiver panicked")??;
        ensure!(
            received == data,
            "{} bytes were sent, {} came, and they are other ones",
            data.len(),
            received.len()
        );
        Ok(())
    })
}
