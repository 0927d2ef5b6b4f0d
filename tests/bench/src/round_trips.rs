//! How long is a small packet on its way, there and back?
//!
//! One thread asks and one answers, over UDP, each on its own core and each asleep until the other
//! has spoken, as guests are: waking them up is part of what is measured, the same for every path.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use lab::Namespace;

use crate::cores::Cores;
use crate::figure::percentile;

/// What is asked and answered, bytes.
const MESSAGE: [u8; 16] = [0x5a; 16];
const PORT: u16 = 4000;
/// An answer that takes longer is lost, and so is the measurement.
const PATIENCE: Duration = Duration::from_secs(2);
/// A window is a tenth longer, for what is not counted at its beginning.
const WARM_UP_PART: u32 = 10;

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Half of all were faster, microseconds.
    pub median_us: f64,
    /// 99 of 100 were faster, microseconds.
    pub p99_us: f64,
    /// How many were counted.
    pub count: usize,
}

/// Asks and answers for this long.
///
/// # Errors
///
/// A socket cannot be had, or an answer is lost.
pub fn measure(
    cores: Cores,
    client: &Namespace,
    server: &Namespace,
    server_address: &str,
    window: Duration,
) -> Result<Measured> {
    let to = SocketAddr::new(server_address.parse()?, PORT);
    let answering = socket(server, PORT)?;
    let asking = socket(client, 0)?;
    asking.connect(to)?;
    let mut samples = thread::scope(|scope| {
        let answerer = scope.spawn(|| answer(cores, &answering));
        let asker = scope.spawn(|| {
            let samples = ask(cores, &asking, window);
            // An empty message ends the other thread.
            asking.send(&[]).context("ending the answers")?;
            samples
        });
        let panicked = |_| anyhow!("a thread panicked");
        let samples = asker.join().map_err(panicked)?;
        answerer.join().map_err(panicked)?.and(samples)
    })?;
    samples.sort_by(f64::total_cmp);
    ensure!(!samples.is_empty(), "no answer was counted");
    Ok(Measured {
        median_us: percentile(&samples, 0.5).context("no samples")?,
        p99_us: percentile(&samples, 0.99).context("no samples")?,
        count: samples.len(),
    })
}

fn socket(namespace: &Namespace, port: u16) -> Result<UdpSocket> {
    let socket = namespace.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn answer(cores: Cores, socket: &UdpSocket) -> Result<()> {
    cores.take_receivers()?;
    let mut buffer = [0; 64];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((0, _)) => return Ok(()),
            Ok((length, from)) => {
                let message = buffer.get(..length).unwrap_or_default();
                socket.send_to(message, from)?;
            }
            Err(error) => return Err(error).context("waiting for a question"),
        }
    }
}

fn ask(cores: Cores, socket: &UdpSocket, window: Duration) -> Result<Vec<f64>> {
    cores.take_senders()?;
    let mut buffer = [0; 64];
    let mut samples = Vec::new();
    let began = Instant::now();
    let warm_up = window / WARM_UP_PART;
    loop {
        let asked = Instant::now();
        socket.send(&MESSAGE)?;
        let length = socket.recv(&mut buffer).context("waiting for an answer")?;
        ensure!(length == MESSAGE.len(), "the answer has {length} bytes");
        let elapsed = began.elapsed();
        if elapsed >= warm_up {
            samples.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        if elapsed >= window + warm_up {
            return Ok(samples);
        }
    }
}
