//! How long is a small packet on its way, there and back?
//!
//! One thread asks and one answers, over UDP, each on its own core and each asleep until the other
//! has spoken, as guests are: waking them up is part of what is measured, the same for every path.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use lab::Namespace;

use crate::cores::Cores;
use crate::figure::percentile;

/// What is asked and answered, bytes: a number, and nothing else.
const MESSAGE_BYTES: usize = 16;
/// What ends the answers: a number that no question has.
const END: [u8; MESSAGE_BYTES] = [0xff; MESSAGE_BYTES];
const PORT: u16 = 4000;
/// An answer that takes longer is lost; the next question is another one.
const PATIENCE: Duration = Duration::from_millis(500);
/// A path that loses more is not measured.
const LOST_MAX: u32 = 5;
/// The longest that nobody asks: several answers lost in a row.
const SILENCE: Duration = Duration::from_secs(5);
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
    let answering = socket(server, PORT, SILENCE)?;
    let asking = socket(client, 0, PATIENCE)?;
    asking.connect(to)?;
    let mut samples = thread::scope(|scope| {
        let answerer = scope.spawn(|| answer(cores, &answering));
        let asker = scope.spawn(|| {
            let samples = ask(cores, &asking, window);
            // Lost, the other thread waits in vain and says so.
            asking.send(&END).context("ending the answers")?;
            samples
        });
        let panicked = |_| anyhow!("a thread panicked");
        let samples = asker.join().map_err(panicked)?;
        let answered = answerer.join().map_err(panicked)?;
        // What the asker says is nearer to the cause.
        samples.and_then(|samples| answered.map(|()| samples))
    })?;
    samples.sort_by(f64::total_cmp);
    ensure!(!samples.is_empty(), "no answer was counted");
    Ok(Measured {
        median_us: percentile(&samples, 0.5).context("no samples")?,
        p99_us: percentile(&samples, 0.99).context("no samples")?,
        count: samples.len(),
    })
}

fn socket(namespace: &Namespace, port: u16, patience: Duration) -> Result<UdpSocket> {
    let socket = namespace.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))??;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

fn answer(cores: Cores, socket: &UdpSocket) -> Result<()> {
    cores.take_receivers()?;
    let mut buffer = [0; 64];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => match buffer.get(..length).unwrap_or_default() {
                message if message == END => return Ok(()),
                message => {
                    socket.send_to(message, from)?;
                }
            },
            Err(error) => return Err(error).context("waiting for a question"),
        }
    }
}

fn ask(cores: Cores, socket: &UdpSocket, window: Duration) -> Result<Vec<f64>> {
    cores.take_senders()?;
    let mut samples = Vec::new();
    let mut lost = 0;
    let began = Instant::now();
    let warm_up = window / WARM_UP_PART;
    for number in 0_u128.. {
        let question = number.to_be_bytes();
        let asked = Instant::now();
        socket.send(&question)?;
        if !is_answered(socket, question)? {
            lost += 1;
            ensure!(lost <= LOST_MAX, "{lost} answers were lost");
            continue;
        }
        let elapsed = began.elapsed();
        if elapsed >= warm_up {
            samples.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        if elapsed >= window + warm_up {
            break;
        }
    }
    Ok(samples)
}

/// Waits for the answer to this question; one to an earlier question comes too late.
fn is_answered(socket: &UdpSocket, question: [u8; MESSAGE_BYTES]) -> Result<bool> {
    let mut buffer = [0; 64];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if buffer.get(..length) == Some(&question) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("waiting for an answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_too_late_is_not_taken_for_the_next() {
        let [one, two] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        one.set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let question = |number: u128| number.to_be_bytes();
        let to = one.local_addr().unwrap();
        for number in [6, 7] {
            two.send_to(&question(number), to).unwrap();
        }
        assert!(is_answered(&one, question(7)).unwrap());
        assert!(!is_answered(&one, question(8)).unwrap());
    }
}
