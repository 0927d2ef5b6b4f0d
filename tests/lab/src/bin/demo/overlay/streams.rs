//! What runs in the virtual machines while links are cut? A ping, and a TCP stream that ends when it is told.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{VmGuest, try_eventually};

const PORT: u16 = 5002;

/// A ping and a stream from one machine to another, both running.
pub(super) struct Running<'g> {
    from: &'g VmGuest,
    to: &'g VmGuest,
    start: Instant,
}

/// What both came to.
pub(super) struct Ended {
    /// Echoes asked for, and received.
    pub(super) pings: (u64, u64),
    /// Bytes that arrived unchanged.
    pub(super) bytes: u64,
    /// How long they ran.
    pub(super) duration: Duration,
}

impl<'g> Running<'g> {
    /// Starts both, and waits until bytes arrive.
    pub(super) fn start(from: &'g VmGuest, to: &'g VmGuest, address: &str) -> Result<Self> {
        // A receiver whose standard input is at its end would say so to the sender, which then stops.
        to.run(
            "rm -f /tmp/sum /tmp/size; mkfifo -m 600 /tmp/copy
             printf '#!/bin/sh\ntee /tmp/copy | wc -c >/tmp/size' >/tmp/receive
             chmod +x /tmp/receive",
        )?;
        to.leave_running(&format!(
            "sha256sum </tmp/copy >/tmp/sum & nc -l -p {PORT} -e /tmp/receive"
        ))?;
        to.run(&format!(
            "for try in $(seq 100); do netstat -ltn | grep -q ':{PORT} ' && exit; sleep 0.1; done; exit 1"
        ))
        .context("the receiver does not listen")?;
        from.run(
            "rm -f /tmp/stop /tmp/sum /tmp/size; mkfifo -m 600 /tmp/copy /tmp/bytes 2>/dev/null
             head -c 1048576 /dev/urandom >/tmp/piece",
        )?;
        let start = Instant::now();
        from.leave_running(&format!(
            "sha256sum </tmp/copy >/tmp/sum & wc -c </tmp/bytes >/tmp/size &
             {{ while [ ! -e /tmp/stop ]; do cat /tmp/piece; done; }} |
             tee /tmp/copy /tmp/bytes | nc {address} {PORT}"
        ))?;
        from.leave_running(&format!("ping -i 0.1 {address} >/tmp/ping; true"))?;
        Ok(Self { from, to, start })
    }

    /// Waits until so many more echoes have come back.
    pub(super) fn until_echoes(&self, more: u64) -> Result<()> {
        let count = || -> Result<u64> {
            let said = self.from.run("grep -c 'bytes from' /tmp/ping || true")?;
            said.stdout
                .trim()
                .parse()
                .context("grep counts in no number")
        };
        let wanted = count()? + more;
        try_eventually(
            "the ping goes on",
            || Ok((count()? >= wanted).then_some(())),
        )
    }

    /// Ends both.
    ///
    /// # Errors
    ///
    /// What arrived is not what was sent.
    pub(super) fn end(self) -> Result<Ended> {
        let Self { from, to, start } = self;
        from.run("touch /tmp/stop; killall -INT ping")?;
        for guest in [from, to] {
            guest
                .run("for try in $(seq 300); do [ -s /tmp/sum -a -s /tmp/size ] && exit; sleep 0.1; done; exit 1")
                .context("the stream does not end")?;
        }
        let duration = start.elapsed();
        let what = "cut -c 1-64 /tmp/sum; cat /tmp/size";
        let (sent, received) = (from.run(what)?.stdout, to.run(what)?.stdout);
        ensure!(
            sent == received,
            "sent was {sent:?}, and received {received:?}"
        );
        let bytes = received.split_whitespace().nth(1);
        let bytes = bytes
            .and_then(|bytes| bytes.parse().ok())
            .context("wc counts in no number")?;
        Ok(Ended {
            pings: echoes(&from.run("cat /tmp/ping")?.stdout)?,
            bytes,
            duration,
        })
    }
}

/// What the last line but one of `ping` says.
fn echoes(said: &str) -> Result<(u64, u64)> {
    let line = said
        .lines()
        .find(|line| line.contains("packets transmitted"));
    let line = line.context("the ping does not say what it lost")?;
    let numbers: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers.as_slice() {
        [sent, received, ..] => Ok((*sent, *received)),
        _ => anyhow::bail!("`{line}` has no two numbers"),
    }
}
