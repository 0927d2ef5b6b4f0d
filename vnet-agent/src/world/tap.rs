//! How do frames come from the data plane to the agent, and back?
//!
//! Through a tap that the agent owns. Input: the frames that the data plane redirects to it.
//! Output: the frames that the agent sends by it, which the data plane meets as if they came from
//! a guest. The device is persistent: it, the XDP link on it, and the frames that wait in it stay
//! when the agent ends, and the next run takes it over.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use zerocopy::IntoBytes;

use super::netlink::{NetlinkError, Requests};
use super::process::Process;
use crate::model::host::{Device, DeviceKind};
use crate::model::offload::Offload;

/// The largest frame that a tap carries: the largest MTU, an Ethernet header and a VLAN tag; or the
/// largest that is still to be cut, with two tags, behind the header of the slow path.
pub const FRAME_BYTES_MAX: usize = 65_535 + 14 + 8 + 32;

/// `IFNAMSIZ` without the terminating zero.
const NAME_BYTES_MAX: usize = 15;

const DRIVER: &str = "/dev/net/tun";
/// `_IOW('T', 202, int)` and `_IOW('T', 203, int)` (linux/if_tun.h).
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETPERSIST: libc::Ioctl = 0x4004_54cb;
/// `_IOW('T', 208, unsigned int)`.
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
/// `TUN_F_CSUM`, `TUN_F_TSO4`, `TUN_F_TSO6`, `TUN_F_TSO_ECN`: what may be left to us, and goes on as it
/// is. Not UDP's segments, which Linux does not part behind a TC door.
const LEFT_TO_US: libc::c_ulong = 0x01 | 0x02 | 0x04 | 0x08;

