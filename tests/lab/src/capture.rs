//! What passed on a device?
//!
//! tcpdump records into a file of the lab and decodes it afterwards. It sees what packet sockets
//! see: nothing that an XDP program redirects or drops on the device itself. Outer packets are
//! recorded on the underlay ([`crate::Underlay::capture_at`]).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::laboratory::Estate;
use crate::namespace::Namespace;
use crate::patience::{LIMIT, try_eventually};
use crate::process::{self, Process};

/// The longest frame that is recorded whole: a jumbo frame in any tunnel.
const FRAME_BYTES_MAX: &str = "9216";
/// Room for frames that wait for tcpdump, each in a slot of the largest size: some 7,000.
const BUFFER_KIB: &str = "65536";

/// A file begins with this much, in the byte order of who wrote it (pcap-savefile(5)).
const FILE_HEADER_BYTES: usize = 24;
/// A frame with this much: two numbers of time, how much was kept and how much there was.
const RECORD_HEADER_BYTES: usize = 16;

/// A recording under way.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
    said: PathBuf,
    // The file must not go before the recording.
    _estate: Arc<Estate>,
}

/// A finished recording.
#[derive(Clone, Debug)]
pub struct Recording {
    file: PathBuf,
    missed: usize,
    _estate: Arc<Estate>,
}

impl Capture {
    pub(crate) fn start(
        namespace: &Namespace,
        estate: &Arc<Estate>,
        device: &str,
        filter: &str,
    ) -> Result<Self> {
        let (file, said) = free_names(namespace.directory(), device)?;
        let mut command = namespace.command("tcpdump");
        command
            .args(["-n", "-U", "--immediate-mode", "-w"])
            .arg(&file)
            .args(["-s", FRAME_BYTES_MAX, "-B", BUFFER_KIB, "-i", device])
            // A change of user would clear the signal that ends tcpdump with the lab.
            .args(["-Z", "root"])
            .arg(filter);
        let tcpdump = Process::start_logged(command, &File::create(&said)?)
            .context("is tcpdump installed?")?;
        let mut capture = Self {
            tcpdump,
            file,
            said,
            _estate: Arc::clone(estate),
        };
        try_eventually("tcpdump listens", || {
            let said = fs::read_to_string(&capture.said)?;
            if capture.tcpdump.ended()?.is_some() {
                bail!("tcpdump on {device} ended: {said}");
            }
            Ok(said.contains("listening on").then_some(()))
        })?;
        Ok(capture)
    }

    /// Ends the recording once what has passed so far is in the file.
    pub fn stop(mut self) -> Result<Recording> {
        // In immediate mode a frame waits for nothing but its turn on the processor.
        std::thread::sleep(Duration::from_millis(200));
        self.tcpdump.signal(Signal::SIGINT)?;
        let status = self.tcpdump.wait(LIMIT)?;
        let said = fs::read_to_string(&self.said)?;
        ensure!(status == 0, "tcpdump ended with status {status}: {said}");
        let missed = said
            .lines()
            .find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        let missed = missed.and_then(|count| count.parse().ok());
        let missed =
            missed.with_context(|| format!("tcpdump does not say what it missed: {said}"))?;
        Ok(Recording {
            file: self.file,
            missed,
            _estate: self._estate,
        })
    }
}

impl Recording {
    /// The file, in the pcap format.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What tcpdump makes of the file with these options, for example `["-nn", "-v"]`.
    pub fn decode(&self, options: &[&str]) -> Result<String> {
        let mut command = std::process::Command::new("tcpdump");
        command
            .env("PATH", crate::namespace::path_with_system_programs())
            .arg("-r")
            .arg(&self.file)
            .args(options);
        Ok(process::attempt(&mut command)?.successful()?.stdout)
    }

    /// The frames that passed, from their destination address on.
    ///
    /// # Errors
    ///
    /// Where more passed than tcpdump could take, or one was longer than it keeps.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>> {
        ensure!(self.missed == 0, "tcpdump missed {} frames", self.missed);
        let bytes = fs::read(&self.file)?;
        let mut rest = bytes.get(FILE_HEADER_BYTES..).context("no pcap file")?;
        let mut frames = Vec::new();
        while let Some((header, after)) = rest.split_first_chunk::<RECORD_HEADER_BYTES>() {
            let [.., k0, k1, k2, k3, p0, p1, p2, p3] = *header;
            let kept = u32::from_ne_bytes([k0, k1, k2, k3]);
            let passed = u32::from_ne_bytes([p0, p1, p2, p3]);
            ensure!(kept == passed, "{kept} of {passed} bytes were kept");
            let (frame, after) = after
                .split_at_checked(usize::try_from(kept)?)
                .context("the recording ends in the middle of a frame")?;
            frames.push(frame.to_vec());
            rest = after;
        }
        Ok(frames)
    }

    /// The number of frames that passed.
    ///
    /// # Errors
    ///
    /// Where more passed than tcpdump could take: the file then shows a part of them.
    pub fn count(&self) -> Result<usize> {
        ensure!(self.missed == 0, "tcpdump missed {} frames", self.missed);
        Ok(self
            .decode(&["-nn", "-q", "-t"])?
            .lines()
            .filter(|l| !l.starts_with('\t'))
            .count())
    }
}

/// A pair of files that no earlier recording on this device uses.
fn free_names(directory: &Path, device: &str) -> Result<(PathBuf, PathBuf)> {
    for number in 0.. {
        let file = directory.join(format!("{device}-{number}.pcap"));
        if File::options()
            .write(true)
            .create_new(true)
            .open(&file)
            .is_ok()
        {
            return Ok((file, directory.join(format!("{device}-{number}.tcpdump"))));
        }
        if !file.exists() {
            bail!("cannot write {}", file.display());
        }
    }
    bail!("there are no numbers left")
}
