//! What would the loaded program do with this frame? Asked of the kernel (`BPF_PROG_TEST_RUN`),
//! with the tables as they are, and without a trace: a question (see [`Handover`]) has our programs
//! count, learn and remember nothing.

use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use vnet_common::wire::handover::Handover;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::DataPlane;
use super::attach::program_name;
use super::error::DataPlaneError;
use super::object::program;
use crate::model::attachment::Attachment;
use crate::model::door::Door;

/// The kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What would happen.
    pub fate: Fate,
    /// The frame as it would leave.
    pub frame: Vec<u8>,
    /// How long one run took, nanoseconds (of many, their mean).
    pub duration_ns: u64,
}

/// What a program told the kernel to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Drop it.
    Dropped,
    /// Go on with it.
    Passed,
    /// A device has it, the one that it came in on or another.
    Redirected,
    /// Anything else, which our programs never say.
    Other(u32),
}

impl Fate {
    /// From the kernel's number (Linux, `include/uapi/linux/bpf.h` and `pkt_cls.h`).
    pub const fn of(door: Door, action: u32) -> Self {
        match (door, action) {
            (Door::Xdp, 1) | (Door::Tc, 2) => Self::Dropped,
            (Door::Xdp, 2) | (Door::Tc, 0 | u32::MAX) => Self::Passed,
            (Door::Xdp, 4) | (Door::Tc, 7) => Self::Redirected,
            (_, other) => Self::Other(other),
        }
    }

    /// What the kernel calls it.
    pub const fn name(self, door: Door) -> &'static str {
        match (door, self) {
            (Door::Xdp, Self::Dropped) => "XDP_DROP",
            (Door::Xdp, Self::Passed) => "XDP_PASS",
            (Door::Xdp, Self::Redirected) => "XDP_REDIRECT",
            (Door::Xdp, Self::Other(0)) => "XDP_ABORTED",
            (Door::Tc, Self::Dropped) => "TC_ACT_SHOT",
            (Door::Tc, Self::Passed) => "TC_ACT_UNSPEC",
            (Door::Tc, Self::Redirected) => "TC_ACT_REDIRECT",
            (_, Self::Other(_)) => "an unknown action",
        }
    }
}

/// `struct xdp_md` of `include/uapi/linux/bpf.h`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct XdpContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// The beginning of `struct __sk_buff`, likewise.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct TcContext {
    len: u32,
    pkt_type: u32,
    mark: u32,
    queue_mapping: u32,
    protocol: u32,
    vlan_present: u32,
    vlan_tci: u32,
    vlan_proto: u32,
    priority: u32,
    ingress_ifindex: u32,
    ifindex: u32,
}

/// The longest frame that the kernel runs a program over in one piece: a page less what it keeps
/// before and behind it (6.18, `net/bpf/test_run.c`). Of a longer one it would show the beginning.
pub const FRAME_BYTES_MAX: usize = 3520;

/// Room for what a program puts in front.
const GROWTH_BYTES: usize = 256;

impl DataPlane {
    /// What the program of this hold would do with a frame that came in there. Nothing is counted,
    /// learned or sent.
    ///
    /// # Errors
    ///
    /// The frame is shorter than an Ethernet header or longer than a page holds, or the device is
    /// gone.
    pub fn ask(&mut self, hold: Attachment, frame: &[u8]) -> Result<Answer, DataPlaneError> {
        let secret = self.tables.setting()?.secret;
        match hold.door {
            Door::Xdp => {
                let mut question = Handover::question(secret).as_bytes().to_vec();
                question.extend_from_slice(frame);
                self.xdp_test_run(hold, &question, Handover::BYTES, 1)
            }
            // Half of the secret: a mark has no more.
            Door::Tc => self.tc_test_run(hold, frame, secret as u32, 1),
        }
    }

    /// The same, but as real as a frame from the device: everything is counted. For tests and
    /// benchmarks.
    ///
    /// # Errors
    ///
    /// As for [`DataPlane::ask`].
    pub fn run(
        &mut self,
        hold: Attachment,
        frame: &[u8],
        repeat: u32,
    ) -> Result<Answer, DataPlaneError> {
        match hold.door {
            Door::Xdp => self.xdp_test_run(hold, frame, 0, repeat),
            Door::Tc => self.tc_test_run(hold, frame, 0, repeat),
        }
    }

    fn xdp_test_run(
        &mut self,
        hold: Attachment,
        data: &[u8],
        metadata: usize,
        repeat: u32,
    ) -> Result<Answer, DataPlaneError> {
        must_fit(data.len() - metadata)?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let context = XdpContext {
            data: number(metadata),
            data_end: number(data.len()),
            data_meta: 0,
            ingress_ifindex: hold.ifindex,
            rx_queue_index: 0,
            egress_ifindex: 0,
        };
        let mut out = vec![0; data.len() + GROWTH_BYTES];
        let mut after = XdpContext::new_zeroed();
        let options = TestRunOptions {
            data_in: Some(data),
            data_out: Some(&mut out),
            ctx_in: Some(context.as_bytes()),
            ctx_out: Some(after.as_mut_bytes()),
            repeat,
            ..TestRunOptions::new()
        };
        let xdp: &mut Xdp = program(&mut self.object, program_name(hold.role, Door::Xdp))?;
        let result = xdp
            .test_run(options)
            .map_err(|error| DataPlaneError::TestRun(Box::new(error)))?;
        let length = usize::try_from(result.data_size_out).unwrap_or(0);
        // The kernel counts metadata as part of what comes out; a program that moved the start of
        // the frame carries it along, and may have added its own.
        let start = usize::try_from(after.data).unwrap_or(0);
        let frame = out.get(start..length).unwrap_or_default().to_vec();
        Ok(Answer {
            fate: Fate::of(Door::Xdp, result.return_value),
            frame,
            duration_ns: result.duration.as_nanos() as u64,
        })
    }

    fn tc_test_run(
        &mut self,
        hold: Attachment,
        data: &[u8],
        mark: u32,
        repeat: u32,
    ) -> Result<Answer, DataPlaneError> {
        must_fit(data.len())?;
        let context = TcContext {
            mark,
            ifindex: hold.ifindex,
            ..TcContext::new_zeroed()
        };
        let mut out = vec![0; data.len() + GROWTH_BYTES];
        let options = TestRunOptions {
            data_in: Some(data),
            data_out: Some(&mut out),
            ctx_in: Some(context.as_bytes()),
            repeat,
            ..TestRunOptions::new()
        };
        let name = program_name(hold.role, Door::Tc);
        let tc: &mut SchedClassifier = program(&mut self.object, name)?;
        let result = tc
            .test_run(options)
            .map_err(|error| DataPlaneError::TestRun(Box::new(error)))?;
        let length = usize::try_from(result.data_size_out).unwrap_or(0);
        out.truncate(length);
        Ok(Answer {
            fate: Fate::of(Door::Tc, result.return_value),
            frame: out,
            duration_ns: result.duration.as_nanos() as u64,
        })
    }
}

const fn must_fit(bytes: usize) -> Result<(), DataPlaneError> {
    if bytes > FRAME_BYTES_MAX {
        return Err(DataPlaneError::FrameTooLong {
            bytes,
            max: FRAME_BYTES_MAX,
        });
    }
    Ok(())
}
