//! Which cores are used, and how far are they apart?
//!
//! Sender and receiver have a core each and may go before other programs there. Every frame goes from
//! one core to the other, so the rates depend on how long a cache line takes between them; and on
//! a virtual machine whose processors the host moves about, that changes from minute to minute.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// There and back again, in one measurement.
const ROUND_TRIPS: u32 = 20_000;

/// Has a program go before others, as far as the kernel lets it: on its own among the programs of
/// its session, and as a session among all others, since many kernels share the cores out to
/// sessions first (`/proc/sys/kernel/sched_autogroup_enabled`), and a build in another terminal
/// is one however nice it is.
const FIRST: [&str; 4] = [
    "setsid",
    "sh",
    "-c",
    "{ echo -20 > /proc/self/autogroup; } 2> /dev/null; exec nice -n -20 \"$0\" \"$@\"",
];

/// The two cores that are used.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    sender: usize,
    receiver: usize,
    first: bool,
}

impl Cores {
    /// The first two cores that this process may use, to go before other programs there or not.
    ///
    /// # Errors
    ///
    /// There is only one.
    pub fn choose(first: bool) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for our cores")?;
        let mut usable = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
        match (usable.next(), usable.next()) {
            (Some(sender), Some(receiver)) => Ok(Self {
                sender,
                receiver,
                first,
            }),
            _ => bail!("sender and receiver need a core each, and this process may use one only"),
        }
    }

    /// The same cores, beside other programs.
    #[must_use]
    pub const fn shared(self) -> Self {
        Self {
            first: false,
            ..self
        }
    }

    /// The two cores in the words of iperf3: its client's, its server's.
    #[must_use]
    pub fn as_iperf_has_it(self) -> String {
        format!("{},{}", self.sender, self.receiver)
    }

    /// The words of a command, for a program that goes before others there if it is to.
    #[must_use]
    pub fn words_of(self, command: &str) -> Vec<&str> {
        let first: &[&str] = if self.first { &FIRST } else { &[] };
        let first = first.iter().copied();
        first.chain(command.split_whitespace()).collect()
    }

    /// Keeps the calling thread on the sender's core.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn take_senders(self) -> Result<()> {
        self.take(self.sender)
    }

    /// Keeps the calling thread on the receiver's core.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn take_receivers(self) -> Result<()> {
        self.take(self.receiver)
    }

    /// How long a value takes from one core to the other and back.
    ///
    /// # Errors
    ///
    /// The kernel refuses a thread its core.
    pub fn round_trip(self) -> Result<Duration> {
        let ball = Ball(AtomicU32::new(0));
        thread::scope(|scope| {
            let far = scope.spawn(|| {
                self.take_receivers()?;
                (0..ROUND_TRIPS).for_each(|turn| ball.pass(2 * turn + 1));
                Ok(())
            });
            let near = scope.spawn(|| {
                self.take_senders()?;
                // The first round trip waits for the other thread to be there.
                ball.pass(0);
                ball.wait_for(2);
                let began = Instant::now();
                (1..ROUND_TRIPS).for_each(|turn| ball.pass(2 * turn));
                ball.wait_for(2 * ROUND_TRIPS);
                Ok(began.elapsed() / (ROUND_TRIPS - 1))
            });
            let panicked = |_| anyhow!("a thread panicked");
            let elapsed = near.join().map_err(panicked)?;
            far.join().map_err(panicked)?.and(elapsed)
        })
    }

    /// Keeps the calling thread on a core, before all others there if it is to
    /// be, as far as the kernel lets it.
    fn take(self, core: usize) -> Result<()> {
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &cores).context("keeping a thread on its core")?;
        if !self.first {
            return Ok(());
        }
        let priority = libc::sched_param { sched_priority: 1 };
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        // Where this is refused, the measurements tell how much of its core the sender had.
        // SAFETY: reads one parameter, which is whole; 0 means the calling thread.
        let _ = unsafe { libc::sched_setscheduler(0, policy, &raw const priority) };
        Ok(())
    }
}

/// A number on a cache line of its own that two threads raise in turn.
#[repr(align(128))]
struct Ball(AtomicU32);

impl Ball {
    fn wait_for(&self, turn: u32) {
        while self.0.load(Ordering::Acquire) != turn {
            std::hint::spin_loop();
        }
    }

    fn pass(&self, turn: u32) {
        self.wait_for(turn);
        self.0.store(turn + 1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_goes_first_is_the_same_program_with_the_same_words() {
        for first in [true, false] {
            let cores = Cores {
                sender: 0,
                receiver: 1,
                first,
            };
            let words = cores.words_of("printf %s,%s one two");
            let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
            assert_eq!(output.stdout, b"one,two", "{words:?}");
        }
    }
}
