//! Who holds frame and tables? What every runner of vectors can do.

use anyhow::Result;
use vnet_common::reason::Reason;

use crate::books::Books;
use crate::stage::Stage;
use crate::world::Entries;

/// By which program a frame comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// A VM's device.
    Port,
    /// The underlay device.
    Underlay,
    /// The agent's tap.
    Agent,
}

/// What became of a frame, as far as a runner can tell: a host knows reason and device, a kernel
/// shows them in the books only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Dropped, for this reason.
    Dropped(Option<Reason>),
    /// Left to the host's own stack.
    Passed,
    /// Back out of the device that it came in by.
    Back,
    /// Out of another device, this one.
    Redirected(Option<u32>),
    /// Out of a device, the one that it came in by or another: to the kernel that is one action.
    RedirectedOrBack,
    /// Seen to come out of a device, the one that it came in by or another.
    Out {
        /// Which device.
        at: u32,
    },
    /// Seen to come out nowhere: dropped or passed.
    Nowhere,
    /// The program gave up, which ours never do.
    Aborted,
}

/// A run of a program.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What became of the frame.
    pub verdict: Verdict,
    /// The frame as it left.
    pub frame: Vec<u8>,
    /// The clock before and after, nanoseconds.
    pub clock_ns: (u64, u64),
}

/// A holder of tables that frames can be sent through.
pub trait Runner {
    /// What failures and their files are marked with.
    fn name(&self) -> &'static str;

    /// The numbers of this run.
    fn stage(&self) -> &Stage;

    /// The shortest frame that it takes: no driver hands a kernel less than an Ethernet header.
    fn frame_bytes_min(&self) -> usize;

    /// Empties all tables and counters, for the next vector; the stage's numbers may change.
    ///
    /// # Errors
    ///
    /// The tables cannot be written.
    fn reset(&mut self) -> Result<()>;

    /// Writes these tables in place of those before; counters and flows stay.
    ///
    /// # Errors
    ///
    /// The tables cannot be written.
    fn write(&mut self, entries: &Entries) -> Result<()>;

    /// Runs a door's program over a frame that came in on a device, then over what that left, and
    /// so on, `times` in all.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    fn run(&mut self, door: Door, device: u32, frame: &[u8], times: u32) -> Result<Ran>;

    /// Asks what a run would do; nothing where this runner cannot ask.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    fn ask(&mut self, door: Door, device: u32, frame: &[u8]) -> Result<Option<Ran>> {
        let _ = (door, device, frame);
        Ok(None)
    }

    /// Everything that was counted and remembered since the reset; events since the last look.
    ///
    /// # Errors
    ///
    /// The tables cannot be read.
    fn books(&mut self) -> Result<Books>;
}
