//! Where do answers go, in which form, and how wide?

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsRawFd;

use clap::ValueEnum;

use crate::client::Answer;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: what the agent says, unchanged.
    Json,
}

/// Standard output.
pub struct Screen {
    /// In which form.
    pub format: Format,
    /// How many columns a terminal has; nothing where it is none: long lines stay whole there.
    pub columns: Option<usize>,
}

/// Narrower terminals are written to as if they were this wide.
const COLUMNS_MIN: usize = 40;

impl Screen {
    /// The screen that standard output is.
    pub fn new(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            format,
            columns: if terminal { terminal_columns() } else { None },
        }
    }

    /// Prints an answer: the agent's JSON, or what `render` makes of it.
    pub fn show<T>(
        &self,
        answer: &Answer,
        render: impl FnOnce(&T, Option<usize>) -> String,
    ) -> anyhow::Result<()>
    where
        T: serde::de::DeserializeOwned,
    {
        match self.format {
            Format::Json => write(answer.bytes())?,
            Format::Table => write(render(&answer.value()?, self.columns).as_bytes())?,
        }
        Ok(())
    }
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no error.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line to standard error.
pub fn complain(line: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{line}")
}

fn terminal_columns() -> Option<usize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the address it is given; `size` is one, is
    // writable and outlives the call. The descriptor is only read, and a bad one is an error.
    let result = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then(|| usize::from(size.ws_col).max(COLUMNS_MIN))
}
