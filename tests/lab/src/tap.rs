//! How does a test send and receive single frames as a guest does?
//!
//! A tap in a host's namespace, held open by this process: what is written to it the host
//! receives on its port, and what the host sends to the port is read here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vnet_common::addr::Mac;

use crate::host::Host;

/// The larger of what a tap delivers: a GSO frame of 64 KiB, and the header in front of it.
const FRAME_BYTES_MAX: usize = 65_536 + VNET_HEADER_BYTES;
/// `struct virtio_net_hdr` of `linux/virtio_net.h`, in the length that taps start with.
pub const VNET_HEADER_BYTES: usize = 10;

nix::ioctl_write_ptr_bad!(
    /// Names a new tap and chooses its kind (`drivers/net/tun.c`).
    tun_set_iff,
    libc::TUNSETIFF,
    libc::ifreq
);

/// Opens a new tap in the host; it is gone once the file is closed.
///
/// The device is up, and the host's own IP stack says nothing on it.
pub(crate) fn open(host: &Host, device: &str, vnet_header: bool, mtu: u32) -> Result<File> {
    let made = host.inside(|| -> Result<File> {
        let request = request(device, vnet_header)?;
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        // SAFETY: the file is open, and the kernel reads one whole `ifreq`, which `request` is.
        unsafe { tun_set_iff(file.as_raw_fd(), &raw const request) }?;
        Ok(file)
    })?;
    let file =
        made.with_context(|| format!("cannot make the tap {device} in `{}`", host.name()))?;
    host.silence(device)?;
    host.run(["ip", "link", "set", device, "mtu", &mtu.to_string(), "up"])?;
    Ok(file)
}

fn request(device: &str, vnet_header: bool) -> Result<libc::ifreq> {
    let name = device.as_bytes();
    ensure!(
        !name.is_empty() && name.len() < libc::IFNAMSIZ,
        "`{device}` is not a device name: 1 to 15 bytes"
    );
    // SAFETY: `ifreq` is plain old data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    let kind = libc::IFF_TAP | libc::IFF_NO_PI | if vnet_header { libc::IFF_VNET_HDR } else { 0 };
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(kind)?;
    Ok(request)
}

/// A guest that is this process: it sends what it is told and returns what it receives.
#[derive(Debug)]
pub struct TapGuest {
    port: String,
    mac: Mac,
    vnet_header: bool,
    file: File,
    // Keeps the namespace for as long as the tap.
    host: Host,
}

impl TapGuest {
    pub(crate) fn new(host: &Host, port: &str, mac: Mac) -> Result<Self> {
        let file = open(host, port, false, 1500)?;
        Ok(Self {
            port: port.to_owned(),
            mac,
            vnet_header: false,
            file,
            host: host.clone(),
        })
    }

    /// A guest whose frames carry a `virtio_net_hdr`, as those of a VM with offloads do.
    pub fn with_vnet_header(host: &Host, port: &str, mac: Mac) -> Result<Self> {
        let file = open(host, port, true, 1500)?;
        Ok(Self {
            port: port.to_owned(),
            mac,
            vnet_header: true,
            file,
            host: host.clone(),
        })
    }

    /// The device in the host.
    #[must_use]
    pub fn port(&self) -> &str {
        &self.port
    }

    /// The guest's Ethernet address, for frames that a test builds.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// The host whose port this is.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Sends a frame, from its destination address on, without frame check sequence.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.send_with_header([0; VNET_HEADER_BYTES], frame)
    }

    /// Sends a frame behind this `virtio_net_hdr`; on a tap without such headers it is left out.
    pub fn send_with_header(&self, header: [u8; VNET_HEADER_BYTES], frame: &[u8]) -> Result<()> {
        let front: &[u8] = if self.vnet_header { &header } else { &[] };
        let bytes = [front, frame].concat();
        let written = (&self.file)
            .write(&bytes)
            .with_context(|| format!("cannot send {} bytes on {}", frame.len(), self.port))?;
        ensure!(
            written == bytes.len(),
            "{} took {written} of {}",
            self.port,
            bytes.len()
        );
        Ok(())
    }

    /// The next frame, or nothing where none comes within `limit`.
    pub fn receive(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        Ok(self.receive_with_header(limit)?.map(|(_, frame)| frame))
    }

    /// The next frame with its `virtio_net_hdr` (zeroes on a tap without), or nothing where none
    /// comes within `limit`.
    pub fn receive_with_header(
        &self,
        limit: Duration,
    ) -> Result<Option<([u8; VNET_HEADER_BYTES], Vec<u8>)>> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            match (&self.file).read(&mut buffer) {
                Ok(length) => {
                    buffer.truncate(length);
                    let mut header = [0; VNET_HEADER_BYTES];
                    if self.vnet_header {
                        ensure!(length >= header.len(), "{} gave half a header", self.port);
                        let frame = buffer.split_off(header.len());
                        header.copy_from_slice(&buffer);
                        buffer = frame;
                    }
                    return Ok(Some((header, buffer)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot receive on {}", self.port));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            wait_readable(&self.file, left)?;
        }
    }

    /// Every frame that comes until none has come for `quiet`.
    pub fn receive_all_until_quiet(&self, quiet: Duration) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive(quiet)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

/// For what has no time for buffers: one `read` or `write` is one frame, and none of them waits.
impl AsFd for TapGuest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Waits until there is something to read, or the time is over.
fn wait_readable(file: &File, limit: Duration) -> Result<()> {
    // Rounded up: a wait of less than a millisecond would become a busy loop.
    let limit = limit.as_millis().saturating_add(1);
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], limit) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for frames"),
    }
}
