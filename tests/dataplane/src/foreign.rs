//! Maps that are not as the agent makes them, made and pinned by hand.
//!
//! The system call itself, because a loader makes only what its object says.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::maps::MapType;

/// `BPF_MAP_CREATE` and `BPF_OBJ_PIN` of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const MAP_CREATE: libc::c_long = 0;
const OBJECT_PIN: libc::c_long = 6;

/// What kind of map.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its type.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value.
    pub value_bytes: u32,
    /// Entries.
    pub entries: u32,
    /// Flags.
    pub flags: u32,
}

/// The beginning of `union bpf_attr` for a new map; the rest is zero to the kernel.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The same for a pin.
#[repr(C)]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Makes a map.
///
/// # Errors
///
/// The kernel has no such maps.
pub fn create(kind: &Kind) -> io::Result<OwnedFd> {
    let attributes = Create {
        map_type: kind.kind as u32,
        key_size: kind.key_bytes,
        value_size: kind.value_bytes,
        max_entries: kind.entries,
        map_flags: kind.flags,
    };
    let descriptor = call(MAP_CREATE, &attributes)?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Pins a map where there is nothing yet.
///
/// # Errors
///
/// The kernel refuses.
pub fn pin(map: &OwnedFd, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Pin {
        pathname: name.as_ptr() as u64,
        bpf_fd: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
        file_flags: 0,
    };
    call(OBJECT_PIN, &attributes).map(|_| ())
}

/// One `bpf` system call.
pub(crate) fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads as many bytes as it is told, all of which are initialised, and
    // what they point to lives as long as the borrow.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
