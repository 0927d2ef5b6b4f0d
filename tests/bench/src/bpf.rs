//! How are programs of a few instructions loaded, attached and timed?
//!
//! The peers of our programs are so small that they are written down here, instruction by
//! instruction, instead of in an object of their own (`linux/bpf.h`, `struct bpf_insn`: the opcode
//! in the lowest byte, then registers, offset, and the immediate value in the upper half).

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const PROG_LOAD: u32 = 5;
const PROG_TEST_RUN: u32 = 10;
const LINK_CREATE: u32 = 28;

const CALL_REDIRECT: u64 = 23 << 32 | 0x85;
const CALL_CHANGE_TYPE: u64 = 32 << 32 | 0x85;
const CALL_REDIRECT_PEER: u64 = 155 << 32 | 0x85;
const EXIT: u64 = 0x95;

/// Where in the kernel a program meets what a device receives.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// In the driver.
    Xdp,
    /// As a socket buffer.
    Tc,
}

impl Hook {
    /// The type of its programs (`BPF_PROG_TYPE_XDP`, `BPF_PROG_TYPE_SCHED_CLS`).
    const fn program_kind(self) -> u32 {
        match self {
            Self::Xdp => 6,
            Self::Tc => 3,
        }
    }

    /// The type of its attachments (`BPF_XDP`, `BPF_TCX_INGRESS`).
    const fn link_kind(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::Tc => 46,
        }
    }
}

/// What a bare redirect costs: no headers, no lookup, no counter. The same at both hooks.
#[must_use]
pub fn redirect_to(ifindex: u32) -> [u64; 4] {
    // r1 = ifindex; r2 = 0; r0 = bpf_redirect(r1, r2); return r0
    [
        u64::from(ifindex) << 32 | 0x01b7,
        0x02b7,
        CALL_REDIRECT,
        EXIT,
    ]
}

/// The same at TC, to the station at the other end of this veth, as if the frame came in there.
#[must_use]
pub fn redirect_to_peer_of(ifindex: u32) -> [u64; 6] {
    // r2 = PACKET_HOST; bpf_skb_change_type(r1, r2); r1 = ifindex; r2 = 0;
    // r0 = bpf_redirect_peer(r1, r2); return r0
    [
        0x02b7,
        CALL_CHANGE_TYPE,
        u64::from(ifindex) << 32 | 0x01b7,
        0x02b7,
        CALL_REDIRECT_PEER,
        EXIT,
    ]
}

/// What calling a program costs at all.
#[must_use]
pub fn pass() -> [u64; 2] {
    // r0 = XDP_PASS; return r0
    [2 << 32 | 0x00b7, EXIT]
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    rest: [u64; 13],
}

#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    ifindex: u32,
    kind: u32,
    flags: u32,
    rest: [u64; 6],
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    answer: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    rest: [u64; 6],
}

/// Loads a program.
///
/// # Errors
///
/// The kernel refuses.
pub fn load(hook: Hook, instructions: &[u64]) -> io::Result<OwnedFd> {
    let attributes = Load {
        kind: hook.program_kind(),
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: `attributes` is what this command reads; what it points to lives in the caller.
    let descriptor = unsafe { call(PROG_LOAD, &mut { attributes }) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Attaches a program to a device of the calling thread's namespace, until the result is dropped.
///
/// # Errors
///
/// The device is gone, or has an XDP program.
pub fn attach(hook: Hook, program: impl AsFd, ifindex: u32) -> io::Result<OwnedFd> {
    let attributes = Link {
        program: program.as_fd().as_raw_fd().cast_unsigned(),
        ifindex,
        kind: hook.link_kind(),
        ..Link::default()
    };
    // SAFETY: `attributes` is what this command reads, and holds no pointer.
    let descriptor = unsafe { call(LINK_CREATE, &mut { attributes }) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// How long a run of the program takes over this frame, nanoseconds, mean of `repeat` runs.
///
/// # Errors
///
/// The kernel refuses the frame.
pub fn time(program: impl AsFd, frame: &[u8], repeat: u32) -> io::Result<u32> {
    let mut attributes = TestRun {
        program: program.as_fd().as_raw_fd().cast_unsigned(),
        data_in_bytes: u32::try_from(frame.len()).map_err(io::Error::other)?,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    };
    // SAFETY: `attributes` is what this command reads and writes; the frame lives in the caller.
    unsafe { call(PROG_TEST_RUN, &mut attributes) }?;
    Ok(attributes.duration_ns)
}

/// The bpf system call.
///
/// # Safety
///
/// `A` is laid out as the kernel's `union bpf_attr` for this command, and its pointers are good.
unsafe fn call<A>(command: u32, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes `attributes` in its length; the caller vouches for more.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
