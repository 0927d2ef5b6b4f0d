//! What might somebody else have done to a host, or send to it?
//!
//! A program that is not ours ([`Program`]), pinned maps, and raw packets on the wire
//! ([`Wire`]), from stations that have no agent.
#![expect(unsafe_code, reason = "system calls that have no safe wrapper")]

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use lab::Host;

/// Commands of bpf(2) (`include/uapi/linux/bpf.h`).
const MAP_CREATE: u32 = 0;
const PROG_LOAD: u32 = 5;
const OBJ_PIN: u32 = 6;
const LINK_CREATE: u32 = 28;
const PROG_TYPE_TC: u64 = 3;
const PROG_TYPE_XDP: u64 = 6;
const ATTACH_XDP: u64 = 37;
const ATTACH_TC: u64 = 46;
/// Verdicts.
const XDP_PASS: u64 = 2;
const TC_NEXT: u64 = 0xffff_ffff;

/// The number that the kernel has for a device of the host.
///
/// # Errors
///
/// There is none.
pub fn index_of(host: &Host, device: &str) -> Result<u32> {
    let path = format!("/sys/class/net/{device}/ifindex");
    let text = host.inside(|| fs::read_to_string(&path))?;
    Ok(text
        .with_context(|| format!("there is no {device}"))?
        .trim()
        .parse()?)
}

/// The MTU of a device of the host.
///
/// # Errors
///
/// There is no such device.
pub fn mtu_of(host: &Host, device: &str) -> Result<u32> {
    let path = format!("/sys/class/net/{device}/mtu");
    let text = host.inside(|| fs::read_to_string(&path))?;
    Ok(text
        .with_context(|| format!("there is no {device}"))?
        .trim()
        .parse()?)
}

/// Somebody else's program on a device, as long as this lives. It passes every frame.
#[derive(Debug)]
pub struct Program {
    _link: OwnedFd,
}

impl Program {
    /// Puts one on the device.
    ///
    /// # Errors
    ///
    /// The device has one already.
    pub fn on(host: &Host, device: &str) -> Result<Self> {
        let index = index_of(host, device)?;
        let pass = [PROG_TYPE_XDP, XDP_PASS, ATTACH_XDP];
        let link = host.inside(|| attach(pass, c"pass", index))?;
        Ok(Self {
            _link: link.with_context(|| format!("cannot put a program on {device}"))?,
        })
    }

    /// Puts one at the device's TC door, with this name of at most 15 bytes.
    ///
    /// # Errors
    ///
    /// The kernel has no links for that door.
    pub fn at_tc(host: &Host, device: &str, name: &CStr) -> Result<Self> {
        let index = index_of(host, device)?;
        let pass = [PROG_TYPE_TC, TC_NEXT, ATTACH_TC];
        let link = host.inside(|| attach(pass, name, index))?;
        Ok(Self {
            _link: link.with_context(|| format!("cannot put a program on {device}"))?,
        })
    }
}

/// Whether the kernel shows an XDP program on the device.
///
/// # Errors
///
/// There is no such device.
pub fn has_program(host: &Host, device: &str) -> Result<bool> {
    Ok(host
        .run(["ip", "-d", "link", "show", "dev", device])?
        .stdout
        .contains("prog/xdp"))
}

/// Pins a map that nobody of ours made.
///
/// # Errors
///
/// The kernel refuses.
pub fn pin_map(host: &Host, path: &str) -> Result<()> {
    let path = std::ffi::CString::new(path)?;
    let pinned = host.inside(|| -> io::Result<()> {
        // map_type = BPF_MAP_TYPE_ARRAY, key_size, value_size, max_entries
        let map = descriptor(bpf(MAP_CREATE, &[2 | 4 << 32, 8 | 1 << 32, 0, 0])?)?;
        // pathname, bpf_fd
        let descriptor = u64::from(map.as_raw_fd().cast_unsigned());
        bpf(OBJ_PIN, &[path.as_ptr() as u64, descriptor]).map(drop)
    })?;
    pinned.with_context(|| format!("cannot pin a map at {path:?}"))
}

/// A program of this type with this verdict, by a link of this type.
fn attach(
    [program_type, verdict, attach_type]: [u64; 3],
    name: &CStr,
    device: u32,
) -> io::Result<OwnedFd> {
    // r0 = verdict; exit (`struct bpf_insn`)
    let instructions: [u64; 2] = [verdict << 32 | 0xb7, 0x95];
    // prog_type, insn_cnt, insns, license; prog_name
    let mut load = [0_u64; 16];
    load[0] = program_type | 2 << 32;
    load[1] = instructions.as_ptr() as u64;
    load[2] = c"GPL".as_ptr() as u64;
    for (word, bytes) in load[6..8].iter_mut().zip(name.to_bytes().chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(padded);
    }
    let program = descriptor(bpf(PROG_LOAD, &load)?)?;
    // prog_fd, target_ifindex, attach_type
    let number = u64::from(program.as_raw_fd().cast_unsigned());
    descriptor(bpf(
        LINK_CREATE,
        &[number | u64::from(device) << 32, attach_type, 0, 0, 0, 0],
    )?)
}

fn bpf(command: u32, attributes: &[u64]) -> io::Result<i32> {
    // SAFETY: the kernel reads `attributes` in its whole length, and what its pointers lead to
    // lives in the caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

fn descriptor(number: i32) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::other("not a descriptor of a new object"));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A socket that sends whole packets by a device, whatever is in them.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    device: i32,
}

impl Wire {
    /// By this device of the host.
    ///
    /// # Errors
    ///
    /// There is no such device.
    pub fn of(host: &Host, device: &str) -> Result<Self> {
        let index = index_of(host, device)?;
        let socket = host.inside(|| {
            // SAFETY: takes numbers only.
            let number =
                unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            if number < 0 {
                Err(io::Error::last_os_error())
            } else {
                descriptor(number)
            }
        })?;
        Ok(Self {
            socket: socket.context("no packet socket")?,
            device: i32::try_from(index)?,
        })
    }

    /// Sends a packet, from its destination address on.
    ///
    /// # Errors
    ///
    /// The kernel does not take it.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        // SAFETY: `sockaddr_ll` is plain data, for which all zeroes is a value.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = u16::try_from(libc::AF_PACKET)?;
        to.sll_ifindex = self.device;
        let length = libc::socklen_t::try_from(size_of_val(&to))?;
        // SAFETY: the kernel reads both in the lengths given, and keeps no pointer.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const to).cast(),
                length,
            )
        };
        ensure!(
            usize::try_from(sent) == Ok(packet.len()),
            "{} bytes could not be sent: {}",
            packet.len(),
            io::Error::last_os_error()
        );
        Ok(())
    }
}
