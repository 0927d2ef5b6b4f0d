//! One connection of a link, from the proof to its end: frames out of the outbox, frames into the tap.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use vnet_common::addr::{Cookie, LinkId};
use vnet_common::wire::slow::Slow;
use zerocopy::IntoBytes;

use super::gate::Refused;
use super::outbox::{Outbox, frames_in};
use super::plan::PlannedLink;
use super::state::add;
use crate::model::offload::Offload;
use crate::overlay::carrier::life::{Beat, Pulse};
use crate::overlay::carrier::message::{
    self, ALIVE_MESSAGE, BadMessage, Carried, FRAME_BYTES_MAX, HEADER_BYTES, Message,
};
use crate::overlay::carrier::preface::{
    Asked, FINISH_BYTES, HELLO_BYTES, Instance, Nonce, Opener, Unproved, WELCOME_BYTES,
};
use crate::world::tap::Tap;

/// What a connection is: of a socket, or of TLS over one.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Bytes that are read at once: several of the largest frames.
const READ_BYTES: usize = 4 * (HEADER_BYTES + FRAME_BYTES_MAX);

/// Why a conversation or a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The other end closed it.
    #[error("the other end closed it")]
    Closed,
    /// The network or the kernel did.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other end proved nothing.
    #[error("{0}")]
    Unproved(#[from] Unproved),
    /// What came was no message.
    #[error("the other end sent {0}")]
    BadMessage(#[from] BadMessage),
    /// Nothing came for too long.
    #[error("nothing has been heard of the other end")]
    Silent,
    /// The conversation took too long.
    #[error("the other end did not answer in time")]
    Slow,
    /// TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// TLS is asked for, and this host has no certificate.
    #[error("this host has no certificate")]
    NoCertificate,
}

impl Ended {
    /// What it counts as, where the other end was the one that came.
    pub fn refused(&self) -> Refused {
        match self {
            Self::Unproved(Unproved::Magic) => Refused::Garbage,
            Self::Unproved(_) => Refused::WrongCookie,
            Self::BadMessage(_) => Refused::BadMessage,
            Self::Slow => Refused::Slow,
            Self::Tls(_) => Refused::Certificate,
            Self::NoCertificate => Refused::NoCertificate,
            Self::Closed | Self::Io(_) | Self::Silent => Refused::Gone,
        }
    }
}

/// Reads exactly so many bytes; one that is closed before says so.
async fn read<const N: usize>(stream: &mut Box<dyn Stream>) -> Result<[u8; N], Ended> {
    let mut bytes = [0; N];
    match stream.read_exact(&mut bytes).await {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Ended::Closed),
        Err(error) => Err(error.into()),
    }
}

/// Proves, as the end that opened it, which link a connection is for.
pub(super) async fn introduce(
    stream: &mut Box<dyn Stream>,
    opener: &Opener,
) -> Result<Instance, Ended> {
    stream.write_all(opener.hello()).await?;
    stream.flush().await?;
    let welcome = read::<WELCOME_BYTES>(stream).await?;
    let (finish, other) = opener.finish(&welcome)?;
    stream.write_all(&finish).await?;
    stream.flush().await?;
    Ok(other)
}

/// Asks, as the end that was called, which of these links a connection is for; answers its place and
/// whose it is.
pub(super) async fn ask(
    stream: &mut Box<dyn Stream>,
    cookies: &[Cookie],
    own: Instance,
    nonce: Nonce,
) -> Result<(usize, Instance), Ended> {
    // Garbage is told by its first bytes, without waiting for as many as we would have sent.
    let hello = read_hello(stream).await?;
    let (place, asked) = Asked::new(hello, cookies.iter().copied(), own, nonce)?;
    stream.write_all(asked.welcome()).await?;
    stream.flush().await?;
    let finish = read::<FINISH_BYTES>(stream).await?;
    Ok((place, asked.finished(&finish)?))
}

async fn read_hello(stream: &mut Box<dyn Stream>) -> Result<[u8; HELLO_BYTES], Ended> {
    let mut hello = [0; HELLO_BYTES];
    let mut filled = 0;
    while filled < HELLO_BYTES {
        let room = hello.get_mut(filled..).unwrap_or_default();
        match stream.read(room).await? {
            0 => return Err(Ended::Closed),
            bytes => filled += bytes,
        }
        if !Opener::may_begin(hello.get(..filled).unwrap_or_default()) {
            return Err(Unproved::Magic.into());
        }
    }
    Ok(hello)
}

/// A link's end, as its connection sees it.
pub(super) struct End {
    pub(super) outbox: Arc<Outbox>,
    pub(super) planned: watch::Receiver<Arc<PlannedLink>>,
    pub(super) tap: watch::Receiver<Option<Arc<Tap>>>,
}

/// Carries frames both ways until one of them cannot any more.
pub(super) async fn carry(stream: Box<dyn Stream>, end: &End) -> Ended {
    let (from, to) = tokio::io::split(stream);
    let pulse = Mutex::new(Pulse::new(Instant::now()));
    tokio::select! {
        ended = receive(from, end, &pulse) => ended,
        ended = send(to, &end.outbox, &pulse) => ended,
        () = silence(&pulse) => Ended::Silent,
    }
}

