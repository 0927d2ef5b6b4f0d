//! How do frames come in many at a time?
//!
//! As a NIC's driver has them: the kernel runs a program over a whole turn of frames that came in on
//! a device, and only then empties the queues of the devices that they are for
//! (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18). A frame written to a tap is a turn of its own.
//!
//! The program is written down here, instruction by instruction (`linux/bpf.h`, `struct bpf_insn`:
//! the opcode in the lowest byte, then registers, offset, and the immediate value in the upper
//! half). It redirects to two devices in turns.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use aya::maps::MapType;

use crate::foreign::{self, Kind};

/// `BPF_PROG_LOAD` and `BPF_PROG_TEST_RUN` of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const PROGRAM_LOAD: libc::c_long = 5;
const TEST_RUN: libc::c_long = 10;
const PROGRAM_TYPE_XDP: u32 = 6;
const LIVE_FRAMES: u32 = 2;

/// The beginning of `union bpf_attr` for a new program; the rest is zero to the kernel.
#[repr(C)]
struct Load {
    program_type: u32,
    instructions: u32,
    first: u64,
    license: u64,
}

/// The same for a test run, of which nothing comes back.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    result: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_bytes: u32,
    context_out_bytes: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    turn: u32,
    _pad: u32,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// What sends frames on to two devices in turns.
#[derive(Debug)]
pub struct Burst {
    program: OwnedFd,
    _turns: OwnedFd,
}

impl Burst {
    /// To these devices.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn to(devices: [u32; 2]) -> io::Result<Self> {
        let turns = foreign::create(&Kind {
            kind: MapType::Array,
            key_bytes: 4,
            value_bytes: 4,
            entries: 1,
            flags: 0,
        })?;
        let map = u64::try_from(turns.as_raw_fd()).map_err(io::Error::other)?;
        let [even, odd] = devices.map(|device| u64::from(device) << 32);
        let instructions = [
            // r1 = map; r2 = &0
            map << 32 | 0x1118,
            0,
            0xfffc_0a62,
            0xa2bf,
            0xffff_fffc << 32 | 0x0207,
            // r0 = bpf_map_lookup_elem(r1, r2); if r0 == 0 return r0
            1 << 32 | 0x85,
            0x000a_0015,
            // r3 = *r0; *r0 = r3 + 1
            0x0361,
            0x34bf,
            1 << 32 | 0x0407,
            0x4063,
            // r1 = r3 is even ? the one : the other
            1 << 32 | 0x0357,
            even | 0x01b7,
            0x0001_0315,
            odd | 0x01b7,
            // r2 = 0; return bpf_redirect(r1, r2)
            0x02b7,
            23 << 32 | 0x85,
            0x95_u64,
        ];
        let license = c"GPL";
        let load = Load {
            program_type: PROGRAM_TYPE_XDP,
            instructions: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            first: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
        };
        let program = foreign::call(PROGRAM_LOAD, &load)?;
        let program = i32::try_from(program).map_err(io::Error::other)?;
        Ok(Self {
            // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
            program: unsafe { OwnedFd::from_raw_fd(program) },
            _turns: turns,
        })
    }

    /// So many copies of a frame come in on a device, so many in each turn.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn run(&self, from: u32, frame: &[u8], copies: u32, turn: u32) -> io::Result<()> {
        let data_in_bytes = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let context = Context {
            data_end: data_in_bytes,
            ingress_ifindex: from,
            ..Context::default()
        };
        let run = Run {
            program: u32::try_from(self.program.as_raw_fd()).map_err(io::Error::other)?,
            data_in_bytes,
            data_in: frame.as_ptr() as u64,
            repeat: copies,
            context_in_bytes: size_of::<Context>() as u32,
            context_in: std::ptr::from_ref(&context) as u64,
            flags: LIVE_FRAMES,
            turn,
            ..Run::default()
        };
        foreign::call(TEST_RUN, &run).map(|_| ())
    }
}
