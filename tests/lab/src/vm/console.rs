//! How does one run commands in a guest and know what came of them?
//!
//! Over a serial port that carries nothing else; `init.sh` is at the other end and describes the
//! format. Commands and outputs travel in hexadecimal, so that nothing a command prints can be
//! taken for an answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Output;

/// The near end of a guest's serial port.
#[derive(Debug)]
pub(super) struct Console<W> {
    to_guest: W,
    from_guest: mpsc::Receiver<String>,
    number: u64,
}

impl<W: Write> Console<W> {
    /// A console over two pipes; nothing is sent yet.
    pub(super) fn new(to_guest: W, from_guest: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(from_guest).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            to_guest,
            from_guest: lines,
            number: 0,
        }
    }

    /// Waits until the guest's shell listens.
    pub(super) fn wait_until_up(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.line(deadline).context("the guest did not come up")? != "up" {}
        Ok(())
    }

    /// Runs a shell command to its end.
    pub(super) fn run(&mut self, command: &str, limit: Duration) -> Result<Output> {
        let deadline = Instant::now() + limit;
        self.number += 1;
        let request = format!("{} {}\n", self.number, to_hexadecimal(command.as_bytes()));
        self.to_guest.write_all(request.as_bytes())?;
        self.to_guest.flush()?;
        // An answer to an earlier command that took too long may still be on its way.
        let head = format!("reply {} ", self.number);
        let status = loop {
            if let Some(status) = self.line(deadline)?.strip_prefix(&head) {
                break status
                    .parse()
                    .context("the guest's exit status is not a number")?;
            }
        };
        let stdout = self.text_until("errors", deadline)?;
        let stderr = self.text_until("end", deadline)?;
        Ok(Output {
            command: command.to_owned(),
            status,
            stdout,
            stderr,
        })
    }

    fn text_until(&self, end: &str, deadline: Instant) -> Result<String> {
        let mut bytes = Vec::new();
        loop {
            let line = self.line(deadline)?;
            if line == end {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            bytes.extend(from_hexadecimal(&line).context("the guest's answer is garbled")?);
        }
    }

    fn line(&self, deadline: Instant) -> Result<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.from_guest.recv_timeout(left) {
            Ok(line) => Ok(line.trim_end().to_owned()),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("the guest does not answer"),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the guest is gone"),
        }
    }
}

fn to_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            &[high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn hexadecimal_comes_back_as_it_went() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hexadecimal(&to_hexadecimal(&bytes)), Some(bytes));
        assert_eq!(from_hexadecimal("abc"), None);
        assert_eq!(from_hexadecimal("+1"), None);
    }

    #[test]
    fn an_answer_has_status_output_and_errors() {
        let said = "noise\nup\nreply 1 3\n6f75740a\n6f7574\nerrors\nend\n";
        let mut sent = Vec::new();
        let mut console = Console::new(&mut sent, said.as_bytes());
        console.wait_until_up(LIMIT).unwrap();
        let output = console.run("ls", LIMIT).unwrap();
        assert_eq!(output.status, 3);
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("out\nout", "")
        );
        assert_eq!(sent, b"1 6c73\n");
    }

    #[test]
    fn an_answer_to_an_earlier_command_is_skipped() {
        let said = "reply 0 1\nerrors\nend\nreply 1 0\n6f6b\nerrors\nend\n";
        let mut console = Console::new(Vec::new(), said.as_bytes());
        assert_eq!(console.run("echo ok", LIMIT).unwrap().stdout, "ok");
    }

    #[test]
    fn a_guest_that_is_gone_is_said_to_be() {
        let mut console = Console::new(Vec::new(), &b"up\n"[..]);
        console.wait_until_up(LIMIT).unwrap();
        assert_eq!(
            console.run("ls", LIMIT).unwrap_err().to_string(),
            "the guest is gone"
        );
    }
}