fn lock(pulse: &Mutex<Pulse>) -> MutexGuard<'_, Pulse> {
    pulse.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends when the other end has been silent for too long.
async fn silence(pulse: &Mutex<Pulse>) {
    loop {
        let now = Instant::now();
        let next = match lock(pulse).beat(now) {
            Beat::Dead => return,
            // That is the sender's business; it is looked at again soon.
            Beat::Say => now + Duration::from_millis(100),
            Beat::Wait(until) => until,
        };
        tokio::time::sleep_until(next.into()).await;
    }
}

/// Frames that are being sent: where that ends half way, the rest is counted as lost.
struct Batch<'a> {
    bytes: Vec<u8>,
    written: usize,
    outbox: &'a Outbox,
}

impl Batch<'_> {
    /// Counts those that went, and those that did not.
    fn settle(&mut self) {
        let all = frames_in(&self.bytes);
        let sent = frames_in(self.bytes.get(..self.written).unwrap_or_default());
        add(&self.outbox.counts.sent, sent);
        add(&self.outbox.counts.lost, all - sent);
        self.bytes.clear();
        self.written = 0;
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

async fn send(mut to: WriteHalf<Box<dyn Stream>>, outbox: &Outbox, pulse: &Mutex<Pulse>) -> Ended {
    let mut batch = Batch {
        bytes: Vec::new(),
        written: 0,
        outbox,
    };
    loop {
        batch.bytes = outbox.take(std::mem::take(&mut batch.bytes));
        let result = match batch.bytes.is_empty() {
            false => write(&mut to, &mut batch, pulse).await,
            true => match wait(outbox, pulse).await {
                Beat::Say => say_alive(&mut to, pulse).await,
                Beat::Dead | Beat::Wait(_) => Ok(()),
            },
        };
        if let Err(error) = result {
            return error.into();
        }
    }
}

/// Until there is something to send, or to say.
async fn wait(outbox: &Outbox, pulse: &Mutex<Pulse>) -> Beat {
    let beat = lock(pulse).beat(Instant::now());
    match beat {
        Beat::Wait(until) => {
            tokio::select! {
                () = outbox.filled() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
            beat
        }
        // Silence is looked after elsewhere.
        Beat::Dead => {
            outbox.filled().await;
            beat
        }
        Beat::Say => beat,
    }
}

async fn say_alive(to: &mut WriteHalf<Box<dyn Stream>>, pulse: &Mutex<Pulse>) -> io::Result<()> {
    to.write_all(&ALIVE_MESSAGE).await?;
    to.flush().await?;
    lock(pulse).said(Instant::now());
    Ok(())
}

async fn write(
    to: &mut WriteHalf<Box<dyn Stream>>,
    batch: &mut Batch<'_>,
    pulse: &Mutex<Pulse>,
) -> io::Result<()> {
    while let Some(rest) = batch
        .bytes
        .get(batch.written..)
        .filter(|rest| !rest.is_empty())
    {
        match to.write(rest).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            bytes => batch.written += bytes,
        }
        lock(pulse).said(Instant::now());
    }
    to.flush().await?;
    batch.settle();
    Ok(())
}

async fn receive(mut from: ReadHalf<Box<dyn Stream>>, end: &End, pulse: &Mutex<Pulse>) -> Ended {
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        match from.read(room).await {
            Ok(0) => return Ended::Closed,
            Ok(bytes) => filled += bytes,
            // Of TLS, where whoever was there could not say goodbye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ended::Closed,
            Err(error) => return error.into(),
        }
        lock(pulse).heard(Instant::now());
        let bytes = buffer.get(..filled).unwrap_or_default();
        let used = match take_in(bytes, end).await {
            Ok(used) => used,
            Err(error) => return error.into(),
        };
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// Takes the whole messages that these bytes begin with; answers how many bytes they are.
async fn take_in(bytes: &[u8], end: &End) -> Result<usize, BadMessage> {
    let planned = Arc::clone(&end.planned.borrow());
    let tap = end.tap.borrow().clone();
    let counts = &end.outbox.counts;
    let mut used = 0;
    while let Some((message, length)) = message::first(bytes.get(used..).unwrap_or_default())? {
        used += length;
        let Message::Frame(frame) = message else {
            continue;
        };
        let counter = match deliver(&frame, &planned, tap.as_deref()).await {
            Some(()) => &counts.arrived,
            None => &counts.refused,
        };
        add(counter, 1);
    }
    Ok(used)
}

/// Hands a frame to the kernel; nothing where its network does not cross the link, or the kernel does
/// not believe what is left to do to it.
async fn deliver(frame: &Carried<'_>, planned: &PlannedLink, tap: Option<&Tap>) -> Option<()> {
    let &slot = planned.networks.get(&frame.network)?;
    let header = arrived(frame, slot, planned.id);
    let offload = Offload::in_front(&frame.work, Slow::BYTES as u16)?;
    let written = tap?.write_parts(&offload, header.as_bytes(), frame.bytes);
    written.await.ok()
}

const fn arrived(frame: &Carried<'_>, slot: u32, link: LinkId) -> Slow {
    Slow::arrived(frame.hop_limit, frame.network, slot, link).numbered(frame.copy)
}
