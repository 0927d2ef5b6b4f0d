//! How do messages get onto a connection and off it, both ways at once?
//!
//! A long part on a thin connection must not keep either end from hearing that the other is alive:
//! writing goes on while reading does, and every byte that comes counts as a sign of life.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::super::message::{BYTES_MAX, MessageError, Pieces, encode};

/// What came.
#[derive(Debug)]
pub enum Heard<T> {
    /// A message.
    Message(T),
    /// A piece of one.
    Stir,
}

/// Why there is no more.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other end has closed it.
    #[error("the other end closed the connection")]
    Closed,
    /// It broke.
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// What came is no message, or what should go is too long.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The other end does not take what it is sent.
    #[error("the other end is too slow: {0} bytes wait to be sent")]
    Slow(usize),
}

/// What waits to be sent at most: two messages of the longest kind.
const WAITING_BYTES_MAX: usize = 2 * BYTES_MAX;
/// For the last words to a peer that is to be left.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A connection that carries messages.
#[derive(Debug)]
pub struct Line<S> {
    stream: S,
    pieces: Pieces,
    chunk: Box<[u8]>,
    waiting: Vec<u8>,
    sent: usize,
    is_flushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Messages of so many bytes at most are taken from the other end.
    pub fn new(stream: S, most: usize) -> Self {
        Self {
            stream,
            pieces: Pieces::new(most),
            chunk: vec![0; 16 << 10].into(),
            waiting: Vec::new(),
            sent: 0,
            is_flushed: true,
        }
    }

    /// Puts a message behind those that wait to be sent; [`Self::heard`] sends them.
    ///
    /// # Errors
    ///
    /// It is too long, or the other end has not taken what came before.
    pub fn say(&mut self, message: &impl Serialize) -> Result<(), LineError> {
        self.waiting.drain(..self.sent);
        self.sent = 0;
        self.waiting.extend(encode(message)?);
        self.is_flushed = false;
        if self.waiting.len() > WAITING_BYTES_MAX {
            return Err(LineError::Slow(self.waiting.len()));
        }
        Ok(())
    }

    /// The next message, or a sign that one is on its way; sends meanwhile. May be cancelled.
    ///
    /// # Errors
    ///
    /// The connection is over, or what comes is no message.
    pub async fn heard<T: DeserializeOwned>(&mut self) -> Result<Heard<T>, LineError> {
        if let Some(message) = self.pieces.take()? {
            return Ok(Heard::Message(message));
        }
        let length = poll_fn(|context| self.poll(context)).await?;
        if length == 0 {
            return Err(LineError::Closed);
        }
        self.pieces.push(self.chunk.get(..length).unwrap_or(&[]));
        Ok(match self.pieces.take()? {
            Some(message) => Heard::Message(message),
            None => Heard::Stir,
        })
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_send(context) {
            return Poll::Ready(Err(error));
        }
        let mut into = ReadBuf::new(&mut self.chunk);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .waiting
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent = self.sent.saturating_add(written);
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits, for as long as that is bearable, and ends the connection.
    pub async fn end(mut self) {
        let last = async {
            poll_fn(|context| self.poll_send(context)).await?;
            self.stream.shutdown().await
        };
        // Whoever does not listen does not hear it.
        let _ = tokio::time::timeout(LAST_WORDS, last).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ends_can_send_more_than_the_pipe_holds_at_once() {
        let (one, two) = tokio::io::duplex(1000);
        let (mut one, mut two) = (Line::new(one, BYTES_MAX), Line::new(two, BYTES_MAX));
        let long = "x".repeat(100_000);
        one.say(&long).unwrap();
        two.say(&long).unwrap();
        let all = async |line: &mut Line<_>| loop {
            if let Heard::Message(message) = line.heard::<String>().await.unwrap() {
                break message;
            }
        };
        let (first, second) = tokio::join!(all(&mut one), all(&mut two));
        assert_eq!((first.len(), second.len()), (long.len(), long.len()));
    }

    #[tokio::test]
    async fn who_does_not_read_is_noticed_before_memory_is() {
        let (one, _two) = tokio::io::duplex(1000);
        let mut one = Line::new(one, BYTES_MAX);
        let long = "x".repeat(BYTES_MAX - 100);
        one.say(&long).unwrap();
        one.say(&long).unwrap();
        assert!(matches!(one.say(&long), Err(LineError::Slow(_))));
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_told_from_silence() {
        let (one, two) = tokio::io::duplex(1000);
        let (mut one, mut two) = (Line::new(one, 100), Line::new(two, 100));
        two.say(&"last").unwrap();
        two.end().await;
        let heard = one.heard::<String>().await.unwrap();
        assert!(matches!(heard, Heard::Message(word) if word == "last"));
        assert!(matches!(
            one.heard::<String>().await,
            Err(LineError::Closed)
        ));
    }
}