/// Why there is no tap.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name cannot be the name of a device.
    #[error(
        "{name:?} cannot be the name of a device: 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' \
         or '.'"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The kernel has no tun/tap driver, or this process cannot see it.
    #[error(
        "cannot open {DRIVER}: {source}; load the driver (modprobe tun) or give this process \
         access to the device"
    )]
    NoDriver {
        /// Why not.
        source: io::Error,
    },
    /// This process may not.
    #[error("not permitted to make or open the tap {name}; it needs CAP_NET_ADMIN")]
    NotPermitted {
        /// The name of the tap.
        name: String,
    },
    /// Another process has it open.
    #[error("the tap {name} is in use by {}; stop that, or choose another name", known(.holder.as_ref()))]
    Busy {
        /// The name of the tap.
        name: String,
        /// Who, if we can tell.
        holder: Option<Process>,
    },
    /// There is a device of that name, and it is something else.
    #[error("there is a device {name} already, and it is no tap ({kind}); choose another name")]
    OtherDevice {
        /// The name.
        name: String,
        /// What it is.
        kind: DeviceKind,
    },
    /// The driver refused.
    #[error("cannot {what} the tap {name}: {source}")]
    Driver {
        /// What it refused to do.
        what: &'static str,
        /// The name of the tap.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The tap is there but could not be set up.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

fn known(holder: Option<&Process>) -> String {
    holder.map_or_else(|| "another process".to_owned(), Process::to_string)
}

/// A tap that is open.
#[derive(Debug)]
pub struct Tap {
    queue: AsyncFd<OwnedFd>,
    name: String,
    index: u32,
}

impl Tap {
    /// Opens the tap of this name, or makes it, in the network namespace of the calling thread
    /// (which must be the one of `requests`). It is persistent, up, has the largest MTU that its
    /// driver accepts, and no IPv6, so that the kernel sends nothing by it.
    ///
    /// # Errors
    ///
    /// [`TapError`]. A tap that could be made but not set up is left behind.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn open(name: &str, requests: &Requests) -> Result<Self, TapError> {
        check_name(name)?;
        if let Some(device) = requests.device_named(name).await? {
            is_tap(&device)?;
        }
        let queue = attach_patiently(name).await?;
        persist(&queue, name)?;
        offer_offload(&queue, name)?;
        let index = set_up(name, requests).await?;
        // SAFETY: the `OwnedFd` owns the descriptor, and nothing closes or replaces it while the
        // `AsyncFd` has it: it is only lent out, as a shared reference.
        let queue = unsafe { AsyncFd::register(OwnedFd::from(queue)) }.map_err(|error| {
            TapError::Driver {
                what: "watch",
                name: name.to_owned(),
                source: error.into(),
            }
        })?;
        Ok(Self {
            queue,
            name: name.to_owned(),
            index,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's index of it.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Waits for a frame that was sent to the tap and puts it into `buffer`, of
    /// [`FRAME_BYTES_MAX`] bytes or the end of a long frame is lost; answers its length and what its
    /// sender left to devices. May be cancelled: no frame is lost then.
    ///
    /// # Errors
    ///
    /// Those of read(2); EBADFD once the device is gone.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        let mut offload = Offload::NONE;
        loop {
            let mut ready = self.queue.readable().await?;
            let read = |queue: &AsyncFd<OwnedFd>| {
                let mut parts = [
                    io::IoSliceMut::new(offload.as_mut_bytes()),
                    io::IoSliceMut::new(buffer),
                ];
                Ok(nix::sys::uio::readv(queue, &mut parts)?)
            };
            match ready.try_io(read) {
                Ok(result) => {
                    let length = result?.checked_sub(Offload::BYTES);
                    let length = length.ok_or(io::ErrorKind::UnexpectedEof)?;
                    return Ok((length, offload));
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Sends a whole frame by the tap, as if a guest had.
    ///
    /// # Errors
    ///
    /// Those of write(2): EINVAL for a frame shorter than an Ethernet header, EIO while the
    /// device is down, EBADFD once it is gone.
    pub async fn write(&self, frame: &[u8]) -> io::Result<()> {
        self.write_parts(&Offload::NONE, frame, &[]).await
    }

    /// The same, of a header and a frame behind it whose sender has left something to devices.
    ///
    /// # Errors
    ///
    /// As for `write`; EINVAL too where the frame is not what the offload says.
    pub async fn write_parts(
        &self,
        offload: &Offload,
        header: &[u8],
        frame: &[u8],
    ) -> io::Result<()> {
        let bytes = Offload::BYTES + header.len() + frame.len();
        loop {
            let mut ready = self.queue.writable().await?;
            let write = |queue: &AsyncFd<OwnedFd>| {
                let parts = [
                    io::IoSlice::new(offload.as_bytes()),
                    io::IoSlice::new(header),
                    io::IoSlice::new(frame),
                ];
                Ok(nix::sys::uio::writev(queue, &parts)?)
            };
            match ready.try_io(write) {
                Ok(Ok(written)) if written < bytes => {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                Ok(result) => return result.map(|_| ()),
                Err(_would_block) => {}
            }
        }
    }

    /// Removes the device, with whatever is attached to it.
    ///
    /// # Errors
    ///
    /// [`TapError::Netlink`].
    pub async fn remove(self, requests: &Requests) -> Result<(), TapError> {
        // Not by making it transient and closing it: it would stay while a child of this process
        // that has not come to its `exec` yet shares the descriptor.
        Ok(requests.remove_device(self.index).await?)
    }

    /// Removes the tap of this name if it is there; answers whether it was.
    ///
    /// # Errors
    ///
    /// [`TapError`]; [`TapError::Busy`] if an agent still has it open.
    pub async fn remove_named(name: &str, requests: &Requests) -> Result<bool, TapError> {
        check_name(name)?;
        let Some(device) = requests.device_named(name).await? else {
            return Ok(false);
        };
        is_tap(&device)?;
        // While we have it open nobody else can take it.
        let _queue = attach_patiently(name).await?;
        requests.remove_device(device.index).await?;
        Ok(true)
    }
}

fn check_name(name: &str) -> Result<(), TapError> {
    // The kernel would take more, and the driver would read "%d" as a wish for a free number.
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let length = (1..=NAME_BYTES_MAX).contains(&name.len());
    if length && name.bytes().all(good) && name != "." && name != ".." {
        return Ok(());
    }
    Err(TapError::Name {
        name: name.to_owned(),
    })
}

fn is_tap(device: &Device) -> Result<(), TapError> {
    match &device.kind {
        DeviceKind::Tap => Ok(()),
        kind => Err(TapError::OtherDevice {
            name: device.name.clone(),
            kind: kind.clone(),
        }),
    }
}

/// As [`attach`], but waits a little where a holder is on its way out: the descriptors of a
/// process that has just ended may be closed a moment later than it is gone.
async fn attach_patiently(name: &str) -> Result<File, TapError> {
    const TRIES: u32 = 10;
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 1..TRIES {
        match attach(name) {
            Err(TapError::Busy { holder: None, .. }) => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
    attach(name)
}

/// Opens the driver and has it take, or make, the tap of this name.
fn attach(name: &str) -> Result<File, TapError> {
    let queue = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DRIVER)
        .map_err(|source| TapError::NoDriver { source })?;
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(name.bytes().take(NAME_BYTES_MAX))
    {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = TAP_WITH_OFFLOAD;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is, and keeps no pointer to
    // it; the descriptor is open as long as `queue`.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), TUNSETIFF, &raw mut request) };
    let name = name.to_owned();
    match nix::Error::result(result) {
        Ok(_) => Ok(queue),
        Err(nix::Error::EPERM) => Err(TapError::NotPermitted { name }),
        Err(nix::Error::EBUSY) => {
            let holder = Process::with_tap_open(&name);
            Err(TapError::Busy { name, holder })
        }
        Err(error) => Err(TapError::Driver {
            what: "open",
            name,
            source: error.into(),
        }),
    }
}

/// Ethernet frames, and before each what its sender left to devices.
#[expect(clippy::cast_possible_truncation, reason = "all are flags of 16 bits")]
const TAP_WITH_OFFLOAD: i16 = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;

/// Has the kernel leave to us what goes on as it is.
fn offer_offload(queue: &File, name: &str) -> Result<(), TapError> {
    // SAFETY: TUNSETOFFLOAD takes an integer, not a pointer; the descriptor is open as long as
    // `queue`.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), TUNSETOFFLOAD, LEFT_TO_US) };
    let failed = |error: nix::Error| TapError::Driver {
        what: "offer offloads of",
        name: name.to_owned(),
        source: error.into(),
    };
    nix::Error::result(result).map(|_| ()).map_err(failed)
}

/// Has the device stay when the last descriptor of it is closed.
fn persist(queue: &File, name: &str) -> Result<(), TapError> {
    const YES: libc::c_ulong = 1;
    // SAFETY: TUNSETPERSIST takes an integer, not a pointer; the descriptor is open as long as
    // `queue`.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), TUNSETPERSIST, YES) };
    let failed = |error: nix::Error| TapError::Driver {
        what: "keep",
        name: name.to_owned(),
        source: error.into(),
    };
    nix::Error::result(result).map(|_| ()).map_err(failed)
}

/// Brings the device into the state that we want, whoever made it; answers its index.
async fn set_up(name: &str, requests: &Requests) -> Result<u32, TapError> {
    let device = requests
        .device_named(name)
        .await?
        .ok_or_else(|| TapError::Driver {
            what: "find",
            name: name.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
    without_ipv6(&device, requests).await?;
    if let Some(mtu) = device.mtu_max
        && mtu != device.mtu
    {
        requests.set_mtu(device.index, mtu).await?;
    }
    requests.set_up(device.index).await?;
    Ok(device.index)
}

/// Before the device is up, or the kernel would announce itself on it. Either of two ways will
/// do; /proc/sys is read-only in many a service.
pub(super) async fn without_ipv6(device: &Device, requests: &Requests) -> Result<(), NetlinkError> {
    let setting = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", device.name);
    let off = fs::write(setting, "1");
    match requests.set_no_automatic_addresses(device.index).await {
        Ok(()) => Ok(()),
        // The kernel, or the device, has no IPv6 to switch off.
        Err(error) if matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            Ok(())
        }
        Err(_) if off.is_ok() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_read_differently_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "tap%d",
            "sixteen-letters-",
            "a b",
            "tap:1",
            "täp",
        ] {
            assert!(
                matches!(check_name(name), Err(TapError::Name { .. })),
                "{name:?}"
            );
        }
        for name in ["t", "vnet-slow", "fifteen-letters", "tap_0.1"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
