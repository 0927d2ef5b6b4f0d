//! What can go wrong between the agent and the kernel, and what to do about it.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

/// An error of the data plane. What ran before goes on running.
#[derive(Debug, Error)]
pub enum DataPlaneError {
    /// A file operation on the bpf file system.
    #[error("{doing} {}: {source}", path.display())]
    Pin {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A pinned map that is not as this agent makes it.
    #[error(
        "the pinned map {} is not this agent's: its {what} is {found}, not {expected}. {cure}",
        path.display()
    )]
    ForeignMap {
        /// The pin.
        path: PathBuf,
        /// Which property differs.
        what: &'static str,
        /// As it is.
        found: u32,
        /// As it must be.
        expected: u32,
        /// What to do.
        cure: String,
    },
    /// The object could not be loaded.
    #[error("loading the data plane: {}", chain(.0))]
    Load(#[source] Box<EbpfError>),
    /// Not enough privileges.
    #[error(
        "the kernel refuses to load programs (operation not permitted). Run as root, or with \
         CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    NotPermitted,
    /// The kernel refuses a program.
    #[error("the kernel refuses the program {program}: {source}. {cure}")]
    Refused {
        /// Which program.
        program: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
        /// What to do.
        cure: &'static str,
    },
    /// The device has somebody else's XDP program.
    #[error(
        "{device} already has an XDP program that is not this agent's; it was left alone. `bpftool \
         net show dev {device}` names it. One attached by a link goes with `bpftool link detach id \
         ID`, another with `ip link set dev {device} xdp off`, one of an agent with other pins \
         with `vnet-agent teardown` and that agent's settings"
    )]
    DeviceTaken {
        /// The device.
        device: String,
    },
    /// The device has the TC program of another agent.
    #[error(
        "{device} already has the TC program of an agent with other pins; it was left alone. \
         `vnet-agent teardown` with that agent's settings takes it off"
    )]
    DeviceTakenAtTc {
        /// The device.
        device: String,
    },
    /// The device went while something was put on it.
    #[error("{device} is gone")]
    DeviceGone {
        /// The device.
        device: String,
    },
    /// The device's MTU does not fit XDP.
    #[error(
        "{device} has too large an MTU (or its peer has) for XDP with one page a frame; lower \
         both ends to 3498 or less, for example `ip link set dev {device} mtu 1500`"
    )]
    MtuTooLarge {
        /// The device.
        device: String,
    },
    /// A program could not be put on a device.
    #[error("putting {program} on {device}: {}", chain(.source))]
    Attach {
        /// Which program.
        program: &'static str,
        /// Which device.
        device: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A program could not be taken off a device.
    #[error("taking the filter off {device}: {}", chain(.source))]
    Detach {
        /// Which device.
        device: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// The program sits on the device without a link that could be pinned.
    #[error(
        "the kernel attached {program} to {device} in the old way, which does not outlive the \
         agent; Linux 5.9 or later is needed"
    )]
    NoBpfLink {
        /// Which program.
        program: &'static str,
        /// Which device.
        device: String,
    },
    /// A map operation failed.
    #[error("{doing} in {map}: {}", chain(.source))]
    Map {
        /// What was tried.
        doing: &'static str,
        /// Which map.
        map: &'static str,
        /// What the kernel said.
        source: Box<MapError>,
    },
    /// A table is full.
    #[error(
        "the table {map} is full; what was in it stays. Raise limits.{limit} in the settings, \
         then run `vnet-agent teardown` and start the agent again"
    )]
    Full {
        /// Which map.
        map: &'static str,
        /// Which limit makes it.
        limit: &'static str,
    },
    /// The object lacks something that it must have: it is not the one this agent was built for.
    #[error("the kernel object has no {0}: this agent was built wrongly")]
    Object(&'static str),
    /// A frame that the kernel would run a program over in part only.
    #[error("the kernel asks its programs about frames of up to {max} bytes; this one has {bytes}")]
    FrameTooLong {
        /// Its length.
        bytes: usize,
        /// The longest.
        max: usize,
    },
    /// A test run failed.
    #[error("asking the kernel what it would do: {0}")]
    TestRun(#[source] Box<ProgramError>),
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The operating system's number for an error, wherever in the chain it is.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(number) = io.raw_os_error()
        {
            return Some(number);
        }
        cause = error.source();
    }
    None
}
