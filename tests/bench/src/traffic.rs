//! How many frames a second cross?
//!
//! One thread writes a frame to a tap again and again, one system call a frame, as fast as it is
//! let; another one reads the other tap. Each has a core. Where the kernel forwards, they go before
//! other programs there, and the receiver never sleeps, so that waking it costs the path nothing.
//! Where programs forward, they share the cores with these: the sender takes less of its own, and
//! the receiver sleeps while there is nothing to read, since more arrives so. What the sender sends beyond what arrives is lost, as with any datagram.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use nix::unistd;

use crate::cores::Cores;

/// Frames between two looks at the clock.
const FRAMES_A_LOOK: u32 = 256;
/// A quarter of a core that a program of the usual niceness wants too.
const SENDERS_NICENESS: i32 = 5;
/// How long a sleeping receiver takes to see that it is over.
const MOMENT_MS: u8 = 10;
/// What is still on its way when the sender stops has arrived when nothing came for this long.
const QUIET: Duration = Duration::from_millis(20);

/// What is sent, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// Whether programs on the way need the cores too.
    pub shares_cores: bool,
    /// Sent and not counted, first.
    pub warm_up: Duration,
    /// Counted.
    pub window: Duration,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Frames received in the window, a second.
    pub frames_per_second: f64,
    /// Of the frames sent, warm-up included, those that never arrived, per cent.
    pub lost_percent: f64,
    /// How much of the window the sender had its core to itself, per cent.
    pub core_percent: f64,
}

/// Sends from one tap and receives from the other.
///
/// # Errors
///
/// A tap fails, or no frame at all arrives.
pub fn measure(
    cores: Cores,
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    load: Load<'_>,
) -> Result<Measured> {
    let cores = if load.shares_cores {
        cores.shared()
    } else {
        cores
    };
    let counter = Counter::default();
    let frame_bytes = load.frame.len();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| match load.shares_cores {
            true => receive(cores, to, frame_bytes, &counter, sleep),
            false => receive(cores, to, frame_bytes, &counter, |_| std::hint::spin_loop()),
        });
        let sending = scope.spawn(|| {
            let sent = send(cores, from, load, &counter);
            counter.wait_until_quiet();
            counter.stop.store(true, Ordering::Relaxed);
            sent
        });
        let sent = sending.join().map_err(|_| anyhow!("the sender panicked"))?;
        receiving
            .join()
            .map_err(|_| anyhow!("the receiver panicked"))??;
        sent?.measured(counter.received.load(Ordering::Relaxed))
    })
}

/// What sender and receiver know of each other.
#[derive(Default)]
struct Counter {
    received: AtomicU64,
    stop: AtomicBool,
}

impl Counter {
    fn wait_until_quiet(&self) {
        let mut before = self.received.load(Ordering::Relaxed);
        loop {
            thread::sleep(QUIET);
            let now = self.received.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// A moment of a measurement.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    core: Duration,
    received: u64,
}

impl Mark {
    fn now(counter: &Counter) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            core: clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into(),
            received: counter.received.load(Ordering::Relaxed),
        })
    }
}

/// What the sender did.
struct Sent {
    frames: u64,
    begin: Mark,
    end: Mark,
}

impl Sent {
    fn measured(&self, received: u64) -> Result<Measured> {
        let Self { frames, begin, end } = self;
        ensure!(received > 0, "none of {frames} frames arrived");
        let counted = end.received - begin.received;
        ensure!(counted > 0, "nothing arrived while it was counted");
        let seconds = (end.at - begin.at).as_secs_f64();
        let lost = frames.saturating_sub(received);
        Ok(Measured {
            frames_per_second: counted as f64 / seconds,
            lost_percent: 100.0 * lost as f64 / *frames as f64,
            core_percent: 100.0 * (end.core - begin.core).as_secs_f64() / seconds,
        })
    }
}

fn send(cores: Cores, tap: BorrowedFd<'_>, load: Load<'_>, counter: &Counter) -> Result<Sent> {
    cores.take_senders()?;
    if load.shares_cores {
        yield_some();
    }
    let mut frames = 0;
    let started = Instant::now();
    let mut begin = None;
    loop {
        for _ in 0..FRAMES_A_LOOK {
            match unistd::write(tap, load.frame) {
                Ok(_) => frames += 1,
                // No memory or no room for this one: the next may do.
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::EINTR) => {}
                Err(error) => return Err(error).context("writing to the sending tap"),
            }
        }
        let elapsed = started.elapsed();
        match begin {
            None if elapsed >= load.warm_up => begin = Some(Mark::now(counter)?),
            Some(begin) if elapsed >= load.warm_up + load.window => {
                return Ok(Sent {
                    frames,
                    begin,
                    end: Mark::now(counter)?,
                });
            }
            _ => {}
        }
    }
}

/// Leaves the greater part of a core to the program that is to forward.
fn yield_some() {
    // Only ever refused to those who ask for more.
    // SAFETY: takes and touches nothing but numbers; 0 means the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, SENDERS_NICENESS) };
}

/// Waits for a frame, or a moment.
fn sleep(tap: BorrowedFd<'_>) {
    let mut taps = [PollFd::new(tap, PollFlags::POLLIN)];
    // Whatever it says, the next read says it too.
    let _ = poll(&mut taps, PollTimeout::from(MOMENT_MS));
}

fn receive(
    cores: Cores,
    tap: BorrowedFd<'_>,
    frame_bytes: usize,
    counter: &Counter,
    wait: impl Fn(BorrowedFd<'_>),
) -> Result<()> {
    cores.take_receivers()?;
    let mut buffer = [0; 4096];
    let mut received = 0;
    while !counter.stop.load(Ordering::Relaxed) {
        match unistd::read(tap, &mut buffer) {
            Ok(length) if length == frame_bytes => {
                received += 1;
                // Nobody else writes it.
                counter.received.store(received, Ordering::Relaxed);
            }
            // What a host's own stack says.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait(tap),
            Err(error) => return Err(error).context("reading from the receiving tap"),
        }
    }
    Ok(())
}
