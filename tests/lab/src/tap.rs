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
use crate::vnet_header::{Offloads, VNET_HEADER_BYTES, VnetHeader};

/// The larger of what a tap delivers: a GSO frame of 64 KiB, and the header in front of it.
const FRAME_BYTES_MAX: usize = 65_536 + VNET_HEADER_BYTES;
/// Largest packet of a guest where nothing else is said, in bytes.
const MTU: u32 = 1500;

nix::ioctl_write_ptr_bad!(
    /// Names a new tap and chooses its kind (`drivers/net/tun.c`).
    tun_set_iff,
    libc::TUNSETIFF,
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    /// What the other side of the tap takes although it is not finished: `TUN_F_*`.
    tun_set_offload,
    libc::TUNSETOFFLOAD
);
nix::ioctl_write_ptr_bad!(
    /// How long the header before each frame is.
    tun_set_vnet_header_bytes,
    libc::TUNSETVNETHDRSZ,
    libc::c_int
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

/// What kind of tap a guest has.
#[derive(Clone, Copy, Debug)]
pub struct TapSettings {
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// What the guest takes although it is not finished; or the tap has no headers at all, and the
    /// guest cannot leave anything to it either.
    pub offloads: Option<Offloads>,
}

impl Default for TapSettings {
    /// 1500 bytes, no headers.
    fn default() -> Self {
        Self {
            mtu: MTU,
            offloads: None,
        }
    }
}

impl TapGuest {
    pub(crate) fn new(host: &Host, port: &str, mac: Mac, settings: TapSettings) -> Result<Self> {
        let file = open(host, port, settings.offloads.is_some(), settings.mtu)?;
        let guest = Self {
            port: port.to_owned(),
            mac,
            vnet_header: settings.offloads.is_some(),
            file,
            host: host.clone(),
        };
        if let Some(offloads) = settings.offloads {
            let bytes = libc::c_int::try_from(VNET_HEADER_BYTES)?;
            // SAFETY: the file is open, and the kernel reads one number.
            unsafe { tun_set_vnet_header_bytes(guest.file.as_raw_fd(), &raw const bytes) }?;
            guest.set_offloads(offloads)?;
        }
        Ok(guest)
    }

    /// Takes these unfinished frames from now on, as a VM whose driver was loaded anew.
    pub fn set_offloads(&self, offloads: Offloads) -> Result<()> {
        ensure!(self.vnet_header, "{} has no headers", self.port);
        let bits = libc::c_int::try_from(offloads.to_kernel())?;
        // SAFETY: the file is open, and the kernel takes a number.
        unsafe { tun_set_offload(self.file.as_raw_fd(), bits) }
            .with_context(|| format!("{} cannot take {offloads:?}", self.port))?;
        Ok(())
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
        self.send_unfinished(VnetHeader::NONE, frame)
    }

    /// Sends a frame of which the tap is to do the rest; it must be one with headers unless that
    /// is nothing.
    pub fn send_unfinished(&self, header: VnetHeader, frame: &[u8]) -> Result<()> {
        ensure!(
            self.vnet_header || header == VnetHeader::NONE,
            "{} has no headers",
            self.port
        );
        let header = header.to_bytes();
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
        Ok(self.receive_unfinished(limit)?.map(|(_, frame)| frame))
    }

    /// The next frame and what is still to be done about it (nothing on a tap without headers), or
    /// nothing where none comes within `limit`.
    pub fn receive_unfinished(&self, limit: Duration) -> Result<Option<(VnetHeader, Vec<u8>)>> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            match (&self.file).read(&mut buffer) {
                Ok(length) => {
                    buffer.truncate(length);
                    return self.parted(buffer).map(Some);
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

    /// Header and frame.
    fn parted(&self, mut bytes: Vec<u8>) -> Result<(VnetHeader, Vec<u8>)> {
        if !self.vnet_header {
            return Ok((VnetHeader::NONE, bytes));
        }
        let header = bytes
            .first_chunk()
            .copied()
            .with_context(|| format!("{} gave half a header", self.port))?;
        let frame = bytes.split_off(VNET_HEADER_BYTES);
        Ok((VnetHeader::from_bytes(header)?, frame))
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
