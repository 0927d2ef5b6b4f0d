//! What would the loaded program do with this frame? Asked of the kernel (`BPF_PROG_TEST_RUN`),
//! with the tables as they are, and without a trace: a frame with a question's metadata in front is
//! one to our programs, which then count, learn and remember nothing.

use aya::programs::{TestRun, TestRunOptions};
use vnet_common::wire::handover::Handover;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::DataPlane;
use super::attach::program;
use super::error::DataPlaneError;
use super::object::xdp;
use crate::model::attachment::Role;

/// The kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// XDP's number for what would happen.
    pub action: u32,
    /// The frame as it would leave.
    pub frame: Vec<u8>,
    /// How long one run took, nanoseconds (of many, their mean).
    pub duration_ns: u64,
}

/// `struct xdp_md` of `include/uapi/linux/bpf.h`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// The longest frame that the kernel runs a program over in one piece: a page less what it keeps
/// before and behind it (6.18, `net/bpf/test_run.c`). Of a longer one it would show the beginning.
pub const FRAME_BYTES_MAX: usize = 3520;

/// Room for what a program puts in front.
const GROWTH_BYTES: usize = 256;

impl DataPlane {
    /// What the program of this role would do with a frame that came in on this device. Nothing
    /// is counted, learned or sent.
    ///
    /// # Errors
    ///
    /// The frame is shorter than an Ethernet header or longer than a page holds, or the device is
    /// gone.
    pub fn ask(
        &mut self,
        role: Role,
        ifindex: u32,
        frame: &[u8],
    ) -> Result<Answer, DataPlaneError> {
        let secret = self.tables.setting()?.secret;
        let mut question = Handover::question(secret).as_bytes().to_vec();
        question.extend_from_slice(frame);
        self.test_run(role, ifindex, &question, Handover::BYTES, 1)
    }

    /// The same, but as real as a frame from the device: everything is counted. For tests and
    /// benchmarks.
    ///
    /// # Errors
    ///
    /// As for [`DataPlane::ask`].
    pub fn run(
        &mut self,
        role: Role,
        ifindex: u32,
        frame: &[u8],
        repeat: u32,
    ) -> Result<Answer, DataPlaneError> {
        self.test_run(role, ifindex, frame, 0, repeat)
    }

    fn test_run(
        &mut self,
        role: Role,
        ifindex: u32,
        data: &[u8],
        metadata: usize,
        repeat: u32,
    ) -> Result<Answer, DataPlaneError> {
        if data.len() - metadata > FRAME_BYTES_MAX {
            let bytes = data.len() - metadata;
            return Err(DataPlaneError::FrameTooLong {
                bytes,
                max: FRAME_BYTES_MAX,
            });
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let context = Context {
            data: number(metadata),
            data_end: number(data.len()),
            data_meta: 0,
            ingress_ifindex: ifindex,
            rx_queue_index: 0,
            egress_ifindex: 0,
        };
        let mut out = vec![0; data.len() + GROWTH_BYTES];
        let mut after = Context::new_zeroed();
        let options = TestRunOptions {
            data_in: Some(data),
            data_out: Some(&mut out),
            ctx_in: Some(context.as_bytes()),
            ctx_out: Some(after.as_mut_bytes()),
            repeat,
            ..TestRunOptions::new()
        };
        let xdp = xdp(&mut self.object, program(role))?;
        let result = xdp
            .test_run(options)
            .map_err(|error| DataPlaneError::TestRun(Box::new(error)))?;
        let length = usize::try_from(result.data_size_out).unwrap_or(0);
        // The kernel counts metadata as part of what comes out; a program that moved the start of
        // the frame carries it along, and may have added its own.
        let start = usize::try_from(after.data).unwrap_or(0);
        let frame = out.get(start..length).unwrap_or_default().to_vec();
        Ok(Answer {
            action: result.return_value,
            frame,
            duration_ns: result.duration.as_nanos() as u64,
        })
    }
}
