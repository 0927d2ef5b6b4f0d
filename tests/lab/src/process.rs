//! How does the lab start programs, and how do they end no later than the lab?
//!
//! Commands come from [`crate::Namespace::command`]; what they print goes back to the caller as
//! an [`Output`], or into a log file. A program that the lab leaves running is a [`Process`]: it
//! is killed when dropped, and the kernel kills it (`PR_SET_PDEATHSIG`) when the lab's process
//! ends in a way that runs no destructor.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

/// How long a program run to its end may take before it is taken for hung.
const RUN_LIMIT: Duration = Duration::from_secs(180);

/// What a program that ran to its end left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit status; 128 + the signal's number where a signal ended the program.
    pub status: i32,
    /// Everything printed on standard output.
    pub stdout: String,
    /// Everything printed on standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the exit status was 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// The output itself if the exit status was 0, and otherwise an error that quotes all of it.
    pub fn successful(self) -> Result<Self> {
        if self.success() {
            return Ok(self);
        }
        bail!(
            "`{}` ended with status {}\n{}{}",
            self.command,
            self.status,
            self.stderr,
            self.stdout
        )
    }
}

/// Runs a command to its end, whatever its exit status.
///
/// # Errors
///
/// Where the program cannot be started, or does not end within three minutes (it is killed then).
pub fn attempt(command: &mut Command) -> Result<Output> {
    let line = command_line(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let stdout = read_aside(child.stdout.take());
    let stderr = read_aside(child.stderr.take());
    let deadline = Instant::now() + RUN_LIMIT;
    let texts = stdout
        .recv_timeout(RUN_LIMIT)
        .and_then(|out| Ok((out, stderr.recv_timeout(time_left(deadline))?)));
    let Ok((stdout, stderr)) = texts else {
        end(&mut child);
        bail!("`{line}` did not end within {RUN_LIMIT:?}");
    };
    let Some(status) = wait_until(&mut child, deadline)? else {
        end(&mut child);
        bail!("`{line}` closed its output but did not end within {RUN_LIMIT:?}");
    };
    Ok(Output {
        command: line,
        status: status_number(status),
        stdout,
        stderr,
    })
}

/// A program that runs beside the test, and not longer than it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    line: String,
}

impl Process {
    /// Starts a command; its standard streams are as the command says.
    pub fn start(mut command: Command) -> Result<Self> {
        let line = command_line(&command);
        die_with_the_lab(&mut command);
        let child =
            spawn_on_lasting_thread(command).with_context(|| format!("cannot start `{line}`"))?;
        Ok(Self { child, line })
    }

    /// Starts a command that reads nothing and whose two outputs go to the end of a file.
    pub fn start_logged(mut command: Command, log: &File) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        Self::start(command)
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its standard streams.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status (see [`Output::status`]), or nothing while the program runs.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.child.try_wait()?.map(status_number))
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Not reaped before `ended` or `wait` says so, hence the number is still this program's.
        if self.ended()?.is_none() {
            let pid = Pid::from_raw(self.child.id().cast_signed());
            kill(pid, signal).with_context(|| format!("cannot signal `{}`", self.line))?;
        }
        Ok(())
    }

    /// Waits for the end and returns the exit status.
    ///
    /// # Errors
    ///
    /// Where the program still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<i32> {
        match wait_until(&mut self.child, Instant::now() + limit)? {
            Some(status) => Ok(status_number(status)),
            None => bail!("`{}` still runs after {limit:?}", self.line),
        }
    }

    /// Ends the program with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Has the kernel kill the program when the thread that starts it ends.
fn die_with_the_lab(command: &mut Command) {
    let lab = Pid::this();
    let arrange = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The lab may have ended before the line above: then nobody will send the signal.
        if getppid() != lab {
            return Err(io::Error::other("the lab ended meanwhile"));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls on values it owns; it
    // takes no lock, and allocates only for the error of a lab that is gone anyway.
    unsafe {
        command.pre_exec(arrange);
    }
}

/// Spawns on a thread that lives as long as the process.
///
/// The parent-death signal is sent when the *thread* that forked ends, and test threads end
/// before what they started is dropped.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                // A caller that no longer waits drops the child, as it would have done itself.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = mpsc::channel();
    let gone = |_| io::Error::other("the thread that starts programs is gone");
    spawner
        .send((command, reply))
        .map_err(|_| gone(mpsc::RecvError))?;
    answer.recv().map_err(gone)?
}

/// The command as one would type it.
pub(crate) fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn read_aside(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, text) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    text
}

fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn end(child: &mut Child) {
    // Both fail only where the program has ended and been waited for already.
    let _ = child.kill();
    let _ = child.wait();
}

fn status_number(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_what_the_program_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo why >&2; exit 7"]);
        let output = attempt(&mut command).unwrap();
        assert_eq!((output.status, output.stdout.as_str()), (7, "out\n"));
        let message = output.successful().unwrap_err().to_string();
        assert!(
            message.contains("status 7") && message.contains("why"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let message = attempt(&mut Command::new("no-such-program"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("no-such-program"), "{message}");
    }

    #[test]
    fn a_process_ends_when_dropped() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::start(command).unwrap();
        let directory = format!("/proc/{}", process.id());
        assert!(std::fs::exists(&directory).unwrap());
        drop(process);
        assert!(!std::fs::exists(&directory).unwrap());
    }

    #[test]
    fn a_process_survives_the_thread_that_started_it() {
        let start = || {
            let mut command = Command::new("sleep");
            command.arg("1000");
            Process::start(command).unwrap()
        };
        let mut process = thread::spawn(start).join().unwrap();
        assert_eq!(process.ended().unwrap(), None);
        process.signal(Signal::SIGTERM).unwrap();
        assert_eq!(process.wait(Duration::from_secs(20)).unwrap(), 128 + 15);
    }
}
